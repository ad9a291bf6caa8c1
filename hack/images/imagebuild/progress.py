"""What people see while images are built: one line per step with its seconds, never a silent quarter of a minute."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

HEARTBEAT_SECONDS = 15.0
_KEPT_LINES = 25


class BuildError(Exception):
    """One line for the user, with the end of the failed program's output where there is one."""


def say(text: str) -> None:
    """Print one line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def run(title: str, command: list[str], *, log: Path, environment: Mapping[str, str], folder: Path) -> float:
    """Run a program with its output in `log`, saying every 15 s which line it is at; returns its seconds.

    Raises:
        BuildError: the program is missing or failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    ended = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(title, log, began, ended), daemon=True)
    try:
        with log.open("wb") as output:
            beat.start()
            done = subprocess.run(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
    except FileNotFoundError:
        raise BuildError(f"{title}: the program {command[0]} is missing") from None
    finally:
        ended.set()
        beat.join()
    seconds = time.monotonic() - began
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in _lines(log)[-_KEPT_LINES:])
        raise BuildError(f"{title}: {command[0]} failed after {seconds:.0f} s; all of its output is in {log}\n{tail}")
    return seconds


def _heartbeat(title: str, log: Path, began: float, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        lines = _lines(log)
        say(f"  ... {title}: {time.monotonic() - began:.0f} s, {lines[-1][:100] if lines else 'no output yet'}")


def _lines(log: Path) -> list[str]:
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    return [line.strip() for line in text.splitlines() if line.strip()]
