"""Native code, headers without end, folders of HuggingFace that bring code, Keras files that name it."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad
from support.bad.sources import RESNET, zipped
from support.hostile import attack
from support.tf_python import tensorflow_models

UNSAFE, MODEL, UNKNOWN = Reason.UNSAFE_MODEL, Reason.MODEL_INVALID, Reason.UNKNOWN_FORMAT


def _file(name: str, data: bytes, reason: Reason, *says: str, uri: str) -> Bad:
    def make(claim: Path) -> None:
        (claim / uri).write_bytes(data)

    return Bad(name=f"native: {name}", make=make, reason=reason, says=says or (uri,), uri=uri)


def _repository(claim: Path) -> None:
    """A repository of Triton's with code of its own, and no model that we know."""
    folder = claim / "d"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text('name: "m"\nbackend: "python"\n')
    (folder / "1" / "model.py").write_text(attack(claim))
    (folder / "model.py").write_text(attack(claim))
    (folder / "libtriton_own.so").write_bytes(b"\x7fELF")


NATIVE = (
    _file("a shared object", b"\x7fELF\x02\x01\x01" + bytes(200), UNKNOWN, uri="m.so"),
    _file("a TensorRT plan", b"ftrt" + bytes(200), UNKNOWN, uri="m.plan"),
    _file("Python source", b"import os\nos.mkdir('bitten')\n", UNKNOWN, uri="m.py"),
    _file("one byte", b"\x80", UNKNOWN, uri="m.pt"),
    _file("Python byte code", b"\xa7\r\r\n" + bytes(100), UNKNOWN, uri="m.pyc"),
    _file("packed Python", zipped(("__main__.py", b"import os; os.mkdir('bitten')")), UNKNOWN, "__main__.py", uri="m.zip"),
    Bad(name="native: a repository with code of its own", make=_repository, reason=UNKNOWN, says=("no model that is known",), uri="d"),
)  # fmt: skip


def _safetensors(header: Callable[[], bytes], *, sparse: int = 0) -> Callable[[Path], dict[str, Any]]:
    def make(claim: Path) -> dict[str, Any]:
        text = header()
        with (claim / "m.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", sparse or len(text)) + text)
            file.truncate(8 + max(sparse, len(text)) + 8)
        return RESNET

    return make


def _tensors(name: str, make: Any, reason: Reason = MODEL) -> Bad:
    return Bad(
        name=f"safetensors: {name}", make=make, reason=reason, says=("m.safetensors",), uri="m.safetensors", torch=True
    )


def _place(begin: int, end: int) -> bytes:
    return json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [begin, end]}}).encode()


SAFETENSORS = (
    _tensors("a header of 120 MiB", _safetensors(lambda: b"{", sparse=120 * 1024**2)),
    _tensors("a header of a hundred thousand levels", _safetensors(lambda: b'{"a":' * 100_000)),
    _tensors("bytes before the beginning", _safetensors(lambda: _place(-8, 0))),
    _tensors("bytes that end before they begin", _safetensors(lambda: _place(8, 0))),
    _tensors("bytes past all numbers", _safetensors(lambda: _place(2**64 - 8, 2**64))),
)

_BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64,
    "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32,
}  # fmt: skip


def _hub(config: Callable[[Path], Any]) -> Callable[[Path], None]:
    def make(claim: Path) -> None:
        import torch
        from safetensors.torch import save_file

        folder = claim / "d"
        folder.mkdir()
        said = config(claim)
        (folder / "config.json").write_text(said if isinstance(said, str) else json.dumps(said))
        save_file({"w": torch.zeros(1)}, folder / "model.safetensors")
        for name in ("model", "modeling_bert", "configuration_bert"):
            (folder / f"{name}.py").write_text(attack(claim))

    return make


def _folder(name: str, config: Any, reason: Reason, *says: str) -> Bad:
    made = _hub(config if callable(config) else lambda _: config)
    return Bad(name=f"HuggingFace: {name}", make=made, reason=reason, says=says, uri="d", torch=True)


FOLDERS = (
    _folder("code beside a known type", _BERT | {"auto_map": {"AutoModel": "model.Mine"}}, MODEL, "weights lack"),
    _folder(
        "code of another repository",
        {"model_type": "own", "auto_map": {"AutoConfig": "evil/repo--model.C"}},
        UNSAFE,
        "code of its own",
    ),
    _folder("attention from a hub", _BERT | {"_attn_implementation": "evil/kernel"}, MODEL, "config.json"),
    _folder("a class of another module", _BERT | {"architectures": ["os.system", "..", "AutoModel"]}, MODEL),
    _folder(
        "quantised by code that is not here",
        _BERT | {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        MODEL,
        "config.json",
    ),
    _folder("a hundred thousand levels", lambda _: "[" * 100_000, MODEL, "too many levels"),
    _folder("sizes past all memory", _BERT | {"hidden_size": 2**40, "num_attention_heads": 2**39}, MODEL),
)


def _keras(change: Callable[[dict[str, Any], Path], None]) -> Callable[[Path], None]:
    """A file that Keras wrote, with its configuration changed."""

    def make(claim: Path) -> None:
        with (
            zipfile.ZipFile(tensorflow_models() / "plain.keras") as old,
            zipfile.ZipFile(claim / "m.keras", "w") as new,
        ):
            for name in old.namelist():
                data = old.read(name)
                if name == "config.json":
                    config = json.loads(data)
                    change(config, claim)
                    data = json.dumps(config).encode()
                new.writestr(name, data)

    return make


def _layer(**said: Any) -> Callable[[dict[str, Any], Path], None]:
    """Another last layer."""

    def change(config: dict[str, Any], claim: Path) -> None:
        layer = config["config"]["layers"][-1]
        layer |= {key: value(claim) if callable(value) else value for key, value in said.items()}

    return change


def _download(claim: Path) -> dict[str, Any]:
    return {"fname": "x", "origin": "http://127.0.0.1:9/x", "cache_dir": str(claim.parent.parent / "home")}


def _kernel(config: dict[str, Any], claim: Path) -> None:
    config["config"]["layers"][-1]["config"]["kernel_initializer"] = {
        "module": "builtins", "class_name": "exec", "config": attack(claim), "registered_name": None,
    }  # fmt: skip


def _model(name: str, change: Any, *says: str) -> Bad:
    return Bad(
        name=f"Keras: {name}",
        make=_keras(change),
        reason=UNSAFE,
        says=("m.keras", *says),
        uri="m.keras",
        tensorflow=True,
    )


KERAS = (
    _model("a download (CVE-2025-8747)", _layer(module="keras.utils", class_name="get_file", config=_download,
           registered_name="get_file"), "keras.utils"),
    _model("a download by its inner name", _layer(module="keras.src.utils.file_utils", class_name="get_file",
           config=_download, registered_name="get_file"), "keras.src.utils"),
    _model("a builtin that runs text", _kernel, "builtins"),
    _model("a module of one's own (CVE-2025-1550)", _layer(module="os", class_name="system", config={"command": "true"},
           registered_name=None), "os.system"),
    _model("a model of another folder", _layer(module="keras.layers", class_name="TFSMLayer",
           config={"filepath": "/tmp/evil"}, registered_name=None), "TFSMLayer"),
)  # fmt: skip
