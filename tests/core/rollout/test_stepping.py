"""A canary at one of its steps: what it waits for, when it goes on, and what it says meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import RolloutStage, StepStatus
from pilotfish.core.plan import Apply
from pilotfish.core.progress import Stage
from pilotfish.core.rollout.layout import Layout, Share
from pilotfish.core.rollout.stepping import stepping
from pilotfish.core.rollout.turn import Rollout
from pilotfish.core.rollout.waiting import untold_plan
from support.builders import NOW
from support.two_revisions import NEW, OLD, deployed, deployment, scope_of, state_of, traffic, turn_of

STEPS = [{"weight": 20, "hold": "2m"}, {"weight": 33, "hold": "90s"}, {"weight": 50, "hold": "Forever"}]
OPEN = {"strategy": "Canary", "steps": STEPS, "analysis": {"checks": {}, "minRequests": 0}}
SHUT = {**OPEN, "maintenanceWindows": [{"schedule": "0 3 * * *", "duration": "1h"}]}
WEIGHTS = (20, 33, 50)


def turn(index=0, *, candidate=None, service=None, ready_at=None, rollout=OPEN, replicas=4, **state):
    """At a step, with the pods that it asks for unless told otherwise; `ready_at` in seconds before now."""
    pods = {0: 1, 1: 2, 2: 4}[index] if candidate is None else candidate
    empty = scope_of(rollout=rollout, replicas=replicas)
    key = turn_of(empty, state_of()).steps[0].hash
    step = StepStatus(
        index=index,
        weight=WEIGHTS[index],
        hash=key,
        started_at=timestamp(NOW - timedelta(hours=1)),
        ready_at=None if ready_at is None else timestamp(NOW - timedelta(seconds=ready_at)),
    )
    at = state_of().model_copy(update={"step": step, **state})
    objects = (deployment(OLD, 4), deployed(empty, pods), traffic(service))
    return turn_of(scope_of(*objects, state=at, rollout=rollout, replicas=replicas), at)


def test_a_step_begins_with_its_share_and_holds_from_then():
    found = stepping(turn())
    assert isinstance(found, Rollout)
    assert found.state.step.ready_at == timestamp(NOW)
    assert found.layout == Layout(replicas={OLD: 4, NEW: 1}, share=Share.BOTH, other=NEW, weight=20)
    assert (found.progress.stage, found.progress.reason) == (Stage.CANARYING, Reason.CANARYING)
    assert found.progress.message == "Step 1/3 (20 %): holds for 2 min"
    assert not found.promoted


@pytest.mark.parametrize(("service", "index"), [(OLD, 0), (NEW, 1)])
def test_before_its_share_is_there_it_waits_and_nothing_counts(service, index):
    found = stepping(turn(index, service=service))
    assert found.state.step.ready_at is None
    assert found.progress.message == f"Step {index + 1}/3 ({WEIGHTS[index]} %): the traffic Service is being changed"
    assert (found.progress.stage, found.progress.reason) == (Stage.CANARYING, Reason.CANARYING)
    assert found.progress.wake == NOW + timedelta(minutes=1), "the step began long ago"


def test_before_its_pods_are_there_it_says_how_many_are():
    found = stepping(turn(1, candidate=1))
    assert found.layout.replicas == {OLD: 4, NEW: 2}
    assert found.progress.message == f"Step 2/3 (33 %): Revision {NEW} starts: 1/2 pods are ready"
    assert found.progress.wake == NOW + timedelta(minutes=1), "the step began long ago"


@pytest.mark.parametrize(("index", "hold", "said"), [(0, 120, "2 min"), (1, 90, "90 s")])
def test_a_step_holds_exactly_so_long(index, hold, said):
    found = stepping(turn(index, ready_at=hold - 1))
    assert found.progress.message == f"Step {index + 1}/3 ({WEIGHTS[index]} %): holds for {said}"
    assert found.progress.wake <= NOW + timedelta(seconds=1)
    assert stepping(turn(index, ready_at=hold)).step.index == index + 1


def test_until_when_a_step_holds_is_when_to_look_again():
    quiet = {**OPEN, "analysis": {"checks": {}, "minRequests": 0, "interval": "10m", "window": "10m"}}
    assert stepping(turn(ready_at=20, rollout=quiet)).progress.wake == NOW + timedelta(seconds=100)


def test_the_last_step_holds_until_it_is_promoted():
    found = stepping(turn(2, ready_at=100_000))
    assert (found.progress.reason, found.progress.message) == (
        Reason.HOLDING,
        "Step 3/3 (50 %): holds until it is promoted (action promote)",
    )


@pytest.mark.parametrize("index", [0, 1])
def test_promoted_it_goes_to_the_next_step_and_no_further(index):
    at = turn(index, ready_at=1, promotion="Step")
    found = stepping(at)
    assert found.promotion is None
    assert (found.stage, found.analysis) == (RolloutStage.STEPPING, None)
    assert found.step == StepStatus(
        index=index + 1, weight=WEIGHTS[index + 1], hash=at.steps[0].hash, started_at=timestamp(NOW)
    )


def test_promoted_at_the_last_step_it_gets_all_of_the_traffic():
    found = stepping(turn(2, ready_at=1, promotion="Step"))
    assert (found.stage, found.promotion, found.step) == (RolloutStage.PROMOTING, None, None)
    assert found.stage_started_at == timestamp(NOW)


@pytest.mark.parametrize("update", [{"promotion": "Full"}])
def test_promoted_in_full_it_passes_over_the_steps(update):
    found = stepping(turn(0, **update))
    assert (found.stage, found.promotion) == (RolloutStage.PROMOTING, "Full")


def test_other_steps_than_before_begin_with_the_first():
    at = turn(1)
    for change in ({"hash": "others"}, {"index": 3}, {"hash": None}):
        other = at.state.model_copy(update={"step": at.state.step.model_copy(update=change)})
        found = stepping(replace(at, state=other))
        assert (found.step.index, found.step.weight, found.step.ready_at) == (0, 20, None)
    assert stepping(replace(at, state=at.state.model_copy(update={"step": None}))).step.index == 0


@pytest.mark.parametrize("promotion", ["Step", "Full"])
def test_a_shut_window_keeps_even_what_was_promoted(promotion):
    found = stepping(turn(0, ready_at=1, promotion=promotion, rollout=SHUT))
    assert isinstance(found, Rollout)
    assert found.progress.reason is Reason.WAITING_FOR_WINDOW
    assert found.progress.message == (
        "Step 1/3 (20 %): waits for its maintenance window, which opens at 2026-01-02T03:00:00Z"
    )
    assert found.state.promotion == promotion


def test_a_window_that_never_opens_says_so():
    never = {**OPEN, "maintenanceWindows": [{"schedule": "0 0 31 2 *", "duration": "1h"}]}
    found = stepping(turn(0, promotion="Full", rollout=never))
    assert found.progress.message.startswith("Step 1/3 (20 %): waits for a maintenance window, and none ever opens: ")


# A plan is told before anything is stopped for it


def told_of(plan, *, stored, asked=4):
    state = state_of(RolloutStage.STARTING, plan=plan)
    scope = scope_of(deployment(OLD, asked), state=state_of(RolloutStage.STARTING, plan=stored), rollout=OPEN)
    return untold_plan(turn_of(scope, state))


@pytest.mark.parametrize("plan", ["Swap", "Recreate"])
def test_a_plan_that_status_tells_is_carried_out(plan):
    assert told_of(plan, stored=plan) is None
    found = told_of(plan, stored="Surge")
    assert found.layout == Layout(replicas={OLD: 4})
    assert (found.progress.stage, found.progress.reason) == (Stage.STARTING, Reason.STARTING)
    assert (found.progress.message, found.progress.wake) == (
        "The room for it is planned",
        NOW + timedelta(seconds=1),
    )


def test_another_plan_keeps_the_pods_that_an_earlier_one_left():
    assert told_of("Recreate", stored="Swap", asked=3).layout == Layout(replicas={OLD: 3})
    assert told_of("Swap", stored=None, asked=3).layout == Layout(replicas={OLD: 4})


def test_until_a_plan_is_told_the_artifact_is_kept():
    state = state_of(RolloutStage.STARTING, plan="Swap")
    at = turn_of(scope_of(deployment(OLD, 4), state=state_of(RolloutStage.STARTING), rollout=OPEN), state)
    summary = at.artifact.record.summary
    kept = replace(at.artifact, summary=summary, applies=(Apply(body={}),))
    found = untold_plan(replace(at, artifact=kept)).progress
    assert (found.record, found.summary, found.applies) == (kept.record, summary, kept.applies)
