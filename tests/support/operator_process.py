"""The real operator as a subprocess, with the rights that the chart gives it."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from testbed.kubectl import Kubectl

from support.helm import NAMESPACE, render

PROGRAM = Path(sys.executable).parent / "pilotfish-operator"
RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
START_SECONDS = 180


def install_rights(kubectl: Kubectl, folder: Path, *values: str) -> Path:
    """Apply the chart's account and roles; a kubeconfig that speaks as that account."""
    if not kubectl.run("get", "namespace", NAMESPACE, "--ignore-not-found"):
        kubectl.run("create", "namespace", NAMESPACE)
    kubectl.apply(*(body for body in render(*values) if body["kind"] in RIGHTS))
    token = kubectl.run("create", "token", "pilotfish", "-n", NAMESPACE, "--duration=2h").strip()
    admin = yaml.safe_load(kubectl.kubeconfig.read_text())
    admin["users"] = [{"name": user["name"], "user": {"token": token}} for user in admin["users"]]
    kubeconfig = folder / "operator.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(admin))
    return kubeconfig


@pytest.fixture(scope="module")
def account(kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of the operator's account with the chart's rights; a conftest imports it."""
    return install_rights(kubectl, tmp_path_factory.mktemp("account"))


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    """One running replica."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, object]]:
        """What it logged so far."""
        text = self.log.read_text().splitlines()
        return [json.loads(line) for line in text if line.startswith("{") and line.endswith("}")]

    def said(self, message: str) -> bool:
        """Whether it logged that message."""
        return any(line["msg"] == message for line in self.lines())

    def wait_until_said(self, message: str, *, seconds: float = START_SECONDS) -> None:
        """Raises AssertionError with the log when it does not come."""
        deadline = time.monotonic() + seconds
        while not self.said(message):
            assert self.process.poll() is None, f"the operator ended: {self.log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"{message!r} was not logged: {self.log.read_text()[-4000:]}"
            time.sleep(0.05)

    def get(self, path: str) -> str:
        """A page of its HTTP server."""
        port = next(line["port"] for line in self.lines() if line["msg"] == "started")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def writes(self) -> dict[str, float]:
        """Requests that write, by verb, kind and code, without the Lease's."""
        found = re.findall(r"^pilotfish_api_requests_total\{(.*)\} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return {
            labels: float(count)
            for labels, count in found
            if 'verb="GET"' not in labels and 'kind="Lease"' not in labels
        }

    def sweeps(self) -> int:
        """How many sweeps it has logged (at DEBUG)."""
        return sum(line["msg"] == "swept" for line in self.lines())

    def kill(self) -> None:
        """SIGKILL: no chance to say good-bye."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextmanager
def running_operator(kubeconfig: Path, **settings: object) -> Iterator[OperatorProcess]:
    """A replica that has written its first line; killed at the end if it still runs."""
    values = {
        "kubeconfig": kubeconfig,
        "port": 0,
        "listen": "127.0.0.1",
        "identity": "operator-0",
        "namespace": NAMESPACE,
        "log_level": "DEBUG",
        "resync": 60,
        "lease_duration": 4,
        "lease_renew_deadline": 3,
        "lease_retry": 0.5,
        "triton_version": "2.51.0",
        "drain": 0,
        **settings,
    }
    environment = {**os.environ, **{f"PILOTFISH_{name.upper()}": str(value) for name, value in values.items()}}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen([str(PROGRAM)], env=environment, stdout=stream, stderr=stream)
        operator = OperatorProcess(process, log)
        try:
            operator.wait_until_said("started")
            yield operator
        finally:
            if process.poll() is None:
                operator.kill()
