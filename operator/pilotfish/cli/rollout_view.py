"""status.rollout as lines to look at: the stage, the steps with the present one marked, and every number that decides.

Pure. Reads the wire form, and passes over what it does not know: the operator may be newer than this program.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from pilotfish.api.rollout import RolloutSpec
from pilotfish.api.rollout_status import AnalysisVerdict, RolloutStage
from pilotfish.cli.tree import Health, Node
from pilotfish.cli.words import age_of, span
from pilotfish.core import Body
from pilotfish.core.rollout.steps import ResolvedStep, resolve_steps

Block = Mapping[str, Any]

_VERDICTS = {
    AnalysisVerdict.PASS: Health.GOOD,
    AnalysisVerdict.FAIL: Health.BAD,
    AnalysisVerdict.ERROR: Health.BAD,
}
_DONE = frozenset({RolloutStage.PROMOTING, RolloutStage.BAKING})


def make_rollout_nodes(body: Body, now: datetime) -> tuple[Node, ...]:
    """The candidate's way with all of its numbers, the undo in force, the last abort and the last action."""
    rollout: Block = (body.get("status") or {}).get("rollout") or {}
    return (
        *(_progress(body, rollout, now) if rollout.get("stage") else ()),
        *_undo(rollout),
        *_aborted(rollout, now),
        *_action(rollout),
    )


def _progress(body: Body, rollout: Block, now: datetime) -> Iterator[Node]:
    stage = str(rollout["stage"])
    paused = rollout.get("pausedAt")
    since = rollout.get("stageStartedAt")
    yield Node(
        title=f"rollout of {rollout.get('revision', '?')}",
        state=f"{stage}, paused" if paused else stage,
        health=Health.BUSY,
        detail=f"for {age_of(since, datetime.fromisoformat(paused) if paused else now)}" if since else "",
        children=(
            *_capacity(rollout.get("capacity")),
            *_verification(rollout.get("verification"), now),
            *_steps(body, rollout, now),
            *_traffic(rollout.get("traffic")),
            *_analysis(rollout.get("analysis"), now),
            *_promotion(rollout.get("promotion")),
        ),
    )


def _steps(body: Body, rollout: Block, now: datetime) -> Iterator[Node]:
    """All steps of the spec: those behind, the present one with what is left of its hold, those to come."""
    step: Block = rollout.get("step") or {}
    at = int(step["index"]) if "index" in step else None
    all_done = rollout["stage"] in _DONE
    for resolved in _resolve(body):
        title = f"{resolved.title} {resolved.weight} %"
        if all_done or (at is not None and resolved.index < at):
            yield Node(title=title, state="done", health=Health.GOOD)
        elif resolved.index == at:
            yield Node(title=title, state="now", health=Health.BUSY, detail=_hold_left(resolved, rollout, now))
        else:
            yield Node(title=title, detail=_hold(resolved))


def _resolve(body: Body) -> tuple[ResolvedStep, ...]:
    try:
        return resolve_steps(RolloutSpec.model_validate(body["spec"].get("rollout") or {}))
    except ValidationError:
        return ()


def _hold(step: ResolvedStep) -> str:
    if step.hold is None:
        return "until promoted"
    return f"hold {span(step.hold)}" if step.hold else ""


def _hold_left(step: ResolvedStep, rollout: Block, now: datetime) -> str:
    ready = (rollout.get("step") or {}).get("readyAt")
    if not ready:
        return "its share is not reached yet"
    if step.hold is None:
        return "holds until promoted"
    moment = datetime.fromisoformat(rollout["pausedAt"]) if rollout.get("pausedAt") else now
    left = datetime.fromisoformat(ready) + step.hold - moment
    return f"{span(left)} of {span(step.hold)} left" if left > timedelta() else "hold is over"


def _traffic(traffic: Block | None) -> Iterator[Node]:
    if not traffic:
        return
    words = ("desired", "assigned", "achieved")
    shares = [f"{word} {traffic[word]} %" for word in words if traffic.get(word) is not None]
    by = [f"by {str(traffic['source']).lower()}"] if traffic.get("source") else []
    can = [f"replicas can give {', '.join(map(str, traffic['achievable']))}"] if traffic.get("achievable") else []
    message = traffic.get("message")
    yield Node(
        title="traffic",
        health=Health.BUSY if message else Health.PLAIN,
        state=", ".join(shares),
        detail="; ".join((*by, *can, *([str(message)] if message else ()))),
    )


def _capacity(capacity: Block | None) -> Iterator[Node]:
    if not capacity:
        return
    free = f", {capacity['gpusFree']} free" if capacity.get("gpusFree") is not None else ""
    count = capacity.get("gpusNeeded")
    needed = [f"{count} GPU{'' if count == 1 else 's'} needed{free}"] if count is not None else []
    down = [f"nothing serves for {capacity['expectedDowntime']}"] if capacity.get("expectedDowntime") else []
    back = [f"going back takes {capacity['rollbackETA']}"] if capacity.get("rollbackETA") else []
    message = [str(capacity["message"])] if capacity.get("message") else []
    yield Node(
        title="capacity",
        state=str(capacity.get("plan") or "not planned yet"),
        detail="; ".join((*message, *needed, *down, *back)),
    )


def _verification(verification: Block | None, now: datetime) -> Iterator[Node]:
    if verification:
        yield Node(
            title="verification",
            state=str(verification["verdict"]),
            health=_VERDICTS.get(verification["verdict"], Health.BUSY),
            detail=_and_ago(verification.get("message"), verification.get("at"), now),
        )


def _analysis(analysis: Block | None, now: datetime) -> Iterator[Node]:
    if not analysis:
        return
    verdict = str(analysis.get("verdict") or AnalysisVerdict.NOT_RUN)
    requests = [f"{analysis['requests']} requests"] if analysis.get("requests") is not None else []
    measured = [f"measured {age_of(analysis['measuredAt'], now)} ago"] if analysis.get("measuredAt") else []
    silent = [f"no data for {age_of(analysis['noDataSince'], now)}"] if analysis.get("noDataSince") else []
    yield Node(
        title="analysis",
        state=verdict,
        health=_VERDICTS.get(verdict, Health.BUSY),  # type: ignore[call-overload]
        detail=", ".join((*requests, *silent, *measured)),
        children=tuple(_check(check) for check in analysis.get("checks") or ()),
    )


def _check(check: Block) -> Node:
    """A check with the number that decided. One that is only observed never looks bad."""
    verdict, observed = str(check["verdict"]), check.get("mode") == "Observe"
    health = _VERDICTS.get(verdict, Health.BUSY)  # type: ignore[call-overload]
    counts = [
        f"{check[field]} {word}"
        for field, word in (("passed", "good"), ("failed", "bad"), ("errors", "not measured"))
        if check.get(field)
    ]
    said = (str(check.get("message") or _figures(check)), ", ".join(counts))
    return Node(
        title=str(check["name"]),
        state=f"{verdict}, observed only" if observed else verdict,
        health=Health.PLAIN if observed else health,
        detail="; ".join(part for part in said if part),
    )


def _figures(check: Block) -> str:
    if check.get("value") is None:
        return ""
    against = f" against {check['threshold']}" if check.get("threshold") is not None else ""
    stable = f", stable {check['baseline']}" if check.get("baseline") is not None else ""
    return f"{check['value']}{against}{stable}"


def _promotion(promotion: str | None) -> Iterator[Node]:
    if promotion:
        said = "goes on to all of the traffic" if promotion == "Full" else "goes on to the next step"
        yield Node(title="promoted", health=Health.BUSY, detail=f"{said} as soon as it can")


def _undo(rollout: Block) -> Iterator[Node]:
    undo = rollout.get("undo")
    if undo:
        yield Node(
            title="undo",
            state=str(undo["toRevision"]),
            health=Health.BUSY,
            detail=f"serves in place of {undo['fromRevision']}, which the spec describes, until the spec changes",
        )


def _aborted(rollout: Block, now: datetime) -> Iterator[Node]:
    aborted = rollout.get("aborted")
    if aborted:
        yield Node(
            title=f"aborted {aborted['revision']}",
            state=str(aborted["reason"]),
            health=Health.BAD,
            detail=_and_ago(aborted.get("message"), aborted.get("at"), now),
        )


def _action(rollout: Block) -> Iterator[Node]:
    if rollout.get("lastActionId"):
        yield Node(title=f"action {rollout['lastActionId']}", detail=str(rollout.get("actionMessage") or ""))


def _and_ago(message: str | None, moment: str | None, now: datetime) -> str:
    parts = (message or "", f"({age_of(moment, now)} ago)" if moment else "")
    return " ".join(part for part in parts if part)
