"""A child process for one order: JSON on its stdin, an answer on its stdout, whatever libraries print on stderr."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pilotfish.api.report import one_line
from pilotfish.optimizer.workers import environment_for

_LIMIT = 300


class ErrandError(Exception):
    """The child ended with an error. `said` is the last line of its stderr, empty when it said nothing."""

    def __init__(self, *, code: int, said: str) -> None:
        super().__init__(said or f"exit code {code}")
        self.code, self.said = code, said


def send(module: str, order: Mapping[str, Any], *, threads: int, seconds: float) -> str:
    """What the module answers to the order.

    Raises:
        ErrandError: it ended with an error.
        subprocess.TimeoutExpired: it took longer than `seconds`.
    """
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(order) + "\n",
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=environment_for(threads),
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise ErrandError(code=done.returncode, said=one_line(last, limit=_LIMIT))
    return done.stdout


def obey(work: Callable[[dict[str, Any]], str]) -> None:
    """The child's side: answer the one order."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    replies.write(work(json.loads(sys.stdin.readline())) + "\n")
    replies.close()
