"""How far a Job is, as its own process tells whoever asks: GET /progress on the pod's address. Wire types only."""

from typing import Annotated

from pydantic import Field, StringConstraints

from pilotfish.api.wire import WireModel

PROGRESS_PORT = 8090
PROGRESS_PATH = "/progress"
LARGEST_PROGRESS = 1024
"""Bytes of an answer."""


class ProgressNote(WireModel):
    """What a running container says. It runs other people's models: nothing in it is believed beyond its bounds."""

    stage: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,31}$")]
    percent: int = Field(ge=0, le=100, description="Of this container's work.")
    message: Annotated[str, StringConstraints(max_length=200)] = ""
    remaining_seconds: int | None = Field(default=None, ge=0, le=10_000_000, description="A guess; null: none yet.")
