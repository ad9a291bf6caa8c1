"""Restarts of pods and the share of requests that was reached."""

from datetime import timedelta

import pytest

from pilotfish.core.health.pods import achieved_share, restarts_since
from pilotfish.core.health.samples import Health, PodSeries
from support.counters import CANDIDATE, STABLE, START, after, make_health, make_pod, make_sample

MINUTE = timedelta(seconds=60)
BEFORE, AT, LATER = "2026-01-01T11:59:59Z", "2026-01-01T12:00:00Z", "2026-01-01T12:00:09Z"


def container(count=0, *, last=None, now=None):
    return {
        "name": "triton",
        "restartCount": count,
        "lastState": {"terminated": {"finishedAt": last}} if last else {},
        "state": {"terminated": {"finishedAt": now}} if now else {"running": {}},
    }


def pod(*containers, phase="Running", **meta):
    return {"metadata": meta, "status": {"phase": phase, "containerStatuses": list(containers)}}


@pytest.mark.parametrize(
    ("status", "restarts"),
    [
        (container(), 0),
        (container(3, last=BEFORE), 0),
        (container(1, last=AT), 1),
        (container(3, last=LATER), 3),
        (container(0, last=LATER), 1),
        (container(-4, last=LATER), 1),
        (container(0, now=LATER), 1),
        (container(2, last=LATER, now=LATER), 3),
        (container(2, last=LATER, now=BEFORE), 2),
        (container(-2, now=LATER), 1),
        (container(3, last="yesterday"), 0),
        (container(3, last="2026-01-01T12:00:09"), 0),
        ({}, 0),
        ({"lastState": None, "state": None, "restartCount": None}, 0),
        ({"lastState": {"terminated": None}, "restartCount": 2}, 0),
        ({"lastState": {"terminated": {"finishedAt": LATER}}, "restartCount": "2"}, 1),
        ({"state": {"terminated": {"finishedAt": LATER}}, "restartCount": "2"}, 1),
    ],
)
def test_restarts_of_a_container(status, restarts):
    assert restarts_since([pod(status)], START) == restarts


def test_whole_seconds_are_what_kubernetes_writes():
    assert restarts_since([pod(container(1, last=AT))], START + timedelta(milliseconds=900)) == 1


def test_restarts_of_all_pods_and_containers():
    once = container(1, last=LATER)
    assert restarts_since([pod(once, once), pod(once)], START) == 3


def test_pods_that_go_do_not_count():
    once = container(1, last=LATER, now=LATER)
    going = pod(once, deletionTimestamp=LATER)
    evicted = [pod(once, phase=phase) for phase in ("Failed", "Succeeded")]
    assert restarts_since([going, *evicted, {}, {"metadata": None, "status": None}], START) == 0
    assert restarts_since([], START) == 0


def test_the_share_is_that_of_requests_in_the_window():
    health = make_health(make_pod(CANDIDATE, uid="c", per_step=10), make_pod(STABLE, uid="s", per_step=30))
    share = achieved_share(health, CANDIDATE, STABLE, window=MINUTE, now=after(120))
    assert share == pytest.approx(25.0)
    failing = make_health(make_pod(CANDIDATE, per_step=5, failed_per_step=5), make_pod(STABLE, per_step=30))
    assert achieved_share(failing, CANDIDATE, STABLE, window=MINUTE, now=after(120)) == pytest.approx(25.0)


def test_what_was_before_a_share_was_reached_is_not_part_of_it():
    """The window begins between two samples: the one before counted another share."""
    stable = [make_sample(second, success=count) for second, count in ((38, 0), (48, 900), (53, 950), (58, 1000))]
    health = make_health(
        make_pod(CANDIDATE, uid="c", start=38, until=58, per_step=50),
        PodSeries(uid="s", revision=STABLE, samples=tuple(stable)),
    )
    window, now = timedelta(seconds=12), after(58)
    share = achieved_share(health, CANDIDATE, STABLE, window=window, now=now, since=after(46))
    assert share == pytest.approx(50.0)
    assert achieved_share(health, CANDIDATE, STABLE, window=window, now=now) < 20


def test_a_pod_that_was_read_only_before_the_last_two_windows_has_no_part():
    read_once_a_while = make_pod(CANDIDATE, uid="c", until=0), make_pod(CANDIDATE, uid="d")
    silent = make_health(*read_once_a_while, make_pod(STABLE, uid="s"))
    assert achieved_share(silent, CANDIDATE, STABLE, window=MINUTE, now=after(121)) == pytest.approx(50.0)


def test_no_share_without_requests():
    assert achieved_share(Health(), CANDIDATE, STABLE, window=MINUTE, now=START) is None
    idle = make_health(make_pod(CANDIDATE, per_step=0))
    assert achieved_share(idle, CANDIDATE, STABLE, window=MINUTE, now=after(120)) is None
    old = make_health(make_pod(CANDIDATE, until=60))
    assert achieved_share(old, CANDIDATE, STABLE, window=MINUTE, now=after(300)) is None
    equal = make_health(make_pod(CANDIDATE, uid="c"), make_pod(STABLE, uid="s"))
    assert achieved_share(equal, CANDIDATE, STABLE, window=MINUTE, now=after(120)) == pytest.approx(50.0)
    assert achieved_share(equal, CANDIDATE, None, window=MINUTE, now=after(120)) == pytest.approx(100.0)
    first = make_health(make_pod(CANDIDATE))
    assert achieved_share(first, CANDIDATE, None, window=MINUTE, now=after(120)) == pytest.approx(100.0)
