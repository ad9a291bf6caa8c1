"""Bad inputs through the real commands: each ends with its own reason, one sentence, and nothing written elsewhere."""

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pilotfish.api.report import Outcome
from support.bad import Bad
from support.bad.graphs import GRAPHS
from support.bad.lessons import KERAS, TENSORFLOW, TORCHSERVE, TRAINING, USER_CODE
from support.bad.samples import SAMPLES, SIGNATURES
from support.bad.sources import FETCH, FILES, SAFETENSORS
from support.bad.weights import FOLDERS, PICKLES, STATES
from support.tf_python import tensorflow_environment, tensorflow_models

TAUGHT = (*TRAINING, *USER_CODE, *TORCHSERVE, *TENSORFLOW, *KERAS)
ALL = (*TAUGHT, *FETCH, *FILES, *SAFETENSORS, *GRAPHS, *PICKLES, *STATES, *FOLDERS, *SAMPLES, *SIGNATURES)


def _cases():
    for bad in ALL:
        yield pytest.param(bad, id=bad.name, marks=[pytest.mark.torch] if bad.torch else [])


@dataclass
class Surroundings:
    """Everything around a pod's mounts, with the folder that the process stands in."""

    folder: Path

    def list(self):
        return {p: self._state(p) for p in sorted(self.folder.rglob("*")) if not self._is_mount(p)}

    def _is_mount(self, path):
        parts = path.relative_to(self.folder).parts
        return parts[:1] == ("pod",) and parts[1:2] and parts[1] in {"store", "work", "order", "tmp", "termination-log"}

    @staticmethod
    def _state(path):
        if path.is_symlink() or not path.is_file():
            return path.lstat().st_mode
        return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def sandbox(request, pod, tmp_path, monkeypatch):
    """A pod in a folder of its own, beside things that nobody may touch."""
    if request.node.callspec.params["bad"].tensorflow:
        tensorflow_models()  # made once per machine, in the real home
    for name in ("pod", "home", "here"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "keep").write_text("mine")
    pod = replace(pod, folder=tmp_path / "pod")
    for mount in (pod.store, pod.work, pod.source, pod.config, pod.models, pod.run, pod.tmp):
        assert mount.is_dir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(pod.tmp))
    monkeypatch.setenv("TMPDIR", str(pod.tmp))
    monkeypatch.delenv("PILOTFISH_TENSORFLOW_PYTHON", raising=False)
    return pod, Surroundings(tmp_path)


@pytest.mark.parametrize("bad", _cases())
def test_it_ends_with_its_reason_and_a_sentence(bad: Bad, sandbox, capfd):
    pod, around = sandbox
    uri = bad.uri if "://" in bad.uri else f"pvc://claim/{bad.uri}"
    for name, value in (tensorflow_environment() if bad.tensorflow else {}).items():
        pod.environment.setenv(name, value)
    made = bad.make(pod.source)
    more = made if isinstance(made, dict) else {}
    model = {key: value for key, value in {"uri": uri, **more}.items() if value is not None}
    pod.job(model, **bad.job)
    before = around.list()
    code, told = pod.command("fetch")
    if bad.fetched:
        assert code == 0, told.message
        code, told = pod.command("optimize")
    assert (told.outcome, told.reason, code) == (Outcome.FAILED, bad.reason, bad.code), told.message
    assert all(part in told.message for part in bad.says), told.message
    assert "\n" not in told.message
    assert any(mark in told.message for mark in (";", ":")), f"says nothing to do: {told.message}"
    assert str(pod.folder) not in told.message, f"names a folder of the pod: {told.message}"
    assert around.list() == before
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert not list((pod.store / "artifacts").glob("[!.]*"))


def test_there_are_enough_of_them_and_no_name_twice():
    names = [bad.name for bad in ALL]
    assert len(set(names)) == len(names) >= 100


_SMALL = {
    "num_hidden_layers": 1,
    "vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", ["BertModel", "BertForMaskedLM", "GPT2LMHeadModel", "DistilBertForSequenceClassification"]
)
def test_sound_folders_lack_no_weights(name, tmp_path):
    import transformers

    from pilotfish.optimizer.pytorch.huggingface import load_folder

    kind = getattr(transformers, name)
    wide = {"dim": 32, "hidden_dim": 32, "n_heads": 2, "n_layers": 1} if "Distil" in name else {}
    kind(kind.config_class(**(_SMALL | wide))).save_pretrained(tmp_path)
    assert type(load_folder(tmp_path)) is kind
