"""Which gauges there are about each ModelDeployment: name, help, labels, and where in its state the samples are."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pilotfish.api.base import parse_duration
from pilotfish.api.rollout import FOREVER, Strategy
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.core.rollout.steps import DEFAULT_STEPS
from pilotfish.names import COMPONENT_LABEL, REVISION_LABEL, Component
from pilotfish.telemetry.state import (
    CANARY,
    OLD,
    STABLE,
    ObjectState,
    Row,
    checks_of,
    children_of,
    figure,
    moments,
    phase_of,
    roles_of,
    rollout_of,
    strategy_of,
)


@dataclass(frozen=True, slots=True)
class ObjectGauge:
    """One family: its labels are namespace, name and these; `rows` gives the samples of one object."""

    name: str
    help: str
    labels: tuple[str, ...]
    rows: Callable[[ObjectState], Iterable[Row]]


def _info(state: ObjectState) -> Iterator[Row]:
    stable = state.status.get("stableRevision") or {}
    artifact = stable.get("artifact") or {}
    told = (phase_of(state), strategy_of(state), artifact.get("format"), artifact.get("variant"), stable.get("hash"))
    yield tuple(str(word or "") for word in told), 1.0


def _phase(state: ObjectState) -> Iterator[Row]:
    yield (phase_of(state),), 1.0


def _condition_is(kind: str) -> Callable[[ObjectState], Iterator[Row]]:
    def rows(state: ObjectState) -> Iterator[Row]:
        found = (c for c in state.status.get("conditions") or () if c["type"] == kind)
        yield (), float(any(c["status"] == "True" for c in found))

    return rows


def _conditions(state: ObjectState) -> Iterator[Row]:
    for condition in state.status.get("conditions") or ():
        yield (condition["type"], condition["status"], condition["reason"]), 1.0


def _revisions(state: ObjectState) -> Iterator[Row]:
    for role, revision in roles_of(state):
        artifact = revision.get("artifact") or {}
        words = (artifact.get(key) or "" for key in ("variant", "format", "precision"))
        yield (role, revision["hash"], *words), 1.0


def _replicas(state: ObjectState) -> Iterator[Row]:
    roles = {revision["hash"]: role for role, revision in roles_of(state)}
    counts: dict[tuple[str, str], float] = {}
    for body in children_of(state, "Deployment"):
        labels = body["metadata"].get("labels") or {}
        if labels.get(COMPONENT_LABEL) != Component.TRITON:
            continue
        role = roles.get(labels.get(REVISION_LABEL), OLD)
        desired, ready = body["spec"].get("replicas", 1), (body.get("status") or {}).get("readyReplicas", 0)
        for what, number in (("desired", desired), ("ready", ready)):
            counts[role, what] = counts.get((role, what), 0.0) + number
    yield from counts.items()


def _step(state: ObjectState) -> Iterator[Row]:
    if strategy_of(state) == Strategy.CANARY:
        # `2/4 25%`
        yield (), float((state.status.get("step") or "0/").partition("/")[0])


def _steps(state: ObjectState) -> Iterator[Row]:
    if strategy_of(state) == Strategy.CANARY:
        yield (), float(len((state.spec.get("rollout") or {}).get("steps") or DEFAULT_STEPS))


def _weights(state: ObjectState) -> Iterator[Row]:
    traffic = rollout_of(state).get("traffic") or {}
    for share in ("desired", "assigned", "achieved"):
        number = figure(traffic.get(share))
        if number is not None:
            yield (share,), number


def _started(state: ObjectState) -> Iterator[Row]:
    candidate = state.status.get("candidateRevision") or {}
    yield from moments(candidate.get("since"))


def _progressed(state: ObjectState) -> Iterator[Row]:
    rollout = rollout_of(state)
    step = rollout.get("step") or {}
    if state.status.get("candidateRevision"):
        yield from moments(rollout.get("stageStartedAt"), step.get("startedAt"), step.get("readyAt"))


def _hold(state: ObjectState) -> Iterator[Row]:
    rollout, spec = rollout_of(state), state.spec.get("rollout") or {}
    if not state.status.get("candidateRevision"):
        return
    hold = spec.get("bake") if rollout.get("stage") == RolloutStage.BAKING else None
    if rollout.get("stage") == RolloutStage.STEPPING and rollout.get("step"):
        steps = spec.get("steps") or [step.to_wire() for step in DEFAULT_STEPS]
        hold = steps[min(rollout["step"]["index"], len(steps) - 1)].get("hold")
    yield (), math.inf if hold == FOREVER else parse_duration(hold).total_seconds() if hold else 0.0


def _verdicts(state: ObjectState) -> Iterator[Row]:
    for check in checks_of(state):
        yield (check["name"], check["verdict"], check.get("mode") or ""), 1.0


def _measured(state: ObjectState) -> Iterator[Row]:
    for check in checks_of(state):
        for of, key in ((CANARY, "value"), (STABLE, "baseline"), ("bound", "threshold")):
            number = figure(check.get(key))
            if number is not None:
                yield (check["name"], of), number


def _requests(state: ObjectState) -> Iterator[Row]:
    number = figure((rollout_of(state).get("analysis") or {}).get("requests"))
    if number is not None:
        yield (), number


def _progress(state: ObjectState) -> Iterator[Row]:
    progress = (state.status.get("optimization") or {}).get("progress")
    if progress:
        yield (progress["stage"],), progress["percent"] / 100


def _artifact(block: str, key: str) -> Callable[[ObjectState], Iterator[Row]]:
    """A figure of the ControllerRevisions that somebody serves or is about to."""

    def rows(state: ObjectState) -> Iterator[Row]:
        roles = {revision["hash"]: role for role, revision in roles_of(state)}
        for body in children_of(state, "ControllerRevision"):
            role = roles.get((body["metadata"].get("labels") or {}).get(REVISION_LABEL))
            number = figure(((body.get("data") or {}).get(block) or {}).get(key))
            if role is not None and number is not None:
                yield (role,), number

    return rows


def _source_checked(state: ObjectState) -> Iterator[Row]:
    yield from moments((state.status.get("source") or {}).get("checkedAt"))


def _source_failed(state: ObjectState) -> Iterator[Row]:
    source = state.status.get("source") or {}
    if source.get("checkedAt"):
        yield (source.get("reason") or "",), float(bool(source.get("reason")))


GAUGES: tuple[ObjectGauge, ...] = (
    ObjectGauge(
        "pilotfish_info",
        "A ModelDeployment: its phase, and what the stable revision serves.",
        ("phase", "strategy", "format", "variant", "revision"),
        _info,
    ),
    ObjectGauge("pilotfish_phase", "1 for the phase an object is in.", ("phase",), _phase),
    ObjectGauge("pilotfish_ready", "1 if the spec as asked is fully served.", (), _condition_is("Ready")),
    ObjectGauge("pilotfish_available", "1 if some revision serves.", (), _condition_is("Available")),
    ObjectGauge("pilotfish_condition", "1 for what a condition says now.", ("type", "status", "reason"), _conditions),
    ObjectGauge(
        "pilotfish_revision_info",
        "A revision in its role: stable has the traffic, canary is on its way.",
        ("role", "revision", "variant", "format", "precision"),
        _revisions,
    ),
    ObjectGauge(
        "pilotfish_replicas",
        "Triton pods by role (stable, canary, old) and state (desired, ready).",
        ("role", "state"),
        _replicas,
    ),
    ObjectGauge("pilotfish_rollout_step", "Step that a canary is at, from 1; 0 between rollouts.", (), _step),
    ObjectGauge("pilotfish_rollout_steps", "Steps that a canary has.", (), _steps),
    ObjectGauge(
        "pilotfish_canary_weight",
        "Percent of requests of the canary: desired by its step, assigned by replicas or routes, achieved as measured.",
        ("state",),
        _weights,
    ),
    ObjectGauge(
        "pilotfish_rollout_started_timestamp_seconds",
        "When the revision on its way was first seen; absent where none is.",
        (),
        _started,
    ),
    ObjectGauge(
        "pilotfish_rollout_progressed_timestamp_seconds",
        "When the rollout last reached a stage, a step or a step's share; absent where none is under way.",
        (),
        _progressed,
    ),
    ObjectGauge(
        "pilotfish_rollout_hold_seconds",
        "How long the present step, or the bake, is asked to last; +Inf: until it is promoted.",
        (),
        _hold,
    ),
    ObjectGauge(
        "pilotfish_analysis_verdict",
        "1 for the last verdict of a check of the rollout under way.",
        ("check", "verdict", "mode"),
        _verdicts,
    ),
    ObjectGauge(
        "pilotfish_analysis_value",
        "What a check last measured of canary and stable, and its bound, as a share or in seconds.",
        ("check", "of"),
        _measured,
    ),
    ObjectGauge(
        "pilotfish_analysis_requests", "Requests of the canary in the last window of its analysis.", (), _requests
    ),
    ObjectGauge(
        "pilotfish_optimization_progress_ratio",
        "How far the running optimization is, 0 to 1; absent where none runs.",
        ("stage",),
        _progress,
    ),
    ObjectGauge(
        "pilotfish_artifact_speedup_ratio",
        "Latency of the original over that of the artifact.",
        ("role",),
        _artifact("summary", "speedup"),
    ),
    ObjectGauge(
        "pilotfish_artifact_max_abs_error",
        "Largest absolute difference between answers of the artifact and of the original.",
        ("role",),
        _artifact("summary", "maxAbsError"),
    ),
    ObjectGauge("pilotfish_artifact_bytes", "Size of the artifact.", ("role",), _artifact("artifact", "bytes")),
    ObjectGauge(
        "pilotfish_source_checked_timestamp_seconds",
        "When spec.model.refresh last looked for new bytes, well or not.",
        (),
        _source_checked,
    ),
    ObjectGauge(
        "pilotfish_source_check_failed", "1 if the last look for new bytes failed.", ("reason",), _source_failed
    ),
)
"""Every gauge about an object, in the order of docs/metrics.md."""
