"""The TFLite export: model.tflite with weights in single precision, made by onnx2tf where TensorFlow is."""

import subprocess
from pathlib import Path

import onnx

from pilotfish.optimizer.exports.frame import ExportShop, Written
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.tensorflow.process import interpreter, module_environment
from pilotfish.optimizer.tensors import Array, Arrays
from pilotfish.optimizer.worker import Subject


def write(shop: ExportShop, folder: Path) -> Written:
    """Convert the proven ONNX file in a process of its own.

    Raises:
        ValueError: there is no ONNX file, no TensorFlow here, or an operator that the converter cannot turn.
    """
    if shop.onnx is None:
        raise ValueError("TFLite is exported from ONNX, and this model could not be converted to ONNX")
    python = interpreter()
    if python is None:
        raise ValueError(
            "TFLite is made by TensorFlow, which this image has not: no image has it beside PyTorch; make a "
            "ModelDeployment of the ONNX file that this one serves, with format: ONNX, and export it there"
        )
    scratch, target = shop.work / "tflite", folder / "model.tflite"
    scratch.mkdir(exist_ok=True)
    source = scratch / "model.onnx"
    onnx.save(_in_order(onnx.load(str(shop.onnx)), [t.name for t in shop.model.signature.outputs]), str(source))
    done = subprocess.run(
        [python, "-m", "pilotfish.optimizer.tensorflow.to_tflite", source, target],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
        env=module_environment(scratch),
    )
    if done.returncode or not target.is_file():
        raise ValueError(_last(done.stderr) or f"the converter ended with exit code {done.returncode}")
    outputs = ", ".join(t.name for t in shop.model.signature.outputs)
    return Written(main=target, notes=(f"Outputs by their place: {outputs}.",))


def load(subject: Subject) -> Runner:
    """In LiteRT's interpreter on the CPU."""
    return _Placed(Path(subject.path), threads=subject.threads, outputs=subject.outputs)


class _Placed:
    """A TFLite file whose outputs are told by their places: the converter drops their names."""

    def __init__(self, path: Path, *, threads: int, outputs: tuple[str, ...]) -> None:
        from pilotfish.optimizer.tensorflow.originals import TFLiteOriginal

        self._inner, self._outputs = TFLiteOriginal(path, threads=threads), outputs

    @property
    def runtime(self) -> str:
        """Name and version."""
        return self._inner.runtime

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""
        return dict(zip(self._outputs, self._inner.run(inputs).values(), strict=True))


def _in_order(model: onnx.ModelProto, outputs: list[str]) -> onnx.ModelProto:
    """The model with its outputs in the signature's order."""
    model.graph.output.sort(key=lambda value: outputs.index(value.name))
    return model


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
