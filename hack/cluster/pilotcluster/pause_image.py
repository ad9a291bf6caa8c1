"""The image that keeps a pod's namespaces, written without an image builder."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from pilotcluster.node_config import PAUSE_IMAGE

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OCI = "application/vnd.oci.image"


def write_pause_image(target: Path, program: Path) -> None:
    """Write an OCI archive with one static program and nothing else."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("pause")
        entry.size, entry.mode = program.stat().st_size, 0o755
        archive.addfile(entry, io.BytesIO(program.read_bytes()))
    blobs: dict[str, bytes] = {}

    def add(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer_entry = add(layer.getvalue(), "layer.v1.tar")
    config = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]},
    }
    config_entry = add(json.dumps(config).encode(), "config.v1+json")
    manifest = {"schemaVersion": 2, "config": config_entry, "layers": [layer_entry]}
    manifest_entry = add(json.dumps(manifest).encode(), "manifest.v1+json")
    manifest_entry["annotations"] = {"io.containerd.image.name": PAUSE_IMAGE}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [manifest_entry]}).encode(),
        **{f"blobs/sha256/{digest}": data for digest, data in blobs.items()},
    }
    with tarfile.open(target, "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
