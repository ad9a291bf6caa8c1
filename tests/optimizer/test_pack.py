"""pilotfish.pack: what is written opens as data, keeps its names, and takes every batch."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import pilotfish
from pilotfish.optimizer.pt2_scan import write_clean
from pilotfish.optimizer.samples import read_samples
from support.models import train_mlp

pytestmark = pytest.mark.torch


class TwoInTwoOut(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(20, 8)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, tokens, weight):
        mean = (self.drop(self.table(tokens)) * weight.unsqueeze(-1)).mean(1)
        return {"mean": mean, "total": mean.sum(1)}


EXAMPLE = {"tokens": torch.randint(0, 20, (3, 6)), "weight": torch.rand(3, 6)}


def test_a_packed_folder_holds_no_pickle_and_says_its_names(tmp_path):
    model, example, x, y = train_mlp()
    model.train()
    folder = pilotfish.pack(model, example, tmp_path / "m", samples=torch.from_numpy(x[:40]), labels=y[:40])
    assert model.training
    model.eval()
    assert sorted(p.name for p in folder.iterdir()) == ["model.pt2", "pilotfish.json", "samples.safetensors"]
    write_clean(folder / "model.pt2", tmp_path / "again.pt2")
    note = json.loads((folder / "pilotfish.json").read_text())
    assert (note["inputs"], note["outputs"]) == (["pixels"], ["output"])
    samples = read_samples(folder / "samples.safetensors")
    np.testing.assert_array_equal(samples["pixels"], x[:40])
    np.testing.assert_array_equal(samples["labels"], y[:40])
    program = torch.export.load(str(folder / "model.pt2")).module()
    for batch in (1, 2, 5):
        inputs = torch.from_numpy(x[:batch])
        torch.testing.assert_close(program(inputs), model(inputs))


def test_keyword_inputs_free_axes_and_a_dict_of_outputs_go_the_whole_way(local):
    pilotfish.pack(TwoInTwoOut(), EXAMPLE, local.folder / "m.zip", dynamic={"tokens": [1], "weight": [1]})
    assert zipfile.is_zipfile(local.folder / "m.zip")
    message = local.run({"uri": "m.zip"})
    signature = message.signature
    assert signature.batched
    assert {t.name: (t.dtype, t.shape) for t in signature.inputs} == {
        "tokens": ("INT64", (-1,)),
        "weight": ("FP32", (-1,)),
    }
    assert {t.name: t.shape for t in signature.outputs} == {"mean": (8,), "total": ()}
    assert {c.variant: c.verdict.value for c in message.summary.candidates} == {
        "onnx-fp32": "Accepted", "openvino-fp32": "Refused", "torchscript-fp32": "Accepted",
    }  # fmt: skip


def test_a_model_that_fixes_its_batch_says_what_to_do(tmp_path):
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x.reshape(2, 8).sum(0)

    with pytest.raises(ValueError, match="batched=False"):
        pilotfish.pack(Fixed(), torch.rand(2, 8), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"input_names": ["a", "b"]}, "input_names"),
        ({"output_names": ["a", "b"]}, "output_names"),
        ({"dynamic": {"nothing": [1]}}, "no input"),
    ],
)
def test_names_that_do_not_fit(tmp_path, arguments, says):
    with pytest.raises(ValueError, match=says):
        pilotfish.pack(torch.nn.Linear(4, 2), torch.rand(2, 4), tmp_path / "m", **arguments)


def test_importing_pilotfish_imports_no_torch():
    check = "import sys, pilotfish; assert 'torch' not in sys.modules; assert callable(pilotfish.pack)"
    subprocess.run([sys.executable, "-c", check], check=True)
