"""Flux's kustomize-controller, built from its Go module once, and the CRDs that it needs.

source-controller is not among them: the module proxy does not give out a package that it is made of. Who needs a source
plays it, as tests/support/flux.py does.
"""

import shutil
from pathlib import Path

from pilotcluster.tools import _cached, _go, _go_version, _key, _module, _run_go

VERSION = "v1.9.5"
KUSTOMIZE_CONTROLLER = "github.com/fluxcd/kustomize-controller"
SOURCE_CONTROLLER = "github.com/fluxcd/source-controller"
PROGRAM = "kustomize-controller"
CRDS = "crds"


def flux_folder() -> Path:
    """Folder of `kustomize-controller` and `crds/`; built when missing (4 min cold)."""
    go = _go()

    def build(target: Path) -> None:
        crds = target / CRDS
        crds.mkdir()
        controller = _module(go, f"{KUSTOMIZE_CONTROLLER}@{VERSION}", cwd=target)
        source = _module(go, f"{SOURCE_CONTROLLER}@{VERSION}", cwd=target)
        # It does not start without any of the kinds that it can read from.
        for module in (controller, source):
            for path in sorted((module / "config" / "crd" / "bases").glob("*.yaml")):
                shutil.copyfile(path, crds / path.name)
        tree = target / "src"
        shutil.copytree(controller, tree, copy_function=shutil.copyfile)
        # Its go.mod replaces its own API with a folder that the module does not hold: `go install` refuses that, and a
        # copy with the released API in its place builds.
        api = _module(go, f"{KUSTOMIZE_CONTROLLER}/api@{VERSION}", cwd=target)
        _make_writable(tree)
        shutil.copytree(api, tree / "api", copy_function=shutil.copyfile)
        _make_writable(tree)
        _run_go(go, "build", "-ldflags", "-s -w", "-o", str(target / PROGRAM), ".", cwd=tree)
        shutil.rmtree(tree)

    return _cached(f"flux-{_key(VERSION, _go_version(go))}", f"build Flux's {PROGRAM} {VERSION}", build)


def _make_writable(tree: Path) -> None:
    """Folders of Go's cache are read-only, and so are their copies."""
    for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
