"""What must be true of every status that the operator stores, checked after every pass in every test."""

import re
from collections.abc import Mapping
from typing import Any

from pilotfish.api.conditions import ConditionStatus, ConditionType
from pilotfish.api.reasons import Reason
from pilotfish.api.status import ModelDeploymentStatus

ALWAYS = ("Ready", "Progressing")
NORMALLY = ("Ready", "ArtifactReady", "Available", "Progressing", "Healthy")
WHILE_TRUE = ("Reconciling", "Stalled")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_CHANGING = re.compile(r"(?<!opens at \d{4}-\d{2}-\d{2}T)\d{2}:\d{2}:\d{2}|resourceVersion|0x[0-9a-f]{6,}")


def check_status(body: Mapping[str, Any]) -> None:
    """Raise AssertionError with the sentence that does not hold. `body` is a ModelDeployment with a status."""
    status = body["status"]
    parsed = ModelDeploymentStatus.model_validate(status)
    assert parsed.to_wire() == status, "the status holds only what the contract knows"
    _check_shape(status)
    conditions = {c["type"]: c for c in status["conditions"]}
    said = {kind: conditions[kind]["status"] for kind in conditions}
    _check_summary(said, conditions)
    _check_roles(status, said, at_zero=conditions["Ready"]["reason"] == Reason.SCALED_TO_ZERO)


def _check_shape(status: Mapping[str, Any]) -> None:
    types = [c["type"] for c in status["conditions"]]
    assert len(types) == len(set(types)), f"each condition stands once: {types}"
    assert set(ALWAYS) <= set(types) <= {*NORMALLY, *WHILE_TRUE}, f"known conditions only: {types}"
    for condition in status["conditions"]:
        kind = condition["type"]
        assert condition["status"] in set(ConditionStatus), condition
        assert condition["reason"] in set(Reason), f"{kind} has the unknown reason {condition['reason']}"
        assert condition["observedGeneration"] == status["observedGeneration"], f"{kind} is about another generation"
        assert _TIME.fullmatch(condition["lastTransitionTime"]), condition
        message = condition["message"]
        assert message, f"{kind} says nothing"
        assert "\n" not in message, f"{kind} takes one line: {message!r}"
        assert not message.endswith("."), f"{kind} ends with a full stop: {message!r}"
        assert not _CHANGING.search(message), f"{kind} holds what changes by itself: {message!r}"
        if kind in WHILE_TRUE:
            assert condition["status"] == ConditionStatus.TRUE, f"{kind} is present only while true"


def _check_summary(said: Mapping[str, str], conditions: Mapping[str, Mapping[str, Any]]) -> None:
    assert not ("Reconciling" in said and "Stalled" in said), "an object works or is stuck, never both"
    if said["Ready"] == ConditionStatus.TRUE:
        assert "Reconciling" not in said, "a ready object has nothing left to do"
        assert "Stalled" not in said, "a ready object is not stuck"
        assert said["ArtifactReady"] == ConditionStatus.TRUE, "what is served has an artifact"
    if "Stalled" in said:
        assert said["Ready"] == ConditionStatus.FALSE
        assert said["Progressing"] == ConditionStatus.FALSE
        assert Reason(conditions["Stalled"]["reason"]).is_failure, "a stuck object names what is wrong"
    if "Reconciling" in said:
        assert said["Progressing"] == ConditionStatus.TRUE
        assert said["Ready"] == ConditionStatus.FALSE
    if "Healthy" in said and said["Healthy"] == ConditionStatus.TRUE:
        assert said[ConditionType.AVAILABLE] == ConditionStatus.TRUE, "what is healthy serves"


def _check_roles(status: Mapping[str, Any], said: Mapping[str, str], *, at_zero: bool) -> None:
    stable, candidate = status.get("stableRevision"), status.get("candidateRevision")
    if stable is not None and candidate is not None:
        assert stable["hash"] != candidate["hash"], "one revision has one role"
    if said["Ready"] == ConditionStatus.TRUE and not at_zero:
        assert stable is not None, "somebody serves what is ready"
        assert candidate is None, "nothing is on its way to what is ready"
    if said.get("Available") == ConditionStatus.TRUE:
        assert status.get("endpoints"), "who serves has an address"
        assert status["readyReplicas"] > 0, "who serves has ready pods"
    revisions = [(e["revision"], e["result"]) for e in status.get("history", ())]
    assert len(revisions) == len(set(revisions)), f"history names a revision once per result: {revisions}"
