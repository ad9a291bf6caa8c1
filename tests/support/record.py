"""Recorded files that tests compare with. `pytest --record` writes them anew; the difference is then read in review."""

from collections.abc import Callable
from pathlib import Path

import pytest

Compare = Callable[[Path, str], None]


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write recorded files anew instead of comparing with them")


@pytest.fixture
def compare_recorded(request) -> Compare:
    """Compare a text with a recorded file."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--record"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"{path.name} was never recorded; run pytest --record and review what it writes"
        assert text == path.read_text(), f"{path.name} differs; if that is meant, run pytest --record"

    return compare
