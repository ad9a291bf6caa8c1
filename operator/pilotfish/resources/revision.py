"""The ControllerRevision: all that is known about a revision, with the objects that serve it as they were rendered.

Written once and immutable. Serving takes its objects from here, so neither an operator of another version nor other
settings move the pods of a revision that exists.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pilotfish import names
from pilotfish.api.base import ApiModel
from pilotfish.api.report import ArtifactRecord, ModelSignature, OptimizerRecord, SourceRecord, Summary
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata


class RevisionObjects(ApiModel):
    """The objects that serve a revision, as rendered when it was made."""

    deployment: Mapping[str, Any]
    config_map: Mapping[str, Any]
    service: Mapping[str, Any]


class RevisionRecord(ApiModel):
    """`data` of a ControllerRevision."""

    hash_version: int
    revision: str
    recipe_key: str
    intent: Mapping[str, Any]
    source: SourceRecord | None = None
    optimizer: OptimizerRecord | None = None
    artifact: ArtifactRecord
    signature: ModelSignature
    summary: Summary | None = None
    objects: RevisionObjects = Field(repr=False)


def make_controller_revision(
    owner: Owner, record: RevisionRecord, *, number: int, cause: str | None = None
) -> dict[str, Any]:
    """The whole ControllerRevision; `number` grows with each new one, `cause` is the user's word for the change."""
    name = names.revision_name(owner.name, record.revision)
    metadata = make_metadata(owner, name=name, component=Component.TRITON, revision=record.revision)
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {**metadata, "annotations": {names.CHANGE_CAUSE: cause}} if cause else metadata,
        "revision": number,
        "data": record.to_wire(),
    }


def read_record(body: Mapping[str, Any]) -> RevisionRecord:
    """The record in a ControllerRevision. Raises ValueError when it is not one of ours."""
    return RevisionRecord.model_validate(body.get("data") or {})
