"""How a ModelDeployment stands in a few words: what serves, what is on its way, what it waits for, what comes next.

Pure. Reads the wire form, and passes over what it does not know: the operator may be newer than this program.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from pilotfish.api.rollout import RolloutSpec
from pilotfish.cli.history import make_history
from pilotfish.cli.output import as_columns
from pilotfish.cli.words import age_of
from pilotfish.core import Body, Observed
from pilotfish.core.objects import condition_is_true, condition_of, label_of, name_of
from pilotfish.core.rollout.steps import resolve_steps
from pilotfish.names import COMPONENT_LABEL, REVISION_LABEL

Block = Mapping[str, Any]

_LONGEST = 12


def make_status(observed: Observed) -> dict[str, Any]:
    """All of it in the words of JSON. Conditions, revisions and pods are what `-v` prints."""
    body, status = observed.body, _status(observed.body)
    ready = condition_of(body, "Ready") or {}
    fresh = status.get("observedGeneration") == observed.generation
    moving = ready.get("status") != "True" or not fresh
    return {
        "name": observed.name,
        "namespace": observed.namespace,
        "phase": str(status.get("phase") or "Pending"),
        "step": status.get("step"),
        "ready": ready.get("status", "Unknown") if fresh else "Unknown",
        "reason": ready.get("reason"),
        "serves": _revision(status.get("stableRevision")),
        "onItsWay": _revision(status.get("candidateRevision")),
        "replicas": {
            "asked": (body["spec"].get("serving") or {}).get("replicas", 1),
            "ready": status.get("readyReplicas", 0),
        },
        "endpoints": dict(status.get("endpoints") or {}),
        "waitsFor": _waits_for(ready, fresh=fresh) if moving else None,
        "next": next_step(body),
        "conditions": [dict(condition) for condition in status.get("conditions") or ()],
        "revisions": [row.to_wire() for row in make_history(observed)],
        "pods": [_pod(pod) for pod in observed.pods],
    }


def next_step(body: Body) -> str:
    """What comes next, and whose turn it is."""
    status, spec = _status(body), body["spec"]
    name = name_of(body)
    if status.get("observedGeneration") != body["metadata"].get("generation"):
        return "the operator looks at the new spec"
    if spec.get("paused"):
        return f"nothing until it is resumed: pilotfish resume {name}"
    candidate = (status.get("candidateRevision") or {}).get("hash")
    phase = str(status.get("phase") or "Pending")
    if phase == "Aborted":
        return f"nothing until the spec changes, or: pilotfish retry {name}"
    if phase == "Stalled":
        return "nothing until the spec is corrected"
    if phase == "Ready":
        return "nothing: it serves what the spec asks for"
    return _on_the_way(body, name, phase, candidate)


def _on_the_way(body: Body, name: str, phase: str, candidate: str | None) -> str:
    revision = f"revision {candidate}" if candidate else "the revision"
    requests = "its first" if _status(body).get("stableRevision") else "all of the"
    compared = f"the answers of {revision} are compared with the original's"
    after = {
        "Pending": f"pods of {revision} start",
        "Optimizing": f"pods of {revision} start",
        "Starting": compared if candidate else "it serves once all of its pods are ready",
        "Verifying": f"{revision} gets {requests} requests",
        "Canarying": _after_step(body, name, revision),
        "Baking": f"{revision} becomes the stable one, or now: pilotfish promote {name}",
    }
    return after.get(phase, "the operator goes on")


def _after_step(body: Body, name: str, revision: str) -> str:
    rollout: Block = _status(body).get("rollout") or {}
    whole = f"all of the traffic goes to {revision}"
    index = (rollout.get("step") or {}).get("index")
    try:
        steps = resolve_steps(RolloutSpec.model_validate(body["spec"].get("rollout") or {}))
    except ValidationError:
        return whole
    if rollout.get("stage") != "Stepping" or index is None or index >= len(steps):
        return whole
    after = f"step {index + 2}/{len(steps)} at {steps[index + 1].weight} %" if index + 1 < len(steps) else whole
    return f"{after}, when it is promoted: pilotfish promote {name}" if steps[index].hold is None else after


def as_text(told: Mapping[str, Any], now: datetime, *, verbose: bool) -> str:
    """For people."""
    step = f" {told['step']}" if told["step"] else ""
    lines = [("phase", f"{told['phase']}{step}"), ("ready", _ready_in_words(told))]
    for key, title in (("serves", "serves"), ("onItsWay", "on its way")):
        if told[key]:
            lines.append((title, _revision_in_words(told[key])))
    replicas = told["replicas"]
    lines.append(("pods", f"{replicas['ready']}/{replicas['asked']} ready"))
    lines += [(kind, url) for kind, url in sorted(told["endpoints"].items())]
    if told["waitsFor"]:
        lines.append(("waits for", told["waitsFor"]))
    lines.append(("next", told["next"]))
    text = "\n".join(
        (f"{told['namespace']}/{told['name']}", *(f"  {title:<{_LONGEST}}{said}" for title, said in lines))
    )
    return "\n\n".join((text, *_tables(told, now))) if verbose else text


def _tables(told: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    conditions = [
        (c["type"], c["status"], c["reason"], f"{age_of(c['lastTransitionTime'], now)} ago", c.get("message", ""))
        for c in told["conditions"]
    ]
    revisions = [
        (row["revision"], row["role"], row.get("variant") or "-", row.get("result") or "-", row.get("reason") or "-")
        for row in told["revisions"]
    ]
    pods = [
        (p["name"], p["component"], p["revision"] or "-", p["state"], str(p["restarts"]), p["node"] or "-")
        for p in told["pods"]
    ]
    made = (
        (("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"), conditions),
        (("REVISION", "ROLE", "VARIANT", "RESULT", "REASON"), revisions),
        (("POD", "FOR", "REVISION", "STATE", "RESTARTS", "NODE"), pods),
    )
    return tuple(as_columns(titles, rows) for titles, rows in made if rows)


def _status(body: Body) -> Block:
    return body.get("status") or {}


def _waits_for(ready: Block, *, fresh: bool) -> str:
    if not ready or not fresh:
        return "the operator, which has not looked at this generation yet"
    return str(ready.get("message") or "")


def _revision(found: Block | None) -> dict[str, Any] | None:
    if not found:
        return None
    variant = (found.get("artifact") or {}).get("variant")
    return {"revision": found.get("hash"), "variant": variant, "since": found.get("since")}


def _revision_in_words(found: Block) -> str:
    return f"revision {found['revision']}" + (f"  {found['variant']}" if found["variant"] else "")


def _ready_in_words(told: Mapping[str, Any]) -> str:
    return {"True": "yes", "False": f"no ({told['reason']})"}.get(told["ready"], "not known yet")


def _pod(pod: Body) -> dict[str, Any]:
    status: Block = pod.get("status") or {}
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waits = [c["state"]["waiting"].get("reason") for c in found if (c.get("state") or {}).get("waiting")]
    phase = str(status.get("phase") or "Pending")
    state = "Ready" if condition_is_true(pod, "Ready") else next((str(w) for w in waits if w), phase)
    return {
        "name": name_of(pod),
        "component": label_of(pod, COMPONENT_LABEL) or "?",
        "revision": label_of(pod, REVISION_LABEL),
        "state": state,
        "restarts": sum(int(c.get("restartCount", 0)) for c in status.get("containerStatuses") or ()),
        "node": (pod.get("spec") or {}).get("nodeName"),
    }
