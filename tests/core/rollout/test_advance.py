"""Which way a pass goes: foreign objects, revisions that leave first, failures on record, a pause that only watches."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStage, StepStatus
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.objects import ObjectRef
from pilotfish.core.progress import Stage
from pilotfish.core.rollout.actions import Orders
from pilotfish.core.rollout.advance import advance, find_foreign, guard, left_behind
from pilotfish.core.rollout.layout import Layout, Share
from support.builders import NOW, OWNER
from support.two_revisions import NEW, OLD, deployed, deployment, pod, record_of, scope_of, state_of, traffic

CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "hold": "2m"}, {"weight": 50}],
    "analysis": {"checks": {"errorRate": {"max": "0.1"}}, "noDataDeadline": "1m", "onNoData": "Abort"},
}


def scope(*objects, revision=NEW, **more):
    return replace(scope_of(*objects, **{"rollout": CANARY, **more}), revision=revision)


def foreign(kind, name):
    return ObjectRef(api_version="v1", kind=kind, namespace=OWNER.namespace, name=name, uid="theirs")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PersistentVolumeClaim", "digits-store"),
        ("Job", f"digits-{NEW}-optimize"),
        ("Job", f"digits-{NEW}-verify"),
        ("ControllerRevision", f"digits-{NEW}"),
        ("ConfigMap", f"digits-{NEW}"),
        ("Service", f"digits-{NEW}"),
        ("Deployment", f"digits-{NEW}"),
        ("Service", "digits"),
        ("PodDisruptionBudget", "digits"),
        ("NetworkPolicy", "digits"),
    ],
)
def test_somebody_elses_object_under_a_needed_name_blocks(kind, name):
    at = scope(deployment(OLD, 4))
    at = replace(at, observed=replace(at.observed, foreign=(foreign("Secret", "x"), foreign(kind, name))))
    found = find_foreign(at)
    assert (found.stage, found.reason, found.wake) == (
        Stage.BLOCKED,
        Reason.NOT_OWNED,
        NOW + timedelta(seconds=60),
    )
    assert found.message == (
        f'{kind} "{name}" exists and belongs to somebody else; remove or rename it, or give the ModelDeployment '
        "another name"
    )
    told = advance(at)
    assert (told.progress, told.state, told.promoted) == (found, at.rollout, False)


def test_other_objects_of_others_are_none_of_our_business():
    at = scope(deployment(OLD, 4))
    others = (foreign("ConfigMap", "digits"), foreign("Service", f"digits-{OLD}"), foreign("Deployment", "digits"))
    assert find_foreign(replace(at, observed=replace(at.observed, foreign=others))) is None


def test_what_stands_is_kept_while_something_is_in_the_way():
    at = scope(deployment(OLD, 3), deployment(NEW, 1), traffic(None))
    at = replace(at, observed=replace(at.observed, foreign=(foreign("Service", "digits"),)))
    assert advance(at).layout == Layout(replicas={OLD: 3, NEW: 1}, share=Share.BOTH, other=NEW)


def test_who_was_left_behind():
    former = state_of(revision="dddddddd")
    stands = (deployment(OLD, 4), deployment("dddddddd", 1))
    assert left_behind(scope(*stands, state=former)) == "dddddddd"
    assert left_behind(scope(deployment(OLD, 4), state=former)) is None, "it has gone"
    assert left_behind(scope(*stands, state=state_of(revision=NEW))) is None
    assert left_behind(scope(*stands, state=state_of(revision=OLD))) is None
    assert left_behind(scope(*stands, state=state_of(revision=None))) is None


def back_at_stable(asked, ready=None, *, replicas=4):
    """The spec describes the stable revision again, and NEW had requests."""
    empty = scope_of(replicas=replicas)
    state = state_of()
    at = scope(
        deployed(empty, asked, ready, revision=OLD), deployment(NEW, 1), traffic(None), state=state, revision=OLD
    )
    objects = record_of(empty, OLD).objects
    rendered = tuple(
        {**applied.body, "metadata": {**applied.body["metadata"], "uid": body["kind"]}}
        for body in (objects.config_map, objects.service)
        if (applied := apply_if_needed(at.observed, body)) is not None
    )
    known = replace(at.observed, children=(*at.observed.children, *rendered))
    return replace(at, observed=known, records={OLD: record_of(empty, OLD)})


def test_back_at_the_stable_revision_the_other_one_leaves_and_it_counts_as_served():
    found = advance(back_at_stable(4))
    assert found.layout == Layout(replicas={OLD: 4, NEW: 1}, other=NEW, returns=True)
    assert found.state == state_of()
    assert (found.progress.stage, found.progress.reason) == (Stage.READY, Reason.ALL_PODS_READY)
    assert found.promoted


def test_back_at_the_stable_revision_its_missing_pods_are_waited_for():
    found = advance(back_at_stable(4, 3))
    assert found.progress.message == f"Revision {OLD}: 3/4 pods are ready"
    assert not found.promoted


def test_another_wanted_one_waits_until_it_has_gone():
    former = state_of(revision="dddddddd")
    found = advance(scope(deployment(OLD, 4), deployment("dddddddd", 1), traffic(None), state=former))
    assert found.layout == Layout(replicas={OLD: 4, "dddddddd": 1}, other="dddddddd", returns=True)
    assert found.state == former
    assert not found.promoted


# While paused


def watched(*, ready_at=30, stage=RolloutStage.STEPPING, orders=None, **more):
    step = StepStatus(
        index=0,
        weight=20,
        started_at=timestamp(NOW - timedelta(hours=1)),
        ready_at=None if ready_at is None else timestamp(NOW - timedelta(seconds=ready_at)),
    )
    update = {"step": step} if stage is RolloutStage.STEPPING else {}
    if stage is RolloutStage.BAKING and ready_at is not None:
        update["stage_started_at"] = timestamp(NOW - timedelta(seconds=ready_at))
    state = state_of(stage).model_copy(update={**update, **more.pop("update", {})})
    at = scope(deployment(OLD, 4), deployment(NEW, 1), traffic(None), state=state, **more)
    return replace(at, orders=orders or Orders())


def test_a_pause_watches_what_has_requests():
    found = guard(watched())
    assert (found.progress.stage, found.progress.reason, found.progress.message) == (
        Stage.CANARYING,
        Reason.PAUSED,
        "Paused",
    )
    assert found.layout == Layout(replicas={OLD: 4, NEW: 1}, share=Share.BOTH, other=NEW)
    assert found.state.analysis is not None
    assert found.progress.wake is not None
    assert guard(watched(stage=RolloutStage.BAKING)).progress.reason is Reason.PAUSED


@pytest.mark.parametrize(
    "at",
    [
        watched(stable=None),
        watched(revision=OLD),
        watched(ready_at=None),
        watched(update={"revision": "another"}),
        watched(update={"step": None}),
        watched(stage=RolloutStage.BAKING, ready_at=None),
        watched(stage=RolloutStage.PROMOTING),
        watched(stage=RolloutStage.VERIFYING),
    ],
    ids=["no stable", "at rest", "no share", "another", "no step", "no bake", "promoting", "verifying"],
)
def test_a_pause_has_nothing_to_watch(at):
    assert guard(at) is None


@pytest.mark.parametrize(
    ("stage", "where"), [(RolloutStage.STEPPING, "at step 1/2"), (RolloutStage.BAKING, "while it baked")]
)
def test_bad_numbers_end_it_although_it_is_paused(stage, where):
    ended = {"terminated": {"finishedAt": timestamp(NOW)}}
    container = {"name": "triton", "restartCount": 3, "state": {"running": {}}, "lastState": ended}
    at = watched(stage=stage, ready_at=60)
    restarting = {**pod("p", NEW, ready="True"), "status": {"containerStatuses": [container]}}
    found = guard(replace(at, observed=replace(at.observed, pods=(restarting,))))
    assert (found.progress.stage, found.progress.reason) == (Stage.FAILED, Reason.ANALYSIS_FAILED)
    assert found.progress.message == f"Aborted {where}: pod restarts 3 > 0 since the step began"
    assert found.state.aborted.message == found.progress.message
    assert found.layout.returns


def test_an_abort_is_carried_out_while_paused():
    found = guard(watched(orders=Orders(id="7", abort=True)))
    assert (found.progress.stage, found.progress.reason, found.progress.message) == (
        Stage.FAILED,
        Reason.ABORTED_BY_USER,
        "Aborted at step 1/2 by action 7",
    )
    before = guard(watched(stage=RolloutStage.VERIFYING, orders=Orders(id="7", abort=True)))
    assert before.progress.message == "Aborted by action 7"
    elsewhere = watched(update={"revision": "another"}, orders=Orders(id="7", abort=True))
    assert guard(elsewhere).progress.message == "Aborted by action 7"
    shorter = watched(orders=Orders(id="7", abort=True), rollout={**CANARY, "steps": [{"weight": 20}]})
    assert guard(shorter).progress.message == "Aborted at step 1/1 by action 7"
