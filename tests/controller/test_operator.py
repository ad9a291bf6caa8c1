"""The operator's own process with the chart's rights against a real API server. Nodes are played, the rest is real."""

import asyncio
import random
from datetime import UTC, datetime

import pytest
from testbed.kubectl import KubectlError
from typer.testing import CliRunner

from pilotfish.api.report import TerminationMessage
from pilotfish.cli.main import app
from pilotfish.core.objects import condition_of, ref_of
from pilotfish.names import MANAGED_BY, REVISION_LABEL
from pilotfish.ports import ObjectRef
from support.builders import make_result, make_verification
from support.kube import fresh_namespace, make_object
from support.kubelet import playing_kubelet
from support.operator_process import NAMESPACE, install_rights, running_operator
from support.polling import until

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

KINDS = (
    ("v1", "PersistentVolumeClaim"),
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("apps/v1", "ControllerRevision"),
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)
NEXT = {"model": {"uri": "s3://models/digits/v2/"}}


async def children(cluster, namespace):
    found = {}
    for api_version, kind in KINDS:
        labels = {MANAGED_BY: "pilotfish"}
        for body in await cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels):
            found[f"{kind}/{body['metadata']['name']}"] = body
    return found


async def is_ready(cluster, namespace, name="digits"):
    body = await cluster.get(ref_of(make_object(name, namespace)))
    ready = condition_of(body, "Ready")
    fresh = ready and ready["observedGeneration"] == body["metadata"]["generation"]
    return body if fresh and ready["status"] == "True" else None


async def wait_ready(cluster, namespace, name="digits"):
    return await until(f"{name} is Ready", lambda: is_ready(cluster, namespace, name), seconds=90)


async def wait_child(cluster, namespace, kind):
    async def probe():
        return [body for title, body in (await children(cluster, namespace)).items() if title.startswith(kind)]

    return await until(f"a {kind}", probe)


def versions(bodies):
    return {title: body["metadata"]["resourceVersion"] for title, body in bodies.items()}


async def test_ten_lines_become_a_claim_and_a_job(cluster, account, namespace):
    with running_operator(account) as operator:
        await cluster.apply(make_object("digits", namespace))
        (job,) = await wait_child(cluster, namespace, "Job/")
        made = {title.split("/")[0] for title in await children(cluster, namespace)}
        assert made == {"NetworkPolicy", "PersistentVolumeClaim", "Job"}
        owner = await cluster.get(ref_of(make_object("digits", namespace)))
        (reference,) = job["metadata"]["ownerReferences"]
        assert reference["uid"] == owner["metadata"]["uid"]
        assert "finalizers" not in owner["metadata"]
        assert "annotations" not in owner["metadata"]
        assert operator.get("/healthz") == operator.get("/readyz") == "ok"
        assert operator.stop() == 0
        assert operator.said("lease released")


async def test_an_unchanged_object_is_never_written(cluster, account, namespace):
    async with playing_kubelet(cluster, namespace):
        with running_operator(account, resync=1, watch_namespaces=namespace) as operator:
            await cluster.apply(make_object("digits", namespace))
            owner = await wait_ready(cluster, namespace)

            async def is_quiet():
                before = operator.writes()
                seen = operator.sweeps()
                await until("two more sweeps", lambda: at_least(operator.sweeps, seen + 3))
                return operator.writes() == before

            await until("two sweeps without a write", is_quiet)
            bodies = versions(await children(cluster, namespace))
            before, seen = operator.writes(), operator.sweeps()
            await until("three more sweeps", lambda: at_least(operator.sweeps, seen + 4))
            assert operator.writes() == before
            assert versions(await children(cluster, namespace)) == bodies
            assert (await cluster.get(ref_of(owner)))["status"]["phase"] == "Ready"
            assert 'pilotfish_ready{name="digits",namespace="' + namespace + '"} 1.0' in operator.get("/metrics")


async def at_least(value, least):
    return value() >= least


async def test_a_new_operator_writes_nothing_to_what_is_in_order(cluster, account, namespace):
    async with playing_kubelet(cluster, namespace):
        with running_operator(account) as operator:
            await cluster.apply(make_object("digits", namespace))
            await wait_ready(cluster, namespace)
            operator.stop()
        with running_operator(account, resync=1, watch_namespaces=namespace) as operator:
            await until("two sweeps", lambda: at_least(operator.sweeps, 3))
            assert operator.writes() == {}


async def test_update_switches_and_going_back_needs_no_second_job(cluster, account, namespace):
    async with playing_kubelet(cluster, namespace) as kubelet:
        with running_operator(account):
            await cluster.apply(make_object("digits", namespace))
            first = (await wait_ready(cluster, namespace))["status"]["stableRevision"]["hash"]
            await cluster.apply(make_object("digits", namespace, NEXT))
            second = (await wait_ready(cluster, namespace))["status"]["stableRevision"]["hash"]
            assert kubelet.jobs_run == [first, second]
            await cluster.apply(make_object("digits", namespace))
            again = (await wait_ready(cluster, namespace))["status"]["stableRevision"]["hash"]
            assert again == first
            assert kubelet.jobs_run == [first, second]


async def test_a_failed_model_says_why_and_a_corrected_one_recovers(cluster, account, namespace):
    def result(job):
        if job["model"]["uri"].endswith("/bad/"):
            return TerminationMessage(outcome="Failed", reason="UnsafeModel", message="The file holds code")
        return make_result(job["recipeKey"])

    async with playing_kubelet(cluster, namespace, result=result):
        with running_operator(account):
            await cluster.apply(make_object("digits", namespace, {"model": {"uri": "s3://models/bad/"}}))

            async def has_failed():
                body = await cluster.get(ref_of(make_object("digits", namespace)))
                ready = condition_of(body, "Ready")
                return ready and ready["reason"] == "UnsafeModel"

            await until("Ready says UnsafeModel", has_failed)
            await cluster.apply(make_object("digits", namespace))
            await wait_ready(cluster, namespace)


async def test_an_update_that_answers_otherwise_gets_no_traffic(cluster, account, namespace):
    async with playing_kubelet(cluster, namespace) as kubelet:
        with running_operator(account):
            await cluster.apply(make_object("digits", namespace))
            first = (await wait_ready(cluster, namespace))["status"]["stableRevision"]["hash"]
            kubelet.verify = lambda _: make_verification(passed=False)
            await cluster.apply(make_object("digits", namespace, NEXT))

            async def is_aborted():
                status = (await cluster.get(ref_of(make_object("digits", namespace))))["status"]
                return status.get("rollout", {}).get("aborted")

            aborted = await until("the rollout is given up", is_aborted)
            assert (aborted["reason"], aborted["revision"]) == ("VerificationFailed", kubelet.verified[-1])
            assert "relative error 0.31" in aborted["message"]
            assert kubelet.verified == [first, aborted["revision"]]
            service = (await children(cluster, namespace))["Service/digits"]
            assert service["spec"]["selector"][REVISION_LABEL] == first


async def test_what_somebody_deletes_comes_back(cluster, account, namespace):
    async with playing_kubelet(cluster, namespace):
        with running_operator(account):
            await cluster.apply(make_object("digits", namespace))
            await wait_ready(cluster, namespace)
            (deployment,) = await wait_child(cluster, namespace, "Deployment/")
            await cluster.delete(ref_of(deployment))

            async def is_back():
                found = await cluster.get(ref_of({**deployment, "metadata": {**deployment["metadata"], "uid": None}}))
                return found is not None and found["metadata"]["uid"] != deployment["metadata"]["uid"]

            await until("the Deployment is back", is_back)
            await wait_ready(cluster, namespace)


async def test_a_stranger_under_our_name_is_reported_and_left_alone(cluster, kubectl, account, namespace):
    stranger = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "digits-store", "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    kubectl.apply(stranger)
    before = await cluster.get(ref_of(stranger))
    with running_operator(account):
        await cluster.apply(make_object("digits", namespace))

        async def is_reported():
            ready = condition_of(await cluster.get(ref_of(make_object("digits", namespace))), "Ready")
            return ready and ready["reason"] == "NotOwned"

        await until("Ready says NotOwned", is_reported)
        after = await cluster.get(ref_of(stranger))
        assert after["metadata"].get("labels") == before["metadata"].get("labels")
        assert after["spec"] == before["spec"]


@pytest.mark.parametrize("seed", [1])
async def test_killed_at_any_moment_it_ends_in_the_same_place(cluster, kubectl, account, namespace, seed):
    rng = random.Random(seed)
    with fresh_namespace(kubectl) as calm:
        async with playing_kubelet(cluster, namespace) as kubelet, playing_kubelet(cluster, calm):
            await cluster.apply(make_object("digits", namespace))
            for _ in range(4):
                with running_operator(account) as operator:
                    operator.wait_until_said("lease acquired")
                    await asyncio.sleep(rng.uniform(0.1, 1.2))
                    operator.kill()
            with running_operator(account):
                await wait_ready(cluster, namespace)
                await cluster.apply(make_object("digits", calm))
                await wait_ready(cluster, calm)
                assert set(await children(cluster, namespace)) == set(await children(cluster, calm))
                assert len(kubelet.jobs_run) == 1


async def test_a_namespace_that_goes_is_left_in_peace(cluster, kubectl, account):
    """Its children are deleted one by one while the object still stands: nothing is made anew, nothing is said."""
    with fresh_namespace(kubectl) as namespace, running_operator(account, watch_namespaces=namespace) as operator:
        await cluster.apply(make_object("digits", namespace))
        await wait_child(cluster, namespace, "Job/")
        await cluster.apply(make_blocker(namespace))
        kubectl.run("delete", "namespace", namespace, "--wait=false")

        async def has_refused():
            return 'code="403",kind="Job",verb="PATCH"' in operator.get("/metrics")

        owner = ref_of(make_object("digits", namespace))
        kubectl.run("delete", "job", "--all", "-n", namespace, "--wait=false")
        await until("a Job was refused or the object went", lambda: either(has_refused, gone(cluster, owner)))
        body = await cluster.get(owner)
        assert body is None or body["status"]["phase"] != "Stalled"
        blocker = make_blocker(namespace)
        del blocker["metadata"]["finalizers"]
        await cluster.apply(blocker)


def make_blocker(namespace):
    """Keeps a namespace in its terminating state."""
    metadata = {"name": "blocker", "namespace": namespace, "finalizers": ["pilotfish.dev/test"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def gone(cluster, ref):
    async def probe():
        return await cluster.get(ref) is None

    return probe


async def either(*probes):
    return any([await probe() for probe in probes])


async def test_when_the_leader_dies_another_takes_over(cluster, account, namespace):
    with running_operator(account, identity="a") as first:
        first.wait_until_said("lease acquired")
        with running_operator(account, identity="b") as second:
            assert second.get("/readyz") == "ok"
            assert not second.said("lease acquired")
            first.kill()
            second.wait_until_said("lease acquired", seconds=30)
            await cluster.apply(make_object("digits", namespace))
            await wait_child(cluster, namespace, "Job/")


async def test_without_the_lease_nothing_is_written(cluster, account, namespace):
    ref = ObjectRef(api_version="coordination.k8s.io/v1", kind="Lease", namespace=NAMESPACE, name="pilotfish")
    with running_operator(account, identity="a") as operator:
        operator.wait_until_said("lease acquired")
        lease = await take_lease(cluster, ref)
        assert operator.process.wait(timeout=30) == 1
    try:
        await cluster.apply(make_object("digits", namespace))
        with running_operator(account, identity="a") as operator:
            tries = 'pilotfish_api_requests_total{code="200",kind="Lease",verb="GET"} 4.0'
            await until("four looks at the Lease", lambda: contains(operator, tries))
            assert operator.writes() == {}
            assert await children(cluster, namespace) == {}
            assert operator.stop() == 0
    finally:
        await cluster.delete(ref_of(lease))


async def contains(operator, text):
    return text in operator.get("/metrics")


async def take_lease(cluster, ref):
    """Write another holder into the Lease, however often its holder renews."""
    spec = {
        "holderIdentity": "thief",
        "leaseDurationSeconds": 3600,
        "renewTime": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }

    async def probe():
        stored = await cluster.get(ref)
        try:
            return await cluster.put({**stored, "spec": spec})
        except Exception:  # noqa: BLE001 - renewed in between
            return None

    return await until("the Lease is taken", probe)


async def test_named_namespaces_need_no_right_over_the_cluster(cluster, kubectl, tmp_path):
    kubectl.run("delete", "clusterrolebinding", "pilotfish", "--ignore-not-found")
    with fresh_namespace(kubectl) as mine, fresh_namespace(kubectl) as other:
        try:
            account = install_rights(kubectl, tmp_path, "--set", f"watchNamespaces={{{mine}}}")
            with running_operator(account, watch_namespaces=mine) as operator:
                await cluster.apply(make_object("digits", other))
                await cluster.apply(make_object("digits", mine))
                await wait_child(cluster, mine, "Job/")
                assert await children(cluster, other) == {}
                assert 'code="403"' not in operator.get("/metrics")
        finally:
            install_rights(kubectl, tmp_path)


ALLOWED = {
    ("list", "modeldeployments.pilotfish.dev", ""): True,
    ("update", "modeldeployments.pilotfish.dev", "status"): True,
    ("patch", "modeldeployments.pilotfish.dev", ""): False,
    ("create", "jobs.batch", ""): True,
    ("get", "secrets", ""): False,
    ("list", "secrets", ""): False,
    ("create", "pods", ""): False,
    ("create", "pods", "exec"): False,
    ("create", "serviceaccounts", "token"): False,
    ("impersonate", "users", ""): False,
    # What a new revision's pods could get: only listed, and only in an install for the whole cluster.
    ("list", "nodes", ""): True,
    ("get", "nodes", ""): False,
    ("list", "resourcequotas", ""): True,
    ("update", "resourcequotas", ""): False,
    ("list", "pods", ""): True,
    ("delete", "pods", ""): False,
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", ""): False,
    ("delete", "namespaces", ""): False,
}


def test_the_api_server_grants_these_rights_and_no_others(kubectl, account, namespace):
    def may(verb, resource, subresource):
        # `can-i --list` would show the rules; asking shows what they mean.
        who = f"--as=system:serviceaccount:{NAMESPACE}:pilotfish"
        try:
            answer = kubectl.run("auth", "can-i", verb, resource, f"--subresource={subresource}", who, "-n", namespace)
        except KubectlError:
            return False
        return answer.strip() == "yes"

    assert {question: may(*question) for question in ALLOWED} == ALLOWED


async def test_get_shows_the_tree(cluster, api_server, account, namespace):
    async with playing_kubelet(cluster, namespace):
        with running_operator(account):
            await cluster.apply(make_object("digits", namespace))
            await wait_ready(cluster, namespace)
    done = await asyncio.to_thread(
        CliRunner(env={"COLUMNS": "60"}).invoke,
        app,
        ["get", "digits", "-n", namespace, "--kubeconfig", str(api_server)],
    )
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("ModelDeployment/digits  ✔ Ready")
    assert any("Deployment/digits-" in line and "1/1 ready" in line for line in lines)
    words = " ".join(done.output.replace("│", " ").split())
    assert (await is_ready(cluster, namespace))["status"]["conditions"][0]["message"] in words
