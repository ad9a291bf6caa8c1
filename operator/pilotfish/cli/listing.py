"""All ModelDeployments of a namespace, a line each. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pilotfish.cli.output import as_columns
from pilotfish.cli.words import age_of
from pilotfish.core import Body
from pilotfish.core.objects import condition_of, name_of

_TITLES = ("NAME", "READY", "AVAILABLE", "PHASE", "VARIANT", "STEP", "REPLICAS", "AGE", "MESSAGE")


def as_list(bodies: Sequence[Body], now: datetime, *, namespaces: bool) -> str:
    """The columns of `kubectl get mdep`, and the sentence where something is not ready."""
    titles = (*(("NAMESPACE",) if namespaces else ()), *_TITLES)
    rows = [(*((str(body["metadata"]["namespace"]),) if namespaces else ()), *_cells(body, now)) for body in bodies]
    return as_columns(titles, rows)


def _cells(body: Body, now: datetime) -> tuple[str, ...]:
    status: Mapping[str, Any] = body.get("status") or {}
    ready = condition_of(body, "Ready") or {}
    asked = (body["spec"].get("serving") or {}).get("replicas", 1)
    created = body["metadata"].get("creationTimestamp")
    return (
        name_of(body),
        str(ready.get("status", "Unknown")),
        str((condition_of(body, "Available") or {}).get("status", "Unknown")),
        str(status.get("phase") or "Pending"),
        str(status.get("variant") or "-"),
        str(status.get("step") or "-"),
        f"{status.get('readyReplicas', 0)}/{asked}",
        age_of(str(created), now) if created else "-",
        "" if ready.get("status") == "True" else str(ready.get("message", "")),
    )
