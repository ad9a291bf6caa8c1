"""Gauges about each ModelDeployment, read at the moment of the scrape from what the last passes left.

A pass only hands over references: the work is done when somebody scrapes, and once per pass at most. An object that is
gone is gone from here. Must not count anything: what happens is counted in `outcomes`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pilotfish.api.base import parse_duration
from pilotfish.api.rollout import FOREVER, Strategy
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.core.objects import controller_uid
from pilotfish.core.rollout.steps import DEFAULT_STEPS
from pilotfish.names import COMPONENT_LABEL, REVISION_LABEL, Component

Body = Mapping[str, Any]
Row = tuple[tuple[str, ...], float]
"""Label values behind namespace and name, and the value."""

STABLE, CANARY, OLD = "stable", "canary", "old"
"""Roles of a revision: it has the traffic, it is on its way, it is leaving."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectState:
    """What the last pass saw and stored of one ModelDeployment. `objects`: what carries its label, as it was read."""

    namespace: str
    name: str
    uid: str
    spec: Body
    status: Body
    objects: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectGauge:
    """One family: its labels are namespace, name and these; `rows` gives the samples of one object."""

    name: str
    help: str
    labels: tuple[str, ...]
    rows: Callable[[ObjectState], Iterable[Row]]


class ObjectStates(Collector):
    """The families of GAUGES over all objects. Rows of an object are made again only after it had a pass."""

    def __init__(self, states: Callable[[], Iterable[ObjectState]]) -> None:
        self._states = states
        self._made: dict[tuple[str, str], tuple[ObjectState, tuple[tuple[Row, ...], ...]]] = {}

    def collect(self) -> Iterator[Metric]:
        """Every family, with no sample where nothing is served."""
        families = [GaugeMetricFamily(g.name, g.help, labels=["namespace", "name", *g.labels]) for g in GAUGES]
        before, self._made = self._made, {}
        for state in self._states():
            key = (state.namespace, state.name)
            made = before.get(key)
            if made is None or made[0] is not state:
                made = (state, tuple(_rows(gauge, state) for gauge in GAUGES))
            self._made[key] = made
            for family, rows in zip(families, made[1], strict=True):
                for labels, value in rows:
                    family.add_metric([*key, *labels], value)
        yield from families


def _rows(gauge: ObjectGauge, state: ObjectState) -> tuple[Row, ...]:
    """None where a child holds what we never wrote: one object must not cost all others their metrics."""
    try:
        return tuple(gauge.rows(state))
    except (AttributeError, KeyError, TypeError, ValueError):
        return ()


def _info(state: ObjectState) -> Iterator[Row]:
    stable = state.status.get("stableRevision") or {}
    artifact = stable.get("artifact") or {}
    told = (_phase_of(state), _strategy(state), artifact.get("format"), artifact.get("variant"), stable.get("hash"))
    yield tuple(str(word or "") for word in told), 1.0


def _phase(state: ObjectState) -> Iterator[Row]:
    yield (_phase_of(state),), 1.0


def _condition_is(kind: str) -> Callable[[ObjectState], Iterator[Row]]:
    def rows(state: ObjectState) -> Iterator[Row]:
        found = (c for c in state.status.get("conditions") or () if c["type"] == kind)
        yield (), float(any(c["status"] == "True" for c in found))

    return rows


def _conditions(state: ObjectState) -> Iterator[Row]:
    for condition in state.status.get("conditions") or ():
        yield (condition["type"], condition["status"], condition["reason"]), 1.0


def _revisions(state: ObjectState) -> Iterator[Row]:
    for role, revision in _roles(state):
        artifact = revision.get("artifact") or {}
        words = (artifact.get(key) or "" for key in ("variant", "format", "precision"))
        yield (role, revision["hash"], *words), 1.0


def _replicas(state: ObjectState) -> Iterator[Row]:
    roles = {revision["hash"]: role for role, revision in _roles(state)}
    counts: dict[tuple[str, str], float] = {}
    for body in _of_kind(state, "Deployment"):
        labels = body["metadata"].get("labels") or {}
        if labels.get(COMPONENT_LABEL) != Component.TRITON:
            continue
        role = roles.get(labels.get(REVISION_LABEL), OLD)
        desired, ready = body["spec"].get("replicas", 1), (body.get("status") or {}).get("readyReplicas", 0)
        for what, number in (("desired", desired), ("ready", ready)):
            counts[role, what] = counts.get((role, what), 0.0) + number
    yield from counts.items()


def _step(state: ObjectState) -> Iterator[Row]:
    if _strategy(state) == Strategy.CANARY:
        # `2/4 25%`
        yield (), float((state.status.get("step") or "0/").partition("/")[0])


def _steps(state: ObjectState) -> Iterator[Row]:
    if _strategy(state) == Strategy.CANARY:
        yield (), float(len((state.spec.get("rollout") or {}).get("steps") or DEFAULT_STEPS))


def _weights(state: ObjectState) -> Iterator[Row]:
    traffic = _rollout(state).get("traffic") or {}
    for share in ("desired", "assigned", "achieved"):
        number = _number(traffic.get(share))
        if number is not None:
            yield (share,), number


def _started(state: ObjectState) -> Iterator[Row]:
    candidate = state.status.get("candidateRevision") or {}
    yield from _moments(candidate.get("since"))


def _progressed(state: ObjectState) -> Iterator[Row]:
    rollout = _rollout(state)
    step = rollout.get("step") or {}
    if state.status.get("candidateRevision"):
        yield from _moments(rollout.get("stageStartedAt"), step.get("startedAt"), step.get("readyAt"))


def _hold(state: ObjectState) -> Iterator[Row]:
    rollout, spec = _rollout(state), state.spec.get("rollout") or {}
    if not state.status.get("candidateRevision"):
        return
    hold = spec.get("bake") if rollout.get("stage") == RolloutStage.BAKING else None
    if rollout.get("stage") == RolloutStage.STEPPING and rollout.get("step"):
        steps = spec.get("steps") or [step.to_wire() for step in DEFAULT_STEPS]
        hold = steps[min(rollout["step"]["index"], len(steps) - 1)].get("hold")
    yield (), math.inf if hold == FOREVER else parse_duration(hold).total_seconds() if hold else 0.0


def _verdicts(state: ObjectState) -> Iterator[Row]:
    for check in _checks(state):
        yield (check["name"], check["verdict"], check.get("mode") or ""), 1.0


def _measured(state: ObjectState) -> Iterator[Row]:
    for check in _checks(state):
        for of, key in ((CANARY, "value"), (STABLE, "baseline"), ("bound", "threshold")):
            number = _number(check.get(key))
            if number is not None:
                yield (check["name"], of), number


def _requests(state: ObjectState) -> Iterator[Row]:
    number = _number((_rollout(state).get("analysis") or {}).get("requests"))
    if number is not None:
        yield (), number


def _progress(state: ObjectState) -> Iterator[Row]:
    progress = (state.status.get("optimization") or {}).get("progress")
    if progress:
        yield (progress["stage"],), progress["percent"] / 100


def _artifact(block: str, key: str) -> Callable[[ObjectState], Iterator[Row]]:
    """A figure of the ControllerRevisions that somebody serves or is about to."""

    def rows(state: ObjectState) -> Iterator[Row]:
        roles = {revision["hash"]: role for role, revision in _roles(state)}
        for body in _of_kind(state, "ControllerRevision"):
            role = roles.get((body["metadata"].get("labels") or {}).get(REVISION_LABEL))
            number = _number(((body.get("data") or {}).get(block) or {}).get(key))
            if role is not None and number is not None:
                yield (role,), number

    return rows


def _source_checked(state: ObjectState) -> Iterator[Row]:
    yield from _moments((state.status.get("source") or {}).get("checkedAt"))


def _source_failed(state: ObjectState) -> Iterator[Row]:
    source = state.status.get("source") or {}
    if source.get("checkedAt"):
        yield (source.get("reason") or "",), float(bool(source.get("reason")))


def _phase_of(state: ObjectState) -> str:
    return str(state.status.get("phase") or "")


def _strategy(state: ObjectState) -> str:
    return str((state.spec.get("rollout") or {}).get("strategy") or "")


def _rollout(state: ObjectState) -> Body:
    return state.status.get("rollout") or {}


def _checks(state: ObjectState) -> Iterable[Body]:
    """Nothing once the rollout is over: its last verdict would stay for ever."""
    if not state.status.get("candidateRevision"):
        return ()
    return (_rollout(state).get("analysis") or {}).get("checks") or ()


def _roles(state: ObjectState) -> Iterator[tuple[str, Body]]:
    for role, key in ((STABLE, "stableRevision"), (CANARY, "candidateRevision")):
        revision = state.status.get(key)
        if revision:
            yield role, revision


def _of_kind(state: ObjectState, kind: str) -> Iterator[Body]:
    """Its own children; strangers may carry our labels."""
    return (body for body in state.objects if body["kind"] == kind and controller_uid(body) == state.uid)


def _moments(*times: str | None) -> Iterator[Row]:
    """The latest of RFC 3339 times, in seconds since 1970."""
    known = [datetime.fromisoformat(time).timestamp() for time in times if time]
    if known:
        yield (), max(known)


def _number(text: object) -> float | None:
    """A figure as status writes it, in base units: `0.07`, `12.3ms`, `>5000ms`; None where there is none."""
    word = str(text if text is not None else "").removeprefix(">")
    scale = 1000.0 if word.endswith("ms") else 1.0
    try:
        return float(word.removesuffix("ms")) / scale
    except ValueError:
        return None


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
