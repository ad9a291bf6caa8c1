"""Servers over hand-made model repositories."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.triton import TritonServer


@pytest.fixture
def start_triton(tmp_path: Path) -> Iterator[Callable[..., TritonServer]]:
    """Start a server over a repository folder; it ends with the test, and its log lies in the test's folder."""
    with ExitStack() as stack:

        def start(repository: Path, *, name: str = "server", **settings) -> TritonServer:
            scratch = tmp_path / name
            return stack.enter_context(TritonServer(repository=repository, scratch=scratch, **settings))

        yield start
