"""What people see while a cluster starts: one line per step, elapsed seconds, never a silent minute."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

HEARTBEAT_SECONDS = 15.0

T = TypeVar("T")


class ClusterError(Exception):
    """One line for the user: what is wrong, with which input, what to do next."""


def say(text: str) -> None:
    """Print one line of progress to standard error, so that standard output stays for results."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce one step, report that it is still running every 15 s, and end with its seconds."""
    began = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"  ... {text}: {time.monotonic() - began:.0f} s so far")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        say(f"  failed after {time.monotonic() - began:.1f} s: {text}")
        raise
    finally:
        done.set()
        thread.join()
    say(f"  {time.monotonic() - began:5.1f} s  {text}")


def wait_for(what: str, probe: Callable[[], T | None], *, seconds: float, hint: str = "") -> T:
    """Poll until `probe` gives something true and return it.

    Raises ClusterError naming `what` when `seconds` have passed; errors of the probe itself are not swallowed.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not happen within {seconds:.0f} s{'; ' + hint if hint else ''}")
        time.sleep(0.05)
