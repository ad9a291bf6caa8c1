"""Events as events.k8s.io/v1 objects. One name per thing said, so that saying it again counts up the same Event."""

from datetime import datetime
from typing import Any

from pilotfish import names
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.resources.meta import Owner

_NOTE_LIMIT = 1024


def make_event(
    owner: Owner, *, reason: str, note: str, action: str, now: datetime, warning: bool = False
) -> dict[str, Any]:
    """The whole Event about the ModelDeployment. `now` is aware UTC."""
    identity = names.short_hash([owner.uid, reason, note, action])
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.name}.{identity}", "namespace": owner.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "pilotfish.dev/operator",
        "reportingInstance": names.FIELD_MANAGER,
        "action": action,
        "reason": reason,
        "note": note if len(note) <= _NOTE_LIMIT else note[: _NOTE_LIMIT - 1] + "…",
        "type": "Warning" if warning else "Normal",
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": owner.name,
            "namespace": owner.namespace,
            "uid": owner.uid,
        },
    }
