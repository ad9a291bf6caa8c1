"""What the shadow may use, in one place. Times in seconds, sizes in bytes."""

from dataclasses import dataclass

from pilotfish.api.job_input import SHADOW_DRAIN_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds that no client and no server can move."""

    copies: int = 8
    """Requests that are compared at once; while there are so many, none is added."""
    request_bytes: int = 4 * 1024 * 1024
    """A larger request is passed through and not compared."""
    answer_bytes: int = 4 * 1024 * 1024
    """A larger answer, as it travels or unpacked, is not compared."""
    held_bytes: int = 96 * 1024 * 1024
    """Bodies that are held at once, so that they can be asked again elsewhere; the rest streams through."""
    candidate: float = 10.0
    """A candidate that takes longer has failed to answer."""
    connect: float = 2.0
    answer: float = 600.0
    """Between two signs of life of the stable revision."""
    look: float = 1.0
    """Between two looks at who is there."""
    ready: float = 5.0
    """A server that takes longer to say that it is ready is not."""
    drain: float = SHADOW_DRAIN_SECONDS
    """What is under way when the shadow is told to stop may take so long."""
