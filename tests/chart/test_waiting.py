"""`helm upgrade --install --wait` of a user's chart with the operator at work: it ends when the model's story does."""

import asyncio
import json

import pytest

from pilotfish.api.report import TerminationMessage
from pilotfish.core.objects import condition_of, ref_of
from support.builders import make_result
from support.helm import helm
from support.kube import fresh_namespace, install_crd, kube_cluster, make_kubectl, make_object
from support.kubelet import playing_kubelet
from support.operator_process import install_rights, running_operator

pytestmark = [pytest.mark.apiserver, pytest.mark.soak]

FAILED = {"outcome": "Failed", "reason": "SourceNotFound", "message": "there is no such object"}


@pytest.fixture(scope="module")
def account(api_server, tmp_path_factory):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    return install_rights(kubectl, tmp_path_factory.mktemp("account"))


def result(job):
    """What lies below v2 is missing."""
    if "/v2/" in job["model"]["uri"]:
        return TerminationMessage.model_validate(FAILED)
    return make_result(job["recipeKey"])


async def test_it_returns_when_the_model_is_served_and_fails_when_it_cannot_be(api_server, account, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")

    async def install(namespace, version):
        body = make_object("digits", namespace, {"model": {"uri": f"s3://models/digits/{version}/"}})
        (tmp_path / "templates" / "model.yaml").write_text(json.dumps(body))
        place = ("--kubeconfig", str(api_server), "--namespace", namespace, "--wait", "--timeout=100s")
        return await asyncio.to_thread(helm, "upgrade", "--install", "shop", str(tmp_path), *place)

    with fresh_namespace(make_kubectl(api_server)) as namespace, running_operator(account):
        async with kube_cluster(api_server) as cluster, playing_kubelet(cluster, namespace, result=result):
            done = await install(namespace, "v1")
            body = await cluster.get(ref_of(make_object("digits", namespace)))
            assert done.returncode == 0, done.stderr
            assert condition_of(body, "Ready")["status"] == "True"

            done = await install(namespace, "v2")
            body = await cluster.get(ref_of(make_object("digits", namespace)))
            assert done.returncode == 1
            assert "status: Failed, message: " in done.stderr
            assert FAILED["message"] in done.stderr
            assert condition_of(body, "Available")["status"] == "True"
