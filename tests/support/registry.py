"""A real OCI registry (Debian's docker-registry) on this machine, and what pushes artifacts into it.

A missing program is installed on Debian as root, as hack/cluster does it, and is an error elsewhere.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from support.triton import free_port

OCI = "application/vnd.oci.image"
FILE_LAYER = f"{OCI}.layer.v1.tar"  # what oras gives to plain files, too
TITLE = "org.opencontainers.image.title"
HTPASSWD = "user:$2b$05$cg8.nq0SWIYYDPV3ih7UreZ/3U66WhZlfo.SQms8DzaoUSb2lOfN6\n"
"""The login user with the password "word"."""


@contextmanager
def running_registry(folder: Path, *, auth: dict[str, Any] | None = None) -> Iterator[int]:
    """A registry that keeps its blobs in `folder`; gives its port."""
    port = free_port()
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "x"},
        **({"auth": auth} if auth else {}),
    }
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        command = [_program(), "serve", str(folder / "config.json")]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(f"http://127.0.0.1:{port}/v2/", server, folder / "log")
            yield port
        finally:
            server.kill()
            server.wait()


def push(port: int, repository: str, tag: str, layers: list[dict[str, Any]], *, auth: Any = None, **more: Any) -> str:
    """Push blobs and a manifest; each layer has `data` and what its descriptor says. Returns the manifest's digest."""
    base = f"http://127.0.0.1:{port}/v2/{repository}"
    with requests.Session() as session:
        session.auth = auth
        rows = []
        for layer in [{"data": b"{}", "mediaType": "application/vnd.oci.empty.v1+json"}, *layers]:
            data = layer["data"]
            digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
            started = session.post(f"{base}/blobs/uploads/")
            started.raise_for_status()
            session.put(started.headers["Location"], params={"digest": digest}, data=data).raise_for_status()
            rows.append({k: v for k, v in layer.items() if k != "data"} | {"digest": digest, "size": len(data)})
        manifest = {
            "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": rows[0], "layers": rows[1:], **more,
        }  # fmt: skip
        return put_manifest(session, base, tag, manifest)


def put_manifest(session: requests.Session, base: str, tag: str, manifest: dict[str, Any]) -> str:
    """Put a manifest or an index under a tag; returns its digest."""
    body = json.dumps(manifest).encode()
    reply = session.put(f"{base}/manifests/{tag}", data=body, headers={"Content-Type": manifest["mediaType"]})
    reply.raise_for_status()
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def titled(name: str, data: bytes, *, kind: str = FILE_LAYER) -> dict[str, Any]:
    """A file as oras pushes it."""
    return {"data": data, "mediaType": kind, "annotations": {TITLE: name}}


def tar(files: dict[str, bytes | tarfile.TarInfo], *, zipped: bool = True) -> bytes:
    """A tar of files (or of members made by hand), compressed with gzip or plain."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(out.getvalue(), mtime=0) if zipped else out.getvalue()


def _program() -> str:
    """The registry's program."""
    found = shutil.which("docker-registry")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        wait = "-oDPkg::Lock::Timeout=300"
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "docker-registry"]):
            subprocess.run(["apt-get", wait, *command], check=True, capture_output=True)
        found = shutil.which("docker-registry")
    assert found is not None, "docker-registry is not installed: install it (Debian's name), then run this again"
    return found


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"no registry at {url}: {log.read_text()}")
