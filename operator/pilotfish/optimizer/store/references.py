"""Who uses which artifact: one small file per ModelDeployment, written before the artifact is taken or made.

Whoever cleans deletes the manifest first and reads the references after that. So either the user of an artifact sees
that its manifest is gone, or whoever cleans sees the reference: an artifact in use is never lost between the two.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from pilotfish.api.job_input import BucketPlace
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.wire import WireModel
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.store.shelf import Shelf

FOLDER = "refs"
LOOKS = "looks"
"""What `model.refresh` of each ModelDeployment saw last."""
GRACE = timedelta(hours=1)
"""Younger references stay, whoever drops them: two Jobs of one object may overlap while a node is lost."""

_PATH = r"^artifacts/[a-z0-9][a-z0-9-]*(/[a-z0-9]+)?$"
ArtifactPath = Annotated[str, StringConstraints(pattern=_PATH)]


class Reference(WireModel):
    """One artifact in use."""

    path: ArtifactPath
    since: datetime


class References(WireModel):
    """All artifacts that one ModelDeployment uses."""

    schema_version: Literal[1] = 1
    owner: str = Field(description="namespace/name; of a claim `this claim`.")
    artifacts: tuple[Reference, ...] = ()

    @property
    def paths(self) -> frozenset[str]:
        """What is in use."""
        return frozenset(reference.path for reference in self.artifacts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose references: `file` is where they lie."""

    name: str
    file: str


THE_CLAIM = Owner(name="this claim", file=f"{FOLDER}/claim.json")


def is_artifact_path(path: str) -> bool:
    """Whether it is one of ours: nothing else is ever referred to or removed."""
    return re.fullmatch(_PATH, path) is not None


def owner_of(place: BucketPlace) -> Owner:
    """The ModelDeployment; one that is made again under the same name is another one."""
    return Owner(
        name=f"{place.namespace}/{place.name}", file=f"{FOLDER}/{place.namespace}/{place.name}/{place.uid}.json"
    )


def read_references(shelf: Shelf, owner: Owner) -> References:
    """Those of one owner; empty when there are none. Raises InternalError for a file that is none of ours."""
    data = shelf.read(owner.file)
    return References(owner=owner.name) if data is None else _parse(shelf, owner.file, data)


def read_all(shelf: Shelf) -> dict[str, References]:
    """Those of all owners, by file. Raises InternalError when one cannot be read: then nothing may be called unused."""
    found = {}
    for file in shelf.files(FOLDER):
        if file.path.endswith(".json") and (data := shelf.read(file.path)) is not None:
            found[file.path] = _parse(shelf, file.path, data)
    return found


def files_of(shelf: Shelf, name: str) -> tuple[str, ...]:
    """Where a ModelDeployment's references lie, by `namespace/name`: of every object that ever had that name."""
    return tuple(file.path for file in shelf.files(f"{FOLDER}/{name}"))


def refer(shelf: Shelf, owner: Owner, path: str, *, now: datetime) -> None:
    """Say that the artifact is in use, or is going to be made."""
    known = read_references(shelf, owner)
    others = tuple(reference for reference in known.artifacts if reference.path != path)
    write_references(shelf, owner, (*others, Reference(path=path, since=now.replace(microsecond=0))))


def write_references(shelf: Shelf, owner: Owner, artifacts: Iterable[Reference]) -> None:
    """Replace what is written."""
    told = References(owner=owner.name, artifacts=tuple(artifacts))
    shelf.write(owner.file, (told.to_json(indent=2) + "\n").encode())


def _parse(shelf: Shelf, path: str, data: bytes) -> References:
    try:
        return References.model_validate_json(data)
    except ValidationError as error:
        raise OptimizerError(
            Reason.INTERNAL_ERROR,
            f"{shelf.uri}/{path} is no list of references that this version reads; nothing is removed while it is "
            "there, delete it if its ModelDeployment is gone",
        ) from error
