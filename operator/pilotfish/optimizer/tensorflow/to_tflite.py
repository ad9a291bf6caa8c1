"""`python -m pilotfish.optimizer.tensorflow.to_tflite model.onnx model.tflite`: ONNX to TFLite by onnx2tf.

Runs in a child; the reason of a failure is the last line of stderr.
"""

import re
import shutil
import sys
from pathlib import Path

import numpy as np

_IMAGES = "calibration_image_sample_data_20x128x128x3_float32.npy"
"""What onnx2tf would download to look at a model of images, where its working folder has none."""


def main() -> int:
    """Write the file, or the reason why not."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        _convert(source, target)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it fails in every way, and ends the process in some
        sys.stderr.write(f"\nonnx2tf cannot convert the model to TFLite: {_reason(error)}\n")
        return 1
    return 0


def _convert(source: Path, target: Path) -> None:
    import onnx
    import onnx2tf

    np.save(source.parent / _IMAGES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
    made = source.parent / "made"
    model = onnx.load(str(source), load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    onnx2tf.convert(
        input_onnx_file_path=str(source),
        output_folder_path=str(made),
        copy_onnx_input_output_names_to_tflite=True,
        # It would turn images to channels last, and a sequence that looks like one as well.
        keep_shape_absolutely_input_names=[i.name for i in model.graph.input if i.name not in constants],
        non_verbose=True,
        verbosity="error",
    )
    shutil.copyfile(made / f"{source.stem}_float32.tflite", target)


def _reason(error: BaseException) -> str:
    """What MLIR's converter says after `error:`, else the first line."""
    text = str(error)
    found = re.search(r"error: (.+)", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (found[1] if found else lines[0] if lines else type(error).__name__)[:240]


if __name__ == "__main__":
    sys.exit(main())
