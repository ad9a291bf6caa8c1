"""The claim that keeps sources and artifacts."""

from typing import Any

from pilotfish import names
from pilotfish.api.serving import StorageSpec
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata


def make_store_claim(owner: Owner, storage: StorageSpec) -> dict[str, Any]:
    """The whole PersistentVolumeClaim. It is created once and never applied again: most of it is immutable."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": make_metadata(owner, name=names.store_claim(owner.name), component=Component.STORE),
        "spec": {
            "accessModes": [storage.access_mode.value],
            "resources": {"requests": {"storage": storage.size}},
            **({} if storage.class_name is None else {"storageClassName": storage.class_name}),
        },
    }
