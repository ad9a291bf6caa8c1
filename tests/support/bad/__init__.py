"""Bad inputs: what is wrong, the reason that a Job must end with, and words that its one sentence must hold."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.api.report import USER_ERROR_EXIT_CODE
from pilotfish.api.report import OptimizerReason as Reason

RETRY = 1


@dataclass(frozen=True, kw_only=True)
class Bad:
    """One bad input. `make` writes it into the claim; a dict that it returns is the model's spec beside `uri`.

    `uri` is below pvc://claim/ unless it has a scheme. `fetched` is false where fetch already refuses.
    """

    name: str
    make: Callable[[Path], object]
    reason: Reason
    says: tuple[str, ...]
    uri: str = "m.onnx"
    code: int = USER_ERROR_EXIT_CODE
    fetched: bool = True
    job: dict[str, Any] = field(default_factory=dict)
    torch: bool = False
    tensorflow: bool = False


class Bite:
    """Leaves a mark in the folder it is unpickled in."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, ("bitten",)
