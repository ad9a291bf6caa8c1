"""A corpus of hostile models, written fresh by each test: files that would do something if they were believed.

What they do when they succeed is always the same, and seen by effects.py: a folder beside the process, a process of
their own, a connection to a socket that listens.
"""

from pathlib import Path
from typing import Any

MARK = "bitten"
PORT = "port"
"""File beside the pod with the port of the socket that nobody may connect to."""
ADDRESS = "127.66.0.1"
"""Of that socket. On 127.0.0.1 a client of an earlier test may try its old server's port again."""


def attack(claim: Path) -> str:
    """Python source that leaves every trace."""
    port = claim.parent.parent / PORT
    number = port.read_text() if port.exists() else "9"
    return (
        f"import os, socket, subprocess; os.mkdir({MARK!r}); subprocess.run(['true']); "
        f"socket.create_connection(('{ADDRESS}', {number})).close()"
    )


class Runs:
    """Calls `function` with `arguments` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._call
