"""The OpenVINO export: model.xml and model.bin, weights in single precision; any device may run it."""

from pathlib import Path

from pilotfish.optimizer.exports.frame import ExportShop, Written
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.openvino_files import read_onnx, save_ir
from pilotfish.optimizer.worker import Subject


def write(shop: ExportShop, folder: Path) -> Written:
    """Convert the proven ONNX file.

    Raises:
        ValueError: there is no ONNX file.
    """
    if shop.onnx is None:
        raise ValueError("OpenVINO is exported from ONNX, and this model could not be converted to ONNX")
    return Written(main=save_ir(read_onnx(shop.onnx), folder / "model.xml"))


def load(subject: Subject) -> Runner:
    """In OpenVINO on the CPU, in single precision."""
    from pilotfish.optimizer.openvino_runtime import OpenVinoRunner

    return OpenVinoRunner(Path(subject.path), threads=subject.threads, precision="f32")
