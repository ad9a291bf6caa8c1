"""Fixtures of the tests that try threats: a Job's pod in a folder, a real API server that knows our kind."""

import os
from collections.abc import Iterator

import pytest

from support.job_pod import pod
from support.kube import kubectl
from support.lived import CLUSTER_WIDE, NAMESPACED, Lived, lived
from support.operator_process import account

__all__ = ["account", "kubectl", "pod"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(NAMESPACED, id="namespaced"),
        pytest.param(CLUSTER_WIDE, id="cluster-wide", marks=pytest.mark.soak),
    ],
)
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    """What an operator with the chart's own rights did and left behind, over a whole life."""
    with lived(tmp_path_factory.mktemp("life"), *request.param, namespaced=request.param is NAMESPACED) as life:
        yield life
