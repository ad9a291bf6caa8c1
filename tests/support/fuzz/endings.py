"""How a small world has ended, without what differs between two runs that mean the same."""

import re
from typing import Any

from pilotfish import names
from support.neighbours import LABELS
from support.world import World

FRESH = frozenset(
    {
        names.VERIFIES,
        names.GENERATION,
        "uid",
        "resourceVersion",
        "generation",
        "observedGeneration",
        "creationTimestamp",
        "lastTransitionTime",
        "lastUpdateTime",
        "since",
        "at",
    }
)
"""New in each run, or each time that something is made again."""
_TIMES = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\S*")


def plain(value: Any, *, without: frozenset[str] = FRESH) -> Any:
    """The value without these fields, times as `<time>`."""
    if isinstance(value, dict):
        return {key: plain(child, without=without) for key, child in value.items() if key not in without}
    if isinstance(value, list | tuple):
        return [plain(child, without=without) for child in value]
    return _TIMES.sub("<time>", value) if isinstance(value, str) else value


def children(world: World) -> dict[str, Any]:
    """What stands for the revision that serves, by `Kind/name`; what is kept of other revisions is not part of it."""
    serving = world.status.get("stableRevision", {}).get("hash")
    found = {}
    for body in world.cluster.everything():
        labels = body["metadata"].get("labels", {})
        mine = labels.get(names.NAME_LABEL) == LABELS[names.NAME_LABEL] and body["kind"] not in {
            "Event",
            "Pod",
            "ReplicaSet",
        }
        if mine and labels.get(names.REVISION_LABEL) in {None, serving}:
            # The place of a record among the others tells how often something else was asked for.
            kept = {key: value for key, value in body.items() if key not in {"status", "revision"}}
            found[f"{body['kind']}/{body['metadata']['name']}"] = plain(kept)
    return found


def pods(world: World) -> frozenset[str]:
    """Uids of the pods that serve, and of those beside them."""
    found = world.cluster.find("Pod", {names.NAME_LABEL: LABELS[names.NAME_LABEL], names.COMPONENT_LABEL: "triton"})
    return frozenset(str(pod["metadata"]["uid"]) for pod in found)


def promise(world: World) -> dict[str, Any]:
    """What the status says of an object at rest, without its past."""
    status = plain(world.status)
    told = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    stable = status.get("stableRevision", {}).get("hash")
    return {"conditions": told, "stable": stable, "phase": status["phase"], "ready": status.get("readyReplicas")}
