"""The digest that a look for new bytes found: from then on it is asked for as if spec.model.digest said so. Pure."""

from collections.abc import Mapping

from pilotfish import names
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import ModelDeploymentStatus
from pilotfish.resources.revision import RevisionRecord


def effective_spec(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    records: Mapping[str, RevisionRecord],
    stable: str | None,
) -> ModelDeploymentSpec:
    """The spec with the known pin as its digest. `spec` is the user's, `stable` the revision that serves.

    A pin outlives model.refresh: without it what is served stays what it is. It ends with another uri, and where the
    user gives a digest.
    """
    pin = known_pin(spec, status, records, stable)
    if pin is None:
        return spec
    return spec.model_copy(update={"model": spec.model.model_copy(update={"digest": pin})})


def known_pin(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    records: Mapping[str, RevisionRecord],
    stable: str | None,
) -> str | None:
    """The pin of the user's spec: from the status, or when that was lost from what serves."""
    if spec.model.digest is not None:
        return None
    source = status.source
    if source is not None and source.address is not None:
        return source.pin if source.address == address_of(spec) else None
    record = records.get(stable) if stable else None
    if spec.model.refresh is None or record is None:
        return None
    served = record.intent.get("model") or {}
    return served.get("digest") if served.get("uri") == spec.model.uri else None


def address_of(spec: ModelDeploymentSpec) -> str:
    """Tells addresses apart, for status.source.address."""
    return names.short_hash(spec.model.uri)
