"""Explanations: attributions that are right, told where there are none, and never a reason for a run to fail."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

import pilotfish
from pilotfish.api.optimization import ExplanationMethod as Method
from pilotfish.api.optimization import Explanations, OptimizationSpec
from pilotfish.optimizer.pipeline import optimize
from pilotfish.optimizer.progress import optimize_stages
from pilotfish.optimizer.report import explain, explain_worker
from pilotfish.optimizer.report.explain import explain_original
from pilotfish.optimizer.report.grids import make_grid
from pilotfish.optimizer.worker import Subject
from support.onnx_models import save_mlp

torch = pytest.importorskip("torch", reason="explanations are of PyTorch models")
pytest.importorskip("captum", reason="captum is in the optimizer-torch image's lock")
