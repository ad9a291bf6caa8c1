"""S32, S17, S14: who gets through to a model's pods. Real policies and pods of a real API server, and what they mean.

No enforcer of NetworkPolicies runs here: tests/support/network_policies.py says what they mean.
"""

import asyncio
import json
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from testbed.kubectl import KubectlError

from pilotfish.core.objects import condition_of, ref_of
from pilotfish.resources.network_policy import make_network_policy
from pilotfish.resources.policy import Neighbours
from pilotfish.settings import OperatorSettings
from support.builders import OWNER, make_spec
from support.helm import of_kind, render
from support.kube import fresh_namespace, kube_cluster, make_object
from support.kubelet import playing_kubelet
from support.network_policies import Caller, Network, caller, selects
from support.operator_process import NAMESPACE, running_operator

HTTP, GRPC, METRICS = 8000, 8001, 8002
GATEWAY = {"name": "public", "hostnames": ["a.example.org"], "grpc": {"hostnames": ["b.example.org"]}}
OPERATOR = {"app.kubernetes.io/name": "pilotfish", "app.kubernetes.io/instance": "pilotfish"}
NEIGHBOURS = Neighbours(
    operator={
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "home"}},
        "podSelector": {"matchLabels": OPERATOR},
    },
    metrics=({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},),
    gateways=({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "envoys"}}},),
)


# The policy alone


def body(serving, neighbours=NEIGHBOURS):
    spec = make_spec({"model": {"uri": "s3://models/digits/v1/"}, "serving": serving})
    return make_network_policy(OWNER, serving=spec.serving, neighbours=neighbours)


def world(*policies):
    spaces = (OWNER.namespace, "shop", "home", "monitoring", "envoys")
    made = tuple({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}} for name in spaces)
    return Network(policies=tuple(policy for policy in policies if policy), namespaces=made)


POD = {
    "metadata": {
        "namespace": OWNER.namespace,
        "labels": {"pilotfish.dev/name": "digits", "pilotfish.dev/component": "triton", "pilotfish.dev/revision": "b"},
    },
    "spec": {"containers": []},
}
NEAR = Caller(namespace=OWNER.namespace, labels={"app": "shop"})
FAR = Caller(namespace="shop", labels={"app": "shop"})
VERIFIER = Caller(
    namespace=OWNER.namespace, labels={"pilotfish.dev/name": "digits", "pilotfish.dev/component": "verify"}
)
SHADOW = Caller(namespace=OWNER.namespace, labels={**POD["metadata"]["labels"], "pilotfish.dev/shadow": "c"})
OPTIMIZER = Caller(
    namespace=OWNER.namespace, labels={"pilotfish.dev/name": "digits", "pilotfish.dev/component": "optimize"}
)
OF_OPERATOR = Caller(namespace="home", labels=OPERATOR)
PROMETHEUS = Caller(namespace="monitoring", labels={"app.kubernetes.io/name": "prometheus"})
ENVOY = Caller(namespace="envoys", labels={"app": "envoy"})
OWN_ENVOY = Caller(
    namespace=OWNER.namespace, labels={"gateway.networking.k8s.io/gateway-name": "public", "app": "envoy"}
)
OTHERS_ENVOY = Caller(namespace=OWNER.namespace, labels={"gateway.networking.k8s.io/gateway-name": "other"})
OUTSIDE = Caller(address="203.0.113.9")
EVERYBODY = {
    "near": NEAR,
    "far": FAR,
    "verifier": VERIFIER,
    "shadow": SHADOW,
    "optimizer": OPTIMIZER,
    "operator": OF_OPERATOR,
    "prometheus": PROMETHEUS,
    "envoy": ENVOY,
    "own envoy": OWN_ENVOY,
    "other envoy": OTHERS_ENVOY,
    "outside": OUTSIDE,
}
HERE = {"near", "verifier", "shadow", "optimizer", "own envoy", "other envoy"}
READERS = {"operator", "prometheus"}


@pytest.mark.parametrize(
    ("serving", "http", "grpc", "metrics"),
    [
        ({}, HERE, HERE, READERS),
        ({"access": {"fromNamespaces": ["shop"]}}, HERE | {"far"}, HERE | {"far"}, READERS),
        ({"gateway": GATEWAY}, HERE | {"envoy"}, HERE | {"envoy"}, READERS),
        (
            {"gateway": GATEWAY, "access": {"mode": "Gateway"}},
            {"own envoy", "envoy", "verifier", "shadow"},
            {"own envoy", "envoy", "verifier", "shadow"},
            READERS,
        ),
        ({"protocols": ["GRPC"]}, {"verifier", "shadow"}, HERE, READERS),
        ({"protocols": ["HTTP"]}, HERE, {"verifier", "shadow"}, READERS),
        ({"access": {"mode": "Open"}}, set(EVERYBODY), set(EVERYBODY), set(EVERYBODY)),
    ],
    ids=["Internal", "two namespaces", "Internal behind a gateway", "Gateway", "gRPC alone", "HTTP alone", "Open"],
)
def test_s32_who_gets_through(serving, http, grpc, metrics):
    network = world(body(serving))
    for port, wanted in ((HTTP, http), (GRPC, grpc), (METRICS, metrics)):
        assert {who for who, source in EVERYBODY.items() if network.allows(source, POD, port)} == wanted, port
    assert network.allows(OUTSIDE, POD, 22) is (serving == {"access": {"mode": "Open"}})


def test_s32_pods_of_another_model_are_not_this_policys_business():
    other = {**POD, "metadata": {**POD["metadata"], "labels": {**POD["metadata"]["labels"], "pilotfish.dev/name": "x"}}}
    assert world(body({})).allows(OUTSIDE, other, GRPC)


@pytest.mark.parametrize("gateway", ["public", "g" * 70])
def test_s32_no_rule_is_without_peers(gateway):
    """A rule without `from` lets everybody in: also where nobody is known who may."""
    made = body({"gateway": {**GATEWAY, "name": gateway}, "access": {"mode": "Gateway"}}, Neighbours())
    assert all(rule["from"] for rule in made["spec"]["ingress"])
    network = world(made)
    assert not any(network.allows(source, POD, port) for source in (OUTSIDE, FAR, NEAR) for port in (HTTP, METRICS))


def test_s17_nobody_in_the_models_namespace_reads_metrics():
    network = world(body({}))
    assert not network.allows(NEAR, POD, METRICS)


def test_the_settings_name_the_operators_pods_and_prometheus(monkeypatch):
    monkeypatch.setenv("PILOTFISH_NAMESPACE", "home")
    monkeypatch.setenv("PILOTFISH_GATEWAYS_FROM", json.dumps(list(NEIGHBOURS.gateways)))
    assert OperatorSettings().policy().neighbours == NEIGHBOURS


@pytest.mark.parametrize("peers", ["[{}]", '[{"pod": {}}]', "{}", "x"])
def test_peers_that_would_let_everybody_in_or_nobody_are_refused(monkeypatch, peers):
    monkeypatch.setenv("PILOTFISH_METRICS_FROM", peers)
    with pytest.raises(ValueError, match=r"metrics_from"):
        OperatorSettings()


@pytest.mark.parametrize(
    ("selector", "labels", "found"),
    [
        ({}, {}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"b": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"b": "1"}, True),
    ],
)
def test_the_evaluator_reads_selectors(selector, labels, found):
    assert selects(selector, labels) is found


def test_the_evaluator_adds_policies_up_and_knows_the_empty_ones():
    """The examples of Kubernetes' own page: deny all, allow all, ports, blocks with holes."""
    base = {"metadata": {"namespace": OWNER.namespace}}

    def policy(*ingress, selector=None):
        return {**base, "spec": {"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(ingress)}}

    assert world().allows(OUTSIDE, POD, 1)
    assert not world(policy()).allows(NEAR, POD, 1)
    assert world(policy({})).allows(OUTSIDE, POD, 1)
    assert world(policy(), policy({"from": [{"podSelector": {}}]})).allows(NEAR, POD, 1)
    both = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}},
        "podSelector": {"matchLabels": {"a": "1"}},
    }
    assert not world(policy({"from": [both]})).allows(FAR, POD, 1)
    assert world(policy({"from": [both]})).allows(replace(FAR, labels={"a": "1"}), POD, 1)
    block = {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}
    assert not world(policy({"from": [block]})).allows(OUTSIDE, POD, 1)
    assert world(policy({"from": [block]})).allows(Caller(address="203.0.113.1"), POD, 1)
    ports = policy({"ports": [{"port": 5, "endPort": 7, "protocol": "TCP"}]})
    assert [world(ports).allows(OUTSIDE, POD, port) for port in (4, 5, 7, 8)] == [False, True, True, False]


# On the real API server


@pytest.fixture
def namespace(kubectl):
    with fresh_namespace(kubectl) as name:
        kubectl.run("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield name


@pytest_asyncio.fixture
async def api(api_server):
    async with kube_cluster(api_server) as cluster:
        yield cluster


@dataclass(frozen=True)
class Stage:
    """A namespace of the API server as the tests look at it."""

    api: object
    kubectl: object
    namespace: str

    async def submit(self, serving, name="digits"):
        spec = {"model": {"uri": "s3://models/digits/v1/"}, "serving": serving}
        await self.api.apply(make_object(name, self.namespace, spec))

    async def ready(self, *, name="digits"):
        """Its condition Ready, once that is true for what was submitted last."""

        async def probe():
            found = await self.api.get(ref_of(make_object(name, self.namespace)))
            ready = condition_of(found, "Ready")
            fresh = ready and ready["observedGeneration"] == found["metadata"]["generation"]
            return ready if fresh and ready["status"] == "True" else None

        return await until("Ready", probe)

    def policy(self, name="digits"):
        found = self.kubectl.run("get", "networkpolicy", name, "-n", self.namespace, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found else None

    def items(self, kind, *more):
        return tuple(json.loads(self.kubectl.run("get", kind, *more, "-o", "json"))["items"])

    def network(self):
        return Network(policies=self.items("networkpolicies", "-A"), namespaces=self.items("namespaces"))

    def pods(self, component):
        chosen = f"pilotfish.dev/component={component}"
        found = self.items("pods", "-n", self.namespace, "-l", chosen)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


async def until(what, probe, *, seconds=90.0):
    deadline = asyncio.get_running_loop().time() + seconds
    while not (found := await probe()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.2)
    return found


@pytest.fixture
def stage(api, kubectl, namespace):
    return Stage(api, kubectl, namespace)


def operators_pod():
    """Labels of the operator's pods as the chart writes them, in its namespace."""
    (deployment,) = of_kind(render(), "Deployment")
    return Caller(namespace=NAMESPACE, labels=deployment["spec"]["template"]["metadata"]["labels"])


@pytest.mark.apiserver
async def test_s32_internal_on_the_api_server(stage, account):
    """Before any pod there is a policy; it is kept as it was made; open is open at once and moves no pod."""
    stranger = Caller(namespace="default", labels={"app.kubernetes.io/name": "pilotfish"})
    async with playing_kubelet(stage.api, stage.namespace):
        with running_operator(account, watch_namespaces=stage.namespace):
            await stage.submit({})
            await stage.ready()
            network, (pod,), (verifier,) = stage.network(), stage.pods("triton"), stage.pods("verify")
            near = Caller(namespace=stage.namespace, labels={})
            assert stage.policy()["metadata"]["creationTimestamp"] <= pod["metadata"]["creationTimestamp"]
            through = {
                who: [port for port in (HTTP, GRPC, METRICS) if network.allows(source, pod, port)]
                for who, source in {
                    "near": near,
                    "stranger": stranger,
                    "verifier": caller(verifier),
                    "operator": operators_pod(),
                    "outside": OUTSIDE,
                }.items()
            }
            assert through == {
                "near": [HTTP, GRPC],
                "stranger": [],
                "verifier": [HTTP, GRPC],
                "operator": [METRICS],
                "outside": [],
            }
            await keeps_its_policy(stage, stranger, pod)
            await stage.submit({"access": {"mode": "Open"}})
            await until("no policy", lambda: asyncio.to_thread(lambda: stage.policy() is None))
            await stage.ready()
            assert stage.network().allows(stranger, pod, GRPC)
            assert [found["metadata"]["uid"] for found in stage.pods("triton")] == [pod["metadata"]["uid"]]


async def keeps_its_policy(stage, stranger, pod):
    """A word more in a selector, a rule more, no policy at all: each is as it was after a moment."""
    wanted = stage.policy()["spec"]
    wider = {"op": "add", "path": "/spec/ingress/0/from/0/namespaceSelector", "value": {}}
    another = {"op": "add", "path": "/spec/ingress/-", "value": {}}
    for change in (wider, another):
        stage.kubectl.run(
            "patch", "networkpolicy", "digits", "-n", stage.namespace, "--type=json", "-p", json.dumps([change])
        )
        await until("the policy is mended", lambda: asyncio.to_thread(lambda: stage.policy()["spec"] == wanted))
        assert not stage.network().allows(stranger, pod, GRPC)
    stage.kubectl.run("delete", "networkpolicy", "digits", "-n", stage.namespace)
    await until("the policy is back", lambda: asyncio.to_thread(lambda: (stage.policy() or {}).get("spec") == wanted))


@pytest.mark.apiserver
async def test_s32_somebody_elses_policy_in_its_place_stops_everything(stage, account):
    everything = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "digits", "namespace": stage.namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]},
    }
    stage.kubectl.apply(everything)
    with running_operator(account, watch_namespaces=stage.namespace):
        await stage.submit({})

        async def blocked():
            found = await stage.api.get(ref_of(make_object("digits", stage.namespace)))
            return (condition_of(found, "Ready") or {}).get("reason") == "NotOwned"

        await until("NotOwned", blocked)
        assert stage.pods("triton") == []
        assert stage.policy()["spec"]["ingress"] == [{}], "what is somebody else's is left alone"


@pytest.mark.apiserver
async def test_s18_a_renewed_certificate_replaces_the_pods_on_the_api_server(stage, account):
    """Real Deployment controllers; the played kubelet tells what the watcher would. No right on Secrets is used."""
    tls = {"protocols": ["GRPC"], "access": {"tls": {"secretName": "digits-tls", "clientCA": "digits-clients"}}}
    async with playing_kubelet(stage.api, stage.namespace) as kubelet:
        with running_operator(account, watch_namespaces=stage.namespace):
            await stage.submit(tls)
            await stage.ready()
            (first,), (watcher,) = stage.pods("triton"), stage.pods("certificate")
            assert first["metadata"]["annotations"]["pilotfish.dev/certificate"] == kubelet.certificate
            assert not stage.network().allows(Caller(namespace=stage.namespace), first, HTTP)
            kubelet.certificate = "d" * 16
            stage.kubectl.run("delete", "pod", watcher["metadata"]["name"], "-n", stage.namespace, "--wait=false")

            async def rolled():
                pods = stage.pods("triton")
                told = [pod["metadata"]["annotations"]["pilotfish.dev/certificate"] for pod in pods]
                return told == ["d" * 16]

            await until("the pod is another one", rolled)
            await stage.ready()


@pytest.mark.apiserver
@pytest.mark.parametrize(
    "name", ["..", ".", "../../etc", "a/b", "a..b", "a.b", "%2e%2e", "a%2fb", "A", "a_b", "-a", "a" * 64]
)
async def test_s14_a_name_that_could_be_a_path_is_refused(kubectl, name):
    """The name of a ModelDeployment is the model's in Triton and a folder in the repository."""
    with pytest.raises(KubectlError):
        kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(make_object(name, "default")))
