"""What this process does while a hostile file is in its hands: processes, sockets, writes outside the mounts.

Python's audit events see what Python code does; the folder listing, the listening socket and the list of children see
what native code does.
"""

import os
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.hostile import ADDRESS, PORT

_PROCESSES = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
_SOCKETS = {
    "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
    "urllib.Request", "ftplib.connect", "http.client.connect",
}  # fmt: skip
_CHANGES = {
    "os.mkdir": (0, 2), "os.rmdir": (0, 1), "os.remove": (0, 1), "os.truncate": (0, None), "os.chmod": (0, 2),
    "os.chown": (0, 3), "os.utime": (0, 3), "os.rename": (1, 3), "os.link": (1, 3), "os.symlink": (1, 2),
}  # fmt: skip
"""Which argument is the path that changes, and which the folder that it is relative to."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OURS = ["-m", "pilotfish.optimizer.tensorflow.serve"]


@dataclass
class Effects:
    """Everything that was seen and must not be. `mounts` are the folders of the pod that it may write to."""

    mounts: Path
    seen: list[str] = field(default_factory=list)

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """One audit event."""
        if event in _PROCESSES or event in _SOCKETS:
            self.seen.append(f"{event} {arguments[:2]!r}")
        elif event == "subprocess.Popen":
            if list(arguments[1])[1:3] != _OURS:
                self.seen.append(f"{event} {arguments[1]!r}")
        elif event == "open":
            if (arguments[2] or 0) & _WRITES:
                self._written(arguments[0])
        elif event in _CHANGES:
            path, folder = _CHANGES[event]
            self._written(_beside(arguments[path], None if folder is None else arguments[folder]))
        elif event == "ctypes.dlopen" and self._is_inside(arguments[0]):
            self.seen.append(f"{event} {arguments[0]!r}")

    @contextmanager
    def armed(self) -> Iterator[None]:
        """From here on everything is noted."""
        _watching.append(self)
        try:
            yield
        finally:
            _watching.remove(self)

    def _written(self, path: Any) -> None:
        if isinstance(path, int) or self._is_inside(path):
            return
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - the name, not what a link makes of it
        byte_code = "__pycache__" in text and text.startswith((sys.prefix, str(Path(__file__).parents[3])))
        if not byte_code and not text.startswith("/dev/"):
            self.seen.append(f"writes {text}")

    def _is_inside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - as above
        return Path(text).is_relative_to(self.mounts)


def _beside(path: Any, folder: int | None) -> Any:
    if isinstance(path, int) or folder is None or folder < 0:
        return path
    return Path(f"/proc/self/fd/{folder}").readlink() / os.fsdecode(path)


_watching: list[Effects] = []
_installed: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for effects in _watching:
        effects.note(event, arguments)


@contextmanager
def watched(around: Path, *, mounts: Path) -> Iterator[Effects]:
    """Effects while `armed`; raises AssertionError at the end when there were any. `around` gets the port's file."""
    if not _installed:
        sys.addaudithook(_hook)
        _installed.append(True)
    effects = Effects(mounts)
    with socket.create_server((ADDRESS, 0)) as listener:
        (around / PORT).write_text(str(listener.getsockname()[1]))
        children = _children()
        yield effects
        if select.select([listener], [], [], 0)[0]:
            effects.seen.append("somebody connected")
    effects.seen += [f"left the process {pid}" for pid in _children() - children]
    assert not effects.seen, "\n".join(effects.seen[:10])


def _children() -> set[str]:
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update((task / "children").read_text().split())
        except OSError:  # the thread ended
            continue
    return found
