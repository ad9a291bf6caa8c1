"""A store on a disk that is too small, and then is not: run in a mount namespace of its own, prints a line per size.

    unshare --map-root-user --mount python -m support.full_disk FOLDER COMMAND... -- SHARE...

The whole need is measured first. Then for each SHARE of it the commands run until one fails, room is made, and all run
again. A line: {"share", "failed": command or null, "code", "reason", "message", "whole": artifacts left by it, "again":
exit codes, "same": whether the same bytes came out}.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.package import MANIFEST
from support.job_pod import QUICK, Pod
from support.onnx_models import save_mlp

PLENTY = "256m"


def main() -> None:
    """All sizes."""
    folder, rest = Path(sys.argv[1]), sys.argv[2:]
    commands, shares = rest[: rest.index("--")], [float(share) for share in rest[rest.index("--") + 1 :]]
    with pytest.MonkeyPatch.context() as environment:
        if "optimize" in commands:
            environment.setattr("pilotfish.optimizer.benchmark.BenchmarkPlan", lambda: QUICK)
        pod = Pod(folder, environment)
        save_mlp(pod.source / "model.onnx")
        pod.job({"uri": "pvc://claim/model.onnx"})
        mount(pod.store, PLENTY)
        assert [pod.command(command)[0] for command in commands] == [0] * len(commands)
        need, sound = used(pod.store), digest(pod.store)
        for share in shares:
            subprocess.run(["umount", str(pod.store)], check=True)
            mount(pod.store, f"{max(4, int(need * share / 4096) * 4)}k")
            tell(share, pod, commands, sound)


def tell(share: float, pod: Pod, commands: list[str], sound: str) -> None:
    """One size."""
    failed, code, told = None, 0, None
    for command in commands:
        code, told = pod.command(command)
        if code:
            failed = command
            break
    whole = [path.parent.name for path in pod.store.glob(f"artifacts/[!.]*/{MANIFEST}")]
    subprocess.run(["mount", "-o", f"remount,size={PLENTY}", str(pod.store)], check=True)
    again = [pod.command(command)[0] for command in commands]
    line = {
        "share": share,
        "failed": failed,
        "code": code,
        "reason": None if told is None else told.reason.value,
        "message": None if told is None else told.message,
        "whole": whole,
        "again": again,
        "same": digest(pod.store) == sound,
    }
    sys.stdout.write(f"DISK {json.dumps(line)}\n")


def mount(folder: Path, size: str) -> None:
    """A disk of that size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)


def used(folder: Path) -> int:
    """Bytes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def digest(store: Path) -> str:
    """Of sources and models: what was fetched and what was made."""
    found = [*store.glob("sources/[!.]*"), *store.glob("artifacts/*/model_repository")]
    parts = [folder_digest(hash_folder(path)) if path.is_dir() else path.name for path in sorted(found)]
    return " ".join(parts)


if __name__ == "__main__":
    main()
