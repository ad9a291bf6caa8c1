"""`make mutation`: do the tests of the pure core notice a changed line? mutmut, in a copy of the tree.

`hack/mutation.py [--sample N] [--again] [PACKAGE …]`. Prints every mutant that no test noticed and the score per file:
mutants noticed, as a share of those that some test reaches; of a sample also the interval that holds the score of all
with 95 % confidence. The copy stays below the cache folder; `--again` keeps it and tries only what is new there or was
not noticed, after tests were added. It takes long: never part of `make test`.
"""

import argparse
import ast
import contextlib
import difflib
import filecmp
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("PILOTFISH_CACHE", Path.home() / ".cache" / "pilotfish"))
NOT_NOTICED, NO_TESTS, TIMEOUTS = 0, (5, 33), (-24, 24, 36, 152, 255)

# mutmut knows `src`, and pytest's plugins for what these tests do not use would be loaded for every single mutant.
CONFIG = """\
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/{source}/*"]
pytest_add_cli_args = {options}
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 5.0
timeout_constant = 3.0
use_git_change_detection = false

[tool.pytest.ini_options]
pythonpath = ["tests"]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
markers = {markers}
"""

# A mutant is judged by the first test that fails: nothing is gained by a smaller example, or by one kept for later.
CONFTEST = """\
from hypothesis import HealthCheck, Phase, settings

pytest_plugins = ["support.record"]
settings.register_profile(
    "mutation",
    database=None,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("mutation")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What is mutated, below operator/, and the fast tests that must notice."""

    name: str
    source: str
    tests: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    """Of those, the ones that take long."""

    @property
    def tree(self) -> Path:
        """The copy that mutmut works in."""
        return CACHE / "mutation" / self.name

    @property
    def sample(self) -> Path:
        """The names of the mutants that are tried, where it is not all of them."""
        return self.tree / "sample.json"


# mutmut's clock signals a process number after its time even if that has long been another's: a loop without end is
# stopped by the limit on CPU seconds alone, which other work on the machine does not shorten either.
MUTMUT = """\
from mutmut.workers import isolation
isolation.register_timeout = lambda **_: None
from mutmut.__main__ import cli
cli()
"""

# An unnoticed mutant costs every test that reaches it, and a played rollout reaches nearly all: these must do.
PLAYED = (
    "a_window_that_closes_in_the_gap",
    "aborted_by_the_user",
    "bad_while_it_bakes",
    "baked",
    "canary_by_default",
    "canary_that_answers_wrongly",
    "canary_that_cannot_be_loaded",
    "canary_that_errs",
    "one_gpu_and_nobody_may_look",
    "paused_and_then_it_errs",
    "promoted_in_full",
    "steps_are_edited",
    "undone_and_back",
)

PACKAGES = (
    Package(name="health", source="pilotfish/core/health", tests=("tests/core/health",)),
    Package(
        name="rollout",
        source="pilotfish/core/rollout",
        tests=(
            "tests/core/rollout",
            "tests/core/test_plan.py",
            "tests/simulation/test_stories.py",
            *(f"tests/simulation/test_rollouts.py::test_the_rollout_is_as_recorded[{name}]" for name in PLAYED),
        ),
        left_out=("tests/core/rollout/test_shadow.py::test_silence_holds_the_step_and_then_sends_back",),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One file's mutants by what became of them."""

    path: str
    exit_codes: dict[str, int | None]

    @property
    def not_noticed(self) -> list[str]:
        """The names of those that every test passed with."""
        return [name for name, code in self.exit_codes.items() if code == NOT_NOTICED]


def main() -> int:
    """Mutate the packages asked for, print what no test noticed and the scores; 1 if mutmut could not finish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = {package.name: package for package in PACKAGES}
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"{', '.join(known)}; all when left out")
    parser.add_argument("--again", action="store_true", help="keep the copy, try what is new or was not noticed")
    parser.add_argument("--report", action="store_true", help="print the outcome of the last run once more")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at the same time (2)")
    parser.add_argument("--sample", type=int, metavar="N", help="try N of each package's mutants, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    args = parser.parse_args()
    unknown = sorted(set(args.packages) - set(known))
    if unknown:
        parser.error(f"unknown package {', '.join(unknown)}; known: {', '.join(known)}")
    for package in [known[name] for name in args.packages] or PACKAGES:
        if not args.report:
            copy_tree(package, keep=args.again)
            if args.sample:
                draw_sample(package, size=args.sample, seed=args.seed)
            if run_mutmut(package, jobs=args.jobs):
                return 1
        print_report(package, outcomes(package))
    return 0


def copy_tree(package: Package, *, keep: bool) -> None:
    """The package's copy of the working tree; a kept one forgets what was not noticed, and which test reaches what."""
    tree = package.tree
    mutants = tree / "mutants"
    if not keep:
        shutil.rmtree(tree, ignore_errors=True)
    shutil.rmtree(tree / "tests", ignore_errors=True)
    shutil.rmtree(mutants / "tests", ignore_errors=True)
    (mutants / "mutmut-stats.json").unlink(missing_ok=True)
    for meta in mutants.rglob("*.meta"):
        known = json.loads(meta.read_text())
        known["exit_code_by_key"] = {n: c if c == 1 else None for n, c in known["exit_code_by_key"].items()}
        meta.write_text(json.dumps(known))
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "operator", tree / "src", ignore=skip, dirs_exist_ok=True, copy_function=_copy_what_changed)
    for folder in ("core", "simulation", "support"):
        shutil.copytree(ROOT / "tests" / folder, tree / "tests" / folder, ignore=skip)
    (tree / "tests" / "conftest.py").write_text(CONFTEST)
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    config = CONFIG.format(
        source=package.source,
        tests=json.dumps(package.tests),
        options=json.dumps([f"--deselect={test}" for test in package.left_out]),
        markers=json.dumps(markers, ensure_ascii=False),
    )
    (tree / "pyproject.toml").write_text(config)


def draw_sample(package: Package, *, size: int, seed: int) -> None:
    """Choose the mutants to try: the same ones for the same source, size and seed."""
    with contextlib.chdir(package.tree):
        # Both read the configuration of the folder that they are imported in.
        from mutmut.mutation.file_mutation import mutate_file_contents  # noqa: PLC0415
        from mutmut.utils.format_utils import get_mutant_name  # noqa: PLC0415

        names = [
            get_mutant_name(path, name)
            for path in sorted(Path("src", package.source).rglob("*.py"))
            for name in mutate_file_contents(str(path), path.read_text()).mutant_names
        ]
    chosen = random.Random(seed).sample(names, min(size, len(names)))
    package.sample.write_text(json.dumps(chosen))


def run_mutmut(package: Package, *, jobs: int) -> int:
    """Its exit code. The machine stays usable meanwhile."""
    command = ["nice", "-n", "10", sys.executable, "-c", MUTMUT]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONWARNINGS": "ignore"}
    names = []
    if package.sample.exists():
        known = {name for outcome in outcomes(package) for name, code in outcome.exit_codes.items() if code is not None}
        names = [name for name in json.loads(package.sample.read_text()) if name not in known]
        if not names:
            return 0
    done = subprocess.run(
        [*command, "run", f"--max-children={jobs}", *names], cwd=package.tree, env=environment, check=False
    )
    return done.returncode


def outcomes(package: Package) -> list[Outcome]:
    """What mutmut wrote down, file by file, of the sample only where there is one; files without any are left out."""
    folder = package.tree / "mutants" / "src" / package.source
    chosen = set(json.loads(package.sample.read_text())) if package.sample.exists() else None
    found = []
    for meta in sorted(folder.rglob("*.meta")):
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        tried = {name: code for name, code in codes.items() if chosen is None or name in chosen}
        path = str(meta.relative_to(package.tree / "mutants" / "src")).removesuffix(".meta")
        found.append(Outcome(path=path, exit_codes=tried))
    return [outcome for outcome in found if outcome.exit_codes]


def print_report(package: Package, found: list[Outcome]) -> None:
    """What was not noticed as a difference to the source, then the scores."""
    for outcome in found:
        for name in outcome.not_noticed:
            print(f"\n{name}\n{_difference(package, outcome.path, name)}")
    row = "{:<44} {:>7} {:>7} {:>7} {:>9} {:>11} {:>7}"
    print("\n" + row.format("file", "mutants", "reached", "noticed", "timed out", "not noticed", "score"))
    for outcome in found:
        print(row.format(outcome.path, *_figures([outcome])))
    print(row.format(package.source, *_figures(found)))
    if package.sample.exists():
        low, high = _interval(found)
        print(f"A sample: the score of all mutants is between {low:.1%} and {high:.1%} with 95 % confidence.")


def _interval(found: list[Outcome]) -> tuple[float, float]:
    """Wilson's, of the share that was noticed."""
    codes = [code for outcome in found for code in outcome.exit_codes.values() if code not in NO_TESTS]
    n, z = len(codes), 1.96
    share = sum(code != NOT_NOTICED for code in codes) / n
    middle, reach = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def _figures(found: list[Outcome]) -> tuple[str, ...]:
    """Timed out is noticed too: a loop without end."""
    codes = Counter(code for outcome in found for code in outcome.exit_codes.values())
    if codes[None]:
        raise SystemExit(f"{codes[None]} mutants were not tried: the run did not finish; start it with --again")
    reached = codes.total() - sum(codes[code] for code in NO_TESTS)
    timed_out, missed = sum(codes[code] for code in TIMEOUTS), codes[NOT_NOTICED]
    noticed = reached - missed
    score = f"{noticed / reached:.1%}" if reached else "-"
    return (str(codes.total()), str(reached), str(noticed), str(timed_out), str(missed), score)


def _difference(package: Package, path: str, name: str) -> str:
    """The changed lines of one mutant."""
    text = (package.tree / "mutants" / "src" / path).read_text()
    function = name.rpartition(".")[2]
    original = function.partition("__mutmut_")[0] + "__mutmut_orig"
    bodies = {
        node.name: ast.get_source_segment(text, node)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name in {function, original}
    }
    before, after = ((bodies.get(key) or "").splitlines()[1:] for key in (original, function))
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    return "\n".join(line for line in lines if not line.startswith("@@"))


def _copy_what_changed(source: str, target: str) -> None:
    """A file that stayed as it was keeps its age, by which mutmut knows that its mutants still hold."""
    if not Path(target).exists() or not filecmp.cmp(source, target, shallow=False):
        shutil.copyfile(source, target)


if __name__ == "__main__":
    sys.exit(main())
