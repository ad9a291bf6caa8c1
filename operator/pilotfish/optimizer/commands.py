"""What each container of `pilotfish-job` does: one function a command, from its mounts to its message.

Imports stay light: only `optimize`, `verify` and `shadow` load ONNX or torch. How a command is started, stopped and
what it leaves behind when it fails: job.py.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from pilotfish.api.job_input import (
    CREDENTIALS,
    IDENTITY,
    INSTALL_ENV,
    JOB_ENV,
    REFRESH_ENV,
    SAMPLES_MOUNT,
    SHADOW_ENV,
    SOURCE_MOUNT,
    STORE_CREDENTIALS,
    VERIFICATION,
    VERIFY_ENV,
    InstallInput,
    JobInput,
    RefreshInput,
    ShadowInput,
    VerifyInput,
)
from pilotfish.api.job_sources import (
    TEACHER_MOUNT,
    TRAINING_MOUNT,
    claim_mounts,
    claim_of,
    side_sources,
)
from pilotfish.api.report import OptimizerReason, Outcome, SourceRecord, TerminationMessage
from pilotfish.optimizer.errors import OptimizerError

if TYPE_CHECKING:
    from pilotfish.optimizer.fetch import Fetched
    from pilotfish.optimizer.install import Source
    from pilotfish.optimizer.open_remote import Places
    from pilotfish.optimizer.progress import Progress
    from pilotfish.optimizer.store.steps import Desk, LookNote

_Input = TypeVar("_Input", JobInput, InstallInput, VerifyInput, RefreshInput, ShadowInput)

SOURCE_NOTE = "source.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounts:
    """Where the pod's volumes are."""

    store: Path
    work: Path
    source: Path
    samples: Path
    training: Path
    teacher: Path
    config: Path
    models: Path
    run: Path
    order: Path
    termination_log: Path


def run_fetch(mounts: Mounts) -> TerminationMessage:
    """Bring the source (and samples, training data, teacher) into reach of the optimize container."""
    from pilotfish.optimizer.open_remote import Places
    from pilotfish.optimizer.package import find_artifact
    from pilotfish.optimizer.progress import Progress, fetch_stages
    from pilotfish.optimizer.store.steps import known_digests, tidy_claim

    job = _input(JobInput, JOB_ENV)
    desk = _desk(job, mounts)
    if desk is None:
        tidy_claim(job, mounts.store)
    else:
        desk.check_access()
        digests = known_digests(job)
        if digests is not None and (reused := desk.look(digests)) is not None:
            return _succeeded("the artifact is in the bucket: nothing to fetch", reused.source, reused=True)
    manifest = find_artifact(mounts.store, job.recipe_key)
    if manifest is not None and _is_trusted(job, manifest.source, mounts):
        return _succeeded("the artifact of this recipe is in the store: nothing to fetch", manifest.source, reused=True)
    progress = Progress(fetch_stages(job.optimization))
    with progress.stage("fetch", job.model.uri):
        fetched = _fetch_one(
            job.model.uri,
            store=mounts.store,
            digest=job.model.digest,
            places=Places(source=mounts.source, credentials=mounts.run / CREDENTIALS),
            progress=progress,
        )
        fetched = _verified(job, fetched, mounts, progress)
    _write_note(mounts.work / SOURCE_NOTE, fetched)
    _fetch_beside(job, mounts, progress)
    if desk is not None and (reused := desk.look(_fetched_digests(mounts.work))) is not None:
        record = fetched.record.model_copy(update={"format": reused.source.format})
        return _succeeded("the bucket has an artifact of these bytes and this recipe", record, reused=True)
    signed = f", signed by {fetched.record.signed_by}" if fetched.record.signed_by else ""
    return _succeeded(f"fetched {fetched.record.bytes} bytes, {fetched.record.digest}{signed}", fetched.record)


def run_optimize(mounts: Mounts) -> TerminationMessage:
    """The whole run on what `fetch` brought."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; see workers.py
    from pilotfish.optimizer.benchmark import BenchmarkPlan
    from pilotfish.optimizer.pipeline import finished, optimize
    from pilotfish.optimizer.progress import Progress, optimize_stages
    from pilotfish.optimizer.retraining import Lessons
    from pilotfish.optimizer.run import Run
    from pilotfish.optimizer.store.steps import REUSED_NOTE

    job = _input(JobInput, JOB_ENV)
    if (mounts.work / REUSED_NOTE).is_file():
        return _succeeded("the artifact is in the bucket: nothing to optimize", None, reused=True)
    if (result := finished(mounts.store, job.recipe_key)) is not None:
        return result
    source = _read_note(mounts.work / SOURCE_NOTE)
    if source is None:
        raise OptimizerError(OptimizerReason.INPUT_INVALID, "no source was fetched; run `pilotfish-job fetch` first")
    samples = _read_note(mounts.work / "samples.json")
    run = Run(
        job=job,
        source=source,
        samples=samples.entry if samples else None,
        store=mounts.store,
        work=mounts.work / "optimize",
        plan=BenchmarkPlan(),
        progress=Progress(optimize_stages(job.optimization)),
        lessons=Lessons(
            data=_read_note(mounts.work / "training.json"), teacher=_read_note(mounts.work / "teacher.json")
        ),
    )
    return optimize(run)


def run_publish(mounts: Mounts) -> TerminationMessage:
    """Bring the artifact into the bucket, and leave the Job's result. Holds credentials, opens no model."""
    desk = _desk(_input(JobInput, JOB_ENV), mounts)
    if desk is None:
        raise OptimizerError(OptimizerReason.INPUT_INVALID, "no bucket is named; artifacts stay in the claim")
    return desk.publish(mounts.store)


def run_install(mounts: Mounts) -> TerminationMessage:
    """Put the artifact where Triton reads it, proven by its digest."""
    from pilotfish.optimizer.install import from_bucket, from_claim

    order = _input(InstallInput, INSTALL_ENV)
    if order.bucket is None:
        files = _installed(order, partial(from_claim, order, mounts.store), mounts)
    else:
        from pilotfish.optimizer.credentials import read_credentials
        from pilotfish.optimizer.encryption import as_it_is, decrypt_with, read_identities
        from pilotfish.optimizer.store.shelf import open_shelf
        from pilotfish.optimizer.store.steps import patiently

        shelf = open_shelf(order.bucket, read_credentials(mounts.run / STORE_CREDENTIALS))
        decrypt = decrypt_with(read_identities(mounts.run / IDENTITY)) if order.encrypted else as_it_is
        read = partial(from_bucket, order, shelf, decrypt)
        files = patiently(lambda: _installed(order, lambda part: read(part=part), mounts))
    return _succeeded(f"installed {files} files of {order.digest}", None)


def _installed(order: InstallInput, read: Callable[[str], "Source"], mounts: Mounts) -> int:
    """The model, and what its answers are compared with over time where they are; the count of the model's files."""
    from pilotfish.optimizer.install import REPOSITORY, install

    files = install(order, source=read(REPOSITORY), models=mounts.models, config=mounts.config)
    if order.golden is not None:
        from pilotfish.optimizer.golden_figures import install_golden
        from pilotfish.optimizer.package import GOLDEN

        install_golden(order, source=read(GOLDEN), models=mounts.models)
    return files


def run_golden(mounts: Mounts) -> TerminationMessage:
    """Bring the golden set out of the bucket for `verify`, which has no credentials."""
    from pilotfish.optimizer.store.steps import bring_golden

    order = _input(VerifyInput, VERIFY_ENV)
    files = bring_golden(
        order, store=mounts.store, credentials=mounts.run / STORE_CREDENTIALS, identity=mounts.run / IDENTITY
    )
    return _succeeded(f"brought {files} files of the golden set", None)


def run_verify(mounts: Mounts) -> TerminationMessage:
    """Ask the loaded servers for the golden set and compare their answers with the original's."""
    from pilotfish.optimizer.verify_server import verify_servers

    return verify_servers(_input(VerifyInput, VERIFY_ENV), store=mounts.store, run=mounts.run)


def run_refresh(mounts: Mounts) -> TerminationMessage:
    """Look for other bytes at the source's address."""
    from pilotfish.optimizer.fetch import Limits
    from pilotfish.optimizer.open_remote import Places, open_remote
    from pilotfish.optimizer.progress import REFRESH_STAGES, Progress
    from pilotfish.optimizer.refresh import look

    order = _input(RefreshInput, REFRESH_ENV)
    places = Places(source=mounts.source, credentials=mounts.run / CREDENTIALS)
    progress = Progress(REFRESH_STAGES)
    note = _look_note(order, mounts)
    if note is not None:
        note.bring()
    with progress.stage("refresh", order.uri):
        found = look(
            lambda: open_remote(order.uri, places),
            uri=order.uri,
            store=mounts.store,
            limits=Limits(),
            progress=progress,
        )
    if note is not None:
        note.keep()
    what = "other bytes" if found.look.changed else "the bytes of the last look"
    told = _succeeded(f"{what}, {found.source.digest}", found.source)
    return told.model_copy(update={"look": found.look})


def run_shadow(_mounts: Mounts) -> TerminationMessage:
    """Stand before both revisions: one answers, of a sample both answers are compared. Until told to stop."""
    from pilotfish.optimizer.shadow.serve import run_until_stopped

    counts = run_until_stopped(_input(ShadowInput, SHADOW_ENV))
    return _succeeded(f"{counts.requests} requests, {counts.compared} compared, {counts.agreed} agreed", None)


def _fetch_one(uri: str, *, store: Path, digest: str | None, places: "Places", progress: "Progress") -> "Fetched":
    from pilotfish.optimizer.fetch import Limits, fetch
    from pilotfish.optimizer.open_remote import open_remote

    return fetch(
        lambda: open_remote(uri, places), uri=uri, store=store, digest=digest, limits=Limits(), progress=progress
    )


def _verified(job: JobInput, fetched: "Fetched", mounts: Mounts, progress: "Progress") -> "Fetched":
    """The source with the key that signed it, where a signature is asked for."""
    from dataclasses import replace

    if job.model.verification is None:
        return fetched
    from pilotfish.optimizer.open_remote import Places
    from pilotfish.optimizer.source_signature import verify_source

    def bring(uri: str) -> Path:
        places = Places(source=mounts.source, credentials=mounts.run / CREDENTIALS)
        return _fetch_one(
            uri, store=mounts.work / "beside" / "sig", digest=None, places=places, progress=progress
        ).entry

    signed_by = verify_source(fetched, uri=job.model.uri, keys=mounts.run / VERIFICATION, bring=bring)
    return replace(fetched, record=fetched.record.model_copy(update={"signed_by": signed_by}))


def _is_trusted(job: JobInput, source: SourceRecord, mounts: Mounts) -> bool:
    """Whether a finished artifact needs no other look at its source: no signature is asked for, or it had this one."""
    if job.model.verification is None:
        return True
    from pilotfish.optimizer.source_signature import trusted_keys

    return source.signed_by in {key.fingerprint for key in trusted_keys(mounts.run / VERIFICATION)}


def _fetch_beside(job: JobInput, mounts: Mounts, progress: "Progress") -> None:
    """Samples, data to train on and a teacher, where the object names them; each with credentials of its own."""
    from pilotfish.optimizer.open_remote import Places

    claims = claim_mounts(job.model, job.optimization)
    folders = {
        SOURCE_MOUNT: mounts.source,
        SAMPLES_MOUNT: mounts.samples,
        TRAINING_MOUNT: mounts.training,
        TEACHER_MOUNT: mounts.teacher,
    }
    for source in side_sources(job.model, job.optimization):
        _, mounted = claims.get(claim_of(source.uri) or "", ("", source.mount))
        with progress.stage(source.name, source.uri):
            fetched = _fetch_one(
                source.uri,
                store=mounts.work / "beside" / source.name,
                digest=None,
                places=Places(source=folders[mounted], credentials=mounts.run / source.credentials),
                progress=progress,
            )
        _write_note(mounts.work / f"{source.name}.json", fetched)


def _desk(job: JobInput, mounts: Mounts) -> "Desk | None":
    from pilotfish.optimizer.store.steps import open_desk

    return open_desk(job, credentials=mounts.run / STORE_CREDENTIALS, order=mounts.order, work=mounts.work)


def _look_note(order: RefreshInput, mounts: Mounts) -> "LookNote | None":
    from pilotfish.optimizer.store.steps import LookNote

    if order.bucket is None:
        return None
    return LookNote(order.bucket, order.uri, store=mounts.store, credentials=mounts.run / STORE_CREDENTIALS)


def _fetched_digests(work: Path) -> dict[str, str]:
    """Digests of all that was fetched, by the names of the notes about it."""
    notes = {path.stem: json.loads(path.read_text()) for path in sorted(work.glob("*.json"))}
    return {name: note["record"]["digest"] for name, note in notes.items() if "record" in note}


def _succeeded(message: str, source: SourceRecord | None, *, reused: bool = False) -> TerminationMessage:
    reason = OptimizerReason.ARTIFACT_REUSED if reused else OptimizerReason.SUCCEEDED
    return TerminationMessage(outcome=Outcome.SUCCEEDED, reason=reason, message=message, source=source)


def _input(kind: type[_Input], variable: str) -> _Input:
    text = os.environ.get(variable)
    if text is None:
        raise OptimizerError(OptimizerReason.INPUT_INVALID, f"the environment has no {variable}")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OptimizerError(
            OptimizerReason.INPUT_INVALID, f"{variable} is invalid at {where}: {first['msg']}"
        ) from error


def _write_note(path: Path, fetched: "Fetched") -> None:
    note = {"record": fetched.record.to_wire(), "path": str(fetched.path), "entry": str(fetched.entry)}
    path.write_text(json.dumps(note))


def _read_note(path: Path) -> "Fetched | None":
    from pilotfish.optimizer.fetch import Fetched

    if not path.is_file():
        return None
    note = json.loads(path.read_text())
    return Fetched(
        record=SourceRecord.model_validate(note["record"]), path=Path(note["path"]), entry=Path(note["entry"])
    )


COMMANDS: dict[str, Callable[[Mounts], TerminationMessage]] = {
    "fetch": run_fetch,
    "optimize": run_optimize,
    "publish": run_publish,
    "install": run_install,
    "golden": run_golden,
    "verify": run_verify,
    "refresh": run_refresh,
    "shadow": run_shadow,
}
