"""The base image of machines that reach no image registry: Debian 12 with its Python, made by debootstrap once.

The Dockerfiles take their base as a build argument, so the same ones build on Docker Hub's python image elsewhere.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from imagebuild.progress import BuildError, run

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "libpython3.11", "python3", "python3-venv")
# What slim images leave out as well.
EMPTIED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt/archives",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
)
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["python3"]
"""
KEY = hashlib.sha256("\n".join((SUITE, *PACKAGES, *EMPTIED, DOCKERFILE)).encode()).hexdigest()[:12]
REFERENCE = f"localhost/pilotfish/base:{SUITE}-{KEY}"


def make_context(cache: Path) -> Path:
    """A build context with the root file system, from the cache or made now (about a minute, 135 MB).

    Raises:
        BuildError: not root, or debootstrap failed.
    """
    context = cache / f"base-{KEY}"
    if (context / "rootfs.tar").is_file():
        return context
    if os.geteuid() != 0:
        raise BuildError("cannot make the local base image: debootstrap needs root; run as root or start Docker")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="base-") as scratch:
        rootfs, made = Path(scratch) / "rootfs", Path(scratch) / "context"
        made.mkdir()
        include = f"--include={','.join(PACKAGES)}"
        debootstrap = ["debootstrap", "--variant=minbase", include, SUITE, str(rootfs)]
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
        log = cache / "debootstrap.log"
        run("base: debootstrap", debootstrap, log=log, environment=environment, folder=cache)
        for folder in EMPTIED:
            _empty(rootfs / folder)
        tar = ["tar", "-C", str(rootfs), "--sort=name", "--numeric-owner", "-cf", str(made / "rootfs.tar"), "."]
        run("base: tar", tar, log=cache / "tar.log", environment=environment, folder=cache)
        (made / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        shutil.rmtree(context, ignore_errors=True)
        made.rename(context)
    return context


def _empty(folder: Path) -> None:
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
