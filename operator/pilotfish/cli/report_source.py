"""Where a report comes from: a file, or the store behind a ModelDeployment, read by a short pod in the user's name.

The operator has no part in it and needs no right for it. Who may not make pods still sees the summary in status.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from pilotfish import names
from pilotfish.api.report import Manifest, Report
from pilotfish.api.status import ModelDeploymentStatus, OptimizationStatus
from pilotfish.cli.session import FIELD_MANAGER, Editable, Session
from pilotfish.core import Observed
from pilotfish.core.objects import Body, ObjectRef, ref_of
from pilotfish.core.pod_checks import find_in_pods
from pilotfish.core.scope import read_records, read_status
from pilotfish.ports import ClusterError, Forbidden
from pilotfish.resources.meta import Owner
from pilotfish.resources.report_pod import CONTAINER, ReportIntent, make_report_pod
from pilotfish.resources.revision import RevisionRecord

REPORT = "report.json"
MANIFEST = "manifest.json"
LARGEST = 16 << 20
WAIT_SECONDS = 90.0
PATIENCE_SECONDS = 10.0
"""For what may cure itself, such as a registry that does not answer at once."""
POLL_SECONDS = 0.5
_POINTER = re.compile(r"[,;] see kubectl ")
"""Leads to a pod that is gone when the sentence is read."""


class Unreadable(Exception):
    """There is no report to be had; the sentence says why and what to do."""


class PodReader(Editable, Protocol):
    """A cluster in which a person may run a pod and read what it says."""

    async def create(self, body: Body, *, manager: str) -> Body:
        """Create the object."""

    async def log(self, ref: ObjectRef, *, container: str, limit: int) -> bytes:
        """What a container has written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known without the report itself, and where that lies."""

    name: str
    summary: OptimizationStatus | None
    record: RevisionRecord | None
    place: str | None
    said: str
    """What the operator says of the object now."""


def read_file(path: Path) -> Report:
    """A report.json, or the one in an artifact's folder or in the one artifact below it. Raises Unreadable."""
    file = _find(path)
    try:
        return parse(file.read_bytes(), where=str(file))
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror or error}") from error


def parse(data: bytes, where: str) -> Report:
    """The report in these bytes. Raises Unreadable."""
    try:
        return Report.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unreadable(f"{where} is no report: {f'{place}: ' if place else ''}{first['msg']}") from error


def known_of(observed: Observed, *, revision: str | None) -> Known:
    """Of the newest artifact, or of one revision. Raises Unreadable for a revision that is not on record."""
    status = read_status(observed)
    records = read_records(observed)
    if revision is not None and revision not in records:
        on_record = ", ".join(reversed(tuple(records))) or "none"
        raise Unreadable(f"revision {revision} of {observed.name} is not on record; on record: {on_record}")
    record = records.get(revision) if revision else _newest(records, status)
    place = status.optimization.report if status.optimization else None
    of_newest = record is None or place is None or place.endswith(f"/{record.artifact.path}/{REPORT}")
    return Known(
        name=observed.name,
        summary=status.optimization if of_newest else None,
        record=record,
        place=place if of_newest or place is None or record is None else _sibling(place, record, records),
        said=next((c.message for c in status.conditions if c.type == "Ready"), "the operator has not looked at it yet"),
    )


async def read_store(session: Session, cluster: PodReader, known: Known) -> Report:
    """The report in the claim, through a pod that is gone afterwards. Raises Unreadable."""
    return parse(*await _stored(session, cluster, known, REPORT))


async def read_manifest(session: Session, cluster: PodReader, known: Known) -> Manifest:
    """What the artifact says of itself, read as a report is. Raises Unreadable."""
    data, where = await _stored(session, cluster, known, MANIFEST)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise Unreadable(f"{where} is no manifest that this version reads") from error


def store_of(observed: Observed, known: Known) -> str:
    """Where the artifacts of a ModelDeployment lie."""
    tail = f"/{known.record.artifact.path}/{REPORT}" if known.record else ""
    if tail and known.place is not None and known.place.endswith(tail):
        return known.place.removesuffix(tail)
    return f"pvc://{names.store_claim(observed.name)}"


async def _stored(session: Session, cluster: PodReader, known: Known, name: str) -> tuple[bytes, str]:
    """A file beside the artifact, and where it lies."""
    if known.record is None:
        raise Unreadable(f"{known.name} has no artifact yet: {known.said}")
    if known.place is not None and not known.place.startswith("pvc://"):
        place = f"{known.place.rpartition('/')[0]}/{name}"
        return await asyncio.to_thread(_in_bucket, place), place
    path = f"{known.record.artifact.path}/{name}"
    owner = Owner(name=session.name, namespace=session.namespace, uid=str((await session.read())["metadata"]["uid"]))
    template = known.record.objects.deployment["spec"]["template"]["spec"]
    pod = make_report_pod(owner, ReportIntent(path=path, template=template, suffix=secrets.token_hex(3)))
    return await _output(cluster, pod), f"{path} in the claim {names.store_claim(session.name)}"


def _in_bucket(place: str) -> bytes:
    """The file in a bucket, with the keys that this shell's environment has. Raises Unreadable."""
    folder, _, name = place.rpartition("/")
    otherwise = f"or copy {place} from there and give it to --file"
    try:
        from pilotfish.cli.artifacts import open_store  # noqa: PLC0415 - its clients are heavy
        from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415
    except ImportError as error:
        raise Unreadable(f"{error}; install pilotfish[optimizer], {otherwise}") from error
    try:
        data = open_store(folder).read(name)
    except OptimizerError as error:
        raise Unreadable(f"{error}; set the bucket's keys (AWS_ACCESS_KEY_ID, …) here, {otherwise}") from error
    if data is None:
        raise Unreadable(f"nothing at {place}; see pilotfish artifacts list --store {folder}")
    return data


async def _output(cluster: PodReader, pod: Body) -> bytes:
    try:
        stored = await cluster.create(pod, manager=FIELD_MANAGER)
    except Forbidden as error:
        raise Unreadable(f"the whole report is read by a pod, which you may not make here: {error}") from error
    try:
        await _ended(cluster, stored)
        return await cluster.log(ref_of(stored), container=CONTAINER, limit=LARGEST)
    except Forbidden as error:
        raise Unreadable(f"the whole report is read by a pod, whose log you may not read: {error}") from error
    finally:
        await asyncio.shield(cluster.delete(ref_of(stored)))


async def _ended(cluster: PodReader, pod: Body) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    ref = ref_of(pod)
    while True:
        found = await cluster.get(ref)
        if found is None:
            raise Unreadable("the pod that reads the report was deleted before it ended")
        phase = (found.get("status") or {}).get("phase")
        if phase == "Succeeded":
            return
        if phase == "Failed":
            raise Unreadable(await _last_words(cluster, ref))
        finding = find_in_pods([found], of="the pod that reads the report", now=datetime.now(tz=UTC))
        if finding is not None and loop.time() >= began + PATIENCE_SECONDS:
            raise Unreadable(_POINTER.split(finding.message)[0])
        if loop.time() >= began + WAIT_SECONDS:
            raise Unreadable(f"the pod that reads the report did not end within {WAIT_SECONDS:g} s")
        await asyncio.sleep(POLL_SECONDS)


async def _last_words(cluster: PodReader, ref: ObjectRef) -> str:
    try:
        said = (await cluster.log(ref, container=CONTAINER, limit=4096)).decode(errors="replace")
    except ClusterError:
        said = ""
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    return f"the store has no report that can be read: {last}"


def _newest(records: Mapping[str, RevisionRecord], status: ModelDeploymentStatus) -> RevisionRecord | None:
    """The record that status.optimization is about, else the newest one."""
    place = status.optimization.report if status.optimization else None
    newest_first = list(reversed(tuple(records.values())))
    told = (r for r in newest_first if place is not None and place.endswith(f"/{r.artifact.path}/{REPORT}"))
    return next(told, next(iter(newest_first), None))


def _sibling(place: str, record: RevisionRecord, records: Mapping[str, RevisionRecord]) -> str:
    """The place of another revision's report in the same store."""
    for other in records.values():
        tail = f"/{other.artifact.path}/{REPORT}"
        if place.endswith(tail):
            return f"{place.removesuffix(tail)}/{record.artifact.path}/{REPORT}"
    return place


def _find(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / REPORT] if (path / REPORT).is_file() else sorted(path.glob(f"artifacts/*/{REPORT}"))
    if len(found) != 1:
        how = "no report.json" if not found else f"{len(found)} reports: {', '.join(str(f) for f in found[:5])}"
        raise Unreadable(f"{path} holds {how}; name one file")
    return found[0]


def plain_wire(known: Known) -> dict[str, Any]:
    """What is known without the report, for machines."""
    return {} if known.summary is None else known.summary.to_wire()
