"""The chart as helm renders it."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from support.apiserver import REPOSITORY, run_cluster

CHART = REPOSITORY / "charts" / "pilotfish"
NAMESPACE = "pilotfish-system"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of the project's own helm; never raises."""
    program = Path(run_cluster("tools")) / "helm"
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)


def render_text(*arguments: str, release: str = "pilotfish") -> str:
    """The chart's manifests. Raises AssertionError with helm's own words."""
    done = helm("template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", "1.36.0", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(*arguments: str, release: str = "pilotfish") -> list[dict[str, Any]]:
    """The chart's objects."""
    return [body for body in yaml.safe_load_all(render_text(*arguments, release=release)) if body]


def of_kind(bodies: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of a kind."""
    return [body for body in bodies if body["kind"] == kind]


def one(bodies: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only one of a kind."""
    (body,) = of_kind(bodies, kind)
    return body
