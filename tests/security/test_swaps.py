"""S5, S6, S10: what changes under the reader's hands, what may be served, and which libraries open what strangers send."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from packaging.version import Version
from tritonclient.grpc import model_config_pb2

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer import prepare
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.load_onnx import check_onnx, load_onnx
from pilotfish.optimizer.remotes import LocalRemote
from support.hostile.graphs import beside, elsewhere, matmul
from support.job_pod import Pod
from support.onnx_models import save_mlp

ONNX_ONLY = {"formats": ["ONNX"]}
ROOT = Path(__file__).resolve().parents[2]
ALLOWED = re.compile(
    r"m/(config\.pbtxt|warmup/input_\d+|1/(model\.onnx|model\.onnx\.data|model\.pt|model\.xml|model\.bin))"
)
FLOORS = {
    "torch": "2.10.0",  # CVE-2025-32434, CVE-2026-24747: ways around weights_only
    "onnx": "1.21.0",  # CVE-2024-27318, CVE-2026-27489, CVE-2026-34445: external data
    "keras": "3.11.0",  # CVE-2025-1550, CVE-2025-8747: ways around safe_mode
}


def _refused(act, *arguments, reason=Reason.UNSAFE_MODEL, **more):
    with pytest.raises(OptimizerError) as caught:
        act(*arguments, **more)
    assert caught.value.reason is reason, caught.value.message
    return caught.value.message


@pytest.fixture
def outside(tmp_path):
    """A file that nobody may read, and a model beside its data in a folder."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.full((16, 4), 7, np.float32).tobytes())
    return secret, beside(matmul(elsewhere(("location", "w.bin"))), tmp_path / "d")


def test_data_that_is_a_symlink_is_refused_before_the_runtime_opens_it(outside):
    secret, model = outside
    (model.parent / "w.bin").unlink()
    (model.parent / "w.bin").symlink_to(secret)
    assert "outside" in _refused(check_onnx, model)


def test_data_that_is_a_hard_link_is_refused_before_the_runtime_opens_it(outside):
    secret, model = outside
    (model.parent / "w.bin").unlink()
    (model.parent / "w.bin").hardlink_to(secret)
    assert "another name" in _refused(check_onnx, model)


def test_data_behind_a_folder_that_is_a_link_is_refused(outside):
    secret, _ = outside
    model = beside(matmul(elsewhere(("location", "sub/secret.bin"))), secret.parent / "e")
    (model.parent / "sub").symlink_to(secret.parent)
    assert "outside" in _refused(check_onnx, model)


def test_data_beside_the_model_is_read(outside):
    _, model = outside
    answer = load_onnx(model, threads=1).runner.run({"x": np.ones((1, 16), np.float32)})
    assert answer["y"].tolist() == [[16.0] * 4]


def _swapping(monkeypatch, swap):
    """Somebody acts between the check of a model and its being opened."""
    honest = prepare.load_model

    def loading(*arguments, **more):
        swap()
        return honest(*arguments, **more)

    monkeypatch.setattr(prepare, "load_model", loading)


def _fetched(pod: Pod) -> Path:
    """The one source in the pod's store."""
    (folder,) = (p for p in (pod.store / "sources").iterdir() if p.is_dir() and not p.name.startswith("."))
    return folder


@pytest.mark.parametrize("back", [False, True], ids=["for good", "for a moment"])
def test_a_model_that_is_swapped_after_its_check_becomes_no_artifact(back, pod, monkeypatch):
    save_mlp(pod.source / "m.onnx")
    save_mlp(pod.folder / "evil.onnx", seed=9)
    pod.job({"uri": "pvc://claim/m.onnx"}, optimization=ONNX_ONLY)
    assert pod.command("fetch")[0] == 0
    model = _fetched(pod) / "m.onnx"
    told = model.stat()

    def swap():
        kept = model.read_bytes()
        shutil.copyfile(pod.folder / "evil.onnx", model)
        if back:
            model.write_bytes(kept)
            os.utime(model, ns=(told.st_atime_ns, told.st_mtime_ns))

    _swapping(monkeypatch, swap)
    code, message = pod.command("optimize")
    assert (code, message.reason) == (10, Reason.SOURCE_DIGEST_MISMATCH), message.message
    assert "somebody else writes" in message.message
    assert not list((pod.store / "artifacts").glob("[!.]*"))


def test_a_byte_that_flips_between_fetch_and_optimize_is_seen_before_anything_is_opened(pod, monkeypatch):
    save_mlp(pod.source / "m.onnx")
    pod.job({"uri": "pvc://claim/m.onnx"})
    assert pod.command("fetch")[0] == 0
    model = _fetched(pod) / "m.onnx"
    data = bytearray(model.read_bytes())
    data[-9] ^= 1
    model.write_bytes(data)
    _swapping(monkeypatch, lambda: pytest.fail("it was opened"))
    code, message = pod.command("optimize")
    assert (code, message.reason) == (10, Reason.SOURCE_DIGEST_MISMATCH), message.message


def test_a_claim_whose_file_becomes_a_link_to_a_secret_gives_nothing_away(tmp_path):
    """Fetch holds credentials: what it opens must be what it listed, not what lies there by then."""
    claim, secret = tmp_path / "claim", tmp_path / "credentials"
    claim.mkdir()
    secret.write_text("the key")
    (claim / "m.onnx").write_text("a model")
    remote = LocalRemote(root=claim, fence=claim, uri="pvc://claim/")
    (file,) = remote.listing().files
    (claim / "m.onnx").unlink()
    (claim / "m.onnx").symlink_to(secret)
    _refused(lambda: b"".join(remote.read(file, 0)))


def test_only_known_files_are_served_whatever_lies_beside_the_model(pod):
    save_mlp(pod.source / "m.onnx")
    hostile = pod.source / "d"
    for name in (
        "1/model.py",
        "model.py",
        "config.pbtxt",
        "libtriton_own.so",
        "1/libcustom.so",
        "warmup/input_0",
        "__init__.py",
    ):
        (hostile / name).parent.mkdir(parents=True, exist_ok=True)
        (hostile / name).write_text('backend: "python"')
    shutil.move(pod.source / "m.onnx", hostile / "m.onnx")
    pod.job({"uri": "pvc://claim/d"}, optimization=ONNX_ONLY)
    assert pod.command("fetch")[0] == 0
    code, message = pod.command("optimize")
    assert code == 0, message.message
    repository = pod.store / message.artifact.path / "model_repository"
    files = [p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()]
    assert all(ALLOWED.fullmatch(name) for name in files), files
    assert 'backend: "onnxruntime"' in (repository / "m" / "config.pbtxt").read_text()


def test_names_of_a_hostile_model_stay_names(pod):
    """A tensor whose name closes its block and opens another: Triton must read one name and our backend."""
    name = 'x" } backend: "python" #\n\\u0041'
    model = matmul(None)
    model.graph.initializer.append(_numbers())
    model.graph.input[0].name = name
    model.graph.node[0].input[0] = name
    (pod.source / "m.onnx").write_bytes(model.SerializeToString())
    pod.job({"uri": "pvc://claim/m.onnx"}, optimization=ONNX_ONLY)
    assert pod.command("fetch")[0] == 0
    code, message = pod.command("optimize")
    assert code == 0, message.message
    text = (pod.store / message.artifact.path / "model_repository" / "m" / "config.pbtxt").read_text()
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert (config.backend, [i.name for i in config.input]) == ("onnxruntime", [name])


def _numbers():
    from onnx import numpy_helper

    return numpy_helper.from_array(np.ones((16, 4), np.float32), "w")


@pytest.mark.parametrize("name", FLOORS)
def test_no_lock_file_allows_a_library_with_a_known_hole(name):
    found = {}
    for lock in (ROOT / "requirements").glob("*.txt"):
        for version in re.findall(rf"^{name}==([^ ;\\]+)", lock.read_text(), re.MULTILINE):
            found[lock.name] = version
    assert found, f"no lock file names {name}"
    assert all(Version(version) >= Version(FLOORS[name]) for version in found.values()), found


@pytest.mark.parametrize("name", ["torch", "onnx", "keras"])
def test_the_package_asks_for_no_less(name):
    text = (ROOT / "pyproject.toml").read_text()
    floors = re.findall(rf'"{name}>=([0-9.]+)[",<]', text)
    assert floors, name
    assert all(Version(floor) >= Version(FLOORS[name]) for floor in floors), floors
