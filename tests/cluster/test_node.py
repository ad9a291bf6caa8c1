"""A whole cluster of its own: a real node, real pods, death by kill -9, and nothing left at the end."""

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import machine
import pytest
from pilotcluster import images, node, packages, record
from pilotcluster.paths import layout_of

from support.apiserver import run_cluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = f"cluster-test-{os.getpid()}"
NODE = f"{NAME}-node"
IMAGE = "pilotfish/cluster-probe:test"
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "probe"},
    "spec": {"selector": {"app": "probe"}, "ports": [{"port": 80, "targetPort": 8080}]},
}


class Cluster:
    def __init__(self):
        self.kubectl_program = str(Path(run_cluster("tools")) / "kubectl")

    def kubectl(self, *args, stdin=None, check=True):
        command = [self.kubectl_program, f"--kubeconfig={layout_of(NAME).kubeconfig}", "--namespace=work", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def apply(self, *objects):
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f-", stdin=json.dumps(listed))

    def get(self, *args):
        return json.loads(self.kubectl("get", *args, "-ojson"))

    def node(self):
        return self.get("node", NODE)

    def call(self, path):
        address = self.get("service", "probe")["spec"]["clusterIP"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(f"http://{address}{path}", timeout=10).read().decode()


def make_pod(name, *, gpus=0, claim=False):
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}] if claim else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumes": volumes,
            "containers": [
                {
                    "name": "probe",
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
                    "volumeMounts": [{"name": item["name"], "mountPath": "/data"} for item in volumes],
                    "resources": {
                        "requests": {"ephemeral-storage": "1Mi"},
                        "limits": {"nvidia.com/gpu": gpus} if gpus else {},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def eventually(probe, *, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found or time.monotonic() > deadline:
            assert found, "did not happen in time"
            return found
        time.sleep(0.1)


def build_probe(folder, *, content):
    source = Path(__file__).with_name("probe") / "main.go"
    env = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    go = shutil.which("go") or "/usr/local/go/bin/go"
    subprocess.run([go, "build", "-ldflags=-s -w", "-o", str(folder / "probe"), str(source)], env=env, check=True)
    (folder / "content").write_text(content)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY probe /\nCOPY content /\nENTRYPOINT ["/probe"]\n')
    env = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": images.STORAGE_DRIVER}
    command = ["buildah", "bud", "--layers", "--quiet", f"--tag={IMAGE}", str(folder)]
    subprocess.run(command, env=env, check=True, capture_output=True)


@pytest.fixture(scope="module")
def before():
    packages.require()
    return machine.shared_settings()


@pytest.fixture(scope="module")
def cluster(before, tmp_path_factory):
    found = Cluster()
    try:
        run_cluster("up", "--name", NAME, "--gpus", "2", "--owner-pid", str(os.getpid()))
        build_probe(tmp_path_factory.mktemp("probe"), content="first")
        run_cluster("load", "--name", NAME, IMAGE)
        found.kubectl("create", "namespace", "work")
        found.kubectl("label", "namespace", "work", "pod-security.kubernetes.io/enforce=restricted")
        found.apply(CLAIM, SERVICE, make_pod("probe", claim=True))
        eventually(lambda: "probe" in found.kubectl("get", "endpointslices", "-oname"))
        found.kubectl("wait", "pod/probe", "--for=condition=Ready", "--timeout=60s")
        yield found
    finally:
        run_cluster("down", "--name", NAME)


def test_node_is_ready_and_of_the_stamped_version(cluster):
    status = cluster.node()["status"]
    assert {"type": "Ready", "status": "True"}.items() <= status["conditions"][-1].items()
    assert status["nodeInfo"]["kubeletVersion"] == "v1.36.3"
    assert run_cluster("status", "--name", NAME).startswith("running (node) https://")


def test_pod_answers_on_its_service_address_from_the_machine(cluster):
    assert eventually(lambda: cluster.call("/ready")) == "ready"


def test_pod_resolves_services(cluster):
    address = cluster.get("service", "probe")["spec"]["clusterIP"]
    assert cluster.call("/lookup?name=probe.work.svc.cluster.local") == f"[{address}]"
    assert cluster.call("/lookup?name=probe.work") == f"[{address}]"


def test_pod_is_known_to_the_api_server_by_its_token(cluster):
    assert 'User \\"system:serviceaccount:work:default\\" cannot list resource' in cluster.call("/whoami")


def test_claim_binds_to_a_folder_that_any_user_writes(cluster):
    assert cluster.get("pvc", "data")["status"]["phase"] == "Bound"
    assert cluster.call("/write?path=/data/x&text=kept") == "written"
    assert cluster.call("/read?path=/data/x") == "kept"
    assert "kept" in {path.read_text() for path in layout_of(NAME).volumes.rglob("x")}


def test_logs_and_exec_reach_the_kubelet(cluster):
    assert cluster.kubectl("logs", "probe").strip() == "listening"
    assert cluster.kubectl("exec", "probe", "--", "/probe", "hello").strip() == "said hello"


def test_a_pod_that_is_not_restricted_is_refused(cluster):
    assert "violates PodSecurity" in cluster.kubectl("run", "x", f"--image={IMAGE}", check=False)


def test_an_unchanged_image_is_not_loaded_again_and_a_changed_one_is(cluster, tmp_path):
    again = subprocess.run(
        [str(Path(images.__file__).parents[1] / "cluster"), "load", "--name", NAME, IMAGE],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{IMAGE} is on the node already" in again.stderr
    build_probe(tmp_path, content="second")
    run_cluster("load", "--name", NAME, IMAGE)
    cluster.apply(make_pod("changed"))
    cluster.kubectl("wait", "pod/changed", "--for=condition=Ready", "--timeout=60s")
    address = cluster.get("pod", "changed")["status"]["podIP"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert opener.open(f"http://{address}:8080/read?path=/content", timeout=10).read() == b"second"


def test_the_scheduler_counts_gpus(cluster):
    cluster.apply(*(make_pod(f"gpu-{index}", gpus=1) for index in range(3)))

    def waiting():
        pods = [pod for pod in cluster.get("pods")["items"] if pod["metadata"]["name"].startswith("gpu-")]
        reasons = [
            condition["message"]
            for pod in pods
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]
        running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
        return reasons if len(running) == 2 and len(reasons) == 1 else None

    assert "Insufficient nvidia.com/gpu" in eventually(waiting)[0]
    run_cluster("gpus", "--name", NAME, "3")
    cluster.kubectl("wait", "pod/gpu-0", "pod/gpu-1", "pod/gpu-2", "--for=condition=Ready", "--timeout=60s")


def test_a_second_up_finds_it_healthy(cluster):
    current = record.read(layout_of(NAME))
    run_cluster("up", "--name", NAME)
    assert record.read(layout_of(NAME)).processes == current.processes
    assert cluster.node()["status"]["allocatable"]["nvidia.com/gpu"] == "3"


def traces_left(layout, current, spaces, members):
    """What is there when all that was killed has had time to end.

    Of processes only those that were `members` before: the number of a namespace that is gone is given to another one.
    """

    def look():
        found = machine.traces(layout, current, spaces)
        found[machine.MEMBERS] = [process for process in found[machine.MEMBERS] if process in members]
        return {kind: traces for kind, traces in found.items() if traces}

    deadline = time.monotonic() + 10
    while (left := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_killed_without_down_it_comes_back_and_leaves_nothing(cluster, before):
    layout = layout_of(NAME)
    for process in record.read(layout).processes:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run_cluster("up", "--name", NAME)
    assert "NotFound" in cluster.kubectl("get", "namespace", "work", check=False)
    cluster.kubectl("create", "deployment", "x", "--namespace=default", "--image=pilotfish.dev/pause:1", "--replicas=3")
    cluster.kubectl("rollout", "status", "deployment/x", "--namespace=default", "--timeout=60s")

    current = record.read(layout)
    spaces = machine.namespaces(node.holder_of(current))
    while_up = machine.traces(layout, current, spaces)
    assert [kind for kind, found in while_up.items() if not found] == ["mounts"], "mounts stay inside the node"
    assert len(while_up[machine.MEMBERS]) > len(current.processes)
    run_cluster("down", "--name", NAME)
    assert traces_left(layout, current, spaces, while_up[machine.MEMBERS]) == {}
    after = machine.shared_settings()
    # Somebody else's node that came or went meanwhile has changed these by right.
    assert after == before or after["nodes"] != before["nodes"]
