"""What the golden set looks like, beside the model that answers plain JSON: there drift is told against it.

Of each input its mean per sample, of each small output its values: a few kilobytes of what may be many megabytes.
"""

import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from pilotfish.api.job_input import InstallInput
from pilotfish.api.predict_config import predict_model
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import folder_digest, write_hashed
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.install import Source
from pilotfish.optimizer.package import GOLDEN_INPUTS, GOLDEN_OUTPUTS
from pilotfish.optimizer.predict.predict_statistics import sample_means

FILE = "golden.npz"
_LARGEST_OUTPUT = 10_000


def install_golden(order: InstallInput, *, source: Source, models: Path) -> None:
    """Write the figures into the second model's folder, from exactly the bytes that were hashed.

    Raises:
        OptimizerError: ArtifactDigestMismatch, ArtifactMissing, and whatever reading `source` raises.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        copied = [write_hashed(blocks, scratch / path).model_copy(update={"path": path}) for path, blocks in source]
        if (found := folder_digest(copied)) != order.golden:
            raise OptimizerError(
                Reason.ARTIFACT_DIGEST_MISMATCH,
                f"the golden set in {order.artifact} has {found} but {order.golden} was recorded; "
                "the store was changed",
            )
        inputs, outputs = load_file(scratch / GOLDEN_INPUTS), load_file(scratch / GOLDEN_OUTPUTS)
    figures: dict[str, Any] = {f"input {key}": sample_means(array) for key, array in inputs.items()}
    figures |= {f"output {key}": array for key, array in outputs.items() if prod(array.shape[1:]) <= _LARGEST_OUTPUT}
    np.savez(models / predict_model(order.model) / "1" / FILE, **figures)
