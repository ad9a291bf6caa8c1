"""From the bytes that were fetched to the pods that serve: each link with what vouches for it, and where it is broken.

Pure. Everything is read from live objects; what two of them say of the same thing is compared.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from pydantic.alias_generators import to_camel

from pilotfish import names
from pilotfish.api.job_input import INSTALL_ENV, JOB_ENV
from pilotfish.api.report import Manifest, OptimizerRecord, Outcome
from pilotfish.core import Body, Observed
from pilotfish.core.failures import read_termination_message
from pilotfish.core.objects import annotation_of, condition_is_true, name_of
from pilotfish.core.scope import read_records, read_status
from pilotfish.core.testimony import witnessed
from pilotfish.resources.deployment import INSTALL_CONTAINER, TRITON_CONTAINER
from pilotfish.resources.job import OPTIMIZE_CONTAINER
from pilotfish.resources.revision import RevisionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The bytes that the model was read from."""

    uri: str
    digest: str | None = None
    pinned: bool = False
    """The digest was asked for, by the user or by a look for new bytes."""
    format: str | None = None
    bytes: int | None = None
    signed_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """What made the artifact of these bytes, and how it was told to. `job` is None when that is gone."""

    image: str | None = None
    image_id: str | None = None
    version: str | None = None
    job: str | None = None
    recipe_key: str
    recipe: Mapping[str, Any]
    packages: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What was made. `place` is where it lies."""

    digest: str
    place: str
    variant: str
    format: str
    precision: str
    golden: str | None = None
    files: Mapping[str, str] | None = None
    """sha256 of each file, from the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPod:
    """One Triton pod. `told` is the digest that its install container was given, `installed` the one that it found."""

    name: str
    uid: str
    node: str | None
    ready: bool
    told: str | None
    installed: str | None
    image: str | None
    image_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One revision. `broken` says in sentences where its links do not hold; empty when they all do."""

    revision: str
    number: int
    role: str
    created: str | None
    cause: str | None
    source: Source
    optimizer: Optimizer
    artifact: Artifact
    pods: tuple[ServingPod, ...]
    broken: tuple[str, ...]

    def to_wire(self) -> dict[str, Any]:
        """camelCase, without what is not known."""
        wire: dict[str, Any] = _wire(self)
        return wire


def make_chains(observed: Observed, *, place: str, revision: str | None = None) -> tuple[Chain, ...]:
    """Stable and candidate, and whatever else has pods, newest first; or the one revision asked for, if on record.

    `place` is that of the store, as in status.
    """
    status = read_status(observed)
    roles = {
        found.hash: role
        for role, found in (("candidate", status.candidate_revision), ("stable", status.stable_revision))
        if found is not None
    }
    bodies = {name_of(body): body for body in observed.of_kind("ControllerRevision")}
    made = [
        _chain(observed, record, bodies[names.revision_name(observed.name, record.revision)], place=place, roles=roles)
        for record in reversed(tuple(read_records(observed).values()))
    ]
    if revision is not None:
        return tuple(chain for chain in made if chain.revision == revision)
    return tuple(chain for chain in made if chain.revision in roles or chain.pods)


def with_manifest(chain: Chain, manifest: Manifest) -> Chain:
    """The chain with what the artifact says of itself, and whether that is what is on record."""
    broken = list(chain.broken)
    if manifest.artifact.digest != chain.artifact.digest:
        broken.append(f"the manifest is of {manifest.artifact.digest}, the record of {chain.artifact.digest}")
    if chain.source.digest is not None and manifest.source.digest != chain.source.digest:
        broken.append(f"the manifest has the source {manifest.source.digest}, the record {chain.source.digest}")
    packages = dict(manifest.environment.packages)
    version = chain.optimizer.version or packages.get("pilotfish")
    return replace(
        chain,
        optimizer=replace(chain.optimizer, version=version, packages=packages),
        artifact=replace(chain.artifact, files={file.path: f"sha256:{file.sha256}" for file in manifest.files}),
        broken=tuple(broken),
    )


def _chain(observed: Observed, record: RevisionRecord, body: Body, *, place: str, roles: Mapping[str, str]) -> Chain:
    job = _job(observed, record)
    pods = tuple(_pod(pod) for pod in observed.pods_of_revision(record.revision))
    return Chain(
        revision=record.revision,
        number=int(body.get("revision", 0)),
        role=roles.get(record.revision, "kept"),
        created=body["metadata"].get("creationTimestamp"),
        cause=annotation_of(body, names.CHANGE_CAUSE),
        source=_source(record),
        optimizer=_optimizer(observed, record, job),
        artifact=Artifact(
            digest=record.artifact.digest,
            place=f"{place}/{record.artifact.path}",
            variant=record.artifact.variant,
            format=record.artifact.format.value,
            precision=record.artifact.precision.value,
            golden=record.artifact.golden,
        ),
        pods=pods,
        broken=tuple(_breaks(observed, record, job, pods)),
    )


def _source(record: RevisionRecord) -> Source:
    model = record.intent.get("model") or {}
    found = record.source
    return Source(
        uri=str(model.get("uri")),
        pinned="digest" in model,
        **({} if found is None else found.model_dump(include={"digest", "format", "bytes", "signed_by"})),
    )


def _optimizer(observed: Observed, record: RevisionRecord, job: Body | None) -> Optimizer:
    """As recorded; of a record from before that was done, as the Job and its pod still show it."""
    made = record.optimizer
    if made is None and job is not None:
        made = _seen(observed, job)
    recorded = OptimizerRecord() if made is None else made
    return Optimizer(
        image=recorded.image,
        image_id=recorded.image_id,
        version=recorded.version,
        job=None if job is None else name_of(job),
        recipe_key=record.recipe_key,
        recipe=record.intent.get("optimization") or {},
    )


def _seen(observed: Observed, job: Body) -> OptimizerRecord | None:
    for pod in observed.pods_of_job(job):
        statuses = pod.get("status", {})
        for status in (*(statuses.get("containerStatuses") or ()), *(statuses.get("initContainerStatuses") or ())):
            ended = (status.get("state") or {}).get("terminated")
            told = read_termination_message(ended) if ended else None
            if status.get("name") == OPTIMIZE_CONTAINER and told is not None and told.outcome is Outcome.SUCCEEDED:
                return witnessed(told, pod).optimizer
    spec = job["spec"]["template"]["spec"]
    both = (*(spec.get("initContainers") or ()), *spec["containers"])
    image = next((one["image"] for one in both if one["name"] == OPTIMIZE_CONTAINER), None)
    return OptimizerRecord(image=image)


def _job(observed: Observed, record: RevisionRecord) -> Body | None:
    """The Job that made the artifact: this revision's own, or that of another revision with the same recipe."""
    own = observed.child("Job", names.optimize_job(observed.name, record.revision))
    same = (
        job
        for job in observed.of_kind("Job")
        if (job["metadata"].get("labels") or {}).get(names.RECIPE_LABEL) == record.recipe_key
    )
    return own or next(same, None)


def _pod(pod: Body) -> ServingPod:
    spec, status = pod["spec"], pod.get("status", {})
    told = _installs(spec)
    triton: Mapping[str, Any] = next((one for one in spec["containers"] if one["name"] == TRITON_CONTAINER), {})
    ran = _status(status.get("containerStatuses"), TRITON_CONTAINER)
    return ServingPod(
        name=name_of(pod),
        uid=str(pod["metadata"].get("uid", "")),
        node=spec.get("nodeName"),
        ready=condition_is_true(pod, "Ready"),
        told=told,
        installed=told if told is not None and _checked(status, told) else None,
        image=triton.get("image"),
        image_id=ran.get("imageID") or None,
    )


def _checked(status: Mapping[str, Any], digest: str) -> bool:
    """Whether the install container ended well and names the digest that it found."""
    ended = (_status(status.get("initContainerStatuses"), INSTALL_CONTAINER).get("state") or {}).get("terminated")
    told = read_termination_message(ended) if ended else None
    return told is not None and told.outcome is Outcome.SUCCEEDED and told.message.endswith(digest)


def _status(statuses: Any, name: str) -> Mapping[str, Any]:
    return next((status for status in statuses or () if status.get("name") == name), {})


def _installs(pod_spec: Mapping[str, Any]) -> str | None:
    told = _told(pod_spec, INSTALL_CONTAINER, INSTALL_ENV)
    return None if told is None else told.get("digest")


def _told(pod_spec: Mapping[str, Any], container: str, variable: str) -> dict[str, Any] | None:
    """The JSON in a container's variable; None where there is none that can be read."""
    for one in (*(pod_spec.get("initContainers") or ()), *pod_spec["containers"]):
        for entry in (one.get("env") or ()) if one["name"] == container else ():
            if entry["name"] == variable:
                return _parsed(entry.get("value"))
    return None


def _breaks(
    observed: Observed, record: RevisionRecord, job: Body | None, pods: tuple[ServingPod, ...]
) -> Iterator[str]:
    digest = record.artifact.digest
    asked = (record.intent.get("model") or {}).get("digest")
    found = record.source.digest if record.source else None
    if asked is not None and found is not None and asked != found:
        yield f"the spec pins the source {asked}, the record has {found}"
    if job is not None:
        told = _told(job["spec"]["template"]["spec"], OPTIMIZE_CONTAINER, JOB_ENV) or {}
        if told.get("recipeKey") != record.recipe_key:
            yield f"Job {name_of(job)} was told recipe {told.get('recipeKey')}, the record has {record.recipe_key}"
    if (recorded := _installs(record.objects.deployment["spec"]["template"]["spec"])) != digest:
        yield f"the recorded Deployment installs {recorded}, the record has {digest}"
    deployment = observed.child("Deployment", names.revision_name(observed.name, record.revision))
    template = record.objects.deployment["spec"]["template"]["spec"]
    if deployment is not None and (live := _installs(deployment["spec"]["template"]["spec"])) != digest:
        yield f"Deployment {name_of(deployment)} installs {live}, the record has {digest}"
    image = next((one["image"] for one in template["containers"] if one["name"] == TRITON_CONTAINER), None)
    for pod in pods:
        if pod.told != digest:
            yield f"pod {pod.name} installs {pod.told}, the record has {digest}"
        if pod.image != image:
            yield f"pod {pod.name} runs {pod.image}, the record has {image}"
        if pod.ready and pod.installed is None:
            yield f"pod {pod.name} is ready, but nothing says that it checked its artifact"


def _parsed(text: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _wire(value: Any) -> Any:
    """Names of our own fields in camelCase; what a recipe, a package or a file is called stays as it is."""
    if is_dataclass(value):
        said = {field.name: getattr(value, field.name) for field in fields(value)}
        return {to_camel(name): _wire(one) for name, one in said.items() if one is not None}
    return [_wire(one) for one in value] if isinstance(value, tuple) else value
