"""The chart as helm renders it."""

import functools
import subprocess
from collections.abc import Callable
from typing import Any

import yaml

from support.apiserver import REPOSITORY, run_cluster

CHART = REPOSITORY / "charts" / "pilotfish"
NAMESPACE = "pilotfish-system"
EXAMPLES = tuple(sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")))
"""The sets of values that are kept with the chart."""


Helm = Callable[..., subprocess.CompletedProcess[str]]


@functools.cache
def program_of(command: str) -> str:
    """What a command of hack/cluster prints about where programs are; it is the same all the time."""
    return run_cluster(command)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of the project's own helm, which is Helm 4; never raises."""
    return subprocess.run([f"{program_of('tools')}/helm", *arguments], capture_output=True, text=True, check=False)


def helm3(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of Helm 3; never raises."""
    return subprocess.run([program_of("helm3"), *arguments], capture_output=True, text=True, check=False)


def values_of(example: str) -> tuple[str, ...]:
    """The arguments for one of EXAMPLES; none for the empty name."""
    return ("--values", str(CHART / "ci" / f"{example}-values.yaml")) if example else ()


def render_text(*arguments: str, release: str = "pilotfish", program: Helm = helm) -> str:
    """The chart's manifests. Raises AssertionError with helm's own words."""
    done = program("template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.36.0", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(*arguments: str, release: str = "pilotfish", program: Helm = helm) -> list[dict[str, Any]]:
    """The chart's objects."""
    text = render_text(*arguments, release=release, program=program)
    return [body for body in yaml.load_all(text, Loader=yaml.CSafeLoader) if body]


def of_kind(bodies: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of a kind."""
    return [body for body in bodies if body["kind"] == kind]


def one(bodies: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only one of a kind."""
    (body,) = of_kind(bodies, kind)
    return body
