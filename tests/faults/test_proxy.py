"""The proxy itself: what passes, what breaks, and that a plan comes back from its file as it was."""

import asyncio
import time

import pytest
import pytest_asyncio

from pilotfish.core.objects import ref_of
from pilotfish.ports import ClusterError, Conflict, Forbidden
from support.faults.plan import FOR_EVER, NONE, Act, Counted, Fault, On, Plan, crash_plans, draw
from support.faults.proxy import proxies
from support.faults.requests import read_about
from support.kube import fresh_namespace, kube_cluster, make_kubectl

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1"}}


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = Plan(
        (Fault(act=Act.CRASH_AFTER, nth=7), Fault(act=Act.ANSWER, on=On.WATCH, code=410, kind="Job", times=FOR_EVER)),
        seed=3,
    )
    (tmp_path / "plan").write_text(plan.to_json())
    assert Plan.from_file(tmp_path / "plan") == plan
    with pytest.raises(ValueError, match="explode"):
        Plan.from_json('{"seed": 1, "faults": [{"act": "explode"}]}')


def test_the_same_seed_draws_the_same_plans():
    plans = crash_plans(40)
    assert draw(plans, 5, seed=1) == draw(plans, 5, seed=1) != draw(plans, 5, seed=2)
    assert len(plans) == 120


def test_a_fault_counts_only_what_it_is_about_and_stops_in_time():
    counted = Counted(Plan((Fault(act=Act.RESET, kind="Job", nth=2, times=2),)))

    def meet(kind, on=On.WRITE):
        return counted.meet((on, On.ANY), kind=kind, name="n") is not None

    assert [meet("Job"), meet("Pod"), meet("Job", On.READ)] == [False, False, False]
    assert [meet("Job"), meet("Job"), meet("Job")] == [True, True, False]
    assert counted.has_acted


def test_the_lease_is_met_only_by_name():
    everything = Counted(Plan((Fault(act=Act.RESET, on=On.ANY, times=FOR_EVER),)))
    assert everything.meet((On.ANY,), kind="Lease", name="l") is None
    named = Counted(Plan((Fault(act=Act.RESET, on=On.ANY, kind="Lease"),)))
    assert named.meet((On.ANY,), kind="Lease", name="l") is not None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/namespaces/team/pods", ("Pod", "team", "", "")),
        ("/api/v1/pods", ("Pod", "", "", "")),
        ("/apis/apps/v1/namespaces/team/deployments/x", ("Deployment", "team", "x", "")),
        (
            "/apis/pilotfish.dev/v1alpha1/namespaces/t/modeldeployments/x/status",
            ("ModelDeployment", "t", "x", "status"),
        ),
        ("/api/v1/namespaces/team", ("namespaces", "", "team", "")),
        ("/version", ("", "", "", "")),
    ],
)
def test_a_path_says_what_a_request_is_about(path, expected):
    about = read_about("GET", path, {})
    assert (about.kind, about.namespace, about.name, about.subresource) == expected


pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def host():
    with proxies() as host:
        yield host


@pytest.fixture
def namespace(api_server):
    with fresh_namespace(make_kubectl(api_server)) as name:
        yield name


@pytest.fixture
def proxy(host, api_server):
    proxy = host.open(api_server)
    yield proxy
    proxy.close()


@pytest_asyncio.fixture
async def through(proxy):
    async with kube_cluster(proxy.kubeconfig) as cluster:
        yield cluster


@pytest.fixture
def body(namespace):
    return {**CONFIG_MAP, "metadata": {"name": "x", "namespace": namespace}}


def one(**fault):
    return Plan((Fault(**fault),))


async def test_without_faults_everything_passes(proxy, through, body):
    await through.apply(body)
    stored = await through.get(ref_of(body))
    assert stored["data"] == {"a": "1"}
    await through.delete(ref_of(body))
    kinds = [(e.about.verb, e.about.kind, e.code, e.told) for e in proxy.trace.exchanges]
    assert kinds == [
        ("PATCH", "ConfigMap", 201, 201),
        ("GET", "ConfigMap", 200, 200),
        ("DELETE", "ConfigMap", 200, 200),
    ]


@pytest.mark.parametrize(("act", "arrives"), [(Act.RESET, False), (Act.LOSE_ANSWER, True), (Act.TRUNCATE, True)])
async def test_a_broken_connection_is_an_error_and_the_request_was_carried_out_or_not(
    proxy, through, body, act, arrives
):
    proxy.set(one(act=act))
    with pytest.raises(ClusterError, match="cannot reach"):
        await through.apply(body)
    assert (await through.get(ref_of(body)) is not None) is arrives


@pytest.mark.parametrize(
    ("code", "error"), [(409, Conflict), (403, Forbidden), (429, ClusterError), (503, ClusterError)]
)
async def test_a_code_is_answered_as_often_as_asked(proxy, through, body, code, error):
    proxy.set(one(act=Act.ANSWER, code=code, times=2, retry_after=7 if code == 429 else 0))
    for _ in range(2):
        with pytest.raises(error) as caught:
            await through.apply(body)
        assert caught.value.retry_after == (7 if code == 429 else None)
    await through.apply(body)


@pytest.mark.parametrize(("act", "arrives"), [(Act.CRASH_BEFORE, False), (Act.CRASH_AFTER, True)])
async def test_after_a_crash_nobody_is_heard_any_more(proxy, api_server, body, act, arrives):
    died = []
    proxy.crashed = lambda: died.append(True)
    proxy.set(one(act=act))
    async with kube_cluster(proxy.kubeconfig) as through:
        for _ in range(2):
            with pytest.raises(ClusterError):
                await through.apply(body)
    assert died == [True]
    async with kube_cluster(api_server) as direct:
        assert (await direct.get(ref_of(body)) is not None) is arrives
    again = proxy.host.open(api_server, counted=proxy.counted, trace=proxy.trace)
    async with kube_cluster(again.kubeconfig) as cluster:
        await cluster.apply(body)
    again.close()


async def test_cut_refuses_and_mended_takes_again(proxy, through, body):
    await through.apply(body)
    proxy.cut()
    with pytest.raises(ClusterError):
        await through.apply(body)
    proxy.mend()
    await through.apply(body)


async def test_a_frozen_view_shows_what_was(proxy, through, body):
    labels = {"t": "frozen"}
    body["metadata"]["labels"] = labels
    for number in range(4):
        await through.apply({**body, "data": {"a": str(number)}})
    proxy.set(one(act=Act.FREEZE, on=On.READ, back=2, times=3))
    assert (await through.get(ref_of(body)))["data"] == {"a": "1"}
    await through.apply({**body, "data": {"a": "9"}})
    where = {"api_version": "v1", "kind": "ConfigMap", "namespace": body["metadata"]["namespace"], "labels": labels}
    (listed,) = await through.list(**where)
    assert listed["data"] == {"a": "1"}
    other = {**body, "metadata": {**body["metadata"], "name": "not-there"}}
    assert await through.get(ref_of(other)) is None
    assert (await through.get(ref_of(body)))["data"] == {"a": "9"}


async def test_a_black_hole_and_a_delay_take_their_time(proxy, through, body):
    proxy.set(one(act=Act.DELAY, seconds=0.3))
    started = time.monotonic()
    await through.apply(body)
    assert time.monotonic() - started >= 0.3
    proxy.set(one(act=Act.BLACK_HOLE, on=On.READ))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await through.get(ref_of(body))
    proxy.set(NONE)
    assert await through.get(ref_of(body)) is not None
