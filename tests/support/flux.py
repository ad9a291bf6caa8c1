"""Flux's real kustomize-controller beside an API server, and a git repository on disk that it syncs.

The source is played: what source-controller does, packing a commit and writing its address and digest into the
GitRepository's status, is done here, when the test says so. Applying, waiting for health, putting back what differs and
pruning are Flux's own.
"""

import functools
import hashlib
import json
import os
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from testbed.kubectl import Kubectl, KubectlError, wait_for

from support.apiserver import REPOSITORY

MANAGER = "kustomize-controller"
EXAMPLE = REPOSITORY / "examples" / "gitops" / "flux.yaml"
NAME = "models"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


def flux_folder() -> Path:
    """Folder of the program and its CRDs, built when missing."""
    done = subprocess.run([str(REPOSITORY / "hack" / "cluster" / "flux")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Flux:
    """One Kustomization over one repository. `folder` is a work tree, `artifacts` is what the played source serves."""

    kubectl: Kubectl
    namespace: str
    folder: Path
    artifacts: Path
    url: str
    log: Path

    def commit(self, files: Mapping[str, Mapping[str, Any] | None]) -> str:
        """Commit objects by file name, None for one that goes, and let the source notice; the revision."""
        for name, body in files.items():
            path = self.folder / name
            if body is None:
                path.unlink()
            else:
                path.write_text(yaml.safe_dump(dict(body)), encoding="utf-8")
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message", ", ".join(files))
        return self._publish()

    def sync(self) -> str:
        """Ask for a sync of what is there already, wait until it ended, and return the Kustomization's Ready reason."""
        token = secrets.token_hex(4)
        self.kubectl.run(
            "annotate",
            "kustomization",
            NAME,
            "-n",
            self.namespace,
            "--overwrite",
            f"reconcile.fluxcd.io/requestedAt={token}",
        )

        def ended() -> str | None:
            body = self.kustomization()
            handled = body.get("status", {}).get("lastHandledReconcileAt") == token
            ready = condition(body, "Ready")
            return ready["reason"] if handled and ready.get("status") != "Unknown" else None

        return wait_for("the sync to end", ended, seconds=60, found=self.story)

    def wait(self, status: str, *, revision: str, seconds: float) -> Mapping[str, Any]:
        """The Ready condition once it has that status for that revision."""

        def probe() -> Mapping[str, Any] | None:
            body = self.kustomization()
            ready = condition(body, "Ready")
            tried = body.get("status", {}).get("lastAttemptedRevision") == revision
            return ready if tried and ready.get("status") == status else None

        return wait_for(f"Ready={status} of {revision}", probe, seconds=seconds, found=self.story)

    def kustomization(self) -> Mapping[str, Any]:
        """As stored."""
        return self.kubectl.get("kustomization", NAME, namespace=self.namespace) or {}

    def changes(self, name: str) -> list[str]:
        """What each apply so far said it did to that ModelDeployment: created, configured, unchanged, deleted."""
        said = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and line.endswith("}"):
                output = json.loads(line).get("output")
                if isinstance(output, dict):
                    said += [what for ref, what in output.items() if ref == f"ModelDeployment/{self.namespace}/{name}"]
        return said

    def differs(self, file: str) -> str:
        """What an apply of the file in Git would change, as the server says; nothing when nothing.

        By another manager: Flux's own labels are not in Git.
        """
        arguments = ("diff", "--server-side", "--field-manager=reviewer")
        command = self.kubectl.command(*arguments, "-n", self.namespace, "-f", str(self.folder / file))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in {0, 1}, done.stderr
        return done.stdout

    def check_quiet(self, name: str, *, file: str, reason: str, syncs: int = 3) -> None:
        """Several syncs end for that reason and write nothing, and Git and what is stored say the same."""
        before, applied = self.live(name), len(self.changes(name))
        for _ in range(syncs):
            assert self.sync() == reason
        after = self.live(name)
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert after["spec"] == before["spec"]
        said = self.changes(name)[applied:]
        assert set(said) == {"unchanged"}, said
        assert len(said) >= syncs, said
        assert self.differs(file) == ""

    def live(self, name: str) -> Mapping[str, Any]:
        """The ModelDeployment as stored."""
        body = self.kubectl.get("modeldeployment", name, namespace=self.namespace)
        assert body is not None, f"{name} is gone"
        return body

    def story(self) -> str:
        """What a person would look at."""
        return json.dumps(self.kustomization().get("status"), indent=1) + self.log.read_text(encoding="utf-8")[-3000:]

    def _git(self, *arguments: str) -> str:
        who = ("-c", "user.name=team", "-c", "user.email=team@example.org", "-c", "init.defaultBranch=main")
        command = ["git", *who, "-C", str(self.folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _publish(self) -> str:
        commit = self._git("rev-parse", "HEAD")
        file = self.artifacts / f"{commit}.tar.gz"
        self._git("archive", "--format=tar.gz", f"--output={file}", "HEAD")
        revision = f"main@sha1:{commit}"
        now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        artifact = {
            "url": f"{self.url}/{file.name}",
            "path": file.name,
            "revision": revision,
            "digest": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
            "lastUpdateTime": now,
            "size": file.stat().st_size,
        }
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Succeeded",
            "message": "stored",
            "lastTransitionTime": now,
        }
        status = {"observedGeneration": 1, "artifact": artifact, "conditions": [ready]}
        self.kubectl.run(
            "patch", "gitrepository", NAME, "-n", self.namespace, "--subresource=status", "--type=merge",
            f"--patch={json.dumps({'status': status})}",
        )  # fmt: skip
        return revision


def condition(body: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition, or nothing."""
    return next((c for c in body.get("status", {}).get("conditions", ()) if c["type"] == kind), {})


def example(namespace: str, **spec: Any) -> list[dict[str, Any]]:
    """The objects of examples/gitops in that namespace; `spec` replaces fields of the Kustomization."""
    bodies = list(yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8")))
    for body in bodies:
        body["metadata"]["namespace"] = namespace
    bodies[1]["spec"].update({"path": "./", **spec})
    return bodies


@contextmanager
def running_flux(kubectl: Kubectl, namespace: str, **spec: Any) -> Iterator[Flux]:
    """kustomize-controller for one namespace with the example's Kustomization in it; it ends with the test."""
    program = flux_folder()
    kubectl.run("apply", "--server-side", "-f", str(program / "crds"))
    wait_for("Flux's kinds", lambda: _are_served(kubectl), seconds=60)
    with tempfile.TemporaryDirectory() as scratch, _serving(Path(scratch) / "artifacts") as (artifacts, url):
        folder, log, temporary = (Path(scratch) / name for name in ("repository", "log", "tmp"))
        for path in (folder, temporary):
            path.mkdir()
        log.touch()
        flux = Flux(kubectl=kubectl, namespace=namespace, folder=folder, artifacts=artifacts, url=url, log=log)
        flux._git("init", "--quiet")
        kubectl.apply(*example(namespace, **spec))
        arguments = (
            "--metrics-addr=0",
            "--health-addr=0",
            "--watch-all-namespaces=false",
            "--no-remote-bases",
            # Otherwise a commit that promotes is looked at only when the wait for the one before it has ended.
            "--feature-gates=CancelHealthCheckOnNewRevision=true",
        )
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubectl.kubeconfig),
            "RUNTIME_NAMESPACE": namespace,
            "TMPDIR": str(temporary),
        }
        with log.open("wb") as stream:
            command = [str(program / MANAGER), *arguments]
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            yield flux
            # It holds its Kustomization by a finalizer, and prunes.
            kubectl.delete("kustomization", NAME, namespace=namespace)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _are_served(kubectl: Kubectl) -> bool:
    try:
        kubectl.run("get", "kustomizations.kustomize.toolkit.fluxcd.io,gitrepositories.source.toolkit.fluxcd.io", "-A")
    except KubectlError:
        return False
    return True


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files of the folder over HTTP on loopback."""
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
