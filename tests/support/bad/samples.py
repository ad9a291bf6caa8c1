"""Samples and signatures that do not fit a sound model."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad, Bite
from support.bad.sources import zipped
from support.onnx_models import save_mlp


def _arrays(**arrays: Any) -> Callable[[Path], None]:
    def make(claim: Path) -> None:
        np.savez(claim / "s.npz", **arrays)

    return make


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda claim: (claim / "s.npz").write_bytes(data) and None


def _plain(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def _declares(shape: str) -> bytes:
    """An .npz whose array declares more than it holds."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return zipped(("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header))


def _bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(80 * 1024**2))
    return out.getvalue()


def _bad(
    name: str, make: Callable[[Path], None], *says: str, reason: Reason = Reason.SAMPLES_INVALID, **more: Any
) -> Bad:
    def both(claim: Path) -> dict[str, Any]:
        save_mlp(claim / "m.onnx")
        make(claim)
        return {"samples": {"uri": "pvc://claim/s.npz"}}

    return Bad(name=f"samples: {name}", make=both, reason=reason, says=says, **more)


def _signed(**said: Any) -> Callable[[Path], dict[str, Any]]:
    def make(claim: Path) -> dict[str, Any]:
        save_mlp(claim / "m.onnx")
        return {"signature": {"inputs": [{"name": "x", "dtype": "FP32", "shape": [16]} | said]}}

    return make


_GOOD = np.zeros((8, 16), np.float32)
SAMPLES = (
    _bad("another name", _arrays(z=_GOOD), "lack 'x'", "one array per input"),
    _bad("a name too many", _arrays(x=_GOOD, z=_GOOD), "hold 'z'"),
    _bad("another width", _arrays(x=np.zeros((8, 15), np.float32)), "[samples, 16]", "reshape"),
    _bad("a dimension too many", _arrays(x=np.zeros((8, 1, 16), np.float32)), "[samples, 16]"),
    _bad("a single number", _arrays(x=np.float32(1)), "[samples, 16]"),
    _bad("whole numbers", _arrays(x=np.zeros((8, 16), int)), "int64", "convert"),
    _bad("strings", _arrays(x=np.full((8, 16), "a")), "'x'", "convert"),
    _bad("complex numbers", _arrays(x=np.zeros((8, 16), complex)), "complex", "convert"),
    _bad("no rows", _arrays(x=np.zeros((0, 16), np.float32)), "number of samples"),
    _bad("NaN", _arrays(x=np.full((8, 16), np.nan, np.float32)), "NaN", "remove"),
    _bad("numbers past single precision", _arrays(x=np.full((8, 16), 1e300)), "'x'", "infinity"),
    _bad("labels of other length", _arrays(x=_GOOD, labels=np.zeros(7, int)), "number of samples", "labels 7"),
    _bad("objects", _arrays(x=np.array([Bite()], dtype=object)), "objects", "plain arrays"),
    _bad("no arrays", _bytes(b"nothing"), "s.npz", "write it again"),
    _bad("an empty file", _bytes(b""), "s.npz", "write it again"),
    _bad("cut short", _bytes(_plain(x=_GOOD)[:400]), "s.npz"),
    _bad("more declared than held", _bytes(_declares("(1000000000000,)")), "declares more"),
    _bad("a negative size", _bytes(_declares("(-1, 16)")), "s.npz"),
    _bad("code for a shape", _bytes(_declares("__import__('os').mkdir('bitten')")), "s.npz"),
    _bad("a name that climbs", _bytes(zipped(("../x.npy", b"x"))), "outside"),
    _bad("a bomb", _bytes(_bomb()), "unpack to"),
    _bad("nothing there", lambda _claim: None, "s.npz", reason=Reason.SOURCE_NOT_FOUND, fetched=False),
)
SIGNATURES = (
    Bad(
        name="signature: another size",
        make=_signed(shape=[17]),
        reason=Reason.SIGNATURE_MISMATCH,
        says=("[17]", "[16]"),
    ),
    Bad(
        name="signature: another rank", make=_signed(shape=[4, 4, 16]), reason=Reason.SIGNATURE_MISMATCH, says=("'x'",)
    ),
    Bad(name="signature: another type", make=_signed(dtype="INT64"), reason=Reason.SIGNATURE_MISMATCH, says=("INT64",)),
    Bad(name="signature: another name", make=_signed(name="z"), reason=Reason.SIGNATURE_MISMATCH, says=("z", "x")),
)
