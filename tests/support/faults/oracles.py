"""How a run under faults is judged: where it ended, what it made and deleted on the way, what it stored and what it said."""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pilotfish.names import APPLIED_HASH
from support.faults.plan import Act, Plan
from support.faults.requests import Trace

_NEW_EACH_TIME = {
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "volumeName",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "pilotfish.dev/verifies",
    "deployment.kubernetes.io/revision",
    # A hash over the whole object, the uid of its owner included.
    APPLIED_HASH,
}
_MEASURED = {"analysis"}
"""How often was measured depends on when the operator started."""
_TIMES = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\S*")


def plain(value: Any, *, names: Mapping[str, str]) -> Any:
    """Without what differs between two runs that mean the same; `names` are words and what stands for them."""
    if isinstance(value, dict):
        return {k: plain(v, names=names) for k, v in value.items() if k not in _NEW_EACH_TIME | _MEASURED}
    if isinstance(value, list | tuple):
        return [plain(item, names=names) for item in value]
    if isinstance(value, str):
        for word, meant in names.items():
            value = value.replace(word, meant)
        return _TIMES.sub("<time>", value)
    return value


def ending(bodies: Iterable[Mapping[str, Any]], *, names: Mapping[str, str]) -> dict[str, Any]:
    """Each object by its title; the status only of what is the operator's own."""
    found = {}
    for body in bodies:
        kept = dict(body) if body["kind"] == "ModelDeployment" else {k: v for k, v in body.items() if k != "status"}
        seen = plain(kept, names=names)
        found[f"{seen['kind']}/{seen['metadata']['name']}"] = seen
    return found


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """In lines; empty when they are equal."""
    before, after = (json.dumps(side, indent=1, sort_keys=True).splitlines() for side in (expected, found))
    return "\n".join(line for line in difflib.unified_diff(before, after, "reference", "run", n=3, lineterm=""))


def made_and_deleted(trace: Trace, *, names: Mapping[str, str], uncounted: Iterable[str]) -> dict[str, Counter[str]]:
    """How often the operator created and deleted each object, Events left out."""
    counts: dict[str, Counter[str]] = {"created": Counter(), "deleted": Counter()}
    for exchange in trace.writes:
        about = exchange.about
        name = about.name
        for word, meant in names.items():
            name = name.replace(word, meant)
        title = f"{about.kind}/{name}"
        if about.kind == "Event" or any(word in title for word in uncounted):
            continue
        if exchange.created:
            counts["created"][title] += 1
        if exchange.deleted:
            counts["deleted"][title] += 1
    return counts


def surplus(expected: Mapping[str, Counter[str]], found: Mapping[str, Counter[str]]) -> list[str]:
    """Sentences about what was made or deleted more or less often than in the reference run."""
    return [
        f"{title} was {verb} {found[verb][title]} times, {expected[verb][title]} in the reference run"
        for verb in ("created", "deleted")
        for title in sorted({*expected[verb], *found[verb]})
        if expected[verb][title] != found[verb][title]
    ]


_BROKEN = frozenset({Act.LOSE_ANSWER, Act.RESET, Act.TRUNCATE, Act.BLACK_HOLE, Act.DELAY})
_CONNECTION = re.compile(
    r"cannot reach the API server|Disconnected|ClientPayload|Cannot connect|Connection|Timeout|no answer"
)
_OLDER = "answers with an older state"
_STAGED = "OS signals are ignored"
"""Of the stage itself: a thread gets none."""


def unexpected(lines: Iterable[Mapping[str, Any]], plan: Plan) -> list[str]:
    """Lines of a warning or worse that the plan's faults do not explain."""
    codes = {fault.code for fault in plan.faults if fault.code}
    broken = any(fault.act in _BROKEN for fault in plan.faults)
    frozen = any(fault.act is Act.FREEZE for fault in plan.faults)
    found = []
    for line in lines:
        text = f"{line['msg']} {line.get('error', '')}"
        if line["level"] not in {"warning", "error", "critical"} or _STAGED in text:
            continue
        explained = any(f"injected {code}" in text or f"code': {code}" in text for code in codes)
        explained |= broken and bool(_CONNECTION.search(text))
        explained |= frozen and _OLDER in text
        if not explained:
            found.append(f"{line['level']}: {text} {line.get('exception', '')}".strip())
    return found
