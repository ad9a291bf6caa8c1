"""`optimization.profile`: where the time of the winner and of the original goes, as a table and as traces.

The files lie beside the report, never in the model repository. A model that cannot be profiled is told, and no failure.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pilotfish.api.report_sections import OperatorTime, Profile, TraceFile
from pilotfish.optimizer.benchmark import Measured
from pilotfish.optimizer.digest import copy_hashed
from pilotfish.optimizer.report.errand import ErrandError, send
from pilotfish.optimizer.worker import Subject

FOLDER = "profile"
WORKER = "pilotfish.optimizer.report.trace_worker"
MOST_SECONDS = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A model to look into; `role` is winner or baseline."""

    variant: str
    role: str
    subject: Subject


def profile_run(
    measured: Mapping[str, Measured | None], *, names: Mapping[str, str], batch: int, folder: Path | None
) -> tuple[Profile, ...]:
    """Profiles of what was measured, by role; nothing without a folder. What plays both roles is looked at once."""
    if folder is None:
        return ()
    asked: dict[int, Asked] = {}
    for role, one in measured.items():
        if one is not None and one.subject is not None:
            asked.setdefault(id(one), Asked(variant=names[role], role=role, subject=one.subject))
    return profile_models(tuple(asked.values()), batch=batch, folder=folder)


def profile_models(asked: Sequence[Asked], *, batch: int, folder: Path) -> tuple[Profile, ...]:
    """One profile for each, traces in `folder/profile`."""
    target = folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        return tuple(_profile(one, batch=batch, scratch=Path(scratch), target=target) for one in asked)


def _profile(one: Asked, *, batch: int, scratch: Path, target: Path) -> Profile:
    made = scratch / f"{one.role}.trace.json.gz"
    order = {"subject": asdict(one.subject), "batch": batch, "target": str(made)}
    try:
        told = json.loads(send(WORKER, order, threads=one.subject.threads, seconds=MOST_SECONDS))
    except subprocess.TimeoutExpired:
        return _without(one, batch, f"the profiler took more than {MOST_SECONDS:.0f} s")
    except ErrandError as error:
        return _without(one, batch, f"the profiler failed: {error}")
    file = copy_hashed(made, target / made.name)
    return Profile(
        variant=one.variant,
        role=one.role,
        tool=told["tool"],
        batch=batch,
        runs=told["runs"],
        operators=tuple(OperatorTime.model_validate(o) for o in told["operators"]),
        trace=TraceFile(path=f"{FOLDER}/{file.path}", bytes=file.bytes, sha256=file.sha256, cut=told["cut"]),
    )


def _without(one: Asked, batch: int, problem: str) -> Profile:
    return Profile(variant=one.variant, role=one.role, tool="none", batch=batch, runs=0, problem=problem)
