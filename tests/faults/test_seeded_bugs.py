"""Would the harness notice? Known bugs are put into a copy of the package, and the harness runs against it.

The fast part only checks that every bug still fits the code. `make soak` (or `pytest -m soak` on this file) runs the
harness once for each bug, quickest suites first, and prints who noticed; it takes about an hour.
"""

import ast
import os
import shutil
import subprocess
import sys

import pytest

from support.seeded_bugs import BUGS, PACKAGE, ROOT

HARNESS = (
    ("tests/controller", "not soak and not apiserver"),
    ("tests/simulation", "not soak"),
    ("tests/faults", "not soak and not apiserver"),
    ("tests/faults", "apiserver and not soak"),
)
"""Suites that know nothing of single functions: laws, crashes, faults, the loop. Not the tests of the core's parts."""
ENOUGH = 0.9


def mutant(bug, folder):
    """A copy of the package with the bug in it."""
    package = folder / "operator"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    bug.apply(package)
    return package


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_fits_the_code(bug):
    text = (PACKAGE / "pilotfish" / bug.file).read_text()
    assert text.count(bug.before) == 1
    ast.parse(text.replace(bug.before, bug.after))


def who_notices(package):
    """The first test that fails, or None. Anything but failed tests is an error of this test."""
    for folder, chosen in HARNESS:
        command = ["-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", "--tb=no", folder, "-m", chosen]
        path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, *command, "--deselect=tests/faults/test_seeded_bugs.py"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in {0, 1, 5}, done.stdout[-2000:] + done.stderr[-2000:]
        if done.returncode == 1:
            return next((line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), folder)
    return None


@pytest.mark.soak
@pytest.mark.timeout(10_800)
def test_the_harness_notices_nearly_all_of_them(tmp_path, capsys):
    missed = []
    for number, bug in enumerate(BUGS, start=1):
        folder = tmp_path / str(number)
        noticed = who_notices(mutant(bug, folder))
        shutil.rmtree(folder)
        if noticed is None:
            missed.append(bug.name)
        with capsys.disabled():
            sys.stdout.write(f"{number:3d}/{len(BUGS)}  {bug.name}: {noticed or 'NOT NOTICED'}\n")
            sys.stdout.flush()
    assert len(missed) <= (1 - ENOUGH) * len(BUGS), f"not noticed: {missed}"
