"""Keras, SavedModel and TFLite: converted to ONNX in a process of its own, where the original stays to be asked."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from pilotfish.api.model import ModelFormat, ModelSpec, Trust
from pilotfish.optimizer.identify import Identified
from pilotfish.optimizer.tensorflow.process import Order, TensorFlowProcess, TensorFlowRunner


def convert_original(
    found: Identified, spec: ModelSpec, *, threads: int, work: Path | None
) -> tuple[Path, TensorFlowRunner]:
    """The converted ONNX file and the original's runner.

    Raises:
        OptimizerError: UnsafeModel, ModelInvalid, SignatureMissing, ConversionFailed, OptimizerOutOfMemory.
    """
    folder = work / "tensorflow" if work is not None else Path(tempfile.mkdtemp(prefix="pilotfish-"))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.onnx"
    target.unlink(missing_ok=True)
    order = Order(
        format=found.format.value,
        path=str(_as_keras_reads_it(found, folder)),
        trusted=spec.trust is Trust.EXECUTABLE,
        threads=threads,
        onnx=str(target),
        scratch=str(folder),
    )
    return target, TensorFlowRunner(TensorFlowProcess(order), order)


def open_here(found: Identified, spec: ModelSpec, *, threads: int) -> Any:
    """The original in this very process, for a worker that runs in a Python with TensorFlow."""
    from pilotfish.optimizer.tensorflow.originals import open_original

    path = _as_keras_reads_it(found, Path(tempfile.mkdtemp(prefix="pilotfish-")))
    return open_original(found.format, path, trusted=spec.trust is Trust.EXECUTABLE, threads=threads)


def _as_keras_reads_it(found: Identified, folder: Path) -> Path:
    """Keras goes by the name's ending; a file with another one gets a link beside the work."""
    if found.format is not ModelFormat.KERAS:
        return found.path
    ending = ".keras" if zipfile.is_zipfile(found.path) else ".h5"
    if found.path.suffix == ending:
        return found.path
    link = folder / f"{found.path.stem}{ending}"
    link.unlink(missing_ok=True)
    link.symlink_to(found.path.resolve())
    return link
