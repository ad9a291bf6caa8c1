"""Bring images from buildah's storage onto the native node, layer by layer.

In between stands a registry that lives as long as one load and keeps its layers in the cache: of an image that
changed, only the changed layers are compressed and copied, also on a new cluster. It is bound to the machine's end
of the node's wire, and nothing else may depend on it.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pilotcluster import packages, processes, sandbox, tools
from pilotcluster.console import ClusterError, say, step, wait_for
from pilotcluster.paths import Layout, cache_root

STORAGE_DRIVER = "overlay"
MAX_REGISTRY_BYTES = 20 * 2**30
READY_SECONDS = 20.0
# Less work for both sides than gzip, measured on a 750 MB image: 8 s of processor time instead of 12 s.
PUSH = ("push", "--quiet", "--tls-verify=false", "--format=oci", "--compression-format=zstd", "--compression-level=1")


def full_name(image: str) -> str:
    """The name under which the kubelet asks for an image: registry and tag filled in as every engine does."""
    first, slash, rest = image.removeprefix("localhost/").partition("/")
    if not slash:
        path = f"docker.io/library/{first}"
    elif "." in first or ":" in first:
        path = f"{first}/{rest}"
    else:
        path = f"docker.io/{first}/{rest}"
    return path if ":" in path.rpartition("/")[2] or "@" in path else f"{path}:latest"


def load(layout: Layout, images: Sequence[str], *, holder: int, address: str) -> None:
    """Load every image whose content the node does not have yet. Raises ClusterError for one that is not built."""
    client = tools.containerd_folder() / "ctr"
    record = layout.images / "loaded.json"
    known: dict[str, str] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    present = set(ctr(holder, client, "images", "list", "--quiet").split())
    wanted = {image: image_id(image) for image in images}
    changed = {
        image: digest
        for image, digest in wanted.items()
        if known.get(full_name(image)) != digest or full_name(image) not in present
    }
    for image in wanted.keys() - changed.keys():
        say(f"  {image} is on the node already")
    if not changed:
        return
    with registry(layout, address) as host:
        for image, digest in changed.items():
            with step(f"load {image}"):
                path = full_name(image).partition("/")[2]
                buildah(*PUSH, image, f"docker://{host}/{path}")
                ctr(holder, client, "images", "pull", "--plain-http", f"{host}/{path}")
                ctr(holder, client, "images", "tag", "--force", f"{host}/{path}", full_name(image))
                ctr(holder, client, "images", "remove", f"{host}/{path}")
            known[full_name(image)] = digest
            record.write_text(json.dumps(known), encoding="utf-8")


def ctr(holder: int, client: Path, *args: str) -> str:
    """Run containerd's own client inside the node."""
    return sandbox.enter(holder, str(client), "--namespace=k8s.io", *args)


def buildah(*args: str) -> str:
    """Run buildah on the storage that the project's image builds use. Raises ClusterError with its last line."""
    env = {"STORAGE_DRIVER": STORAGE_DRIVER, **os.environ}
    done = subprocess.run(["buildah", *args], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ClusterError(f"buildah {args[0]} {' '.join(args[-2:])} failed: {reason}")
    return done.stdout.strip()


def image_id(image: str) -> str:
    """Identity of an image's content in buildah's storage. Raises ClusterError when it is not there."""
    try:
        return buildah("inspect", "--type=image", "--format={{.FromImageID}}", image)
    except ClusterError as error:
        raise ClusterError(f"image {image} is not in buildah's storage: build it first ({error})") from error


@contextmanager
def registry(layout: Layout, address: str) -> Iterator[str]:
    """A registry on this address, as host:port."""
    storage = cache_root() / "registry"
    if size_of(storage) > MAX_REGISTRY_BYTES:
        say(f"  {storage} holds more than {MAX_REGISTRY_BYTES // 2**30} GiB of old layers: starting a new one")
        shutil.rmtree(storage)
    with socket.socket() as probe:
        probe.bind((address, 0))
        host = f"{address}:{probe.getsockname()[1]}"
    config = layout.config / "registry.json"
    config.write_text(json.dumps(make_registry_config(host, storage)), encoding="utf-8")
    program = packages.find_program("docker-registry")
    if program is None:
        raise ClusterError("docker-registry is not installed: apt-get install docker-registry")
    log = layout.logs / "registry.log"
    server = processes.start("docker-registry", [program, "serve", str(config)], log=log)
    try:
        wait_for("the registry's start", lambda: _listens(host), seconds=READY_SECONDS, hint=f"see {log}")
        yield host
    finally:
        processes.kill([server])


def make_registry_config(host: str, storage: Path) -> dict[str, object]:
    """Settings of the registry: one address, one folder, no extras."""
    return {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": host},
    }


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _listens(host: str) -> bool:
    address, _, port = host.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((address, int(port))) == 0
