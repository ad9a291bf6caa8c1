"""PyTorch files and folders: pickles with code, weights that do not fit, folders of HuggingFace that lie."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad, Bite
from support.bad.sources import RESNET, zipped

UNSAFE, MODEL, CODE = Reason.UNSAFE_MODEL, Reason.MODEL_INVALID, Reason.ARCHITECTURE_INVALID


def _saved(value: Callable[[], Any], *, uri: str = "m.pt", **model: Any) -> Callable[[Path], dict[str, Any]]:
    """What torch.save makes of a value."""

    def make(claim: Path) -> dict[str, Any]:
        import torch

        torch.save(value(), claim / uri)
        return {**RESNET, **model}

    return make


def _pickled(claim: Path) -> dict[str, Any]:
    (claim / "m.pt").write_bytes(pickle.dumps({"weight": Bite()}, protocol=2))
    return RESNET


def _resnet(change: Callable[[dict[str, Any]], Any] = lambda _state: None) -> Callable[[], dict[str, Any]]:
    def state() -> dict[str, Any]:
        import torchvision

        found = dict(torchvision.models.resnet18(num_classes=10).state_dict())
        change(found)
        return found

    return state


def _zeros() -> Any:
    import torch

    return torch.zeros(1)


def _linear() -> Any:
    import torch

    return torch.nn.Linear(4, 2).eval()


def _script(claim: Path) -> None:
    import torch

    torch.jit.save(torch.jit.script(_linear()), claim / "m.pt")


def _cut_checkpoint(claim: Path) -> dict[str, Any]:
    model = _saved(lambda: {"w": _zeros()})(claim)
    data = (claim / "m.pt").read_bytes()
    (claim / "m.pt").write_bytes(data[: len(data) // 2])
    return model


def _program(change: Callable[[str, bytes], bytes | None]) -> Callable[[Path], None]:
    """A `.pt2` of torch.export with its parts changed."""

    def make(claim: Path) -> None:
        import zipfile

        import torch

        program = torch.export.export(_linear(), (torch.randn(2, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        program._example_inputs = None
        torch.export.save(program, str(claim / "raw.pt2"))
        with zipfile.ZipFile(claim / "raw.pt2") as old, zipfile.ZipFile(claim / "m.pt2", "w") as new:
            for name in old.namelist():
                if (data := change(name, old.read(name))) is not None:
                    new.writestr(name, data)
        (claim / "raw.pt2").unlink()

    return make


def _pack(note: Any, **files: bytes) -> Callable[[Path], None]:
    def make(claim: Path) -> None:
        (claim / "d").mkdir()
        (claim / "d" / "pilotfish.json").write_text(note if isinstance(note, str) else json.dumps(note))
        for name, data in files.items():
            (claim / "d" / name.replace("_", ".")).write_bytes(data)

    return make


_BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 64,
    "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32,
}  # fmt: skip


def _hub(config: Any, *, index: dict[str, str] | None = None, weights: bool = True) -> Callable[[Path], None]:
    """A folder of HuggingFace; with `index`, its weights are named there."""

    def make(claim: Path) -> None:
        from safetensors.torch import save_file

        folder = claim / "d"
        folder.mkdir()
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        if weights:
            save_file({"w": _zeros()}, folder / ("part.safetensors" if index else "model.safetensors"))
        if index:
            text = {"metadata": {"total_size": 4}, "weight_map": index}
            (folder / "model.safetensors.index.json").write_text(json.dumps(text))
        (folder / "mine.py").write_text("import os; os.mkdir('bitten')")

    return make


def _secret_shard(claim: Path) -> None:
    from safetensors.torch import save_file

    _hub(_BERT, index={"embeddings.word_embeddings.weight": "../secret.safetensors"})(claim)
    save_file({"embeddings.word_embeddings.weight": _zeros()}, claim / "secret.safetensors")


def _bad(name: str, make: Any, reason: Reason, *says: str, uri: str = "m.pt", **more: Any) -> Bad:
    return Bad(name=f"PyTorch: {name}", make=make, reason=reason, says=says or (uri,), uri=uri, torch=True, **more)


def _architecture(**said: Any) -> Callable[[Path], dict[str, Any]]:
    return _saved(_resnet(), architecture=said)


PICKLES = (
    _bad("a pickle with code", _pickled, UNSAFE, "m.pt", "pilotfish.pack"),
    _bad("a checkpoint with code", _saved(lambda: {"w": _zeros(), "x": Bite()}), UNSAFE, "mkdir"),
    _bad("an old checkpoint with code", lambda claim: (
        __import__("torch").save({"w": Bite()}, claim / "m.pt", _use_new_zipfile_serialization=False) or RESNET
    ), UNSAFE, "m.pt"),
    _bad("a whole module", _saved(_linear), UNSAFE, "torch.nn", "state_dict"),
    _bad("TorchScript as data", _script, UNSAFE, "trust"),
    _bad("a .mar as data", lambda claim: (claim / "m.mar").write_bytes(
        zipped(("MAR-INF/MANIFEST.json", b"{}"), ("h.py", b"import os; os.mkdir('bitten')"))
    ) and None, UNSAFE, "trust", uri="m.mar"),
    _bad("a .mar that climbs", lambda claim: (claim / "m.mar").write_bytes(
        zipped(("MAR-INF/MANIFEST.json", b"{}"), ("../up", b"x"))
    ) and {"trust": "Executable"}, UNSAFE, "outside", uri="m.mar"),
    _bad("pickled inputs in a .pt2", _program(
        lambda n, d: pickle.dumps(Bite()) if n.endswith("sample_inputs/model.pt") else d
    ), UNSAFE, "m.pt2", uri="m.pt2"),
    _bad("a system call in a .pt2", _program(
        lambda n, d: d.replace(b"torch.ops.aten.linear.default", b"torch.os.mkdir") if n.endswith(".json") else d
    ), UNSAFE, "m.pt2", uri="m.pt2"),
    _bad("a .pt2 without its graph", _program(lambda n, d: None if n.endswith("models/model.json") else d),
         Reason.UNKNOWN_FORMAT, "archive_format", uri="m.pt2"),
    _bad("a SavedModel as data", lambda claim: (claim / "d").mkdir() or ((claim / "d" / "saved_model.pb").write_bytes(
        b"\x08\x01ReadFile") and None), UNSAFE, "trust", "ReadFile", uri="d"),
)  # fmt: skip

STATES = (
    _bad("no architecture", _saved(_resnet(), architecture=None), CODE, "spec.model.architecture"),
    _bad("no signature", _saved(_resnet(), signature=None), Reason.SIGNATURE_MISSING, "spec.model.signature"),
    _bad("a factory off the list", _architecture(factory="os.system"), CODE, "not on the list"),
    _bad("a module of a module", _architecture(factory="torchvision.os.system"), CODE, "torchvision.os.system"),
    _bad("a factory that is not", _architecture(factory="torchvision.models.nothing"), CODE, "nothing"),
    _bad("a download", _architecture(factory="torchvision.models.resnet18", arguments={"weights": "DEFAULT"}), CODE,
         "download"),
    _bad("an argument too many", _architecture(factory="torchvision.models.resnet18", arguments={"colour": 3}), CODE,
         "colour"),
    _bad("another head", _architecture(factory="torchvision.models.resnet18", arguments={"num_classes": 7}), CODE, "fit"),
    _bad("a missing key", _saved(_resnet(lambda s: s.pop("fc.bias"))), CODE, "lack 'fc.bias'"),
    _bad("a key too many", _saved(_resnet(lambda s: s.update(extra=_zeros()))), CODE, "fit"),
    _bad("no weights at all", _saved(lambda: [1, 2, 3]), MODEL, "state_dict"),
    _bad("a checkpoint cut short", _cut_checkpoint, Reason.SOURCE_TRUNCATED, "m.pt"),
    _bad("code beside the weights as data", _architecture(file="model.py#build"), UNSAFE, "trust: Executable"),
)  # fmt: skip

FOLDERS = (
    _bad("HF: code of its own", _hub({"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}}), UNSAFE,
         "code of its own", uri="d"),
    _bad("HF: an architecture nobody knows", _hub({"model_type": "nothing"}), MODEL, "nothing", uri="d"),
    _bad("HF: no type", _hub({}), MODEL, "config.json", uri="d"),
    _bad("HF: a config that is none", _hub("{"), MODEL, "config.json", uri="d"),
    _bad("HF: a list for a config", _hub([]), MODEL, "config.json", uri="d"),
    _bad("HF: no weights", _hub(_BERT, weights=False), Reason.UNKNOWN_FORMAT, "config.json", uri="d"),
    _bad("HF: other weights", _hub(_BERT), MODEL, "missing", "at random", uri="d"),
    _bad("HF: a shard outside", _secret_shard, UNSAFE, "../secret.safetensors", uri="d"),
    _bad("HF: a shard that is not there", _hub(_BERT, index={"w": "two.safetensors"}), MODEL, "two.safetensors", uri="d"),
    _bad("a pack that cannot be read", _pack("{"), MODEL, "pilotfish.json", uri="d"),
    _bad("a pack of another file", _pack({"model": "../m.pt2"}), UNSAFE, "../m.pt2", uri="d"),
    _bad("a pack without its model", _pack({"model": "model.pt2"}), MODEL, "model.pt2", uri="d"),
    _bad("a pack whose model is none", _pack({"model": "model.pt2"}, model_pt2=b"nothing"), Reason.SOURCE_TRUNCATED, "model.pt2", uri="d"),
)  # fmt: skip
