"""What a verb asks of a rollout: whether it makes sense now, and the change of the object that says it. Pure.

Judged by status as the operator wrote it. Where status is about an older spec, the operator judges, and says so in
status.rollout.actionMessage.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml

from pilotfish import names
from pilotfish.api.base import GROUP, KIND
from pilotfish.api.rollout import ActionVerb
from pilotfish.cli.manifests import without_nulls
from pilotfish.core import Body, Observed
from pilotfish.core.objects import label_of, name_of
from pilotfish.core.scope import FAILED, SUPERSEDED

Patch = Mapping[str, Any]


class Pointless(Exception):
    """The verb makes no sense now; the sentence says why, and what does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A change that a person asks for. `action_id` is None for a change that is no action."""

    what: str
    patch: Patch
    action_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a ModelDeployment stands, as far as verbs are concerned. Revisions are hashes."""

    name: str
    stable: str | None
    wanted: str | None
    """What the spec, or an undo, asks for."""
    failed: bool
    why: str
    """Why it failed, or nothing."""
    step: str
    fresh: bool
    """Whether status is about the present spec."""
    paused: bool
    undo: Mapping[str, str] | None
    stored_action: Mapping[str, Any]

    @property
    def is_moving(self) -> bool:
        """A revision is on its way."""
        return self.wanted != self.stable and not self.failed


def standing_of(body: Body) -> Standing:
    """Read spec and status."""
    status: Mapping[str, Any] = body.get("status") or {}
    rollout: Mapping[str, Any] = status.get("rollout") or {}
    stable = (status.get("stableRevision") or {}).get("hash")
    candidate = (status.get("candidateRevision") or {}).get("hash")
    aborted: Mapping[str, Any] = rollout.get("aborted") or {}
    ended = (e for e in status.get("history") or () if e["revision"] == candidate and e["result"] == FAILED)
    failure = aborted if candidate and aborted.get("revision") == candidate else next(ended, {})
    return Standing(
        name=name_of(body),
        stable=stable,
        wanted=candidate or stable,
        failed=bool(failure),
        why=str(failure.get("message") or failure.get("reason") or ""),
        step=str(status.get("step") or rollout.get("stage") or ""),
        fresh=status.get("observedGeneration") == body["metadata"].get("generation"),
        paused=bool(body["spec"].get("paused")),
        undo=rollout.get("undo"),
        stored_action=(body["spec"].get("rollout") or {}).get("action") or {},
    )


def make_id(now: datetime, suffix: str) -> str:
    """The id of a new request: `20261122-134500-k7qx`, the time in UTC and something that two people do not share."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{suffix}"


def promote(at: Standing, action_id: str, *, full: bool) -> Request:
    """Go on to the next step, or to all of the traffic. Raises Pointless."""
    _check_moving(at, "promote")
    verb = ActionVerb.PROMOTE_FULL if full else ActionVerb.PROMOTE
    target = "to all of the traffic" if full else "to its next step"
    return _action(at, action_id, verb, f"revision {at.wanted or ''} goes on {target}{_from_step(at)}")


def abort(at: Standing, action_id: str) -> Request:
    """Back to the stable revision. Raises Pointless."""
    _check_moving(at, "abort")
    rest = f"revision {at.stable} keeps serving" if at.stable else "nothing serves yet"
    return _action(at, action_id, ActionVerb.ABORT, f"revision {at.wanted or ''} is given up{_from_step(at)}; {rest}")


def retry(at: Standing, action_id: str) -> Request:
    """Start a revision that failed again. Raises Pointless."""
    if at.fresh and not at.failed:
        raise Pointless(f"nothing to retry: {_state(at)}")
    return _action(at, action_id, ActionVerb.RETRY, f"revision {at.wanted or ''} starts again")


def undo(at: Standing, observed: Observed, action_id: str, *, to_revision: str | None) -> Request:
    """Back to an earlier revision: the one named, or the newest that served before. Raises Pointless."""
    known = known_revisions(observed)
    target = to_revision or earlier_revision(at, observed)
    if target is None:
        spec = (at.undo or {}).get("fromRevision")
        forward = f"; pilotfish undo {at.name} --to-revision {spec} serves what the spec describes" if spec else ""
        raise Pointless(f"nothing to undo: no revision before {at.wanted or 'this one'} is still kept{forward}")
    if target not in known:
        listed = ", ".join(known) or "none"
        raise Pointless(f"revision {target} is not known (known: {listed}); see pilotfish history {at.name}")
    if at.fresh and target == at.wanted == at.stable:
        raise Pointless(f"nothing to undo: revision {target} serves")
    return _action(at, action_id, ActionVerb.UNDO, f"revision {target} is served until the spec changes", target)


def pause(at: Standing) -> Request:
    """Hold everything where it is. Raises Pointless."""
    if at.paused:
        raise Pointless(f"{at.name} is paused already; pilotfish resume {at.name} lets it go on")
    return Request(what="nothing moves; what serves goes on serving", patch={"spec": {"paused": True}})


def resume(at: Standing) -> Request:
    """Let it go on. Raises Pointless."""
    if not at.paused:
        raise Pointless(f"{at.name} is not paused")
    return Request(what="the rollout goes on where it was", patch={"spec": {"paused": False}})


def known_revisions(observed: Observed) -> tuple[str, ...]:
    """Hashes of all revisions that can be served, newest first."""
    records = sorted(observed.of_kind("ControllerRevision"), key=lambda body: -int(body.get("revision", 0)))
    hashes = (label_of(body, names.REVISION_LABEL) for body in records)
    return tuple(revision for revision in hashes if revision)


def earlier_revision(at: Standing, observed: Observed) -> str | None:
    """The newest revision that had the traffic, is kept, and is not what is asked for now."""
    status: Mapping[str, Any] = observed.body.get("status") or {}
    ended: tuple[Mapping[str, Any], ...] = tuple(status.get("history") or ())
    known = known_revisions(observed)
    left = {at.wanted, *(at.undo or {}).values()}
    served = (at.stable, *(entry["revision"] for entry in ended if entry["result"] == SUPERSEDED))
    never = {entry["revision"] for entry in ended if entry["result"] == FAILED}
    # The list of endings is short; records are kept longer.
    return next((r for r in (*served, *(k for k in known if k not in never)) if r in known and r not in left), None)


def as_kubectl(request: Request, *, name: str, namespace: str, context: str | None = None) -> str:
    """The same with kubectl."""
    where = ["--namespace", namespace, *(["--context", context] if context else [])]
    patch = json.dumps(request.patch, separators=(",", ":"))
    return shlex.join(
        ["kubectl", "patch", f"{KIND.lower()}.{GROUP}", name, *where, "--type", "merge", "--patch", patch]
    )


def as_yaml(request: Request) -> str:
    """The same as an edit of the manifest."""
    return yaml.safe_dump(without_nulls(request.patch), sort_keys=False).rstrip()


def _action(at: Standing, action_id: str, verb: ActionVerb, what: str, to_revision: str | None = None) -> Request:
    action: dict[str, Any] = {"id": action_id, "verb": verb.value}
    if to_revision is not None or "toRevision" in at.stored_action:
        # A merge leaves what it does not name: null takes away what an earlier undo left.
        action["toRevision"] = to_revision
    held = f"; spec.paused holds it until pilotfish resume {at.name}" if at.paused else ""
    return Request(what=what + held, patch={"spec": {"rollout": {"action": action}}}, action_id=action_id)


def _check_moving(at: Standing, verb: str) -> None:
    if at.fresh and not at.is_moving:
        raise Pointless(f"nothing to {verb}: {_state(at)}")


def _state(at: Standing) -> str:
    if at.failed:
        why = f": {at.why}" if at.why else ""
        return f"revision {at.wanted} was given up{why}; pilotfish retry {at.name} starts it again"
    if at.is_moving:
        return f"revision {at.wanted} is on its way{_from_step(at)}"
    return "nothing is on its way" if at.stable is None else f"revision {at.stable} serves and nothing is on its way"


def _from_step(at: Standing) -> str:
    return f" (now {at.step})" if at.step else ""
