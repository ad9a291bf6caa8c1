"""Is this an ONNX file? Answered by walking the top level of the protobuf message.

No protobuf, no tensor is read: safe for any bytes and any size.
"""

from pathlib import Path
from typing import BinaryIO

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIELDS = {1: _VARINT, 2: _LENGTH, 3: _LENGTH, 4: _LENGTH, 5: _VARINT, 6: _LENGTH, 7: _LENGTH, 8: _LENGTH}
_LATE_FIELDS = {14: _LENGTH, 20: _LENGTH, 25: _LENGTH, 26: _LENGTH}
_GRAPH = 7
_MAX_FIELDS = 10_000


def looks_like_onnx(path: Path) -> bool:
    """True when every top-level field is one of ModelProto's, they fill the file, and a graph is there."""
    size = path.stat().st_size
    known = _FIELDS | _LATE_FIELDS
    seen: set[int] = set()
    with path.open("rb") as stream:
        for _ in range(_MAX_FIELDS):
            if stream.tell() == size:
                return _GRAPH in seen
            key = _varint(stream)
            if key is None or known.get(key >> 3) != key & 7:
                return False
            seen.add(key >> 3)
            if not _skip(stream, key & 7, size):
                return False
    return False


def starts_like_onnx(path: Path) -> bool:
    """True when the first fields are ModelProto's: what a truncated ONNX file still shows."""
    with path.open("rb") as stream:
        first, version, second = _varint(stream), _varint(stream), _varint(stream)
    known = {number << 3 | wire for number, wire in (_FIELDS | _LATE_FIELDS).items()}
    return first == 8 and version is not None and 0 < version < 64 and second in known  # noqa: PLR2004


def _skip(stream: BinaryIO, wire: int, size: int) -> bool:
    value = _varint(stream)
    if value is None:
        return False
    if wire == _LENGTH:
        if stream.tell() + value > size:
            return False
        stream.seek(value, 1)
    return True


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if not byte[0] & 0x80:
            return value
    return None
