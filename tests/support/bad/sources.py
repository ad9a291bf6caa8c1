"""Sources that cannot be fetched, and files and archives that are none of what they seem."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import RETRY, Bad
from support.onnx_models import save_mlp


def nothing(_claim: Path) -> None:
    """No file at all."""


def written(data: bytes, name: str = "m.onnx") -> Callable[[Path], None]:
    """One file with these bytes."""

    def make(claim: Path) -> None:
        (claim / name).write_bytes(data)

    return make


def cut(share: float) -> Callable[[Path], None]:
    """A sound ONNX file that ends early."""

    def make(claim: Path) -> None:
        whole = save_mlp(claim / "m.onnx").read_bytes()
        (claim / "m.onnx").write_bytes(whole[: int(len(whole) * share)])

    return make


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], deflate: bool = False) -> bytes:
    """A zip with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def tarred(*members: tuple[str, bytes | tuple[bytes, str]], zip_it: bool = True) -> bytes:
    """A tar whose members are bytes, or a member's type with its link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0) if zip_it else out.getvalue()


def _folder(*files: str) -> Callable[[Path], None]:
    def make(claim: Path) -> None:
        (claim / "d").mkdir()
        for number, name in enumerate(files):
            save_mlp(claim / "d" / name, seed=number)

    return make


def _with(act: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A folder with one sound model, and something beside it."""

    def make(claim: Path) -> None:
        _folder("m.onnx")(claim)
        act(claim / "d")

    return make


def _many(folder: Path) -> None:
    for number in range(4097):
        (folder / f"{number}").touch()


def _wrong_pin(claim: Path) -> dict[str, Any]:
    save_mlp(claim / "m.onnx")
    return {"digest": "sha256:" + "0" * 64}


def _wrong_format(claim: Path) -> dict[str, Any]:
    save_mlp(claim / "m.onnx")
    return {"format": "StateDict"}


def _zip_link() -> bytes:
    info = zipfile.ZipInfo("model.onnx")
    info.external_attr = 0o120777 << 16
    return zipped((info, b"/etc/passwd"))


def _encrypted() -> bytes:
    data = bytearray(zipped(("model.onnx", b"x" * 100)))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    return bytes(data)


def _damaged() -> bytes:
    data = bytearray(zipped(("v1/model.onnx", b"x" * 1000)))
    data[200] ^= 255
    return bytes(data)


def _fetch(name: str, make: Any, reason: Reason, *says: str, uri: str = "d", **more: Any) -> Bad:
    return Bad(name=name, make=make, reason=reason, says=says, uri=uri, fetched=False, **more)


def _file(name: str, data: bytes, reason: Reason, *says: str, uri: str = "m.onnx") -> Bad:
    return Bad(name=name, make=written(data, uri), reason=reason, says=says or (uri,), uri=uri)


FETCH = (
    _fetch("nothing there", nothing, Reason.SOURCE_NOT_FOUND, "pvc://claim/none", "check the path", uri="none"),
    _fetch("an empty folder", lambda claim: (claim / "d").mkdir(), Reason.SOURCE_NOT_FOUND, "empty folder"),
    _fetch("another digest", _wrong_pin, Reason.SOURCE_DIGEST_MISMATCH, "spec.model.digest", uri="m.onnx"),
    _fetch("a link out", _with(lambda d: (d / "a").symlink_to("/etc/passwd")), Reason.UNSAFE_MODEL, "a", "outside"),
    _fetch("a link up", _with(lambda d: (d / "a").symlink_to("../..")), Reason.UNSAFE_MODEL, "a in", "outside"),
    _fetch("a loop", _with(lambda d: (d / "loop").symlink_to(".")), Reason.UNSAFE_MODEL, "loop"),
    _fetch("a link to itself", _with(lambda d: (d / "self").symlink_to("self")), Reason.UNSAFE_MODEL, "self"),
    _fetch("a dangling link", _with(lambda d: (d / "gone").symlink_to("x")), Reason.UNSAFE_MODEL, "gone"),
    _fetch("a pipe", _with(lambda d: os.mkfifo(d / "pipe")), Reason.UNSAFE_MODEL, "pipe", "regular file"),
    _fetch("a backslash", _with(lambda d: (d / "a\\b").touch()), Reason.UNSAFE_MODEL, "leaves its folder"),
    _fetch("too many files", _with(_many), Reason.SOURCE_TOO_LARGE, "4098 files"),
    _fetch("a climbing claim", nothing, Reason.UNSAFE_MODEL, "leaves its folder", uri="../etc/passwd"),
    _fetch("a scheme of old", nothing, Reason.SOURCE_UNSUPPORTED, "oci://", uri="ftp://host/m"),
    _fetch("a password", nothing, Reason.INPUT_INVALID, "credentials.secretName", uri="https://me:word@host/m"),
    _fetch("a folder over http", nothing, Reason.SOURCE_UNSUPPORTED, "serve one file", uri="http://127.0.0.1:9/d/"),
    _fetch("nobody listens", nothing, Reason.SOURCE_UNREACHABLE, "127.0.0.1:9", uri="http://127.0.0.1:9/m", code=RETRY),
    _fetch("half a repository", nothing, Reason.INPUT_INVALID, "hf://organisation/name", uri="hf://name"),
    _fetch("no registry", nothing, Reason.INPUT_INVALID, "oci://registry/repository:tag", uri="oci://host"),
    _fetch("an account nobody named", nothing, Reason.SOURCE_FORBIDDEN, "AZURE_STORAGE_ACCOUNT_NAME", uri="az://c/m"),
)

_BOMB = bytes(80 * 1024**2)
_BODY = b"x" * 5000
FILES = (
    _file("an empty file", b"", Reason.SOURCE_TRUNCATED, "m.onnx", "upload it again"),
    _file("other bytes", b"hello, I am a model", Reason.UNKNOWN_FORMAT, "m.onnx", "give ONNX"),
    _file("a PDF that says .onnx", b"%PDF-1.7 ...", Reason.UNKNOWN_FORMAT),
    _file("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\n", Reason.SOURCE_TRUNCATED, "Git LFS"),
    _file("GGUF", b"GGUF" + bytes(100), Reason.UNKNOWN_FORMAT, "GGUF"),
    *(
        Bad(name=f"ONNX cut at {s:.0%}", make=cut(s), reason=Reason.SOURCE_TRUNCATED, says=("m.onnx", "cut short"))
        for s in (0.02, 0.5, 0.99)
    ),
    Bad(name="two models", make=_folder("a.onnx", "b.onnx"), reason=Reason.UNKNOWN_FORMAT, says=("a.onnx, b.onnx",), uri="d"),
    Bad(
        name="no model", make=lambda claim: (claim / "d").mkdir() or (claim / "d" / "readme.txt").write_text("hello"),
        reason=Reason.UNKNOWN_FORMAT, says=("readme.txt", "point spec.model.uri"), uri="d",
    ),
    Bad(name="another format", make=_wrong_format, reason=Reason.UNKNOWN_FORMAT, says=("is ONNX", "drop it")),
    _file("a zip cut short", zipped(("a", _BODY))[:500], Reason.SOURCE_TRUNCATED, "m.zip", uri="m.zip"),
    _file("a tar.gz cut short", tarred(("m.onnx", os.urandom(9000)))[:2000], Reason.SOURCE_TRUNCATED, uri="m.tar.gz"),
    _file("an empty zip", zipped(("a/", b"")), Reason.UNKNOWN_FORMAT, uri="m.zip"),
    _file("an encrypted zip", _encrypted(), Reason.UNKNOWN_FORMAT, "encrypted", uri="m.zip"),
    _file("a damaged zip", _damaged(), Reason.SOURCE_TRUNCATED, "v1/model.onnx", uri="m.zip"),
    _file("a zip in a zip", zipped(("in.zip", zipped(("m.onnx", _BODY)))), Reason.UNKNOWN_FORMAT, "in.zip", uri="m.zip"),
    *(
        _file(f"zip slip {name!r}", zipped((name, b"x")), Reason.UNSAFE_MODEL, "m.zip", "outside", uri="m.zip")
        for name in ("../up", "/abs", "a/../../up", "..\\up")
    ),
    _file("a link in a zip", _zip_link(), Reason.UNSAFE_MODEL, "link", uri="m.zip"),
    _file("a zip bomb", zipped(("m.onnx", _BOMB), deflate=True), Reason.UNSAFE_MODEL, "unpack to", uri="m.zip"),
    _file("a file that is a folder, too", zipped(("a", b"x"), ("a/b", b"y")), Reason.UNSAFE_MODEL, "'a", uri="m.zip"),
    _file("a name too long", zipped(("n" * 300, b"x")), Reason.UNSAFE_MODEL, "nnn", uri="m.zip"),
    _file("a tar that climbs", tarred(("../up", b"x")), Reason.UNSAFE_MODEL, "outside", uri="m.tar.gz"),
    _file("a tar bomb", tarred(("m.onnx", _BOMB)), Reason.UNSAFE_MODEL, "unpack to", uri="m.tar.gz"),
    _file("a tar that clashes", tarred(("a", b"x"), ("a/b", b"y")), Reason.UNSAFE_MODEL, "'a", uri="m.tar.gz"),
    *(
        _file(f"a {what} in a tar", tarred(("m.onnx", kind)), Reason.UNSAFE_MODEL, "m.onnx", uri="m.tar.gz")
        for what, kind in {
            "link": (tarfile.SYMTYPE, "/etc/passwd"),
            "hard link": (tarfile.LNKTYPE, "x"),
            "device": (tarfile.CHRTYPE, ""),
        }.items()
    ),
)  # fmt: skip


def _tensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


_WEIGHTS = {
    "a header too long": (struct.pack("<Q", 5000) + b'{"a":', Reason.SOURCE_TRUNCATED),
    "a header without end": (struct.pack("<Q", 2**63) + b"{" + bytes(50), Reason.SOURCE_TRUNCATED),
    "a header that is no JSON": (_tensors(b'{"w": nonsense}'), Reason.MODEL_INVALID),
    "overlapping tensors": (
        _tensors(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
            bytes(12),
        ),
        Reason.MODEL_INVALID,
    ),
    "a type nobody knows": (
        _tensors(b'{"a":{"dtype":"Q7","shape":[2],"data_offsets":[0,8]}}', bytes(8)), Reason.MODEL_INVALID,
    ),
    "a shape larger than its bytes": (
        _tensors(b'{"a":{"dtype":"F32","shape":[200000000000],"data_offsets":[0,8]}}', bytes(8)), Reason.MODEL_INVALID,
    ),
    "bytes cut off": (
        _tensors(b'{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}', bytes(8)), Reason.MODEL_INVALID,
    ),
}  # fmt: skip
RESNET = {
    "architecture": {"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 10}},
    "signature": {"inputs": [{"name": "image", "dtype": "FP32", "shape": [3, 32, 32]}]},
}


def _weights(data: bytes) -> Callable[[Path], dict[str, Any]]:
    def make(claim: Path) -> dict[str, Any]:
        (claim / "m.safetensors").write_bytes(data)
        return RESNET

    return make


SAFETENSORS = tuple(
    Bad(
        name=f"safetensors: {name}", make=_weights(data), reason=reason, says=("m.safetensors",), uri="m.safetensors",
        torch=True,
    )
    for name, (data, reason) in _WEIGHTS.items()
)  # fmt: skip
