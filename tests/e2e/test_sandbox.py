"""S8 on a real node: a probe in the optimization Job's own pod finds every way out closed."""

import json
from pathlib import Path

import pytest
from testbed.kubectl import wait_for

from pilotfish.api.job_input import JOB_ENV
from pilotfish.resources import Images, JobIntent, Owner, Policy, make_job
from pilotfish.resources.job import FETCH_CONTAINER, OPTIMIZE_CONTAINER, PUBLISH_CONTAINER, job_input
from support.builders import UID, make_spec
from support.hostile import probe

MEMORY = 256 * 1024**2
IMAGES = Images(optimizer="pilotfish/optimizer:dev", optimizer_torch="pilotfish/optimizer:dev", triton="none")
POLICY = Policy(images=IMAGES, triton_version="2.51.0")
SPEC = {
    "model": {
        "uri": "pvc://source/$(HOME)/$$/model.onnx",
        "credentials": {"secretName": "keys"},
        "samples": {"uri": "s3://models/samples.npz", "secretName": "keys"},
    },
    "optimization": {"resources": {"cpu": "200m", "memory": str(MEMORY)}},
    "storage": {"kind": "Bucket", "bucket": {"uri": "s3://artifacts/a", "secretName": "keys"}},
}
DENIED = {"EPERM", "EACCES", "ENOSYS", "EROFS", "ENOENT", "EINVAL", "EBADF"}
DEVICES = {
    "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "termination-log",
    "tty", "urandom", "zero",
}  # fmt: skip


@pytest.fixture(scope="module")
def intent():
    spec = make_spec(SPEC)
    return JobIntent(spec=spec, revision="probe222", recipe_key="probe222", generation=1)


@pytest.fixture(scope="module")
def found(kubectl, namespace, intent):
    """What the probe saw, by container."""
    owner = Owner(name="probe", namespace=namespace, uid=UID)
    job = make_job(owner, intent, POLICY)
    del job["metadata"]["ownerReferences"]
    (node,) = json.loads(kubectl.run("get", "nodes", "-o", "json"))["items"][:1]
    address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    pod = job["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        container["command"] = ["python3", "-c", Path(probe.__file__).read_text(), address]
    pod["containers"][0]["command"].append(str(2 * MEMORY))
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    meta = {"namespace": namespace}
    kubectl.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {**meta, "name": "source"}, "spec": claim},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**meta, "name": "keys"},
            "stringData": {"AWS_ACCESS_KEY_ID": "k"},
        },
        job,
    )
    name = job["metadata"]["name"]

    def ended():
        pods = kubectl.list("pods", namespace=namespace, selector=f"job-name={name}")
        return next((p for p in pods if p["status"]["phase"] in {"Succeeded", "Failed"}), None)

    def story():
        return kubectl.run("describe", "pods", "-n", namespace, "-l", f"job-name={name}")[-3000:]

    done = wait_for("the probe ends", ended, seconds=180, found=story)
    told = {}
    for container in (FETCH_CONTAINER, OPTIMIZE_CONTAINER, PUBLISH_CONTAINER):
        text = kubectl.run("logs", done["metadata"]["name"], "-n", namespace, "-c", container)
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert len(lines) >= 2, text
        told[container] = {key: value for line in lines for key, value in line.items()}
    last = next(s for s in done["status"]["containerStatuses"] if s["name"] == PUBLISH_CONTAINER)
    told[PUBLISH_CONTAINER]["ended"] = last["state"]["terminated"]
    return told


def test_it_runs_as_nobody_without_capabilities_under_seccomp(found):
    for container, seen in found.items():
        assert seen["user"][:2] == [65532, 65532], container
        assert 0 not in seen["user"][2], container
        caps = {seen["status"][name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert caps == {"0" * 16}, container
        assert (seen["status"]["NoNewPrivs"], seen["status"]["Seccomp"]) == ("1", "2"), container


def test_it_has_no_token_and_nobody_answers_it(found):
    for container, seen in found.items():
        assert not seen["token"], container
        assert seen["network"]["secrets"] in {401, 403}, (container, seen["network"])
        assert seen["network"]["kubelet"] == 401, (container, seen["network"])


def test_the_container_that_opens_the_model_has_no_credentials(found):
    assert found[OPTIMIZE_CONTAINER]["secrets"] == []
    assert {path.partition("/")[0] for path in found[FETCH_CONTAINER]["secrets"]} == {
        "credentials", "samples-credentials", "store-credentials",
    }  # fmt: skip
    assert {path.partition("/")[0] for path in found[PUBLISH_CONTAINER]["secrets"]} == {"store-credentials"}
    for container, seen in found.items():
        ours = {name for name in seen["env"] if "KEY" in name or "TOKEN" in name or "SECRET" in name or "AWS" in name}
        assert not ours, container


def test_it_writes_to_its_own_folders_alone(found):
    own = {
        FETCH_CONTAINER: {"/store", "/work", "/tmp", "/order"}, OPTIMIZE_CONTAINER: {"/store", "/work", "/tmp"},
        PUBLISH_CONTAINER: {"/order"},
    }  # fmt: skip
    for container, seen in found.items():
        done = {folder for folder, answer in seen["writes"].items() if answer == "done"}
        assert done <= own[container] | {"/work", "/tmp"} & own[container], (container, seen["writes"])
        assert set(seen["files"].values()) <= DENIED, (container, seen["files"])
        mounts = {m for m in seen["mounts"] if not m.startswith(("/etc/", "/dev/"))}
        assert mounts <= own[container], (container, mounts)
    assert found[FETCH_CONTAINER]["writes"]["/source"] == "EROFS"
    assert "/source" not in found[OPTIMIZE_CONTAINER]["writes"]
    assert "/order" not in found[OPTIMIZE_CONTAINER]["writes"]


def test_the_kernel_denies_every_way_up(found):
    for container, seen in found.items():
        wrong = {name: answer for name, answer in seen["calls"].items() if answer not in DENIED}
        assert not wrong, (container, wrong)
        assert set(seen["devices"]) <= DEVICES, container
        assert set(seen["hidden"].values()) <= {*DENIED, "done"}, container
        assert {seen["hidden"][p] for p in ("/dev/mem", "/dev/sda", "/dev/vda", "/dev/kmsg")} <= DENIED, container
        assert seen["runtimes"] == [], container
        assert seen["processes"] == [], (container, seen["processes"])


def test_memory_and_cpu_have_an_end(found):
    """How many processes a pod may start is the node's setting, on a cgroup that no container sees."""
    for container, seen in found.items():
        assert seen["limits"]["memory"] == str(MEMORY), container
        assert seen["limits"]["cpu"].split()[0] == "20000", container
    last = found[PUBLISH_CONTAINER]
    assert last.get("hungry") == 9 or last["ended"]["reason"] == "OOMKilled", last["ended"]


def test_what_it_is_told_arrives_letter_by_letter(found, intent, namespace):
    owner = Owner(name="probe", namespace=namespace, uid=UID)
    meant = json.loads(job_input(owner, intent, POLICY).to_json())
    for seen in found.values():
        assert JOB_ENV in seen["env"]
        assert json.loads(seen["told"]) == meant
