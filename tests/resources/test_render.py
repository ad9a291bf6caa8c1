"""Every object that we make: valid for Kubernetes, within Pod Security `restricted`, and rendered as recorded.

A recorded pod template that changes means that an upgrade of the operator moves pods of revisions made after it. That
may be right; it is never an accident: `pytest --record` and a look at the difference.
"""

from dataclasses import replace
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pilotfish import names
from pilotfish.api.job_input import SHADOW_DRAIN_SECONDS
from pilotfish.api.optimization import ExportFormat
from pilotfish.api.tolerance import Tolerance
from pilotfish.resources import (
    JobIntent,
    make_event,
    make_job,
    make_refresh_job,
    make_verify_job,
    read_record,
)
from pilotfish.resources.job import optimizer_image
from support.builders import NOW, OWNER, POLICY, make_spec
from support.rendered import render_all, verify_intent

RECORDED = Path(__file__).parent / "recorded"

SPECS = {
    "small": {"model": {"uri": "s3://models/digits/v1/"}},
    "onnx-on-cpu": {
        "model": {"uri": "https://example.com/digits.onnx", "digest": "sha256:" + "c" * 64},
        "serving": {"resources": {"cpu": "2", "memory": "1Gi"}, "instances": 2, "protocols": ["GRPC"]},
    },
    "tuned": {
        "model": {"uri": "s3://models/digits/v1/"},
        "optimization": {"objective": "Throughput", "tuning": {"concurrency": 32, "maxLatency": "50ms"}},
        "serving": {"resources": {"cpu": "2"}, "batching": {"maxQueueDelay": "1ms"}},
    },
    "bucket": {
        "model": {
            "uri": "s3://models/digits/v1/",
            "credentials": {"secretName": "source-credentials"},
            "samples": {"uri": "pvc://samples/digits.npz"},
        },
        "storage": {"kind": "Bucket", "bucket": {"uri": "s3://artifacts/team", "secretName": "bucket-credentials"}},
    },
    "encrypted": {
        "model": {"uri": "s3://models/digits/v1/"},
        "serving": {
            "protocols": ["GRPC"],
            "access": {"fromNamespaces": ["shop"], "tls": {"secretName": "digits-tls", "clientCA": "digits-clients"}},
        },
    },
    "plain-json": {
        "model": {"uri": "s3://models/digits/v1/"},
        "serving": {"predict": {"input": "Image", "labels": [f"digit {n}" for n in range(10)], "sampleRate": "0.5"}},
    },
    "everything": {
        "model": {
            "uri": "pvc://models/digits/v1",
            "credentials": {"secretName": "store-credentials"},
            "samples": {"uri": "pvc://samples/digits.npz", "secretName": "samples-credentials"},
        },
        "optimization": {
            "precisions": ["FP32", "INT8"],
            "gpus": {"count": 1},
            "resources": {"cpu": "500m", "memory": "8Gi"},
            "deadline": "30m",
        },
        "storage": {"size": "1Gi", "className": "fast", "accessMode": "ReadWriteMany"},
        "serving": {
            "replicas": 3,
            "gpus": {"count": 2, "resource": "nvidia.com/mig-1g.5gb"},
            "batching": {"maxBatchSize": 16, "maxQueueDelay": "500ms", "preferredSizes": [4, 8]},
            "threads": {"intraOp": 3, "interOp": 1},
            "terminationGracePeriod": "5s",
            "warmup": False,
        },
    },
}


def render(spec_name, *, backend="onnxruntime"):
    """All objects of one spec, by file name."""
    return render_all(make_spec(SPECS[spec_name]), backend=backend)


@pytest.mark.parametrize("version", ["1.30", "1.36", "1.37"])
@pytest.mark.parametrize("spec_name", SPECS)
def test_every_object_is_valid_kubernetes(spec_name, version):
    event = make_event(OWNER, reason="Serving", note="x" * 2000, action="Ready", now=NOW)
    for body in (*render(spec_name).values(), event):
        kubernetes_validate.validate(body, version, strict=True)


@pytest.mark.parametrize("spec_name", SPECS)
def test_every_object_is_as_recorded(spec_name, compare_recorded):
    bodies = {name: body for name, body in render(spec_name).items() if name != "revision"}
    text = yaml.dump_all(bodies.values(), Dumper=_Plain, sort_keys=True)
    compare_recorded(RECORDED / f"{spec_name}.yaml", text)


@pytest.mark.parametrize("spec_name", SPECS)
def test_every_pod_is_within_restricted(spec_name):
    for body in render(spec_name).values():
        if body["kind"] in {"Job", "Deployment"}:
            assert breaches(body["spec"]["template"]["spec"]) == []


@pytest.mark.parametrize("spec_name", SPECS)
def test_every_object_has_its_owner_and_labels(spec_name):
    for body in render(spec_name).values():
        (owner,) = body["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (OWNER.uid, True)
        assert body["metadata"]["namespace"] == OWNER.namespace
        assert (
            body["metadata"]["labels"].items() >= {names.NAME_LABEL: OWNER.name, names.MANAGED_BY: "pilotfish"}.items()
        )


def test_only_fetch_sees_credentials_and_sources():
    pod = render("everything")["job"]["spec"]["template"]["spec"]
    (fetch,), (optimize,) = pod["initContainers"], pod["containers"]
    private = {"credentials", "samples-credentials", "source", "samples"}
    assert private <= {m["name"] for m in fetch["volumeMounts"]}
    assert not private & {m["name"] for m in optimize["volumeMounts"]}


def _containers(body):
    pod = body["spec"]["template"]["spec"]
    found = (*pod.get("initContainers", ()), *pod["containers"])
    return {one["name"]: {m["name"]: m.get("readOnly", False) for m in one["volumeMounts"]} for one in found}


def test_only_those_who_talk_to_the_bucket_hold_its_keys():
    """And none of them opens a model."""
    made, secret = render("bucket"), "store-credentials"
    holders = {
        kind: {name for name, mounts in _containers(made[kind]).items() if secret in mounts}
        for kind in ("job", "verify-job", "refresh-job", "deployment", "shadow")
    }
    assert holders == {
        "job": {"fetch", "publish"},
        "verify-job": {"golden"},
        "refresh-job": {"refresh"},
        "deployment": {"install"},
        "shadow": set(),
    }


def test_who_publishes_shares_nothing_that_the_optimizer_may_write():
    job = render("bucket")["job"]
    containers = _containers(job)
    assert list(containers) == ["fetch", "optimize", "publish"], "in this order"
    written = {name for name, read_only in containers["optimize"].items() if not read_only}
    assert {name: containers["publish"][name] for name in written & set(containers["publish"])} == {"store": True}
    (publish,) = job["spec"]["template"]["spec"]["containers"]
    assert {env["value"] for env in publish["env"] if env["name"] in {"HOME", "TMPDIR"}} == {"/order"}


def test_with_a_bucket_no_pod_mounts_a_claim():
    for kind in ("job", "verify-job", "refresh-job", "deployment"):
        volumes = render("bucket")[kind]["spec"]["template"]["spec"]["volumes"]
        claims = [v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v]
        assert claims == (["samples"] if kind == "job" else []), "the user's own"


def test_a_bucket_without_a_secret_mounts_none():
    spec = make_spec({**SPECS["bucket"], "storage": {"kind": "Bucket", "bucket": {"uri": "s3://artifacts/team"}}})
    job = make_job(OWNER, JobIntent(spec=spec, revision="rev", recipe_key="recipe", generation=1), POLICY)
    secrets = [v["secret"]["secretName"] for v in job["spec"]["template"]["spec"]["volumes"] if "secret" in v]
    assert secrets == ["source-credentials"]


def test_the_verification_job_sees_no_credentials_and_changes_nothing_in_the_store():
    body = render("everything")["verify-job"]
    pod = body["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"]} == {
        "/store": True,
        "/tmp": False,
    }
    assert not any("secret" in volume for volume in pod["volumes"])
    assert container["image"] == POLICY.images.optimizer
    assert names.RECIPE_LABEL not in body["metadata"]["labels"]


def test_the_refresh_job_sees_the_source_and_its_credentials_and_no_samples():
    body = render("everything")["refresh-job"]
    pod = body["spec"]["template"]["spec"]
    (look,) = pod["containers"]
    assert {m["name"] for m in look["volumeMounts"]} == {"store", "work", "tmp", "source", "credentials"}
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in look["volumeMounts"]}
    assert look["command"] == ["pilotfish-job", "refresh"]
    assert (body["spec"]["backoffLimit"], body["spec"]["activeDeadlineSeconds"]) == (1, 1800)
    assert names.REVISION_LABEL not in body["metadata"]["labels"]


def test_the_shadow_sees_nothing_but_scratch():
    pod = render("everything")["shadow"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/tmp"}
    assert [list(volume) for volume in pod["volumes"]] == [["name", "emptyDir"]]
    assert not pod["automountServiceAccountToken"]
    assert "envFrom" not in container
    assert container["image"] == POLICY.images.optimizer


def test_the_shadow_is_a_triton_pod_of_no_revision():
    body = render("small")["shadow"]
    labels = body["spec"]["template"]["metadata"]["labels"]
    assert labels.items() >= names.pod_selector(OWNER.name).items(), "the Service with both revisions behind it"
    assert names.REVISION_LABEL not in labels, "nothing that picks the pods of one revision"
    assert labels.items() >= body["spec"]["selector"]["matchLabels"].items()
    pods = render("small")["deployment"]["spec"]
    assert not pods["template"]["metadata"]["labels"].items() >= body["spec"]["selector"]["matchLabels"].items()


def test_the_shadow_has_time_to_end_what_is_under_way():
    pod = render("small")["shadow"]["spec"]["template"]["spec"]
    pre_stop = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pre_stop + SHADOW_DRAIN_SECONDS


def test_a_look_for_something_else_has_another_hash():
    models = [
        {"uri": "s3://models/a"},
        {"uri": "s3://models/b"},
        {"uri": "s3://models/a", "credentials": {"secretName": "keys"}},
    ]
    looks = [make_refresh_job(OWNER, make_spec({"model": model}).model, POLICY) for model in models]
    assert len({look["metadata"]["annotations"][names.INPUT_HASH] for look in looks}) == len(models)
    often = {"uri": "s3://models/a", "digest": "sha256:" + "0" * 64, "refresh": {"interval": "5m"}}
    assert make_refresh_job(OWNER, make_spec({"model": often}).model, POLICY) == looks[0]


def test_the_verification_job_has_time_for_every_pod_and_an_end():
    spec = make_spec(SPECS["small"])
    record = read_record(render("small")["revision"])
    jobs = [make_verify_job(OWNER, verify_intent(record, spec, pods=n), POLICY)["spec"] for n in (1, 2, 1000)]
    assert [job["activeDeadlineSeconds"] for job in jobs] == [600, 720, 3600]
    assert {job["backoffLimit"] for job in jobs} == {2}


def test_what_a_verification_means_depends_on_the_pods_and_on_what_it_was_told():
    spec, record = make_spec(SPECS["small"]), read_record(render("small")["revision"])

    def identity(**changes):
        job = make_verify_job(OWNER, verify_intent(record, spec, **changes), POLICY)
        return job["metadata"]["annotations"][names.VERIFIES]

    assert identity() == identity() == identity(pods=7)
    assert len({identity(), identity(deployment_uid="other"), identity(tolerance=Tolerance(max_abs="1"))}) == 3


@pytest.mark.parametrize(
    ("model", "samples", "expected"),
    [
        ("s3://m/", "s3://s/", {}),
        ("pvc://m/x", "s3://s/", {"/source": "m"}),
        ("s3://m/", "pvc://s/x", {"/source": "s"}),
        ("pvc://m/x", "pvc://m/y", {"/source": "m"}),
        ("pvc://m/x", "pvc://s/x", {"/source": "m", "/samples": "s"}),
    ],
)
def test_claims_are_mounted_where_fetch_looks(model, samples, expected):
    spec = make_spec({"model": {"uri": model, "samples": {"uri": samples}}})
    job = make_job(OWNER, JobIntent(spec=spec, revision="r", recipe_key="k", generation=1), POLICY)
    pod = job["spec"]["template"]["spec"]
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
    }
    mounts = {
        m["mountPath"]: claims[m["name"]] for m in pod["initContainers"][0]["volumeMounts"] if m["name"] in claims
    }
    assert mounts == {"/store": "digits-store", **expected}


@pytest.mark.parametrize(
    ("model", "data", "teacher", "expected"),
    [
        ("s3://m/", "s3://d/", "s3://t/", {}),
        ("pvc://m/x", "pvc://m/d", "pvc://m/t", {"/source": "m"}),
        ("s3://m/x", "pvc://d/d", "pvc://d/t", {"/training": "d"}),
        ("pvc://m/x", "pvc://d/d", "pvc://t/t", {"/source": "m", "/training": "d", "/teacher": "t"}),
    ],
)
def test_lessons_are_read_by_fetch_alone_each_with_keys_of_its_own(model, data, teacher, expected):
    said = {
        "prune": {"fineTune": {"data": {"uri": data, "secretName": "data-keys"}}},
        "distill": {"teacher": {"uri": teacher, "secretName": "teacher-keys"}},
    }
    spec = make_spec({"model": {"uri": model}, "optimization": said})
    pod = make_job(OWNER, JobIntent(spec=spec, revision="r", recipe_key="k", generation=1), POLICY)
    pod = pod["spec"]["template"]["spec"]
    fetch, optimize = pod["initContainers"][0], pod["containers"][0]
    paths = {m["name"]: m["mountPath"] for m in fetch["volumeMounts"]}
    secrets = {paths[v["name"]]: v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
    claims = {
        paths[v["name"]]: v["persistentVolumeClaim"]["claimName"]
        for v in pod["volumes"]
        if "persistentVolumeClaim" in v
    }
    run = "/var/run/pilotfish"
    assert secrets == {f"{run}/training-credentials": "data-keys", f"{run}/teacher-credentials": "teacher-keys"}
    assert claims == {"/store": "digits-store", **expected}
    assert {m["name"] for m in optimize["volumeMounts"]} == {"store", "work", "tmp"}


@pytest.mark.parametrize(
    ("model", "light"),
    [
        ({"uri": "s3://m/x", "format": "ONNX"}, True),
        ({"uri": "s3://m/x.onnx"}, True),
        ({"uri": "s3://m/x.onnx", "format": "TorchScript"}, False),
        ({"uri": "s3://m/x.pt2"}, False),
        ({"uri": "s3://m/folder/"}, False),
    ],
)
def test_the_light_image_is_for_what_is_surely_onnx(model, light):
    image = optimizer_image(make_spec({"model": model}).model, POLICY.images)
    assert image == (POLICY.images.optimizer if light else POLICY.images.optimizer_torch)


@pytest.mark.parametrize(
    ("model", "exports", "image"),
    [
        ({"uri": "s3://m/x.keras"}, (), "tf"),
        ({"uri": "s3://m/x.H5"}, (), "tf"),
        ({"uri": "s3://m/x.tflite"}, (), "tf"),
        ({"uri": "s3://m/saved_model.pb"}, (), "tf"),
        ({"uri": "s3://m/folder/", "format": "SavedModel", "trust": "Executable"}, (), "tf"),
        ({"uri": "s3://m/x", "format": "TFLite"}, (), "tf"),
        ({"uri": "s3://m/x.keras", "format": "ONNX"}, (), "light"),
        ({"uri": "s3://m/x.onnx"}, (ExportFormat.TFLITE,), "tf"),
        ({"uri": "s3://m/x.onnx"}, (ExportFormat.OPENVINO,), "light"),
        ({"uri": "s3://m/x.pt2"}, (ExportFormat.TFLITE,), "torch"),
        ({"uri": "s3://m/x.mar", "trust": "Executable"}, (), "torch"),
    ],
)
def test_tensorflow_s_models_get_the_image_that_converts_them(model, exports, image):
    images = replace(POLICY.images, optimizer="light", optimizer_torch="torch", optimizer_tf="tf")
    spec = make_spec({"model": model}).model
    assert optimizer_image(spec, images, exports=exports) == image
    none = optimizer_image(spec, replace(images, optimizer_tf=None), exports=exports)
    assert none == ("torch" if image == "tf" and not exports else "light" if image == "tf" else image)


def test_triton_cannot_write_what_it_serves():
    (triton,) = render("small")["deployment"]["spec"]["template"]["spec"]["containers"]
    mounts = {m["name"]: m for m in triton["volumeMounts"]}
    assert mounts["models"]["readOnly"]
    assert "store" not in mounts


def test_a_short_grace_period_bounds_everything_that_happens_in_it():
    pod = render("everything")["deployment"]["spec"]["template"]["spec"]
    (triton,) = pod["containers"]
    exit_timeout = next(a for a in triton["args"] if a.startswith("--exit-timeout-secs="))
    asleep = triton["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert asleep + int(exit_timeout.partition("=")[2]) <= pod["terminationGracePeriodSeconds"]


def test_torchscript_is_served_by_the_image_that_can():
    images = [render("small", backend=b)["deployment"]["spec"]["template"]["spec"] for b in ("onnxruntime", "pytorch")]
    assert [pod["containers"][0]["image"] for pod in images] == [POLICY.images.triton, POLICY.images.triton_torch]


def breaches(pod):
    """What Pod Security `restricted` would refuse."""
    found = [
        f"{key} is set"
        for key in ("hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "nodeName")
        if pod.get(key)
    ]
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret", "name"}
    found += [f"volume {v['name']} is a {sorted(set(v) - allowed)}" for v in pod["volumes"] if set(v) - allowed]
    if pod["automountServiceAccountToken"]:
        found.append("a token is mounted")
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        context = container["securityContext"]
        wanted = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        if context != wanted:
            found.append(f"container {container['name']}: {context}")
        if container["resources"]["requests"] != container["resources"]["limits"]:
            found.append(f"container {container['name']} is not Guaranteed")
    return found


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data):
        return True
