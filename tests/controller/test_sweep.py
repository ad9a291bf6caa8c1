from pilotfish.controller.health import Health, limit
from pilotfish.controller.keys import Key, key_of_child
from pilotfish.controller.sweep import Sweep, Watched
from pilotfish.core.observed import watched_kinds
from support.virtual_time import run_in_virtual_time


def make_body(name, version, *, kind="Job", namespace="team", labels=None):
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "labels": labels or {},
        },
    }


class Lists:
    """A cluster that only lists."""

    def __init__(self, own, children=()):
        self.own, self.children, self.asked = own, children, []

    async def list(self, *, api_version, kind, namespace, labels):
        self.asked.append((kind, namespace))
        if kind == "ModelDeployment":
            return tuple(self.own)
        return tuple(body for body in self.children if body["kind"] == kind)


def test_a_sweep_enqueues_every_object_and_asks_every_kind_once():
    async def story():
        keys, watched = [], Watched()
        cluster = Lists([make_body("a", 1, kind="ModelDeployment"), make_body("b", 2, kind="ModelDeployment")])
        sweep = Sweep(cluster=cluster, namespaces=(), watched=watched, enqueue=keys.append, interval=300)
        await sweep.once()
        assert keys == [Key("team", "a"), Key("team", "b")]
        assert len(cluster.asked) == len(set(cluster.asked)) == 1 + len(watched_kinds(gateway_api=False))
        assert {namespace for _, namespace in cluster.asked} == {None}

    run_in_virtual_time(story())


def test_named_namespaces_are_asked_one_by_one():
    async def story():
        cluster = Lists([])
        sweep = Sweep(cluster=cluster, namespaces=("x", "y"), watched=Watched(), enqueue=print, interval=300)
        await sweep.once()
        assert {namespace for _, namespace in cluster.asked} == {"x", "y"}

    run_in_virtual_time(story())


class TestWatched:
    def test_a_watch_that_delivers_is_well(self):
        watched = Watched()
        watched.saw(make_body("a", 5))
        for _ in range(3):
            watched.compare([make_body("a", 5)])
        assert watched.stuck() == ()

    def test_an_event_that_is_late_is_no_alarm(self):
        watched = Watched()
        watched.compare([make_body("a", 5)])
        watched.saw(make_body("a", 5))
        watched.compare([make_body("a", 6)])
        assert watched.stuck() == ()

    def test_a_change_owed_for_a_whole_sweep_is(self):
        watched = Watched()
        watched.saw(make_body("a", 5))
        watched.compare([make_body("a", 6)])
        watched.compare([make_body("a", 7)])
        assert watched.stuck() == ("Job/a",)
        watched.saw(make_body("a", 7))
        watched.compare([make_body("a", 7)])
        assert watched.stuck() == ()

    def test_an_object_that_went_meanwhile_is_none(self):
        watched = Watched()
        watched.compare([make_body("a", 6)])
        watched.compare([])
        assert watched.stuck() == ()


def test_a_child_leads_to_its_object_by_its_label():
    assert key_of_child(make_body("x", 1, labels={"pilotfish.dev/name": "digits"})) == Key("team", "digits")
    assert key_of_child(make_body("x", 1)) is None


async def test_health_says_what_is_wrong():
    health = Health()
    assert (await health.healthz(None)).status == 200
    health.alive.append(limit("a pass does not end", value=lambda: 300.0, seconds=240))
    answer = await health.healthz(None)
    assert answer.status == 503
    assert answer.text == "a pass does not end: 300 s, more than 240 s"
    assert (await health.readyz(None)).status == 200
