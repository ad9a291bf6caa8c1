"""Pickles that run code, that pretend to be weights, and the other formats of PyTorch that are code."""

import builtins
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad
from support.bad.sources import RESNET, tarred, zipped
from support.hostile import Runs, attack

UNSAFE, MODEL, CUT = Reason.UNSAFE_MODEL, Reason.MODEL_INVALID, Reason.SOURCE_TRUNCATED


def _file(content: Callable[[Path], bytes], name: str = "m.pt") -> Callable[[Path], dict[str, Any]]:
    def make(claim: Path) -> dict[str, Any]:
        (claim / name).write_bytes(content(claim))
        return RESNET

    return make


def checkpoint(data: bytes, **records: bytes) -> bytes:
    """What torch.save writes, with this pickle inside."""
    parts = {"data.pkl": data, "byteorder": b"little", "data/0": bytes(4), "version": b"3\n", **records}
    return zipped(*((f"archive/{name}", part) for name, part in parts.items()))


def _exec(claim: Path, protocol: int = 2) -> bytes:
    return pickle.dumps({"w": Runs(builtins.exec, attack(claim))}, protocol=protocol)


def _tensor(*, size: tuple[int, ...], storage: int) -> bytes:
    """A tensor by hand: `size` over a storage of `storage` elements."""
    out = io.BytesIO()

    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return value.said if isinstance(value, _Storage) else None

    import torch

    stride = tuple([1] * len(size))
    said = ("storage", torch.FloatStorage, "0", "cpu", storage)
    call = Runs(torch._utils._rebuild_tensor_v2, _Storage(said), 0, size, stride, False, OrderedDict())
    Writer(out, protocol=2).dump(OrderedDict(w=call))
    return checkpoint(out.getvalue())


class _Storage:
    def __init__(self, said: Any) -> None:
        self.said = said


def _injected(**attributes: Any) -> bytes:
    """A state_dict whose own methods are hidden behind values from the file."""

    class Hiding:
        def __reduce__(self) -> tuple[Any, ...]:
            return OrderedDict, (), attributes, None, iter([("w", 1)])

    return checkpoint(pickle.dumps(Hiding(), protocol=2))


def _sparse(_claim: Path) -> bytes:
    """Indices far outside of the size."""
    import torch

    far = torch.sparse_coo_tensor(torch.tensor([[2**40]]), torch.ones(1), (4,), check_invariants=False)
    out = io.BytesIO()
    torch.save({"w": far}, out)
    return out.getvalue()


def _legacy_tar(claim: Path) -> bytes:
    """The tar that PyTorch 0.1 wrote: reading it was the way around weights_only in CVE-2025-32434."""
    parts = {name: _exec(claim) for name in ("sys_info", "pickle", "storages", "tensors")}
    return tarred(*parts.items(), zip_it=False)


def _script(claim: Path, *, drop: str = "") -> bytes:
    import torch

    out = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(4, 2).eval()), out)
    if not drop:
        return out.getvalue()
    with zipfile.ZipFile(out) as archive:
        kept = [(n, archive.read(n)) for n in archive.namelist() if not n.endswith(drop)]
    return zipped(*kept)


def _two_readers(claim: Path) -> bytes:
    """Two members of one name: a scanner reads the first, a loader the second."""
    out = io.BytesIO(checkpoint(pickle.dumps(OrderedDict(), protocol=2)))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("archive/data.pkl", _exec(claim))
    return out.getvalue()


def _compiled(_claim: Path) -> bytes:
    """What AOTInductor packages: native code beside a graph."""
    parts = {
        "archive_format": b"pt2", "models/model.json": b"{}", "data/aotinductor/model/model.so": b"\x7fELF",
        "data/aotinductor/model/wrapper.cpp": b"int main() {}",
    }  # fmt: skip
    return zipped(*((f"m/{name}", part) for name, part in parts.items()))


def _bad(name: str, content: Callable[[Path], bytes], reason: Reason, *says: str, uri: str = "m.pt") -> Bad:
    made = _file(content, uri)
    return Bad(name=f"pickle: {name}", make=made, reason=reason, says=says or (uri,), uri=uri, torch=True)


def _other(name: str, content: Callable[[Path], bytes], reason: Reason, *says: str, uri: str = "m.pt") -> Bad:
    def make(claim: Path) -> None:
        (claim / uri).write_bytes(content(claim))

    return Bad(name=f"PyTorch: {name}", make=make, reason=reason, says=says or (uri,), uri=uri, torch=True)


PICKLES = (
    _bad("exec, protocol 4", lambda c: checkpoint(_exec(c, 4)), UNSAFE, "m.pt"),
    _bad("exec, bare", lambda c: _exec(c, 2), UNSAFE, "m.pt", "pilotfish.pack", uri="m.pt"),
    _bad("exec, bare, protocol 5, as .bin", lambda c: _exec(c, 5), UNSAFE, uri="pytorch_model.bin"),
    _bad("system, protocol 0", lambda _: b"cposix\nsystem\n(S'mkdir bitten'\ntR.", Reason.UNKNOWN_FORMAT),
    _bad("a name that only looks allowed", lambda c: checkpoint(
        pickle.dumps({"w": Runs(__import__("torch").hub._load_local, str(c), "model")}, protocol=2)
    ), UNSAFE, "torch.hub"),
    _bad("getattr to anywhere", lambda c: checkpoint(
        pickle.dumps({"w": Runs(getattr, Runs(__import__, "os"), "system")}, protocol=2)
    ), UNSAFE, "builtins"),
    _bad("the tar of PyTorch 0.1", _legacy_tar, Reason.UNKNOWN_FORMAT, "4 models", uri="m.tar"),
    _bad("methods hidden by attributes", lambda _: _injected(values="x", items="y", get="z", keys="k"), MODEL,
         "state_dict"),
    _bad("more elements than its storage", lambda _: _tensor(size=(2**40,), storage=1), CUT),
    _bad("a storage larger than its record", lambda _: _tensor(size=(2**20,), storage=2**40), CUT),
    _bad("sparse indices far outside", _sparse, CUT),
    _bad("a hundred thousand levels", lambda _: checkpoint(
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    ), MODEL, "state_dict"),
    _bad("endless memory from a small opcode", lambda _: checkpoint(
        b"\x80\x02\x8e" + struct.pack("<Q", 2**62) + b"x."
    ), UNSAFE),
    _bad("two members of one name", _two_readers, UNSAFE, "twice"),
    _bad("TorchScript that hides its constants", lambda c: _script(c, drop="constants.pkl"), UNSAFE),
    _other("TorchScript called .onnx", _script, UNSAFE, "trust", uri="m.onnx"),
    _other("TorchScript in a zip", lambda c: zipped(("v1/m.pt", _script(c))), UNSAFE, "trust", uri="m.zip"),
    _other("TorchScript in a tar", lambda c: tarred(("v1/m.pt", _script(c))), UNSAFE, "trust", uri="m.tar.gz"),
    _other("a compiled package", _compiled, UNSAFE, "m.pt2", uri="m.pt2"),
    _other("a pickle in a zip of a folder", lambda c: zipped(("v1/weights.bin", _exec(c))),
           Reason.ARCHITECTURE_INVALID, "weights only", uri="m.zip"),
)  # fmt: skip
