"""metadata of every child: name, labels, and the owner that takes it along when it goes."""

from dataclasses import dataclass
from typing import Any

from pilotfish import names
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.names import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The ModelDeployment that a child belongs to."""

    name: str
    namespace: str
    uid: str


def make_metadata(owner: Owner, *, name: str, component: Component, revision: str | None = None) -> dict[str, Any]:
    """Metadata with the standard labels and the controller reference."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": names.labels(owner.name, component, revision),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
