"""actionlint, built from its Go module once and kept in the cache. A machine without Go fails, it skips nothing."""

import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

VERSION = "v1.7.12"


def find_actionlint() -> Path:
    """The program. Raises AssertionError when it cannot be built."""
    cache = Path(os.environ.get("PILOTFISH_CACHE") or Path.home() / ".cache" / "pilotfish").absolute() / "bin"
    folder = cache / f"actionlint-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"actionlint-{VERSION}.lock"):
        if not (folder / "actionlint").exists():
            _build(folder)
    return folder / "actionlint"


def _build(folder: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    assert go is not None, "no Go on PATH: install Go 1.26 or newer"
    folder.mkdir(exist_ok=True)
    module = f"github.com/rhysd/actionlint/cmd/actionlint@{VERSION}"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(folder)}
    done = subprocess.run(
        [go, "install", module], capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
