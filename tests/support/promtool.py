"""Debian's promtool and Prometheus, installed where that is possible. A machine without them fails, it skips nothing."""

import os
import shutil
import subprocess
from pathlib import Path


def find_program(name: str) -> str:
    """`promtool` or `prometheus`. Raises AssertionError with what to install."""
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        wait = "-oDPkg::Lock::Timeout=300"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "prometheus"]):
            subprocess.run(["apt-get", wait, *command], check=True, capture_output=True, env=environment)
        found = shutil.which(name)
    assert found is not None, f"{name} is not installed: install prometheus (Debian's name), then run this again"
    return found


def promtool(*arguments: str | Path) -> str:
    """What it says. Raises AssertionError with the same when it finds fault."""
    command = [find_program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
