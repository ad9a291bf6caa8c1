"""Objects become a tree to look at. Pure: what is shown and how good it is, not how it is drawn."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pilotfish.cli.rollout_view import make_rollout_nodes
from pilotfish.cli.tree import Health, Node
from pilotfish.cli.words import age_of
from pilotfish.core import Body, Observed
from pilotfish.core.objects import condition_is_true, condition_of, controller_uid, label_of, name_of
from pilotfish.names import REVISION_LABEL

_SETTINGS = {
    "instances": "instances",
    "intraOpThreads": "threads",
    "maxBatchSize": "batch",
    "preferredSizes": "rather",
    "maxQueueDelay": "delay",
    "accelerator": "accelerator",
}


def make_view(observed: Observed, now: datetime) -> Node:
    """The ModelDeployment with its revisions, newest role first, and what they share."""
    status: Mapping[str, Any] = observed.body.get("status") or {}
    roles = [
        (role, status[field]["hash"])
        for role, field in (("stable", "stableRevision"), ("candidate", "candidateRevision"))
        if status.get(field)
    ]
    named = {revision: ", ".join(role for role, other in roles if other == revision) for _, revision in roles}
    seen = [label_of(child, REVISION_LABEL) for child in observed.children]
    others = sorted({revision for revision in seen if revision and revision not in named})
    revisions = [*dict.fromkeys(revision for _, revision in roles), *others]
    shared = [child for child in observed.children if label_of(child, REVISION_LABEL) not in revisions]
    ready = condition_of(observed.body, "Ready")
    fresh = status.get("observedGeneration") == observed.generation
    return Node(
        title=f"ModelDeployment/{observed.name}",
        state=str(status.get("phase") or "Pending"),
        health=_health_of(observed.body) if fresh else Health.BUSY,
        detail=_sentence(ready, fresh=fresh),
        children=(
            *(_condition(condition) for condition in _worth_saying(observed.body, ready)),
            *make_rollout_nodes(observed.body, now),
            *(_endpoint(kind, url) for kind, url in sorted((status.get("endpoints") or {}).items())),
            *(_revision(observed, revision, named.get(revision, "kept"), now) for revision in revisions),
            *(_child(observed, child, now) for child in shared),
        ),
    )


def _health_of(body: Body) -> Health:
    if condition_is_true(body, "Ready"):
        return Health.GOOD
    return Health.BUSY if condition_is_true(body, "Reconciling") else Health.BAD


def _sentence(ready: Mapping[str, Any] | None, *, fresh: bool) -> str:
    if ready is None or not fresh:
        return "the operator has not looked at this generation yet"
    return str(ready["message"])


def _worth_saying(body: Body, ready: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    """Conditions that are bad and say something that the first line does not."""
    told = {ready["message"]} if ready else set()
    never_served = not (body.get("status") or {}).get("stableRevision")
    for kind, good in (("Available", "True"), ("ArtifactReady", "True"), ("Healthy", "True"), ("Stalled", "False")):
        condition = None if kind == "Available" and never_served else condition_of(body, kind)
        if condition and condition["status"] not in {good, "Unknown"} and condition["message"] not in told:
            told.add(condition["message"])
            yield condition


def _condition(condition: Mapping[str, Any]) -> Node:
    return Node(
        title=str(condition["type"]),
        state=str(condition["reason"]),
        health=Health.BAD,
        detail=str(condition["message"]),
    )


def _endpoint(kind: str, url: str) -> Node:
    return Node(title=kind, detail=url)


def _revision(observed: Observed, revision: str, role: str, now: datetime) -> Node:
    own = [child for child in observed.children if label_of(child, REVISION_LABEL) == revision]
    shown = [child for child in own if child["kind"] in {"Job", "Deployment"}]
    status: Mapping[str, Any] = observed.body.get("status") or {}
    known = (status.get(field) or {} for field in ("stableRevision", "candidateRevision"))
    variants = (found.get("artifact", {}).get("variant") for found in known if found.get("hash") == revision)
    return Node(
        title=f"revision {revision}",
        state=role,
        health=Health.PLAIN,
        detail=next((str(variant) for variant in variants if variant), ""),
        children=(*_settings(status, revision), *(_child(observed, child, now) for child in shown)),
    )


def _settings(status: Mapping[str, Any], revision: str) -> Iterable[Node]:
    """What the newest revision serves with, and where what is no default comes from."""
    effective = status.get("effective") or {}
    newest = status.get("candidateRevision") or status.get("stableRevision") or {}
    if newest.get("hash") != revision:
        return
    origins = effective.get("origins") or {}
    said = []
    for key, word in _SETTINGS.items():
        if key in effective:
            value = "/".join(map(str, effective[key])) if isinstance(effective[key], list) else effective[key]
            said.append(f"{word} {value}" + (f" ({origins[key]})" if origins.get(key, "Default") != "Default" else ""))
    if said:
        yield Node(title="settings", detail=", ".join(said))


def _child(observed: Observed, child: Body, now: datetime) -> Node:
    state, health = _child_state(child)
    pods = [pod for pod in observed.pods if _belongs(pod, child)]
    return Node(
        title=f"{child['kind']}/{name_of(child)}",
        state=state,
        health=health,
        detail=_age(child, now),
        children=tuple(_pod(pod, now) for pod in pods),
    )


def _child_state(child: Body) -> tuple[str, Health]:
    status: Mapping[str, Any] = child.get("status") or {}
    if child["kind"] == "Job":
        if condition_is_true(child, "Complete"):
            return "Complete", Health.GOOD
        return ("Failed", Health.BAD) if condition_is_true(child, "Failed") else ("Running", Health.BUSY)
    if child["kind"] == "Deployment":
        ready, wanted = int(status.get("readyReplicas", 0)), int(child["spec"].get("replicas", 1))
        return f"{ready}/{wanted} ready", Health.GOOD if ready >= wanted else Health.BUSY
    if child["kind"] == "PersistentVolumeClaim":
        phase = str(status.get("phase") or "Pending")
        return phase, Health.GOOD if phase == "Bound" else Health.BUSY
    return "", Health.PLAIN


def _belongs(pod: Body, child: Body) -> bool:
    if child["kind"] == "Job":
        return controller_uid(pod) == str(child["metadata"]["uid"])
    owner = next((o for o in pod["metadata"].get("ownerReferences", ()) if o.get("controller")), {"name": ""})
    return child["kind"] == "Deployment" and str(owner["name"]).rpartition("-")[0] == name_of(child)


def _pod(pod: Body, now: datetime) -> Node:
    status: Mapping[str, Any] = pod.get("status") or {}
    waiting = [
        str(found["state"]["waiting"]["reason"])
        for found in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
        if found.get("state", {}).get("waiting", {}).get("reason", "PodInitializing") != "PodInitializing"
    ]
    restarts = sum(int(found.get("restartCount", 0)) for found in status.get("containerStatuses") or ())
    phase = str(status.get("phase") or "Pending")
    good = phase == "Succeeded" or condition_is_true(pod, "Ready")
    bad = phase == "Failed" or bool(waiting)
    return Node(
        title=f"Pod/{name_of(pod)}",
        state=waiting[0] if waiting else phase,
        health=Health.GOOD if good else Health.BAD if bad else Health.BUSY,
        detail=", ".join(filter(None, (_age(pod, now), _restarts(restarts)))),
    )


def _restarts(count: int) -> str:
    return f"{count} restart{'s' if count > 1 else ''}" if count else ""


def _age(body: Body, now: datetime) -> str:
    created = body["metadata"].get("creationTimestamp")
    return age_of(str(created), now) if created else ""
