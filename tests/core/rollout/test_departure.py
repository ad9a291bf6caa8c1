"""How long the pods of a revision that goes back stay: while requests may reach them, and a drain longer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import AbortStatus, RolloutStage
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.departure import find_leaving, stays_until
from pilotfish.core.rollout.layout import Layout, Share
from pilotfish.core.rollout.turn import Rollout
from support.builders import NOW, POLICY
from support.two_revisions import NEW, OLD, deployment, scope_of, state_of, traffic

SOON = NOW + timedelta(seconds=1)
BACK = Layout(replicas={OLD: 4, NEW: 0}, other=NEW, returns=True)
STANDS = (deployment(OLD, 4), deployment(NEW, 2))


def given_up(seconds_ago, *, revision=NEW, stage=RolloutStage.STEPPING):
    at = timestamp(NOW - timedelta(seconds=seconds_ago))
    return state_of(stage).model_copy(
        update={"aborted": AbortStatus(revision=revision, reason="AnalysisFailed", at=at)}
    )


def stays(*objects, state=None, layout=BACK, **more):
    state = state or given_up(0)
    return stays_until(scope_of(*objects, state=state, **more), state, layout, NEW)


def test_they_stay_for_a_drain_after_the_traffic_has_turned():
    drain = POLICY.drain.total_seconds()
    turned = (*STANDS, traffic(OLD))
    assert stays(*turned, state=given_up(0)) == NOW + POLICY.drain
    assert stays(*turned, state=given_up(drain - 1)) == SOON
    assert stays(*turned, state=given_up(drain)) is None


@pytest.mark.parametrize("service", [None, NEW])
def test_while_the_service_points_at_them_they_stay(service):
    assert stays(*STANDS, traffic(service), state=given_up(3600)) == SOON


def test_without_a_service_nobody_is_sent_to_them():
    assert stays(*STANDS, state=given_up(3600)) is None
    assert stays(*STANDS, traffic("dddddddd"), state=given_up(3600)) is None


@pytest.mark.parametrize("share", [Share.BOTH, Share.OTHER])
def test_while_the_layout_needs_them_they_stay(share):
    assert stays(*STANDS, traffic(OLD), state=given_up(3600), layout=replace(BACK, share=share)) == SOON


@pytest.mark.parametrize(
    ("objects", "more"),
    [
        ((deployment(OLD, 4), traffic(OLD)), {}),
        ((*STANDS, traffic(OLD)), {"stable": None}),
        ((*STANDS, traffic(OLD)), {"state": given_up(0, stage=RolloutStage.VERIFYING)}),
        ((deployment(OLD, 4, 0), deployment(NEW, 2), traffic(OLD)), {}),
        ((deployment(OLD, 4), deployment(NEW, 2, 0), traffic(OLD)), {}),
    ],
    ids=[
        "it has gone",
        "nobody else serves",
        "it never had requests",
        "stable has nobody ready",
        "it has nobody ready",
    ],
)
def test_they_go_at_once_where_nothing_drains(objects, more):
    assert stays(*objects, **more) is None


def test_one_that_was_left_behind_drains_from_when_that_was_told():
    state = state_of(RolloutStage.PROMOTING)
    scope = scope_of(*STANDS, traffic(OLD), state=state)
    at = timestamp(NOW - timedelta(seconds=5))
    entry = {"revision": NEW, "result": "Superseded", "reason": "Superseded", "at": at}
    other = {**entry, "revision": "another", "at": timestamp(NOW)}
    status = type(scope.status).model_validate({**scope.status.to_wire(), "history": [other, entry]})
    told = replace(scope, status=status)
    assert stays_until(told, state, BACK, NEW) == NOW - timedelta(seconds=5) + POLICY.drain
    assert stays_until(scope, state, BACK, NEW) is None, "nobody knows since when"
    abort_of_another = given_up(0, revision="another")
    assert stays_until(told, abort_of_another, BACK, NEW) == NOW - timedelta(seconds=5) + POLICY.drain


def test_who_leaves():
    def rollout(stage, layout):
        progress = Progress(stage=stage, reason=Reason.CANARYING, message="")
        return Rollout(progress=progress, state=state_of(), layout=layout)

    scope = replace(scope_of(), revision=NEW)
    assert find_leaving(scope, rollout(Stage.FAILED, Layout())) == NEW
    assert find_leaving(replace(scope, stable=NEW), rollout(Stage.FAILED, Layout())) is None
    assert find_leaving(scope, rollout(Stage.CANARYING, replace(BACK, other="older"))) == "older"
    assert find_leaving(scope, rollout(Stage.CANARYING, replace(BACK, returns=False))) is None
