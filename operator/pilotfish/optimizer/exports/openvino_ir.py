"""The OpenVINO export: model.xml and model.bin, weights in single precision; any device may run it."""

from pathlib import Path

from pilotfish.optimizer import openvino_quiet
from pilotfish.optimizer.exports.frame import ExportShop, Written
from pilotfish.optimizer.model import Runner
from pilotfish.optimizer.worker import Subject


def write(shop: ExportShop, folder: Path) -> Written:
    """Convert the proven ONNX file.

    Raises:
        ValueError: there is no ONNX file.
        RuntimeError: OpenVINO cannot read it.
    """
    if shop.onnx is None:
        raise ValueError("OpenVINO is exported from ONNX, and this model could not be converted to ONNX")
    openvino_quiet.silence()
    import openvino as ov

    main = folder / "model.xml"
    ov.save_model(ov.Core().read_model(str(shop.onnx)), str(main), compress_to_fp16=False)
    return Written(main=main)


def load(subject: Subject) -> Runner:
    """In OpenVINO on the CPU, in single precision."""
    from pilotfish.optimizer.openvino_runtime import OpenVinoRunner

    return OpenVinoRunner(Path(subject.path), threads=subject.threads, precision="f32")
