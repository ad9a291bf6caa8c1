"""The locks agree with pyproject.toml and with each other; nothing here asks a registry."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.tf_python import tensorflow_python

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted(
    path
    for path in (ROOT / "requirements").glob("*.txt")
    if path.stem not in {"overrides", "captum-overrides", "triton-overrides", "tensorflow-overrides"}
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Each image's extras, and the lock or locks that it installs.
IMAGES = {
    ("operator", "cli"): ("operator",),
    ("optimizer",): ("optimizer",),
    ("optimizer", "torch"): ("torch", "optimizer-torch"),
    ("optimizer", "tensorflow"): ("optimizer-tf",),
    ("operator", "cli", "optimizer", "torch"): ("dev",),
}


def entries(*locks):
    """The requirements of locks that count on this machine, by name."""
    found = {}
    for lock in locks:
        text = re.sub(r"\\\n\s*", " ", (ROOT / "requirements" / f"{lock}.txt").read_text())
        for line in text.splitlines():
            if line[:1].isalnum():
                requirement = Requirement(line.split(" --hash")[0])
                if requirement.marker is None or requirement.marker.evaluate():
                    found[canonicalize_name(requirement.name)] = requirement
    return found


def tensorflow_packages():
    """Where the Python with TensorFlow keeps its packages."""
    return str(next(Path(tensorflow_python()).parents[1].glob("lib/python*/site-packages")))


def version(requirement):
    return next(iter(requirement.specifier)).version


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_entry_is_pinned_with_hashes_and_names_no_registry(path):
    text = re.sub(r"\\\n\s*", " ", path.read_text())

    assert "://" not in text
    assert "--index" not in text
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            assert re.match(r"[a-z0-9._-]+==[^ ]+ ", line), line
            assert "--hash=sha256:" in line, line


@pytest.mark.parametrize(("extras", "locks"), IMAGES.items(), ids="+".join)
def test_the_lock_satisfies_the_project(extras, locks):
    locked = entries(*locks)
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]

    for requirement in map(Requirement, wanted):
        entry = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version(entry)), f"{entry} does not satisfy {requirement}; run hack/lock"


@pytest.mark.parametrize(
    "lock", ["operator", "optimizer", "torch", "optimizer-torch", "optimizer-tf", "build", "testbed"]
)
def test_images_ship_what_the_tests_run(lock):
    tested = entries("dev")

    for name, entry in entries(lock).items():
        if lock == "optimizer-tf" and name not in tested:
            continue  # TensorFlow and what it brings: tests use them through a Python made from this very lock
        assert version(entry) == version(tested[name])


@pytest.mark.parametrize(("extras", "locks"), [item for item in IMAGES.items() if item[1] != ("dev",)], ids="+".join)
def test_the_lock_is_closed(extras, locks):
    """Images install without dependencies, so whatever a package needs must be in the lock; asked of what is installed."""
    never = ("triton", "cuda-bindings", "cuda-toolkit", "matplotlib", "tensorflow")
    dropped = {canonicalize_name(name) for name in never}
    places = [tensorflow_packages()] if "tensorflow" in extras else sys.path
    locked = entries(*locks)

    for name in locked:
        package = next(iter(importlib.metadata.distributions(name=name, path=places)))
        for line in package.requires or ():
            requirement = Requirement(line)
            needed = requirement.marker is None or requirement.marker.evaluate({**default_environment(), "extra": ""})
            missing = canonicalize_name(requirement.name)
            assert not needed or missing in locked or missing in dropped, f"{name} needs {requirement}"
