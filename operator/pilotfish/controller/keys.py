"""What the queue is keyed by, and how a body leads to its key."""

from dataclasses import dataclass

from pilotfish.core.objects import label_of
from pilotfish.names import NAME_LABEL
from pilotfish.ports import Body


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One ModelDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(body: Body) -> Key:
    """The key of a ModelDeployment."""
    metadata = body["metadata"]
    return Key(metadata["namespace"], metadata["name"])


def key_of_child(body: Body) -> Key | None:
    """The key that a child's label names. A forged label costs one pass and nothing else: children count by uid."""
    name = label_of(body, NAME_LABEL)
    return Key(body["metadata"]["namespace"], name) if name else None
