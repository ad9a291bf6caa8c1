"""What status.rollout keeps from pass to pass: field by field, and the time of a pause that counts for nothing."""

from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.rollout_status import (
    AbortStatus,
    AnalysisStatus,
    AnalysisVerdict,
    CapacityStatus,
    RolloutStage,
    RolloutStatus,
    StepStatus,
    UndoStatus,
    VerificationStatus,
)
from pilotfish.core.rollout.state import at_step, begin, enter, lasting, paused, reached, resumed
from pilotfish.core.rollout.steps import ResolvedStep
from support.builders import NOW


def at(minutes):
    return timestamp(NOW + timedelta(minutes=minutes))


LASTING = {
    "last_action_id": "7",
    "action_message": "promote: the revision goes on to the next step",
    "undo": UndoStatus(to_revision="a", from_revision="b"),
    "aborted": AbortStatus(revision="a", reason="AnalysisFailed", at=at(-60)),
}
FULL = RolloutStatus(
    **LASTING,
    revision="rev",
    stage=RolloutStage.STEPPING,
    stage_started_at=at(-30),
    promotion="Step",
    step=StepStatus(index=1, weight=50, hash="h", started_at=at(-20), ready_at=at(-15)),
    analysis=AnalysisStatus(
        verdict=AnalysisVerdict.NO_DATA, started_at=at(-14), measured_at=at(-1), no_data_since=at(-3), requests=7
    ),
    capacity=CapacityStatus(plan="Swap"),
    verification=VerificationStatus(verdict=AnalysisVerdict.PASS, at=at(-31)),
)
STEP = ResolvedStep(index=2, count=4, weight=80, hold=None, hash="other")


def test_actions_and_the_last_abort_outlive_the_candidate():
    assert lasting(FULL) == RolloutStatus(**LASTING)


@pytest.mark.parametrize(("before", "promotion"), [("rev", "Step"), (None, "Step"), ("another", None)])
def test_a_candidate_begins_with_nothing_of_another_one(before, promotion):
    found = begin(FULL.model_copy(update={"revision": before}), "rev", NOW)
    assert found == RolloutStatus(
        **{**LASTING, "aborted": None},
        revision="rev",
        stage=RolloutStage.STARTING,
        stage_started_at=at(0),
        promotion=promotion,
    )


def test_the_next_stage_has_no_step_and_no_analysis_yet():
    found = enter(FULL, RolloutStage.PROMOTING, NOW)
    assert found == FULL.model_copy(
        update={"stage": RolloutStage.PROMOTING, "stage_started_at": at(0), "step": None, "analysis": None}
    )


def test_a_step_begins_now_and_has_no_analysis_yet():
    begun = StepStatus(index=2, weight=80, hash="other", started_at=at(0))
    assert at_step(FULL, STEP, NOW) == FULL.model_copy(update={"step": begun, "analysis": None})


def test_a_share_is_reached_once():
    begun = at_step(FULL, STEP, NOW)
    there = reached(begun, NOW + timedelta(minutes=1))
    assert there == begun.model_copy(update={"step": begun.step.model_copy(update={"ready_at": at(1)})})
    assert reached(there, NOW + timedelta(minutes=2)) == there
    assert reached(enter(FULL, RolloutStage.BAKING, NOW), NOW).step is None


def test_a_pause_begins_once():
    held = paused(FULL, NOW)
    assert held == FULL.model_copy(update={"paused_at": at(0)})
    assert paused(held, NOW + timedelta(minutes=9)) == held


def test_the_time_of_a_pause_counts_for_nothing():
    moved = resumed(paused(FULL, NOW), NOW + timedelta(minutes=5))
    step = FULL.step.model_copy(update={"started_at": at(-15), "ready_at": at(-10)})
    analysis = FULL.analysis.model_copy(update={"started_at": at(-9), "measured_at": at(4), "no_data_since": at(2)})
    assert moved == FULL.model_copy(update={"stage_started_at": at(-25), "step": step, "analysis": analysis})
    assert resumed(moved, NOW + timedelta(minutes=9)) == moved


def test_what_has_no_time_yet_has_none_after_a_pause():
    bare = RolloutStatus(revision="rev", step=StepStatus(index=0, weight=10, started_at=at(-1)))
    moved = resumed(paused(bare, NOW), NOW + timedelta(minutes=5))
    assert moved == bare.model_copy(update={"step": StepStatus(index=0, weight=10, started_at=at(4))})
    assert resumed(paused(RolloutStatus(), NOW), NOW + timedelta(minutes=5)) == RolloutStatus()
