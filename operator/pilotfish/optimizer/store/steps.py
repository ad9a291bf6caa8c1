"""What the containers do with the store, step by step: look before the work, publish after it, bring what pods need.

`fetch` and `publish` hold the bucket's credentials and open no model. What `publish` goes by lies in a volume that the
container between them cannot see: a model that runs code can spoil its own artifact, never claim another's key.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pilotfish.api.job_input import BucketPlace, JobInput, VerifyInput
from pilotfish.api.report import Manifest, OptimizerReason, TerminationMessage
from pilotfish.optimizer.credentials import KMS_KEY, read_credentials
from pilotfish.optimizer.digest import list_files
from pilotfish.optimizer.encryption import as_it_is, decrypt_with, read_identities
from pilotfish.optimizer.errors import OptimizerError, from_os_error
from pilotfish.optimizer.looks import note_of, uri_hash
from pilotfish.optimizer.package import GOLDEN
from pilotfish.optimizer.progress import size_text
from pilotfish.optimizer.store.artifacts import (
    ARTIFACTS,
    find_artifact,
    new_path,
    publish,
    read_manifest,
)
from pilotfish.optimizer.store.cleaning import find_unused, remove, remove_released, settle
from pilotfish.optimizer.store.keys import artifact_key
from pilotfish.optimizer.store.references import (
    GRACE,
    LOOKS,
    THE_CLAIM,
    owner_of,
    read_references,
    refer,
    write_references,
)
from pilotfish.optimizer.store.shelf import Shelf, open_shelf

ORDER_NOTE = "publish.json"
REUSED_NOTE = "reused"
ATTEMPTS = 6
_FIRST_WAIT = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What `publish` is told by `fetch`: the artifact's place, and whether it is there already."""

    path: str
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A Job's access to its bucket. `order` is the volume that fetch and publish share, `work` everybody's."""

    job: JobInput
    place: BucketPlace
    shelf: Shelf
    order: Path
    work: Path

    def look(self, digests: Mapping[str, str]) -> Manifest | None:
        """The artifact of these bytes and this recipe, if the bucket has it; else a place for it is reserved.

        Raises:
            OptimizerError: StoreNotFound, StoreForbidden, StoreUnreachable.
        """
        key, owner = artifact_key(self.job, digests), owner_of(self.place)
        kept = find_artifact(
            self.shelf,
            key,
            refer=lambda path: refer(self.shelf, owner, path, now=_now()),
            recipient=self.place.recipient,
        )
        path = new_path(key) if kept is None else kept.path
        if kept is None:
            refer(self.shelf, owner, path, now=_now())
        else:
            (self.work / REUSED_NOTE).write_text(path)
        (self.order / ORDER_NOTE).write_text(json.dumps({"path": path, "reused": kept is not None}))
        return kept.manifest if kept is not None else None

    def publish(self, store: Path) -> TerminationMessage:
        """Upload what was made in `store`, or tell of what was found; then let go what this object uses no more.

        Raises:
            OptimizerError: ArtifactMissing, ArtifactDigestMismatch, StoreFull, StoreNotFound, StoreForbidden,
                StoreUnreachable.
        """
        order = self._order()
        if order.reused:
            manifest = read_manifest(self.shelf, order.path)
            if manifest is None:
                raise OptimizerError(
                    OptimizerReason.STORE_UNREACHABLE, f"{order.path} went while it was taken; a retry makes it again"
                )
            told = manifest.result.model_copy(update={"reason": OptimizerReason.ARTIFACT_REUSED})
        else:
            self._check_room(order.path, store / ARTIFACTS / self.job.recipe_key)
            made = store / ARTIFACTS / self.job.recipe_key
            told = publish(self.shelf, made, order.path, recipient=self.place.recipient).manifest.result
        self._let_go(order.path)
        return told

    def check_access(self) -> None:
        """Fail now rather than after an hour of work when the bucket may not be written."""
        owner = owner_of(self.place)
        write_references(self.shelf, owner, read_references(self.shelf, owner).artifacts)

    def _order(self) -> Order:
        note = self.order / ORDER_NOTE
        if not note.is_file():
            raise OptimizerError(OptimizerReason.INPUT_INVALID, "nothing was ordered; run `pilotfish-job fetch` first")
        return Order(**json.loads(note.read_text()))

    def _check_room(self, path: str, folder: Path) -> None:
        limit = self.place.max_bytes
        if limit is None:
            return
        kept = read_references(self.shelf, owner_of(self.place)).paths if self.job.keep is None else set(self.job.keep)
        new = sum(file.stat().st_size for file in list_files(folder))
        old = sum(file.bytes for one in kept - {path} for file in self.shelf.files(one))
        if old + new > limit:
            raise OptimizerError(
                OptimizerReason.STORE_FULL,
                f"this artifact takes {size_text(new)} and those of the revisions on record {size_text(old)}, together "
                f"more than {size_text(limit)}; raise spec.storage.bucket.maxSize or lower spec.revisionHistoryLimit",
            )

    def _let_go(self, path: str) -> None:
        try:
            released = settle(self.shelf, owner_of(self.place), path, keep=self.job.keep, now=_now())
            for removal in remove_released(self.shelf, released):
                _say(f"removed {removal.path}: {removal.why}")
        except OptimizerError as error:
            _say(f"nothing was cleaned: {error.message}")  # the artifact is there, that is what counts


def open_desk(job: JobInput, *, credentials: Path, order: Path, work: Path) -> Desk | None:
    """The Job's bucket; None when its store is a claim."""
    if job.bucket is None:
        return None
    shelf = open_shelf(job.bucket.uri, _keys(job.bucket, credentials))
    return Desk(job=job, place=job.bucket, shelf=shelf, order=order, work=work)


def _keys(place: BucketPlace, credentials: Path) -> dict[str, str]:
    """The Secret's, and the key that the store shall encrypt with."""
    return read_credentials(credentials) | ({KMS_KEY: place.kms_key} if place.kms_key else {})


def known_digests(job: JobInput) -> dict[str, str] | None:
    """Digests of all inputs, when they are known before anything is fetched: a pinned source and nothing else."""
    others = job.model.samples is not None or '"uri"' in json.dumps(job.optimization.to_wire())
    # A signature is of bytes that were seen: others may share the artifact, not the check.
    others = others or job.model.verification is not None
    if job.model.digest is None or others:
        return None
    return {"source": job.model.digest}


def tidy_claim(job: JobInput, store: Path) -> None:
    """Make room in a claim before the work: what no revision on record uses goes. Never fails a Job."""
    address = uri_hash(job.model.uri)
    using = [job.recipe_key, f".partial-{address}", f".look-{address}"]
    using += [job.model.digest] if job.model.digest else []
    try:
        shelf, now = open_shelf(str(store), {}), _now()
        settle(shelf, THE_CLAIM, f"{ARTIFACTS}/{job.recipe_key}", keep=job.keep, now=now)
        if job.keep is None:
            return
        for removal in remove(shelf, find_unused(shelf, older_than=GRACE, now=now, using=using)):
            _say(f"removed {removal.path}, {removal.bytes} bytes: {removal.why}")
    except OptimizerError as error:
        _say(f"nothing was cleaned: {error.message}")


def bring_golden(order: VerifyInput, *, store: Path, credentials: Path, identity: Path) -> int:
    """Copy the golden set out of the bucket to where `verify` reads it; returns the number of files.

    Raises:
        OptimizerError: ArtifactMissing, ArtifactKeyInvalid, ArtifactDigestMismatch, StoreForbidden, StoreUnreachable.
    """
    if order.bucket is None:
        raise OptimizerError(OptimizerReason.INPUT_INVALID, "no bucket is named; the golden set lies in the claim")
    shelf = open_shelf(order.bucket, read_credentials(credentials))
    source = f"{order.artifact.path}/{GOLDEN}"
    decrypt = decrypt_with(read_identities(identity)) if order.artifact.encrypted_for else as_it_is

    def copy() -> int:
        shutil.rmtree(store / source, ignore_errors=True)
        files = shelf.files(source)
        if not files:
            raise OptimizerError(OptimizerReason.ARTIFACT_MISSING, f"the bucket has no golden set in {source}")
        for file in files:
            target = _inside(store, file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                for block in decrypt(file.path, shelf.stream(file.path)):
                    out.write(block)
        return len(files)

    try:
        return patiently(copy)
    except OSError as error:
        raise from_os_error(error, doing="copying the golden set") from error


class LookNote:
    """What is remembered of the last look at an address, kept in the bucket between the Jobs that look."""

    def __init__(self, place: BucketPlace, uri: str, *, store: Path, credentials: Path) -> None:
        self._shelf = open_shelf(place.uri, _keys(place, credentials))
        self._there = f"{LOOKS}/{place.namespace}/{place.name}/{place.uid}-{uri_hash(uri)}.json"
        self._here = note_of(store, uri)

    def bring(self) -> None:
        """Put it where the look reads it."""
        data = self._shelf.read(self._there)
        if data is not None:
            self._here.parent.mkdir(parents=True, exist_ok=True)
            self._here.write_bytes(data)

    def keep(self) -> None:
        """Put what the look left into the bucket."""
        if self._here.is_file():
            self._shelf.write(self._there, self._here.read_bytes())
        else:
            self._shelf.remove(self._there)


def patiently(work: Callable[[], int], *, sleep: Callable[[float], None] = time.sleep) -> int:
    """Do it again while the bucket does not answer: about half a minute in all."""
    wait = _FIRST_WAIT
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except OptimizerError as error:
            if error.reason is not OptimizerReason.STORE_UNREACHABLE:
                raise
            _say(f"{error.message}; again in {wait:.0f} s")
        sleep(wait)
        wait *= 2
    return work()


def _inside(folder: Path, name: str) -> Path:
    target = folder / name
    if ".." in Path(name).parts or not target.is_relative_to(folder):
        raise OptimizerError(OptimizerReason.ARTIFACT_DIGEST_MISMATCH, f"the bucket lists {name!r}, which climbs out")
    return target


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def _now() -> datetime:
    return datetime.now(tz=UTC)
