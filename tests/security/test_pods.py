"""S19, S30: what a user who may only write ModelDeployments can make of our pods. Seeded: PILOTFISH_SEED repeats a run."""

import asyncio
import json
import os
import re

import pytest

from pilotfish.adapters.kinds import path_of
from pilotfish.api.job_input import INSTALL_ENV, JOB_ENV, REFRESH_ENV, SHADOW_ENV, VERIFY_ENV
from pilotfish.ports import ClusterError
from pilotfish.resources import JobIntent, Owner
from pilotfish.resources.deployment import ADMIN_KEY_ENV
from pilotfish.resources.job import job_input
from support.builders import OWNER, POLICY, make_spec
from support.fuzz.leaves import leaves, spec_schema
from support.hostile.specs import fuzzed_specs
from support.kube import kube_cluster, make_object
from support.rendered import render_all

SEED = int(os.environ.get("PILOTFISH_SEED", "20261122"))
BACKENDS = ("onnxruntime", "pytorch")
TOLD = {JOB_ENV, INSTALL_ENV, VERIFY_ENV, REFRESH_ENV, SHADOW_ENV}
ENV = {*TOLD, ADMIN_KEY_ENV, "HOME", "TMPDIR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
IMAGES = {POLICY.images.optimizer, POLICY.images.optimizer_torch, POLICY.images.triton, POLICY.images.triton_torch}
POD_FIELDS = {
    "automountServiceAccountToken", "enableServiceLinks", "securityContext", "restartPolicy", "initContainers",
    "containers", "volumes", "terminationGracePeriodSeconds", "topologySpreadConstraints",
}  # fmt: skip
VOLUMES = {"persistentVolumeClaim", "emptyDir", "secret", "configMap"}
REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


def pods_of(spec, *, owner=OWNER):
    """`(what, pod)` of everything that runs for a spec, whichever backend wins."""
    for backend in BACKENDS:
        for what, body in render_all(make_spec(spec), backend=backend, owner=owner).items():
            if body["kind"] in {"Job", "Deployment"}:
                yield what, body["spec"]["template"]["spec"]


def containers_of(pod):
    return (*pod.get("initContainers", ()), *pod["containers"])


def expanded(env):
    """What the kubelet hands to the process: `$(NAME)` of variables that stand before, `$$` as one."""
    seen = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_PORT": "tcp://10.0.0.1:443"}
    for one in env:
        if "value" in one:
            seen[one["name"]] = REFERENCE.sub(lambda m: "$" if m[1] == "$" else seen.get(m[2], m[0]), one["value"])
    return seen


@pytest.fixture(scope="module")
def specs():
    return tuple(fuzzed_specs(SEED, 300))


def test_every_field_is_fuzzed(specs):
    """Else the tests below prove less than they say."""
    said = json.dumps(specs)
    missing = [leaf.path for leaf in leaves() if not leaf.refused and f'"{leaf.name}"' not in said]
    assert not missing, f"seed {SEED}"


def test_no_spec_adds_a_field_a_volume_an_image_or_a_variable_to_a_pod(specs):
    for spec in specs:
        for what, pod in pods_of(spec):
            where = f"{what} of {spec} (seed {SEED})"
            assert set(pod) <= POD_FIELDS, where
            assert pod["automountServiceAccountToken"] is False, where
            assert {key for volume in pod["volumes"] for key in volume} <= {"name", *VOLUMES}, where
            for container in containers_of(pod):
                assert container["image"] in IMAGES, where
                assert {one["name"] for one in container.get("env", ())} <= ENV, where
                assert "envFrom" not in container, where
                assert container["securityContext"]["readOnlyRootFilesystem"], where
                assert container["resources"]["limits"].keys() >= {"cpu", "memory"}, where


def test_secrets_reach_no_container_that_opens_a_model(specs):
    """Triton has its own certificate's key and nothing else; the verification the certificate that it shows."""
    found = {}
    for spec in specs:
        for _, pod in pods_of(spec):
            secret = {v["name"]: v["secret"].get("items", [{"key": "*"}]) for v in pod["volumes"] if "secret" in v}
            for container in containers_of(pod):
                mounted = {m["name"] for m in container["volumeMounts"]} & secret.keys()
                keys = {f"{name}/{item['key']}" for name in mounted for item in secret[name]}
                found.setdefault(container["name"], set()).update(keys)
    opens = {
        name: found.pop(name) for name in ("optimize", "tuning-triton", "shadow", "verify", "triton", "certificate")
    }
    assert opens == {
        "optimize": set(), "tuning-triton": set(), "shadow": set(),
        "verify": {"tls/tls.crt", "tls/ca.crt", "clients-tls/tls.crt", "clients-tls/tls.key"},
        "triton": {"tls/tls.crt", "tls/tls.key", "clients-tls/ca.crt"},
        "certificate": {"tls/tls.crt", "clients-tls/ca.crt"},
    }, f"seed {SEED}"  # fmt: skip
    assert found.keys() <= {"fetch", "publish", "install", "golden", "refresh"}, f"seed {SEED}"
    assert all(found.values()), f"seed {SEED}: nobody has any Secret, so nothing is proven"


def test_what_a_job_is_told_arrives_letter_by_letter(specs):
    for spec in specs:
        body = make_spec(spec)
        job = render_all(body)["job"]
        label = job["metadata"]["labels"]
        intent = JobIntent(
            spec=body, revision=label["pilotfish.dev/revision"], recipe_key=label["pilotfish.dev/recipe"], generation=1
        )
        meant = json.loads(job_input(OWNER, intent, POLICY).to_json())
        for container in containers_of(job["spec"]["template"]["spec"]):
            got = expanded(container["env"])
            if JOB_ENV in got:
                assert json.loads(got[JOB_ENV]) == meant, f"seed {SEED}"


@pytest.mark.parametrize("text", ["$(HOME)", "$$(HOME)", "$$", "$(KUBERNETES_SERVICE_HOST)", "a$b"])
def test_dollar_signs_of_a_user_mean_nothing(text):
    job = render_all(make_spec({"model": {"uri": f"s3://models/{text}/"}}))["job"]
    (fetch,) = job["spec"]["template"]["spec"]["initContainers"]
    assert json.loads(expanded(fetch["env"])[JOB_ENV])["model"]["uri"] == f"s3://models/{text}/"


def test_no_field_of_the_contract_names_a_variable():
    """What a GPU node's runtime hook would obey (LD_PRELOAD, NVIDIA_*) has no place to stand in."""
    words = {
        "env",
        "envFrom",
        "command",
        "args",
        "image",
        "hostPath",
        "securityContext",
        "volumes",
        "serviceAccountName",
    }
    assert not [leaf.path for leaf in leaves() if words & set(leaf.path.replace("[]", "").split("."))]
    open_ended = [leaf.path for leaf in leaves() if "x-kubernetes-preserve-unknown-fields" in json.dumps(leaf.schema)]
    assert all(path.endswith("architecture.arguments") for path in open_ended), open_ended
    assert spec_schema()["type"] == "object"


class TestOnARealServer:
    """A namespace that enforces `restricted`."""

    pytestmark = pytest.mark.apiserver

    @pytest.fixture(scope="class")
    def namespace(self, kubectl):
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        name = f"restricted-{os.getpid()}"
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        yield name
        kubectl.run("delete", "namespace", name, "--wait=false")

    async def test_no_pod_of_any_fuzzed_object_is_refused(self, api_server, kubectl, namespace):
        count = await _try_all(api_server, namespace, fuzzed_specs(SEED, 150))
        assert count > 400

    @pytest.mark.soak
    @pytest.mark.timeout(1500)
    async def test_no_pod_of_a_thousand_fuzzed_objects_is_refused(self, api_server, kubectl, namespace):
        assert await _try_all(api_server, namespace, fuzzed_specs(SEED + 1, 1000)) > 2500

    async def test_the_server_does_refuse_what_is_not_restricted(self, api_server, kubectl, namespace):
        async with kube_cluster(api_server) as cluster:
            (_, pod), *_ = pods_of({"model": {"uri": "s3://a/b"}})
            wrong = {**pod, "volumes": [*pod["volumes"], {"name": "host", "hostPath": {"path": "/"}}]}
            with pytest.raises(ClusterError, match="hostPath"):
                await _dry_run(cluster, _pod(wrong, namespace))

    @pytest.mark.parametrize("name", ["LD_PRELOAD", "NVIDIA_VISIBLE_DEVICES"])
    async def test_a_variable_is_refused_wherever_it_is_written(self, name, api_server, kubectl, namespace):
        async with kube_cluster(api_server) as cluster:
            for place in ("", "serving", "optimization", "model", "serving.gpus", "rollout"):
                spec = {
                    "model": {"uri": "s3://a/b"},
                    "serving": {"gpus": {"count": 1}},
                    "optimization": {},
                    "rollout": {},
                }
                block = spec
                for part in filter(None, place.split(".")):
                    block = block[part]
                block["env"] = [{"name": name, "value": "/tmp/x.so"}]
                body = make_object("digits", namespace, spec)
                with pytest.raises(ClusterError, match=r"unknown field.*env"):
                    await _dry_run(cluster, body)
                stored = await _dry_run(cluster, body, strict=False)
                assert name not in json.dumps(stored["spec"])


async def _try_all(kubeconfig, namespace, specs):
    """Each spec is taken, each of its pods and workloads too; how many different pods there were."""
    owner = Owner(name="digits", namespace=namespace, uid=OWNER.uid)
    bodies = {}
    async with kube_cluster(kubeconfig) as cluster:
        for spec in specs:
            bodies[json.dumps(spec)] = make_object("digits", namespace, spec)
            for _, pod in pods_of(spec, owner=owner):
                bodies[json.dumps(pod, sort_keys=True)] = _pod(pod, namespace)
        gate = asyncio.Semaphore(8)

        async def one(body):
            async with gate:
                try:
                    await _dry_run(cluster, body)
                except ClusterError as error:
                    raise AssertionError(f"{error}: {json.dumps(body)[:3000]} (seed {SEED})") from error

        async with asyncio.TaskGroup() as group:
            for body in bodies.values():
                group.create_task(one(body))
    return sum(body["kind"] == "Pod" for body in bodies.values())


def _pod(spec, namespace):
    own = {key: value for key, value in spec.items() if key != "restartPolicy"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": namespace},
        "spec": {**own, "restartPolicy": spec.get("restartPolicy", "Always")},
    }  # fmt: skip


async def _dry_run(cluster, body, *, strict=True):
    """The object as it would be stored."""
    path = path_of(api_version=body["apiVersion"], kind=body["kind"], namespace=body["metadata"]["namespace"])
    query = {"dryRun": "All", "fieldValidation": "Strict" if strict else "Ignore"}
    return await cluster._request("POST", body["kind"], path, query=query, body=body)
