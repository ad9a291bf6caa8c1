"""Artifacts on a shelf as the optimizer leaves them, without optimizing anything."""

from pathlib import Path
from typing import Any

from pilotfish.api.report import Environment, Manifest
from pilotfish.optimizer.digest import folder_digest, hash_folder
from support.builders import make_artifact, make_result, make_signature

MODEL = b"the model"
SOURCE = "sha256:" + "b" * 64


def write_artifact(store: Path, path: str, *, whole: bool = True, source: str = SOURCE) -> Manifest:
    """An artifact at `path` in a folder; half of one is all of it but the manifest."""
    folder = store / path
    file = folder / "model_repository" / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(MODEL)
    digest = folder_digest(hash_folder(folder / "model_repository"))
    artifact = make_artifact().model_copy(update={"path": path, "digest": digest})
    result = make_result()
    told: dict[str, Any] = {
        "recipe_key": path.split("/")[1],
        "source": result.source.model_copy(update={"digest": source}) if result.source else None,
        "artifact": artifact,
        "signature": make_signature(),
        "files": (),
        "environment": Environment(cpu="x", cpu_count=1, threads=1, python="3"),
        "result": result.model_copy(update={"artifact": artifact}),
    }
    manifest = Manifest(**told)
    if whole:
        (folder / "manifest.json").write_text(manifest.to_json())
    return manifest
