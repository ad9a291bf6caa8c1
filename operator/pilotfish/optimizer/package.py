"""Write the artifact: a Triton model repository, the golden set, report and manifest; complete or not there at all."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from pilotfish.api.model_config import WARMUP_FOLDER, render_model_config, warmup_file
from pilotfish.api.predict_text import TOKENIZER
from pilotfish.api.report import ArtifactRecord, FileRecord, Manifest, ModelSignature, Report
from pilotfish.optimizer.digest import folder_digest, hash_folder, total_bytes
from pilotfish.optimizer.model import Candidate, Samples
from pilotfish.optimizer.report.views import write_views
from pilotfish.optimizer.tensors import Array
from pilotfish.optimizer.tuning.settled import Settled

REPOSITORY = "model_repository"
MANIFEST = "manifest.json"
REPORT = "report.json"
GOLDEN = "golden"
GOLDEN_INPUTS = "inputs.safetensors"
GOLDEN_OUTPUTS = "outputs.safetensors"
_LARGEST_TOKENIZER = 64 * 1024 * 1024
"""Bytes. Vocabularies of 250,000 words in a hundred languages take 17 MB."""
_ALLOWED = ("model.onnx", "model.onnx.data", "model.pt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A model repository on disk that is not yet in its final place."""

    folder: Path
    record: ArtifactRecord
    files: tuple[FileRecord, ...]


def write_repository(
    winner: Candidate,
    *,
    name: str,
    recipe_key: str,
    signature: ModelSignature,
    samples: Samples,
    settled: Settled,
    folder: Path,
    tokenizer: Path | None = None,
) -> Packed:
    """Lay out `model_repository/<name>` in `folder` and hash it. Only known file names are taken over."""
    if folder.exists():
        shutil.rmtree(folder)
    model = folder / REPOSITORY / name
    (model / "1").mkdir(parents=True)
    for file in served_files(winner):
        shutil.copyfile(file, model / "1" / file.name)
    config = render_model_config(
        name=name, backend=winner.backend, signature=signature, serving=settled.config, parameters=winner.parameters
    )
    (model / "config.pbtxt").write_text(config)
    (model / WARMUP_FOLDER).mkdir()
    for index, spec in enumerate(signature.inputs):
        (model / WARMUP_FOLDER / warmup_file(index)).write_bytes(
            np.ascontiguousarray(samples.inputs[spec.name][0]).tobytes()
        )
    if tokenizer is not None:
        shutil.copyfile(tokenizer, model / TOKENIZER)
    files = hash_folder(folder / REPOSITORY)
    record = ArtifactRecord(
        digest=folder_digest(files),
        path=f"artifacts/{recipe_key}",
        bytes=total_bytes(files),
        format=winner.format,
        precision=winner.precision,
        variant=winner.variant,
        backend=winner.backend,
        parameters=dict(winner.parameters) or None,
        serving=settled.serving,
        tokenizer=True if tokenizer is not None else None,
    )
    return Packed(folder=folder, record=record, files=files)


def served_files(winner: Candidate) -> tuple[Path, ...]:
    """What Triton loads of a candidate's folder: known file names alone."""
    return tuple(file for file in sorted(winner.folder.iterdir()) if file.name in _ALLOWED)


def find_tokenizer(source: Path) -> Path | None:
    """The tokenizer.json beside the weights, for texts at `/predict`; None where there is none or it is beyond reason.

    Nothing is read of it here: the server does, when it is asked for texts.
    """
    found = source / TOKENIZER
    if not source.is_dir() or not found.is_file() or found.is_symlink():
        return None
    return found if found.stat().st_size <= _LARGEST_TOKENIZER else None


def write_golden(packed: Packed, *, samples: Samples, reference: dict[str, Array]) -> Packed:
    """Add the samples and the original's answers to them, for checks against the loaded server, and their digest."""
    target = packed.folder / GOLDEN
    target.mkdir()
    save_file({n: np.ascontiguousarray(a) for n, a in samples.inputs.items()}, target / GOLDEN_INPUTS)
    save_file({n: np.ascontiguousarray(a) for n, a in reference.items()}, target / GOLDEN_OUTPUTS)
    if samples.labels is not None:
        save_file({"labels": np.ascontiguousarray(samples.labels)}, target / "labels.safetensors")
    golden = folder_digest(hash_folder(target))
    return replace(packed, record=packed.record.model_copy(update={"golden": golden}))


def finish(packed: Packed, *, report: Report, manifest: Manifest, target: Path) -> None:
    """Write both documents and the views, rename the folder into place; the manifest is the last file written."""
    (packed.folder / REPORT).write_text(report.to_json(indent=2) + "\n")
    write_views(report, packed.folder)
    (packed.folder / MANIFEST).write_text(manifest.to_json(indent=2) + "\n")
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    packed.folder.rename(target)


def find_artifact(store: Path, recipe_key: str) -> Manifest | None:
    """The finished artifact of a recipe, what was recorded hashed again; None when there is none or it is damaged."""
    folder = store / "artifacts" / recipe_key
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    except ValueError:
        return None
    record = manifest.artifact
    recorded = {REPOSITORY: record.digest, **({GOLDEN: record.golden} if record.golden else {})}
    intact = all(folder_digest(hash_folder(folder / name)) == digest for name, digest in recorded.items())
    return manifest if intact else None
