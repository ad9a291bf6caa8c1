"""Archives that climb, link, lie about sizes, or grow."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from pilotfish.api.report import OptimizerReason as Reason
from support.bad import Bad
from support.bad.sources import tarred, zipped
from support.onnx_models import save_mlp

UNSAFE, CUT, UNKNOWN = Reason.UNSAFE_MODEL, Reason.SOURCE_TRUNCATED, Reason.UNKNOWN_FORMAT
_MIB = 1024**2


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """A tar.gz of members as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in members:
            info.size = info.size or len(data)
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), 1, mtime=0)


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", **pax: str) -> tarfile.TarInfo:
    """One header."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax
    return info


def _raw_header(kind: bytes, size: int) -> bytes:
    """A header that says `size` of what follows."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def _huge_header(kind: bytes, size: int) -> bytes:
    return gzip.compress(_raw_header(kind, size) + bytes(size), 1, mtime=0)


def _bytes_name() -> bytes:
    info = tarfile.TarInfo("model-\udcff.onnx")
    return tar_of([(info, b"x")], format=tarfile.GNU_FORMAT)


def _sparse() -> bytes:
    """A file of 1 TiB that is all hole."""
    holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)}
    return tar_of([(member("m.onnx", **holes, **{"GNU.sparse.name": "m.onnx"}), b"1\n0\n0\n".ljust(512, b"\0"))])


def _sparse_nonsense() -> bytes:
    holes = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "7", "GNU.sparse.name": "m.onnx"}
    return tar_of([(member("m.onnx", **holes), b"many\n".ljust(512, b"\0"))])


def _attributes(name: str, mode: int, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, data


def _central(data: bytes, offset: int, value: bytes) -> bytes:
    """A zip with bytes of its first central entry replaced."""
    at = data.index(b"PK\x01\x02") + offset
    return data[:at] + value + data[at + len(value) :]


def _overlapping() -> bytes:
    """A thousand entries of one compressed block: 1 MiB each, a thousandth of that on disk."""
    data = zipped(("f0", bytes(_MIB)), deflate=True)
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    entries = b"".join(entry.replace(b"f0", b"%c%c" % (48 + n // 40, 48 + n % 40)) for n in range(1000))
    count = struct.pack("<HHLL", 1000, 1000, len(entries), start)
    return data[:start] + entries + end[:8] + count + b"\0\0"


def _prefixed() -> bytes:
    """Bytes before the zip: where it begins is a question of who reads."""
    return b"\x7fELF" + bytes(60) + zipped(("m.onnx", b"x"))


def _nested(levels: int) -> bytes:
    data = tarred(("m.onnx", b"x" * 100))
    for _ in range(levels):
        data = gzip.compress(data, mtime=0)
    return data


def _file(name: str, data: Callable[[], bytes], reason: Reason, *says: str, uri: str) -> Bad:
    def make(claim: Path) -> None:
        (claim / uri).write_bytes(data())

    return Bad(
        name=f"{uri[2:]}: {name}", make=make, reason=reason, says=(uri.split(".", maxsplit=1)[0], *says), uri=uri
    )


def _tar(name: str, data: Callable[[], bytes], reason: Reason = UNSAFE, *says: str) -> Bad:
    return _file(name, data, reason, *says, uri="m.tar.gz")


def _zip(name: str, data: Callable[[], bytes], reason: Reason = UNSAFE, *says: str) -> Bad:
    return _file(name, data, reason, *says, uri="m.zip")


TARS = (
    _tar("an absolute name", lambda: tarred(("/tmp/up", b"x")), UNSAFE, "outside"),
    _tar("a name in an extended header that climbs", lambda: tar_of([(member("ok", path="../../up"), b"x")]),
         UNSAFE, "outside"),
    _tar("a sparse file's own name that climbs", lambda: tar_of([(member("ok", **{"GNU.sparse.name": "../up",
         "GNU.sparse.map": "0,1", "GNU.sparse.size": "1"}), b"x")]), UNSAFE, "outside"),
    _tar("a folder that is a link, and a file through it",
         lambda: tar_of([(member("a", tarfile.SYMTYPE, link="/tmp"), b""), (member("a/up"), b"x")]), UNSAFE, "link"),
    _tar("a hard link, and new bytes for what it names",
         lambda: tar_of([(member("a", tarfile.LNKTYPE, link="../../home/keep"), b""), (member("a"), b"x")]),
         UNSAFE, "link"),
    _tar("a link whose target hides in an extended header",
         lambda: tar_of([(member("a", tarfile.SYMTYPE, link="b", linkpath="/etc/passwd"), b"")]), UNSAFE, "link"),
    _tar("a pipe", lambda: tar_of([(member("m.onnx", tarfile.FIFOTYPE), b"")]), UNSAFE, "special file"),
    _tar("a block device", lambda: tar_of([(member("m.onnx", tarfile.BLKTYPE), b"")]), UNSAFE, "special file"),
    _tar("a type that nobody knows", lambda: tar_of([(member("m.onnx", b"Q"), b"")]), UNSAFE),
    _tar("an extended header of 64 MiB", lambda: _huge_header(b"x", 64 * _MIB), UNSAFE, "a header of"),
    _tar("a global header of 64 MiB", lambda: _huge_header(b"g", 64 * _MIB), UNSAFE, "a header of"),
    _tar("a long name of 64 MiB", lambda: _huge_header(b"L", 64 * _MIB), UNSAFE, "a header of"),
    _tar("a hole of 1 TiB", _sparse, UNSAFE, "would unpack to"),
    _tar("a sparse map that is none", _sparse_nonsense, CUT),
    _tar("five thousand folders", lambda: tar_of((member(f"d{n}", tarfile.DIRTYPE), b"") for n in range(5000)),
         UNSAFE, "4097 files"),
    _tar("a name that is no text", _bytes_name, UNSAFE, "UTF-8"),
    _tar("a path of 20 KiB", lambda: tar_of([(member("d/" * 10_000 + "m.onnx"), b"x")]), UNSAFE, "1024"),
    _tar("a bomb inside a bomb", lambda: _nested(3), CUT),
)  # fmt: skip

ZIPS = (
    _zip("entries that share one block", _overlapping, UNSAFE, "would unpack to"),
    _zip("less declared than it holds", lambda: _central(
        zipped(("v1/m.onnx", bytes(80 * _MIB)), deflate=True), 24, struct.pack("<L", 10)), CUT, "v1/m.onnx"),
    _zip("a folder that is a link, and a file through it",
         lambda: zipped(_attributes("a", 0o120777, b"/tmp"), ("a/up", b"x")), UNSAFE, "link"),
    _zip("a device", lambda: zipped(_attributes("m.onnx", 0o060666, b"x"), ("n", b"y")), UNKNOWN),
    _zip("five thousand files", lambda: zipped(*((f"f{n}", b"") for n in range(5000))), UNSAFE, "5000 files"),
    _zip("a member before the beginning", lambda: _central(
        zipped(("v1/m.onnx", b"x")), 42, struct.pack("<L", 2**31)), CUT),
    _zip("packed in a way of the future", lambda: _central(zipped(("v1/m.onnx", b"x")), 10, b"\x63\0"), CUT),
    _zip("a version of the future", lambda: _central(zipped(("v1/m.onnx", b"x")), 6, b"\xff\0"), CUT),
    _zip("another name inside", lambda: zipped(("v1/m.onnx", b"x")).replace(b"v1/m", b"../m", 1), CUT),
    _zip("a climbing folder", lambda: zipped(("../../up/", b""), ("m.onnx", b"x")), UNSAFE, "outside"),
    _zip("a drive", lambda: zipped(("C:\\up", b"x")), UNSAFE, "outside"),
    _zip("something before it", _prefixed, UNKNOWN),
    _zip("a path of 20 KiB", lambda: zipped(("d/" * 10_000 + "m.onnx", b"x")), UNSAFE, "1024"),
)  # fmt: skip


def claims_that_lead_out(claim: Path) -> None:
    """A sound model in a folder whose subfolder is a link to another place."""
    (claim / "d").mkdir()
    save_mlp(claim / "d" / "m.onnx")
    (claim / "d" / "sub").symlink_to("/etc", target_is_directory=True)


def _claim(name: str, make: Callable[[Path], None], *says: str) -> Bad:
    return Bad(name=f"claim: {name}", make=make, reason=UNSAFE, says=says, uri="d", fetched=False)


def _no_text(claim: Path) -> None:
    (claim / "d").mkdir()
    (claim / "d" / "model-\udcff.onnx").write_bytes(b"x")


def _hard_link(claim: Path) -> None:
    (claim / "d").mkdir()


CLAIMS = (
    _claim("a folder that is a link", claims_that_lead_out, "sub", "outside"),
    _claim("a name that is no text", _no_text, "UTF-8"),
)
