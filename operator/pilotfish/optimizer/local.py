"""The same run on a person's machine: `pilotfish optimize -f model.yaml --out DIR`."""

import hashlib
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pilotfish.api.job_input import JobInput, JobServing, JobTuning
from pilotfish.api.job_sources import side_sources
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.api.report import TerminationMessage
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.optimizer.benchmark import BenchmarkPlan
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Fetched, Limits, fetch
from pilotfish.optimizer.open_remote import Places, open_remote
from pilotfish.optimizer.pipeline import optimize
from pilotfish.optimizer.progress import Progress, fetch_stages, optimize_stages
from pilotfish.optimizer.retraining import Lessons
from pilotfish.optimizer.run import Run
from pilotfish.optimizer.source_signature import verify_source
from pilotfish.optimizer.tuning.at_hand import is_at_hand, triton_at_hand, with_tuning


def run_local(
    manifest: Path,
    out: Path,
    *,
    plan: BenchmarkPlan | None = None,
    triton: str | None = None,
    public_keys: Path | None = None,
) -> TerminationMessage:
    """Fetch and optimize what a ModelDeployment manifest describes; the store is `out`.

    A relative `file:` uri is read from the manifest's folder. `triton` is host:port of the gRPC API of a Triton with
    explicit model control, for tuning; without it a `tritonserver` on PATH is started where tuning is asked for.
    `public_keys` is a folder in the place of the Secret of spec.model.verification.

    Raises:
        OptimizerError: the run's own failure, InputInvalid when the manifest is none.
    """
    document = _read(manifest)
    spec = with_tuning(_spec(document), triton)
    name = str(document.get("metadata", {}).get("name") or manifest.stem)
    bring = _Bring(manifest.parent, Progress(fetch_stages(spec.optimization)))
    source = bring("fetch", spec.model.uri, out, digest=spec.model.digest)
    with tempfile.TemporaryDirectory(prefix="pilotfish-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        if spec.model.verification is not None:
            source = _verified(source, spec, bring, folder=folder / "signature", keys=_keys(public_keys))
        beside = {
            side.name: bring(side.name, side.uri, folder / side.name)
            for side in side_sources(spec.model, spec.optimization)
        }
        where = stack.enter_context(triton_at_hand(spec, triton))
        recipe_key = _recipe_key(spec, source.record.digest, tuned=is_at_hand(spec, triton))
        return optimize(
            Run(
                job=_job(spec, name=name, recipe_key=recipe_key, tuning=where),
                source=source,
                samples=beside["samples"].entry if "samples" in beside else None,
                store=out,
                work=folder / "work",
                plan=plan or BenchmarkPlan(),
                progress=Progress(optimize_stages(spec.optimization)),
                lessons=Lessons(data=beside.get("training"), teacher=beside.get("teacher")),
            )
        )


@dataclass(frozen=True, slots=True)
class _Bring:
    """Fetches what the manifest in `folder` names."""

    folder: Path
    progress: Progress

    def __call__(self, stage: str, uri: str, store: Path, *, digest: str | None = None) -> Fetched:
        where = _resolve(uri, self.folder)
        with self.progress.stage(stage, where):
            return fetch(
                lambda: open_remote(where, Places()),
                uri=where,
                store=store,
                digest=digest,
                limits=Limits(),
                progress=self.progress,
            )


def _verified(source: Fetched, spec: ModelDeploymentSpec, bring: _Bring, *, folder: Path, keys: Path) -> Fetched:
    signed_by = verify_source(
        source,
        uri=_resolve(spec.model.uri, bring.folder),
        keys=keys,
        bring=lambda uri: bring("fetch", uri, folder).entry,
    )
    return replace(source, record=source.record.model_copy(update={"signed_by": signed_by}))


def _job(spec: ModelDeploymentSpec, *, name: str, recipe_key: str, tuning: JobTuning | None) -> JobInput:
    return JobInput(
        name=name,
        revision="local",
        recipe_key=recipe_key,
        model=spec.model,
        optimization=spec.optimization,
        serving=JobServing(
            max_batch_size=spec.serving.batching.max_batch_size,
            gpus=spec.serving.gpus.count,
            tuning=tuning,
            obeys_precision_hint=True,
        ),
    )


def _read(manifest: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(manifest.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise OptimizerError(Reason.INPUT_INVALID, f"{manifest} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "ModelDeployment":
        raise OptimizerError(Reason.INPUT_INVALID, f"{manifest} is no ModelDeployment; give one object of that kind")
    return document


def _spec(document: dict[str, Any]) -> ModelDeploymentSpec:
    try:
        return ModelDeploymentSpec.model_validate(document.get("spec", {}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OptimizerError(Reason.INPUT_INVALID, f"spec.{where}: {first['msg']}") from error


def _keys(folder: Path | None) -> Path:
    if folder is None:
        raise OptimizerError(
            Reason.INPUT_INVALID,
            "spec.model.verification names a Secret, which is not here; name a folder of public keys: --public-keys",
        )
    return folder


def _resolve(uri: str, folder: Path) -> str:
    if "://" in uri:
        return uri
    return f"file://{(folder / uri.removeprefix('file:')).resolve()}"


def _recipe_key(spec: ModelDeploymentSpec, digest: str, *, tuned: bool) -> str:
    """A name for the artifact that changes with the source's bytes and with what is asked of them."""
    text = JobServing(max_batch_size=spec.serving.batching.max_batch_size, gpus=spec.serving.gpus.count).to_json()
    intent = f"{digest}{spec.model.model_dump_json()}{spec.optimization.model_dump_json()}{text}"
    if tuned:
        intent += spec.serving.model_dump_json()
    return hashlib.sha256(intent.encode()).hexdigest()[:12]
