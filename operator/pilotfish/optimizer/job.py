"""`pilotfish-job fetch|optimize|publish|install|golden|verify|refresh|shadow`: what the containers run.

Always leaves a termination message, whatever happens. What each command does: commands.py.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pilotfish.api.job_input import (
    CONFIG_MOUNT,
    MODELS_MOUNT,
    ORDER_MOUNT,
    RUN_MOUNT,
    SAMPLES_MOUNT,
    SOURCE_MOUNT,
    STORE_MOUNT,
    TERMINATION_LOG,
    WORK_MOUNT,
)
from pilotfish.api.job_sources import TEACHER_MOUNT, TRAINING_MOUNT
from pilotfish.api.report import (
    USER_ERROR_EXIT_CODE,
    OptimizerReason,
    Outcome,
    TerminationMessage,
    one_line,
)
from pilotfish.api.termination import encode_termination_message
from pilotfish.optimizer.commands import COMMANDS, Mounts
from pilotfish.optimizer.errors import OptimizerError, from_os_error

if TYPE_CHECKING:
    pass

_SIGTERM_EXIT = 143
_TOLD = ("fetch", "optimize")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 10 (do not retry), 1 (may be retried) or 143 (told to stop)."""
    args = _parser().parse_args(argv)
    mounts = Mounts(**{key: value for key, value in vars(args).items() if key != "command"})
    command = COMMANDS[args.command]
    previous = signal.signal(signal.SIGTERM, _stop_handler(mounts.termination_log))
    try:
        with _progress_shown(args.command):
            message, code = _guarded(command, mounts)
    finally:
        signal.signal(signal.SIGTERM, previous)
    _leave(message, mounts.termination_log)
    stream = sys.stdout if code == 0 else sys.stderr
    print(f"{message.outcome.value}: {message.reason.value}: {message.message}", file=stream, flush=True)
    return code


@contextmanager
def _progress_shown(command: str) -> Iterator[None]:
    """Only of what takes long and of what the operator asks for."""
    if command not in _TOLD:
        yield
        return
    from pilotfish.optimizer.progress_server import progress_shown

    with progress_shown():
        yield


def _guarded(command: Callable[[Mounts], TerminationMessage], mounts: Mounts) -> tuple[TerminationMessage, int]:
    """Run a command; every way to fail becomes a message and an exit code."""
    try:
        return command(mounts), 0
    except OptimizerError as error:
        return _failed(error.reason, error.message), error.exit_code
    except MemoryError:
        sentence = "not enough memory; raise spec.optimization.resources.memory"
        return _failed(OptimizerReason.OPTIMIZER_OUT_OF_MEMORY, sentence), USER_ERROR_EXIT_CODE
    except OSError as error:
        traceback.print_exc()
        failure = from_os_error(error, doing="running")
        return _failed(failure.reason, failure.message), failure.exit_code
    except Exception as error:  # noqa: BLE001 - the message must be written whatever happens
        traceback.print_exc()
        sentence = f"unexpected {type(error).__name__}: {error}; the container's log has the details"
        return _failed(OptimizerReason.INTERNAL_ERROR, sentence), 1


def _failed(reason: OptimizerReason, sentence: str) -> TerminationMessage:
    return TerminationMessage(outcome=Outcome.FAILED, reason=reason, message=one_line(sentence))


def _leave(message: TerminationMessage, path: Path) -> None:
    try:
        path.write_text(encode_termination_message(message))
    except OSError as error:
        sys.stderr.write(f"cannot write {path}: {error}\n")


def _stop_handler(log: Path) -> Callable[[int, FrameType | None], None]:
    """Leaves the message and ends at once: an exception could be swallowed by whatever library is running."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        sentence = (
            "told to stop before the end (deadline, eviction or deletion); a retry goes on from the fetched source"
        )
        _leave(_failed(OptimizerReason.INTERRUPTED, sentence), log)
        sys.stderr.write(f"Failed: {OptimizerReason.INTERRUPTED.value}: {sentence}\n")
        sys.stderr.flush()
        os._exit(_SIGTERM_EXIT)

    return stop


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pilotfish-job", description="What Pilotfish's containers run.")
    parser.add_argument("command", choices=tuple(COMMANDS))
    for name, default in _DEFAULTS.items():
        parser.add_argument(f"--{name}", type=Path, default=Path(default), help=f"default: {default}")
    return parser


_DEFAULTS = {
    "store": STORE_MOUNT,
    "work": WORK_MOUNT,
    "source": SOURCE_MOUNT,
    "samples": SAMPLES_MOUNT,
    "training": TRAINING_MOUNT,
    "teacher": TEACHER_MOUNT,
    "config": CONFIG_MOUNT,
    "models": MODELS_MOUNT,
    "run": RUN_MOUNT,
    "order": ORDER_MOUNT,
    "termination-log": TERMINATION_LOG,
}

if __name__ == "__main__":
    sys.exit(main())
