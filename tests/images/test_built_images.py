"""The images as built from this tree: who they run as, that their entry starts, that Triton serves from them."""

import functools
import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton_http
from imagebuild.catalog import IMAGES, KEY_LABEL
from imagebuild.engine import choose
from imagebuild.machine import cache_folder
from packaging.utils import canonicalize_name

from pilotfish.resources.triton_flags import TritonDrain, TritonPorts, triton_arguments
from support.repository import expected, linear_onnx, make_config, write_model
from support.triton import ADMIN_KEY, VERSION, free_port

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TAG = "dev"
NAMES = [image.name for image in IMAGES]
BUILDAH = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}


@functools.cache
def builder():
    return choose(cache_folder()).name


class Container:
    """One container of an image, by Docker or Podman where they answer, else by buildah."""

    def __init__(self, image):
        self.reference = f"pilotfish/{image}:{TAG}"
        self.working = None
        if builder() == "buildah":
            self.working = self._output("buildah", "from", "--pull-never", f"localhost/{self.reference}").strip()

    def command(self, *command, mounts=()):
        volumes = [f"--volume={source}:{target}:ro" for source, target in mounts]
        if self.working:
            return ["buildah", "run", *volumes, self.working, "--", *command]
        entry, *rest = command
        return [builder(), "run", "--rm", "--network=host", *volumes, f"--entrypoint={entry}", self.reference, *rest]

    def run(self, *command):
        done = subprocess.run(
            self.command(*command), env=BUILDAH, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    def config(self):
        if self.working:
            text = self._output("buildah", "inspect", "--type=image", f"localhost/{self.reference}")
            return json.loads(text)["OCIv1"]["config"]
        return json.loads(self._output(builder(), "image", "inspect", self.reference))[0]["Config"]

    def close(self):
        if self.working:
            self._output("buildah", "rm", self.working)

    @staticmethod
    def _output(*command):
        return subprocess.run(command, env=BUILDAH, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module", autouse=True)
def _built():
    program = Path(__file__).resolve().parents[2] / "hack" / "images" / "build"
    subprocess.run([program, "all", "--tag", TAG], check=True)


@pytest.fixture
def container(request):
    made = Container(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("container", NAMES, indirect=True)
def test_it_runs_as_the_unprivileged_user_and_names_its_content(container):
    config = container.config()

    assert config["User"] == "65532:65532"
    assert len(config["Labels"][KEY_LABEL]) == 16
    assert container.run("id", "-u") == (0, "65532\n")


@pytest.mark.parametrize("container", NAMES, indirect=True)
def test_nothing_of_this_machine_is_in_it(container):
    assert container.run("test", "-e", "/etc/pip.conf")[0] != 0
    assert container.run("test", "-s", "/run/secrets/ca-bundle")[0] != 0
    assert not any("PIP_" in variable or "PROXY" in variable.upper() for variable in container.config()["Env"])


@pytest.mark.parametrize("container", NAMES, indirect=True)
def test_its_sbom_says_what_is_in_it(container, tmp_path):
    """pip and, before Python 3.12, setuptools come with the base image's Python."""
    name = container.reference.partition("/")[2].partition(":")[0]
    program = Path(__file__).resolve().parents[2] / "hack" / "sbom"
    python = container.run("python3", "-c", "import sys; print('{}.{}'.format(*sys.version_info))")[1].strip()
    subprocess.run([program, "--out", tmp_path, "--python", python, name], check=True, capture_output=True)
    parts = json.loads((tmp_path / f"{name}.cdx.json").read_text())["components"]

    code, output = container.run("pip", "list", "--format=json", "--disable-pip-version-check")

    assert code == 0, output
    listed = json.loads(output.splitlines()[0])
    installed = {canonicalize_name(entry["name"]): entry["version"] for entry in listed}
    of_python = {"pip", "setuptools"}
    written = {part["name"]: part["version"] for part in parts if part.get("purl")}
    assert {key: value for key, value in installed.items() if key in written or key not in of_python} == written


@pytest.mark.parametrize("container", ["operator", "optimizer"], indirect=True)
def test_its_packages_fit_each_other(container):
    code, output = container.run("pip", "check")

    assert code == 0, output


@pytest.mark.parametrize("container", ["operator"], indirect=True)
def test_the_operator_starts_and_says_what_it_misses(container):
    code, output = container.run("pilotfish-operator")

    assert code == 1
    assert "cannot reach a cluster" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("container", ["optimizer", "optimizer-torch", "optimizer-tf"], indirect=True)
def test_the_optimizer_starts(container):
    code, output = container.run("pilotfish-job", "--help")

    assert code == 0, output
    assert {"fetch", "optimize", "install", "verify"} <= set(
        output.replace(",", " ").replace("{", " ").replace("}", " ").split()
    )
    assert container.run("python3", "-c", "import tritonclient.grpc, pilotfish.optimizer.verify_server")[0] == 0
    torch_is_there = container.run("python3", "-c", "import torch, torchvision, transformers")[0] == 0
    tensorflow = container.run("python3", "-c", "import importlib.util as u; u.find_spec('tf2onnx') or exit(1)")[0] == 0
    assert tensorflow == container.reference.startswith("pilotfish/optimizer-tf:")
    assert torch_is_there == container.reference.startswith("pilotfish/optimizer-torch:")


@pytest.mark.parametrize("container", ["testbed"], indirect=True)
def test_the_testbed_has_a_store_and_clients(container):
    assert container.run("moto_server", "--help")[0] == 0
    assert container.run("python3", "-c", "import numpy, tritonclient.grpc, tritonclient.http")[0] == 0


@pytest.mark.parametrize("container", ["triton-cpu", "triton-cpu-torch"], indirect=True)
def test_triton_serves_from_the_image_with_the_flags_of_the_pod(container, tmp_path):
    repository = write_model(tmp_path / "models", "linear", make_config("linear"), linear_onnx())
    for path in (tmp_path, *tmp_path.rglob("*")):  # the user in the image reads it, as from a volume
        path.chmod(0o755)
    reachable = Path("/tmp") / f"pilotfish-{os.getpid()}-{container.reference.partition('/')[2].replace(':', '-')}"
    shutil.copytree(repository, reachable)
    ports = TritonPorts(http=free_port(), grpc=free_port(), metrics=free_port())
    arguments = triton_arguments(
        VERSION,
        model_repository="/models",
        admin_key=ADMIN_KEY,
        ports=ports,
        drain=TritonDrain(exit_timeout_seconds=10),
        address="127.0.0.1",
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            container.command("tritonserver", *arguments, mounts=[(reachable, "/models")]),
            env=BUILDAH,
            stdout=output,
            stderr=output,
        )
    try:
        wait_ready(f"http://127.0.0.1:{ports.http}/v2/models/linear/versions/1/ready", server, log)
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        tensor = triton_http.InferInput("x", [2, 4], "FP32")
        tensor.set_data_from_numpy(x)
        client = triton_http.InferenceServerClient(f"127.0.0.1:{ports.http}")
        answer = client.infer("linear", [tensor]).as_numpy("y")
        client.close()
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(reachable)

    np.testing.assert_allclose(answer, expected(x), rtol=1e-6)


def wait_ready(url, server, log):
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
