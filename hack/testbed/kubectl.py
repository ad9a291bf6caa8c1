"""A person's view of the cluster: kubectl as a subprocess, plain dictionaries, and waiting with a deadline."""

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "hack" / "cluster" / "cluster"
POLL_SECONDS = 0.5

Body = Mapping[str, Any]
T = TypeVar("T")


class KubectlError(Exception):
    """kubectl said no; the text is its own."""


class Timeout(AssertionError):
    """Something that should have come did not come in time; the text says what was there instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """kubectl of the pinned version against one cluster."""

    tools: Path
    kubeconfig: Path

    @classmethod
    def of_local_cluster(cls) -> "Kubectl":
        """The cluster that `hack/cluster/cluster up` made."""
        return cls(tools=Path(_output(CLUSTER, "tools")), kubeconfig=Path(_output(CLUSTER, "kubeconfig")))

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of one call.

        Raises:
            KubectlError: kubectl ended with an error.
        """
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """The argument vector of one call."""
        return [str(self.tools / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]

    def helm(self, *arguments: str) -> str:
        """Standard output of one helm call.

        Raises:
            KubectlError: helm ended with an error.
        """
        command = [str(self.tools / "helm"), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def apply(self, *bodies: Body) -> None:
        """`kubectl apply` of whole objects, strictly validated."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
        self.run("apply", "--validate=strict", "-f", "-", stdin=json.dumps(items))

    def get(self, kind: str, name: str, *, namespace: str) -> Body | None:
        """The object, or None."""
        text = self.run("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def list(self, kind: str, *, namespace: str, selector: str = "") -> tuple[Body, ...]:
        """All objects of a kind that the selector picks."""
        return tuple(json.loads(self.run("get", kind, "-n", namespace, "-l", selector, "-o", "json"))["items"])

    def delete(self, kind: str, name: str, *, namespace: str) -> None:
        """Delete and wait until it is gone; a missing object is fine."""
        self.run("delete", kind, name, "-n", namespace, "--ignore-not-found", "--wait=true", "--timeout=120s")

    @contextlib.contextmanager
    def port_forward(self, target: str, port: int, *, namespace: str) -> Iterator[int]:
        """A loopback port that leads to `target`, such as `service/store`."""
        arguments = ("port-forward", "-n", namespace, "--address", "127.0.0.1", target, f":{port}")
        with subprocess.Popen(self.command(*arguments), stdout=subprocess.PIPE, text=True) as process:
            try:
                line = process.stdout.readline() if process.stdout else ""
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if not found:
                    raise KubectlError(f"port-forward to {target} did not start: {line.strip()}")
                yield int(found.group(1))
            finally:
                process.terminate()


def wait_for(what: str, probe: Callable[[], T | None], *, seconds: float, found: Callable[[], object] = str) -> T:
    """The first value of `probe` that is neither None nor False.

    Raises:
        Timeout: none came within `seconds`; the message holds what `found` returns then.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = probe()
        if value is not None and value is not False:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"{what}: not within {seconds:.0f} s; {found()}")
        time.sleep(POLL_SECONDS)


def _output(program: Path, *arguments: str) -> str:
    return subprocess.run([str(program), *arguments], check=True, capture_output=True, text=True).stdout.strip()
