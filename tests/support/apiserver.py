"""A real API server (with etcd and the controllers, no nodes) for the tests of one session.

Use it with `from support.apiserver import api_server` in a conftest.py, or `pytest_plugins = ["support.apiserver"]`.
It fails, never skips, when the programs cannot be built.
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTER = REPOSITORY / "hack" / "cluster" / "cluster"


def run_cluster(*args: str) -> str:
    """Run hack/cluster/cluster and return what it prints. Raises AssertionError with its own message."""
    done = subprocess.run([str(CLUSTER), *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"cluster {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


def tools_path() -> str:
    """PATH with the project's own helm and kubectl first."""
    return f"{run_cluster('tools')}{os.pathsep}{os.environ.get('PATH', '')}"


@contextmanager
def running_api_server(*, name: str | None = None) -> Iterator[Path]:
    """An API server of its own: gives the administrator's kubeconfig and removes the server afterwards.

    A test process that is killed cannot clean up: the next start of any cluster removes what it left.
    """
    chosen = name or f"test-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        run_cluster("up", "--api-only", "--name", chosen, "--owner-pid", str(os.getpid()))
        yield Path(run_cluster("kubeconfig", "--name", chosen))
    finally:
        run_cluster("down", "--name", chosen)


@pytest.fixture(scope="session")
def api_server() -> Iterator[Path]:
    """The administrator's kubeconfig of a real API server that the whole test session shares."""
    with running_api_server() as kubeconfig:
        yield kubeconfig
