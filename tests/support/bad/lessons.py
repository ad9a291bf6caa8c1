"""What to train with and the code that comes with weights: recipes, factories of one's own, TorchServe, TensorFlow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad
from support.bad.sources import written, zipped
from support.onnx_models import save_mlp
from support.tf_python import tensorflow_models

_SIGNATURE = {"inputs": [{"name": "x", "dtype": "FP32", "shape": [4]}]}
_BUILD = "import torch\ndef build():\n    return torch.nn.Linear(4, 2)\n"
_DATA = {"uri": "pvc://claim/t.npz"}
CODE, MODEL, DATA = Reason.ARCHITECTURE_INVALID, Reason.MODEL_INVALID, Reason.TRAINING_DATA_INVALID


def _code(text: str = _BUILD, *, file: str = "model.py#build", **model: Any) -> Callable[[Path], dict[str, Any]]:
    """Weights of a small layer with Python beside them, trusted."""

    def make(claim: Path) -> dict[str, Any]:
        import torch

        (claim / "d").mkdir()
        torch.save(torch.nn.Linear(4, 2).state_dict(), claim / "d" / "w.pth")
        (claim / "d" / "model.py").write_text(text)
        (claim / "out.py").write_text("import os; os.mkdir('bitten')")
        return {"trust": "Executable", "architecture": {"file": file}, "signature": _SIGNATURE, **model}

    return make


def _taught(arrays: dict[str, Any] | None) -> Callable[[Path], dict[str, Any]]:
    """The same, with data to train on."""

    def make(claim: Path) -> dict[str, Any]:
        if arrays is not None:
            np.savez(claim / "t.npz", **arrays)
        return _code()(claim)

    return make


def _mar(said: Any, *members: tuple[str, bytes]) -> Callable[[Path], dict[str, Any]]:
    def make(claim: Path) -> dict[str, Any]:
        text = said if isinstance(said, bytes) else json.dumps({"model": said}).encode()
        (claim / "m.mar").write_bytes(zipped(("MAR-INF/MANIFEST.json", text), ("handler.py", b"x = 1"), *members))
        return {"trust": "Executable"}

    return make


def _bad(name: str, make: Any, reason: Reason, *says: str, uri: str = "d", **more: Any) -> Bad:
    return Bad(name=name, make=make, reason=reason, says=says, uri=uri, torch=True, **more)


def _tuned(name: str, arrays: dict[str, Any] | None, reason: Reason, *says: str, **tune: Any) -> Bad:
    recipe = {"optimization": {"fineTune": {"data": _DATA, **tune}}}
    return _bad(f"training: {name}", _taught(arrays), reason, *says, job=recipe, fetched=arrays is not None)


_X, _Y = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32), np.arange(64) % 2
TRAINING = (
    _bad(
        "training: ONNX", lambda claim: save_mlp(claim / "m.onnx") and None, Reason.UNSUPPORTED_FORMAT, "ONNX", "SafeTensors",
        uri="m.onnx", job={"optimization": {"fineTune": {"data": {"uri": "pvc://claim/m.onnx"}}}},
    ),
    _tuned("no data there", None, Reason.SOURCE_NOT_FOUND, "t.npz"),
    _tuned("no labels", {"x": _X}, DATA, "labels"),
    _tuned("labels of other length", {"x": _X, "labels": _Y[:9]}, DATA, "labels 9"),
    _tuned("another width", {"x": _X[:, :3], "labels": _Y}, DATA, "[samples, 4]"),
    _tuned("NaN", {"x": _X * np.float32("nan"), "labels": _Y}, DATA, "NaN"),
    _tuned("a class too many", {"x": _X, "labels": _Y + 7}, DATA, "labels"),
    _tuned("a parameter that is not", {"x": _X, "labels": _Y}, Reason.TRAINING_FAILED, "conv1", freeze=["conv1.*"]),
    _bad(
        "training: no teacher there", _taught({"x": _X, "labels": _Y}), Reason.SOURCE_NOT_FOUND, "nobody", fetched=False,
        job={"optimization": {"distill": {"data": _DATA, "teacher": {"uri": "pvc://claim/nobody"}}}},
    ),
)  # fmt: skip
USER_CODE = (
    _bad("code: outside the source", _code(file="../out.py#build"), Reason.UNSAFE_MODEL, "'../out.py'", "beside"),
    _bad("code: not there", _code(file="other.py#build"), CODE, "other.py", "put it into their folder"),
    _bad("code: no such function", _code(file="model.py#make"), CODE, "'make'", "name the function"),
    _bad("code: it fails", _code("def build():\n    raise ValueError('no luck')\n"), CODE, "no luck", "correct it"),
    _bad("code: it ends the process", _code("import sys\nsys.exit(3)\n"), CODE, "SystemExit", "correct it"),
    _bad("code: no Python", _code("def build(:\n"), CODE, "SyntaxError", "correct it"),
    _bad("code: no module", _code("def build():\n    return 3\n"), CODE, "int", "torch.nn.Module"),
    _bad("code: other weights", _code("import torch\ndef build():\n    return torch.nn.Linear(4, 3)\n"), CODE, "fit"),
)
TORCHSERVE = (
    _bad(".mar: a manifest that is none", _mar(b"{"), MODEL, "MANIFEST.json", "torch-model-archiver", uri="m.mar"),
    _bad(".mar: no model named", _mar({"handler": "handler.py"}), MODEL, "serializedFile", uri="m.mar"),
    _bad(".mar: a model outside", _mar({"serializedFile": "../w.pt"}), Reason.UNSAFE_MODEL, "../w.pt", uri="m.mar"),
    _bad(".mar: a model that is not there", _mar({"serializedFile": "w.pt"}), MODEL, "w.pt", "pack it again", uri="m.mar"),
    _bad(
        ".mar: a model that is none", _mar({"serializedFile": "w.pt"}, ("w.pt", b"nothing at all")), Reason.UNKNOWN_FORMAT,
        "w.pt", uri="m.mar",
    ),
)  # fmt: skip


def _keras(name: str, *, cut: bool = False) -> Callable[[Path], None]:
    """A file that Keras wrote."""

    def make(claim: Path) -> None:
        data = (tensorflow_models() / name).read_bytes()
        (claim / name).write_bytes(data[: len(data) // 2] if cut else data)

    return make


def _tf(name: str, file: str, reason: Reason, *says: str, cut: bool = False) -> Bad:
    made = _keras(file, cut=cut)
    return Bad(name=f"Keras: {name}", make=made, reason=reason, says=(file, *says), uri=file, tensorflow=True)


KERAS = (
    _tf("code in a Lambda", "lambda.keras", Reason.UNSAFE_MODEL, "trust: Executable"),
    _tf("a table in another file", "reads.keras", Reason.UNSAFE_MODEL, "/etc/passwd"),
    _tf("data in another file", "external.h5", Reason.UNSAFE_MODEL, "another file"),
    _tf("an archive cut short", "plain.keras", Reason.SOURCE_TRUNCATED, "upload it again", cut=True),
)
_TFLITE = b"\x20\x00\x00\x00TFL3" + bytes(64)
TENSORFLOW = tuple(
    Bad(
        name=f"without TensorFlow: {uri}", make=written(data, uri), reason=Reason.WRONG_IMAGE, uri=uri,
        says=(uri, "optimizer-tf", "spec.model.format"),
    )
    for uri, data in (("m.tflite", _TFLITE), ("m.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)))
)  # fmt: skip
