"""A real API server that knows our kind."""

import pytest
from testbed.kubectl import Kubectl

from support.kube import install_crd, make_kubectl


@pytest.fixture(scope="module")
def kubectl(api_server) -> Kubectl:
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    return kubectl
