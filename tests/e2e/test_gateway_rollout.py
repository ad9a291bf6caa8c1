"""Rollouts behind a real gateway: operator, Triton, Contour and Envoy, clients outside the cluster all the time.

The clients know who answered by the answer. No pod asks for a GPU.
"""

import http.client
import json
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from testbed.client import answered_by
from testbed.kubectl import Kubectl, wait_for
from testbed.store import upload
from tritonclient.grpc import service_pb2

from pilotfish import names
from pilotfish.core.failures import parse_time
from support.apiserver import run_cluster
from support.canaries import answers, bright_images, write_model, write_samples
from support.deployments import Deployments
from support.gateway_clients import (
    GATEWAY,
    HTTP_HOST,
    TIMEOUT_SECONDS,
    Counts,
    GatewayClients,
    Refused,
    until_it_answers,
)
from support.routes import install_routes
from support.status_check import check_status

log = logging.getLogger(__name__)

NAME = "canary"
SCALES = {"v1": 1.0, "v2": 2.0, "fails": 3.0}
ROLLOUT = {
    "strategy": "Canary",
    "steps": [{"weight": 10, "hold": "15s"}, {"weight": 50, "hold": "12s"}],
    "analysis": {
        "interval": "5s",
        "window": "10s",
        "minRequests": 20,
        "checks": {"errorRate": {"max": "0.05"}},
    },
}
IMAGES = bright_images()
EXPECTED = {version: answers(IMAGES, scale=scale) for version, scale in SCALES.items()}
SIGMAS = 5
"""A share that is this far off happens by chance once in a million runs."""
PAUSE_SECONDS = 0.01


@pytest.fixture(scope="module")
def stored(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All models and their samples in the store."""
    folder = tmp_path_factory.mktemp("canaries")
    upload(kubectl, write_samples(folder / "samples.npz"), "canary/samples.npz", namespace=namespace)
    for version, scale in SCALES.items():
        path = write_model(folder / f"{version}.onnx", scale=scale, fails=version == "fails")
        upload(kubectl, path, f"canary/{version}.onnx", namespace=namespace)


@pytest.fixture(scope="module")
def gateway(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """host:port of a gateway that is started by the first test that needs it."""
    install_routes(kubectl)
    yield namespace
    run_cluster("gateway", "--stop")


@pytest.fixture(scope="module")
def served(kubectl: Kubectl, namespace: str, stored: None, gateway: str) -> Iterator[Deployments]:
    """v1 is asked for, and nobody has started the gateway yet."""
    made = Deployments(kubectl=kubectl, namespace=namespace)
    made.apply(NAME, spec("v1"))
    yield made
    kubectl.delete("modeldeployment", NAME, namespace=namespace)


@pytest.fixture(scope="module")
def address(served: Deployments, namespace: str) -> str:
    """host:port at which v1 answers; Ready says so only once the gateway is there."""
    told = wait_for("what it waits for", lambda: waits_for_gateway(served), seconds=180, found=lambda: story(served))
    assert "; inside the cluster revision" in told
    available = served.condition(NAME, "Available")
    assert available is not None
    assert available["status"] == "True"
    found = urlsplit(run_cluster("gateway", "--namespace", namespace)).netloc
    check_status(served.wait_ready(NAME, seconds=30))
    until_it_answers(lambda: make_clients(found))
    return found


def spec(version: str) -> dict[str, Any]:
    secret = {"secretName": "store-credentials"}
    samples = {"uri": "s3://models/canary/samples.npz", **secret}
    return {
        "model": {"uri": f"s3://models/canary/{version}.onnx", "credentials": secret, "samples": samples},
        "optimization": {"batchSizes": [1]},
        "serving": {"replicas": 1, "gpus": {"count": 0}, "gateway": GATEWAY},
        "rollout": ROLLOUT,
    }


def make_clients(address: str) -> GatewayClients:
    return GatewayClients(address, ask_http=ask_http, ask_grpc=ask_grpc, pause_seconds=PAUSE_SECONDS)


INPUT = {"name": "image", "shape": list(IMAGES.shape), "datatype": "FP32"}
HTTP_BODY = json.dumps({"inputs": [{**INPUT, "data": IMAGES.ravel().tolist()}]})
GRPC_BODY = service_pb2.ModelInferRequest(
    model_name=NAME,
    inputs=[service_pb2.ModelInferRequest.InferInputTensor(**INPUT)],
    raw_input_contents=[IMAGES.tobytes()],
)


def ask_http(connection: http.client.HTTPConnection) -> str:
    connection.request("POST", f"/v2/models/{NAME}/infer", body=HTTP_BODY, headers={"Host": HTTP_HOST})
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != http.client.OK:
        raise Refused(f"{answer.status} {said[:200].decode(errors='replace')}")
    (output,) = json.loads(said)["outputs"]
    return who(np.array(output["data"], np.float32))


def ask_grpc(channel: Any) -> str:
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    (content,) = call(GRPC_BODY, timeout=TIMEOUT_SECONDS).raw_output_contents
    return who(np.frombuffer(content, np.float32))


def who(values: np.ndarray) -> str:
    return answered_by({"logits": values.reshape(len(IMAGES), -1)}, EXPECTED)


def test_a_canary_takes_its_shares_and_then_everything(served: Deployments, address: str, kubectl: Kubectl):
    old = revision(served)
    with make_clients(address) as clients:
        served.apply(NAME, spec("v2"))
        for index, percent in enumerate((10, 50)):
            told = wait_for(
                f"the share of {percent} %",
                lambda i=index: at_step(served, i),
                seconds=150,
                found=lambda: story(served),
            )
            assert told["traffic"]["desired"] == told["traffic"]["assigned"] == percent
            settle(clients)
            measured: list[Mapping[str, Any]] = []
            assert_about(clients.counts_while(lambda i=index, m=measured: keeps(served, i, m)), percent / 100)
            traffic = measured[-1]["traffic"]
            log.info("status.rollout.traffic at %d %%: %s", percent, traffic)
            assert {key: traffic[key] for key in ("desired", "assigned", "source")} == {
                "desired": percent,
                "assigned": percent,
                "source": "Gateway",
            }
            assert abs(float(traffic["achieved"]) - percent) <= 8
        body = served.wait_ready(NAME, seconds=60)
        check_status(body)
        assert revision(served) != old
        alone(served, kubectl, "v2", clients)
    assert clients.failures == []
    assert sum(counter["wrong"] for counter in clients.answers.values()) == 0
    log.info("answers: %s", clients.answers)


def test_a_bad_canary_is_sent_back_and_nobody_asks_it_any_more(served: Deployments, address: str, kubectl: Kubectl):
    before = revision(served)
    with make_clients(address) as clients:
        served.apply(NAME, spec("fails"))
        told = served.wait_condition(NAME, "Ready", "False", reason="AnalysisFailed", seconds=150)
        assert "step 1/2" in told["message"]
        assert "error rate" in told["message"]
        assert revision(served) == before
        check_status(served.get(NAME))
        answered = clients.counts()
        wait_for("v2 alone to answer", lambda: enough(clients.since(answered)), seconds=30)
        alone(served, kubectl, "v2", clients)
    assert clients.failures, "the canary had no request at all"
    given_up = parse_time(served.get(NAME)["status"]["rollout"]["aborted"]["at"]).timestamp()
    late = max(moment for moment, _, _ in clients.failures) - given_up
    log.info("%d requests failed, the last one %.1f s after the verdict", len(clients.failures), late)
    # The moment of the verdict is kept in whole seconds.
    assert late < 5


def waits_for_gateway(served: Deployments) -> str | None:
    """What Ready says once it says that nobody has answered the routes."""
    ready = served.condition(NAME, "Ready")
    silent = ready is not None and 'Gateway "public" has not answered' in ready["message"]
    return ready["message"] if ready is not None and silent and ready["reason"] == "WaitingForRoutes" else None


def at_step(served: Deployments, index: int) -> Mapping[str, Any] | None:
    """status.rollout, once the gateway follows at this step."""
    rollout: Mapping[str, Any] = served.get(NAME)["status"].get("rollout", {})
    step = rollout.get("step", {})
    return rollout if step.get("index") == index and "readyAt" in step else None


def keeps(served: Deployments, index: int, measured: list[Mapping[str, Any]]) -> bool:
    """Whether it is still at this step; each status that was measured is kept."""
    rollout = at_step(served, index)
    if rollout is not None and "achieved" in rollout["traffic"]:
        measured.append(rollout)
    return rollout is not None


def assert_about(found: Counts, wanted: float) -> None:
    """Within what chance explains at this number of requests."""
    for kind, counter in found.items():
        share, bound = counter["v2"] / counter.total(), SIGMAS * math.sqrt(wanted * (1 - wanted) / counter.total())
        log.info("%s: %.4f of %d requests, wanted %.2f ± %.4f", kind, share, counter.total(), wanted, bound)
        assert abs(share - wanted) <= bound, f"{kind}: {share} of {counter.total()}, not {wanted} ± {bound}"


def settle(clients: GatewayClients) -> None:
    """The gateway has accepted the weights; what it answers a moment later goes by them."""
    before = clients.counts()
    wait_for("some more answers", lambda: enough(clients.since(before)), seconds=30)


def enough(found: Counts) -> bool:
    return min(counter.total() for counter in found.values()) > 20


def alone(served: Deployments, kubectl: Kubectl, version: str, clients: GatewayClients) -> None:
    """The pods of the others go, then their Services, and the routes name the stable revision alone."""
    stable = revision(served)
    wait_for("the other revision's objects to go", lambda: is_alone(served, kubectl, stable), seconds=120)
    before = clients.counts()
    wait_for("more answers", lambda: enough(clients.since(before)), seconds=30)
    assert {key for counter in clients.since(before).values() for key, count in counter.items() if count} == {version}


def is_alone(served: Deployments, kubectl: Kubectl, stable: str) -> bool:
    backends = [{"name": names.route_service(NAME, stable), "weight": 100}]
    routes = [
        route
        for kind in ("httproutes", "grpcroutes")
        for route in kubectl.list(kind, namespace=served.namespace, selector=f"{names.NAME_LABEL}={NAME}")
    ]
    stored = [
        [
            {key: ref[key] for key in ("name", "weight")}
            for rule in route["spec"]["rules"]
            for ref in rule["backendRefs"]
        ]
        for route in routes
    ]
    services = [name for name in served.children(NAME, "services") if name.endswith("-route")]
    pods = served.children(NAME, "deployments")
    return stored == [backends, backends] and services == [f"Service/{backends[0]['name']}"] and len(pods) == 1


def revision(served: Deployments) -> str:
    return str(served.get(NAME)["status"]["stableRevision"]["hash"])


def story(served: Deployments) -> str:
    return f"{served.story(NAME)} {served.get(NAME)['status'].get('rollout')}"
