"""Fixtures of the tests that try threats: a Job's pod in a folder, a real API server that knows our kind."""

import os

import pytest
from testbed.kubectl import Kubectl

from support.job_pod import pod
from support.kube import install_crd, make_kubectl

__all__ = ["pod"]

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="module")
def kubectl(api_server) -> Kubectl:
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    return kubectl
