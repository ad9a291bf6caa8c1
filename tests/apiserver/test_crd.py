"""The CRD on a real API server: accepted, defaulting, refusing with sentences, subresources and columns."""

import json
import re
from copy import deepcopy

import pytest
from kubernetes import client, config
from testbed.kubectl import KubectlError

from pilotfish.api.base import GROUP, PLURAL, VERSION
from pilotfish.api.crd import UNSEEN, make_crd
from support.invalid_objects import INVALID, make_manifest
from support.kube import CRD, fresh_namespace
from support.valid_objects import VALID

pytestmark = pytest.mark.apiserver

NAME = f"{PLURAL}.{GROUP}"


class Objects:
    """ModelDeployments of one namespace over plain HTTP: no client-side validation in between."""

    def __init__(self, api, namespace):
        self.api, self.namespace = api, namespace
        self.where = (GROUP, VERSION, namespace, PLURAL)

    def create(self, manifest, *, dry_run=None):
        return self.api.create_namespaced_custom_object(
            *self.where, manifest, **({"dry_run": dry_run} if dry_run else {})
        )

    def refusal(self, manifest):
        """The API server's sentence; fails when it accepts the object."""
        with pytest.raises(client.ApiException) as error:
            self.create(manifest, dry_run="All")
        return _sentence(error.value)

    def replace(self, manifest):
        return self.api.replace_namespaced_custom_object(*self.where, manifest["metadata"]["name"], manifest)

    def update_refusal(self, manifest):
        with pytest.raises(client.ApiException) as error:
            self.replace(manifest)
        return _sentence(error.value)


def _sentence(error):
    assert error.status == 422, error
    return json.loads(error.body)["message"]


@pytest.fixture(scope="module")
def api_client(api_server, kubectl):
    with config.new_client_from_config(str(api_server)) as api_client:
        yield api_client


@pytest.fixture
def namespace(kubectl):
    with fresh_namespace(kubectl) as name:
        yield name


@pytest.fixture
def objects(api_client, namespace):
    return Objects(client.CustomObjectsApi(api_client), namespace)


@pytest.fixture(scope="module")
def dry(api_client):
    """For objects that are never stored."""
    return Objects(client.CustomObjectsApi(api_client), "default")


def test_established_and_structural(api_client):
    crd = client.ApiextensionsV1Api(api_client).read_custom_resource_definition(NAME)
    conditions = {condition.type: condition.status for condition in crd.status.conditions}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


def test_accepted_without_a_warning(kubectl):
    done = kubectl.run("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", str(CRD))
    assert "serverside-applied" in done


def test_nothing_of_the_schema_is_dropped(api_client):
    stored = client.CustomObjectsApi(api_client).get_cluster_custom_object(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions", NAME
    )
    ours = make_crd()["spec"]["versions"][0]
    theirs = stored["spec"]["versions"][0]
    assert theirs["schema"] == ours["schema"]


@pytest.mark.parametrize("case", [c for c in INVALID if c.server_says is not None], ids=lambda case: case.what)
def test_refuses_and_says_what_to_write(dry, case):
    assert case.server_says in dry.refusal(case.manifest())


@pytest.mark.parametrize("case", [c for c in INVALID if c.server_says is None], ids=lambda case: case.what)
def test_unknown_fields_are_pruned_and_kubectl_refuses_them(dry, kubectl, tmp_path, case):
    dry.create(case.manifest(), dry_run="All")
    file = tmp_path / "object.json"
    file.write_text(json.dumps(case.manifest()))
    with pytest.raises(KubectlError, match="unknown field"):
        kubectl.run("apply", "--validate=strict", "--dry-run=server", "-n", "default", "-f", str(file))


@pytest.mark.parametrize(("what", "changes"), VALID, ids=[what for what, _ in VALID])
def test_accepts(dry, what, changes):
    dry.create(make_manifest(changes), dry_run="All")


def test_secrets_are_not_repeated(dry):
    assert "hunter2" not in dry.refusal(make_manifest({"model.uri": "https://me:hunter2@host/m.onnx?token=hunter2"}))


def test_ten_lines_show_every_default(objects):
    spec = objects.create(make_manifest())["spec"]
    assert spec == {
        "model": {"uri": "s3://models/digits/v3/", "trust": "DataOnly"},
        "optimization": {
            "formats": ["ONNX", "TorchScript"],
            "precisions": ["FP32"],
            "objective": "Latency",
            "batchSizes": [1, 8],
            "onNoCandidate": "ServeOriginal",
            "profile": False,
            "deadline": "1h",
        },
        "storage": {"kind": "PVC", "size": "10Gi", "accessMode": "ReadWriteOnce"},
        "serving": {
            "replicas": 1,
            "gpus": {"count": 1, "resource": "nvidia.com/gpu"},
            "batching": {"maxBatchSize": 8, "maxQueueDelay": "2ms"},
            "instances": 1,
            "threads": {"intraOp": 0, "interOp": 0},
            "protocols": ["GRPC", "HTTP"],
            "warmup": True,
            "terminationGracePeriod": "60s",
            "minAvailable": 1,
            "access": {"mode": "Internal"},
        },
        "rollout": {"strategy": "BlueGreen", "capacity": "Auto", "progressDeadline": "10m"},
        "paused": False,
        "revisionHistoryLimit": 5,
    }


def _in_bucket(uri):
    return {"storage": {"kind": "Bucket", "bucket": {"uri": uri}}}


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ({}, {"storage.kind": "Bucket", "storage.bucket": {"uri": "s3://a/b"}}, "leave storage.kind as it is"),
        (_in_bucket("s3://a/b"), _in_bucket("s3://a/c"), "leave bucket.uri as it is"),
        (_in_bucket("s3://a/b"), {}, "leave storage.kind as it is"),
        ({}, {"storage.className": "fast"}, "leave className as it is"),
        ({"storage.className": "fast"}, {}, "leave className as it is"),
        ({}, {"storage.accessMode": "ReadWriteMany"}, "leave accessMode as it is"),
        ({}, {"storage.size": "9Gi"}, "a claim cannot shrink"),
        ({"storage.size": 2_000_000_000}, {"storage.size": "1G"}, "a claim cannot shrink"),
    ],
)
def test_what_cannot_change_later(objects, before, after, says):
    stored = objects.create(make_manifest(before))
    changed = {**deepcopy(stored), "spec": make_manifest(after)["spec"]}
    assert says in objects.update_refusal(changed)


def test_a_claim_may_grow(objects):
    stored = objects.create(make_manifest())
    stored["spec"]["storage"]["size"] = "20Gi"
    assert objects.replace(stored)["spec"]["storage"]["size"] == "20Gi"


def test_apply_replaces_defaulted_lists(kubectl, namespace, tmp_path):
    file = tmp_path / "object.json"
    for changes in ({}, {"optimization.precisions": ["FP16"], "serving.protocols": ["GRPC"]}):
        file.write_text(json.dumps(make_manifest(changes)))
        kubectl.run("apply", "--server-side", "-n", namespace, "-f", str(file))
    spec = json.loads(kubectl.run("get", "mdep", "digits", "-n", namespace, "-o", "json"))["spec"]
    assert spec["optimization"]["precisions"] == ["FP16"]
    assert spec["serving"]["protocols"] == ["GRPC"]


def test_status_is_a_subresource(objects):
    stored = objects.create(make_manifest())
    stored["status"] = {"phase": "Ready"}
    assert objects.replace(stored)["status"] == UNSEEN
    stored = objects.api.get_namespaced_custom_object(*objects.where, "digits")
    stored["spec"]["paused"] = True
    stored["status"] = _full_status()
    written = objects.api.replace_namespaced_custom_object_status(*objects.where, "digits", stored)
    assert written["status"] == _full_status()
    assert written["spec"]["paused"] is False


def test_scale(objects, kubectl):
    stored = objects.create(make_manifest())
    stored["status"] = _full_status()
    objects.api.replace_namespaced_custom_object_status(*objects.where, "digits", stored)
    kubectl.run("scale", "mdep/digits", "--replicas=3", "-n", objects.namespace)
    scale = objects.api.get_namespaced_custom_object_scale(*objects.where, "digits")
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 2, "selector": "pilotfish.dev/name=digits"}


def test_scale_keeps_to_the_bounds(objects, kubectl):
    objects.create(make_manifest())
    with pytest.raises(KubectlError, match="less than or equal to 1000"):
        kubectl.run("scale", "mdep/digits", "--replicas=1001", "-n", objects.namespace)


def test_columns(objects, kubectl):
    stored = objects.create(make_manifest())
    stored["status"] = _full_status()
    objects.api.replace_namespaced_custom_object_status(*objects.where, "digits", stored)
    assert _table(kubectl.run("get", "mdep", "-n", objects.namespace)) == [
        ["NAME", "READY", "AVAILABLE", "PHASE", "VARIANT", "STEP", "REPLICAS", "AGE"],
        ["digits", "False", "True", "Canarying", "onnx-fp32 2.1x", "2/4 25%", "2", "0s"],
    ]
    wide = _table(kubectl.run("get", "mdep", "-n", objects.namespace, "-o", "wide"))
    assert wide[0][8:] == ["SPEEDUP", "ERROR", "STABLE", "CANDIDATE", "ENDPOINT", "MESSAGE"]
    assert wide[1][8:] == ["2.1", "1.2e-06", "aaaa1111", "bbbb2222", "http://digits.team:8000", "Step 2 of 4 runs"]


def test_categories_and_short_name(objects, kubectl):
    objects.create(make_manifest())
    for kind in ("mdep", "ai", "all"):
        assert "modeldeployment.pilotfish.dev/digits" in kubectl.run("get", kind, "-n", objects.namespace, "-o", "name")


def test_explain_tells_unit_default_and_meaning(kubectl):
    said = " ".join(kubectl.run("explain", "mdep.spec.optimization.objective").split())
    assert "Latency (smallest median latency at the first batch size)" in said
    assert "Default: Latency." in said
    assert "Not available in this version" in " ".join(kubectl.run("explain", "mdep.spec.serving.placement").split())


def test_a_short_analysis_keeps_the_default_checks(objects):
    """A block that is written in part must not lose the check that stands behind it."""
    analysis = objects.create(make_manifest({"rollout": {"strategy": "Canary", "analysis": {"interval": "5s"}}}))[
        "spec"
    ]["rollout"]["analysis"]
    assert analysis == {
        "interval": "5s",
        "window": "1m",
        "minRequests": 100,
        "onNoData": "Hold",
        "noDataDeadline": "30m",
        "failureLimit": 1,
        "errorLimit": 4,
        "checks": {"errorRate": {"max": "0.01", "mode": "Enforce"}, "podRestarts": {"max": 0, "mode": "Enforce"}},
    }


def _full_status():
    def condition(kind, status, message):
        return {
            "type": kind,
            "status": status,
            "reason": "Canarying",
            "message": message,
            "lastTransitionTime": "2026-11-22T10:00:00Z",
            "observedGeneration": 1,
        }

    return {
        "observedGeneration": 1,
        "phase": "Canarying",
        "step": "2/4 25%",
        "variant": "onnx-fp32 2.1x",
        "conditions": [condition("Ready", "False", "Step 2 of 4 runs"), condition("Available", "True", "2 pods serve")],
        "stableRevision": {"name": "digits-aaaa1111", "hash": "aaaa1111"},
        "candidateRevision": {"name": "digits-bbbb2222", "hash": "bbbb2222"},
        "optimization": {"winner": "onnx-fp32", "speedup": "2.1", "maxAbsError": "1.2e-06"},
        "rollout": {
            "revision": "bbbb2222",
            "stage": "Stepping",
            "step": {"index": 1, "weight": 25, "startedAt": "2026-11-22T10:00:00Z"},
            "traffic": {
                "desired": 25,
                "assigned": 25,
                "achieved": "24.8",
                "source": "Replicas",
                "achievable": [25, 50],
            },
            "capacity": {"plan": "Surge", "gpusNeeded": 1, "gpusFree": 2, "rollbackETA": "10s"},
            "verification": {"verdict": "Pass", "message": "32 of 32 answers agree"},
            "analysis": {
                "verdict": "Pass",
                "checks": [{"name": "errorRate", "verdict": "Pass", "passed": 3, "failed": 0, "errors": 0}],
            },
            "lastActionId": "2026-11-22-1",
            "undo": {"toRevision": "aaaa1111", "fromRevision": "cccc3333"},
            "aborted": {"revision": "cccc3333", "reason": "AnalysisFailed", "at": "2026-11-22T09:00:00Z"},
        },
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "pilotfish.dev/name=digits",
        "endpoints": {"http": "http://digits.team:8000"},
    }


def _table(text):
    """The cells of kubectl's table; the age is not a matter of this test."""
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return [[re.sub(r"^\d+s$", "0s", cell) for cell in row] for row in rows]
