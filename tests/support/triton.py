"""A real tritonserver on this machine's loopback, run as the pods run it.

Installs the server once, from the images' own hash-locked requirements, into the cache folder
(`PILOTFISH_CACHE`, default ~/.cache/pilotfish), and takes the backends from images/triton-cpu. What cannot be installed
is an error, never a skip.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from pilotfish.api.controlled_server import controlled_arguments
from pilotfish.resources.triton_flags import TritonDrain, TritonPorts, TritonTls, triton_arguments

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ROOT / "images" / "triton-cpu" / "backends"
VERSION = "2.51.0"
ADMIN_KEY = "only-for-tests"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class TritonError(RuntimeError):
    """The server cannot be installed, started or used."""


class Flavour(StrEnum):
    """Which image's requirements the server gets."""

    ONNX = "triton-cpu"
    TORCH = "triton-cpu-torch"

    @property
    def locks(self) -> tuple[Path, ...]:
        """What the image installs, in order."""
        names = ("torch", "triton-cpu") if self is Flavour.TORCH else ("triton-cpu",)
        return tuple(ROOT / "requirements" / f"{name}.txt" for name in names)


@dataclass(frozen=True, slots=True)
class Installation:
    """A venv with the server in it."""

    venv: Path

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return self.venv / "lib" / f"python{PYTHON}" / "site-packages"

    @property
    def server(self) -> Path:
        """The folder that holds bin/, backends/ and the stubs."""
        return self.packages / "pytriton" / "tritonserver"

    def environment(self) -> dict[str, str]:
        """The variables that the images set: the stub embeds the Python that it finds first on PATH."""
        libraries = (self.packages / "nvidia_pytriton.libs", _python_library())
        return {
            "HOME": "/tmp",
            "PATH": f"{self.venv / 'bin'}:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        }


def install(flavour: Flavour = Flavour.ONNX) -> Installation:
    """The installation of a flavour, made on first use (1 s from a warm package cache, 4 GB of hard links with torch).

    Raises:
        TritonError: no uv, no shared libpython, or the installer's own last lines.
    """
    _python_library()
    pins = b"".join(lock.read_bytes() for lock in flavour.locks)
    key = hashlib.sha256(pins + sys.base_prefix.encode() + sys.version.encode()).hexdigest()[:12]
    cache = Path(os.environ.get("PILOTFISH_CACHE") or Path.home() / ".cache" / "pilotfish")
    folder = cache / "triton" / f"{flavour}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "complete"
    with _locked(folder / "lock"):
        if not done.exists():
            _install(folder / "venv", flavour.locks)
            done.touch()
    return Installation(folder / "venv")


def _install(venv: Path, locks: tuple[Path, ...]) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    _run_uv("venv", "--quiet", "--python", sys.executable, str(venv))
    python = str(venv / "bin" / "python")
    files = [argument for lock in locks for argument in ("-r", str(lock))]
    _run_uv("pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", *files)
    for tool in ("bin/tritonserver", f"python_backend_stubs/{PYTHON}/triton_python_backend_stub"):
        path = Installation(venv).server / tool
        if not path.is_file():
            raise TritonError(f"the wheel nvidia-pytriton has no {tool}; Python {PYTHON} is not one that it supports")


def _run_uv(*arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is None:
        raise TritonError("cannot install tritonserver: uv is missing; run `pip install uv`")
    done = subprocess.run([uv, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TritonError(f"cannot install tritonserver: uv {arguments[0]} failed: {done.stderr.strip()[-800:]}")


def _python_library() -> Path:
    """The folder of libpython, which the backend's stub loads."""
    name = sysconfig.get_config_var("INSTSONAME") or f"libpython{PYTHON}.so.1.0"
    folders = (Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib"), Path(sys.base_prefix) / "lib")
    for folder in folders:
        if (folder / name).is_file() and ".so" in name:
            return folder
    raise TritonError(
        f"cannot run tritonserver: {sys.base_prefix} has no shared library for Python {PYTHON}; "
        f"install libpython{PYTHON} or use a Python built with --enable-shared"
    )


@contextmanager
def _locked(path: Path):
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_backends(installation: Installation, folder: Path) -> Path:
    """The backend folder as the images lay it out: the server's Python backend, its stub and our backends."""
    shutil.copytree(BACKENDS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    stub = installation.server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    for source in (*(installation.server / "backends" / "python").iterdir(), stub):
        shutil.copy2(source, folder / "python" / source.name)  # the server refuses links that leave the folder
    return folder


@dataclass(slots=True, kw_only=True)
class TritonServer:
    """One server over one model repository; a context manager that starts it and leaves no process behind.

    `scratch` takes the log and the backend folder and must be empty of both. `exit_on_error` False keeps a server up
    whose model did not load, as no pod does, so that a test can ask it questions.
    """

    repository: Path
    scratch: Path
    flavour: Flavour = Flavour.ONNX
    drain: TritonDrain = field(default_factory=lambda: TritonDrain(exit_timeout_seconds=3))
    exit_on_error: bool = True
    controlled: bool = False
    """Loads what it is told to over gRPC, as the server that tuning measures."""
    tls: TritonTls | None = None
    """Encrypts gRPC; HTTP stays on the loopback, as everything here."""
    extra: tuple[str, ...] = ()
    ports: TritonPorts = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Self:
        """Start the process; it is not ready yet."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        installation = install(self.flavour)
        self.ports = TritonPorts(http=free_port(), grpc=free_port(), metrics=free_port())
        backends = str(make_backends(installation, self.scratch / "backends"))
        arguments = triton_arguments(
            VERSION,
            model_repository=str(self.repository),
            admin_key=ADMIN_KEY,
            address="127.0.0.1",
            ports=self.ports,
            drain=self.drain,
            backend_directory=backends,
            tls=self.tls,
        )
        if self.controlled:
            arguments = controlled_arguments(
                model_repository=str(self.repository), port=self.ports.grpc, backend_directory=backends
            )
        if not self.exit_on_error:
            arguments = tuple(a.replace("--exit-on-error=true", "--exit-on-error=false") for a in arguments)
        region = f"--backend-config=python,shm-region-prefix-name={self._region}"
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [str(installation.server / "bin" / "tritonserver"), *arguments, region, *self.extra],
                env=installation.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server and its stubs at once: a graceful end takes seconds, and tests of it call `terminate`."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for region in Path("/dev/shm").glob(f"{self._region}*"):
            region.unlink(missing_ok=True)

    @property
    def _region(self) -> str:
        """Prefix of this server's shared memory, so that nothing of it stays behind."""
        return f"pilotfish-test-{os.getpid()}-{self.ports.http}-"

    @property
    def log_file(self) -> Path:
        """Where the server's output goes."""
        return self.scratch / "tritonserver.log"

    @property
    def log(self) -> str:
        """The output so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def http_address(self) -> str:
        """host:port, as tritonclient wants it."""
        return f"127.0.0.1:{self.ports.http}"

    @property
    def http_url(self) -> str:
        """The HTTP endpoint's base URL."""
        return f"http://{self.http_address}"

    @property
    def grpc_url(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"127.0.0.1:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus text."""
        return f"http://127.0.0.1:{self.ports.metrics}/metrics"

    def ready(self, model: str | None = None) -> bool:
        """Whether the pods' readiness probe passes; for the whole server without `model`."""
        path = f"/v2/models/{model}/versions/1/ready" if model else "/v2/health/ready"
        return self.get(path)[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an HTTP path; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.http_url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, model: str | None = None, *, seconds: float = 60) -> Self:
        """Return once ready.

        Raises:
            TritonError: the process ended or time is up; the log's errors are in the message.
        """
        deadline = time.monotonic() + seconds
        while not self.ready(model):
            if self.process.poll() is not None:
                raise TritonError(f"tritonserver ended with {self.process.returncode}:\n{self.errors()}")
            if time.monotonic() > deadline:
                raise TritonError(f"tritonserver not ready after {seconds:.0f} s:\n{self.errors()}")
            time.sleep(0.05)
        return self

    def wait_ended(self, *, seconds: float = 60) -> int:
        """The exit code, once the process has ended.

        Raises:
            TritonError: it has not ended in time.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TritonError(f"tritonserver still runs after {seconds:.0f} s:\n{self.errors()}") from None

    def errors(self) -> str:
        """The log's error lines, or its end when there are none."""
        lines = self.log.splitlines()
        return "\n".join([line for line in lines if line.startswith("E")] or lines[-20:])

    def terminate(self) -> None:
        """SIGTERM, as the kubelet sends it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
