"""Kubernetes objects as plain data, and how one is named. Reads only; asks nobody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]
"""One Kubernetes object as plain data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """Which object: kind as in manifests, with the uid that a delete must match."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str | None = None


def ref_of(body: Body) -> ObjectRef:
    """The reference of an object, with its uid if it has one."""
    meta = body["metadata"]
    return ObjectRef(
        api_version=body["apiVersion"],
        kind=body["kind"],
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        uid=meta.get("uid"),
    )


def name_of(body: Body) -> str:
    """metadata.name."""
    return str(body["metadata"]["name"])


def label_of(body: Body, key: str) -> str | None:
    """One label."""
    value = body["metadata"].get("labels", {}).get(key)
    return None if value is None else str(value)


def annotation_of(body: Body, key: str) -> str | None:
    """One annotation."""
    value = body["metadata"].get("annotations", {}).get(key)
    return None if value is None else str(value)


def controller_uid(body: Body) -> str | None:
    """Uid of the owner that controls the object."""
    for owner in body["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            return str(owner["uid"])
    return None


def is_deleting(body: Body) -> bool:
    """Whether the object is on its way out."""
    return bool(body["metadata"].get("deletionTimestamp"))


def phase_of(pod: Body) -> str | None:
    """A pod's phase; None while nobody has said any."""
    phase: str | None = (pod.get("status") or {}).get("phase")
    return phase


def leaves(pod: Body) -> bool:
    """Whether the pod has ended or is on its way out."""
    on_its_way_out = bool((pod.get("metadata") or {}).get("deletionTimestamp"))
    return on_its_way_out or phase_of(pod) in {"Succeeded", "Failed"}


def condition_of(body: Body, kind: str) -> Mapping[str, Any] | None:
    """One of status.conditions."""
    conditions: Iterable[Mapping[str, Any]] = body.get("status", {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), None)


def condition_is_true(body: Body, kind: str) -> bool:
    """Whether that condition says True."""
    found = condition_of(body, kind)
    return found is not None and found.get("status") == "True"
