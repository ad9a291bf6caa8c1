"""Everything that is written beside report.json for people. A view that cannot be made is told and never a failure."""

import sys
from pathlib import Path

from pilotfish.api.report import Report
from pilotfish.optimizer.report.page import PAGE, render_page


def write_views(report: Report, folder: Path) -> None:
    """report.html and TensorBoard logs in the artifact's folder.

    Raises:
        OSError: the folder cannot be written, as when the store is full.
    """
    for write in (_write_page, _write_logs):
        try:
            write(report, folder)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - the artifact is proven and complete without it
            what = write.__name__.removeprefix("_write_")
            sys.stderr.write(f"the report's {what} could not be made: {type(error).__name__}: {error}\n")


def _write_page(report: Report, folder: Path) -> None:
    # A lone surrogate in a name is no text: it is written as its escape.
    (folder / PAGE).write_text(render_page(report), encoding="utf-8", errors="backslashreplace")


def _write_logs(report: Report, folder: Path) -> None:
    from pilotfish.optimizer.report.tensorboard import write_tensorboard

    write_tensorboard(report, folder)
