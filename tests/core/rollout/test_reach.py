"""A gateway's part in Ready: what serves inside the cluster waits for its clients outside, with some patience."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.core.progress import Progress, Stage
from pilotfish.core.rollout.reach import PATIENCE, overlooked_until, wait_for_gateway, waits_for_gateway
from support.builders import NOW, POLICY
from support.two_revisions import OLD, scope_of

ROUTES = replace(POLICY, gateway_api=True)
READY = Progress(stage=Stage.READY, reason=Reason.ALL_PODS_READY, message="all ready", wake=NOW + timedelta(minutes=5))


def condition(kind, status, *, seconds=0, generation=1):
    return {
        "type": kind,
        "status": status,
        "reason": "AllPodsReady",
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": timestamp(NOW - timedelta(seconds=seconds)),
    }


def behind_gateway(*conditions, policy=ROUTES, paused=False):
    scope = replace(scope_of(gateway={"name": "public"}), policy=policy, revision=OLD)
    status = type(scope.status).model_validate({**scope.status.to_wire(), "conditions": list(conditions)})
    return replace(scope, status=status, spec=scope.spec.model_copy(update={"paused": paused}))


def test_pods_that_are_ready_wait_for_their_gateway():
    found = wait_for_gateway(behind_gateway(), READY, OLD)
    assert (found.stage, found.held_up, found.wake) == (Stage.STARTING, True, READY.wake)
    assert found.reason in {Reason.WAITING_FOR_ROUTES, Reason.GATEWAY_UNAVAILABLE}
    assert found.message != READY.message
    assert waits_for_gateway(found)


@pytest.mark.parametrize(
    ("progress", "stable"), [(replace(READY, stage=Stage.CANARYING), OLD), (READY, None), (READY, "another")]
)
def test_what_is_not_serving_yet_waits_for_other_things(progress, stable):
    assert wait_for_gateway(behind_gateway(), progress, stable) == progress


def test_without_a_gateway_nobody_is_waited_for():
    assert wait_for_gateway(replace(scope_of(), revision=OLD), READY, OLD) == READY


def test_kinds_that_are_not_served_are_looked_for_again():
    found = wait_for_gateway(behind_gateway(policy=POLICY), replace(READY, wake=None), OLD)
    assert (found.reason, found.wake) == (Reason.GATEWAY_UNAVAILABLE, NOW + timedelta(seconds=60))


@pytest.mark.parametrize(
    ("stage", "reason", "waits"),
    [
        (Stage.STARTING, Reason.WAITING_FOR_ROUTES, True),
        (Stage.STARTING, Reason.GATEWAY_UNAVAILABLE, True),
        (Stage.STARTING, Reason.STARTING, False),
        (Stage.PROMOTING, Reason.WAITING_FOR_ROUTES, False),
    ],
)
def test_who_waits_for_a_gateway_alone(stage, reason, waits):
    assert waits_for_gateway(Progress(stage=stage, reason=reason, message="")) is waits


PATIENT = PATIENCE.total_seconds()


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ((condition("Ready", "True"),), PATIENT),
        ((condition("Ready", "True"), condition("Progressing", "False", seconds=99)), PATIENT),
        ((condition("Ready", "True", seconds=99), condition("Progressing", "True", seconds=0)), PATIENT),
        ((condition("Ready", "True"), condition("Progressing", "True", seconds=PATIENT - 1)), 1),
        ((condition("Ready", "True"), condition("Progressing", "True", seconds=PATIENT)), None),
        ((condition("Ready", "False"),), None),
        ((condition("Ready", "True", generation=0),), None),
        ((), None),
    ],
)
def test_whoever_was_reached_is_called_so_for_some_seconds_more(conditions, left):
    expected = None if left is None else NOW + timedelta(seconds=left)
    assert overlooked_until(behind_gateway(*conditions)) == expected
    assert overlooked_until(behind_gateway(*conditions, paused=True)) is None


def test_while_that_lasts_its_end_is_when_to_look_again():
    found = wait_for_gateway(behind_gateway(condition("Ready", "True")), READY, OLD)
    assert found.wake == NOW + PATIENCE
