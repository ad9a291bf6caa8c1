"""The child: opens one model, converts it, then answers calls until its stdin ends. One JSON line each way.

Tensors travel through safetensors files in the order's scratch folder, the only one that is written to.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.tensorflow.originals import Original, first_line, open_original


def main() -> None:
    """Replies go to the original stdout; whatever libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    try:
        original = _open(order)
    except OptimizerError as error:
        _reply(replies, {"reason": error.reason.value, "message": error.message})
        return
    except MemoryError:
        sentence = f"{Path(order['path']).name} needs more memory; raise spec.optimization.resources.memory"
        _reply(replies, {"reason": Reason.OPTIMIZER_OUT_OF_MEMORY.value, "message": sentence})
        return
    _reply(replies, {"runtime": original.runtime})
    for line in sys.stdin:
        _reply(replies, _act(original, json.loads(line)))


def _open(order: dict[str, Any]) -> Original:
    kind = next(f for f in ModelFormat if f.value == order["format"])
    path = Path(order["path"])
    original = open_original(kind, path, trusted=order["trusted"], threads=order["threads"])
    target = Path(order["onnx"])
    if not target.is_file():  # a child that comes back finds it
        from pilotfish.optimizer.tensorflow.convert import to_onnx

        to_onnx(original.source(Path(order["scratch"])), target, names=original.names, called=path.name)
    return original


def _act(original: Original, request: dict[str, Any]) -> dict[str, Any]:
    try:
        save_file(original.run(load_file(request["from"])), request["to"])
    except Exception as error:  # noqa: BLE001 - whatever the framework says goes to the parent
        return {"error": f"{type(error).__name__}: {first_line(error)}"}
    return {}


def _reply(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
