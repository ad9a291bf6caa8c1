"""Explanations: attributions that are right, told where there are none, and never a reason for a run to fail."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

import pilotfish
from pilotfish.api.optimization import ExplanationMethod as Method
from pilotfish.api.optimization import Explanations, OptimizationSpec
from pilotfish.optimizer.progress import optimize_stages
from pilotfish.optimizer.pytorch.attributions import Explainer, NotExplainableError
from pilotfish.optimizer.pytorch.runtime import TorchRunner
from pilotfish.optimizer.report import explain
from pilotfish.optimizer.report.explain import explain_original
from pilotfish.optimizer.report.explain_worker import NOT_FINITE
from pilotfish.optimizer.report.grids import make_grid
from pilotfish.optimizer.worker import Subject
from support.models import train_mlp
from support.onnx_models import save_mlp

pytestmark = pytest.mark.torch


class Linear(nn.Module):
    """x · w + 1."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        return x @ self.weights + 1


class Words(nn.Module):
    """Token ids to two classes; each token adds its own row to the scores."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.table = nn.Embedding(20, 2)

    def forward(self, tokens, mask):
        return (self.table(tokens) * mask[..., None]).sum(1)


def explainer(module, *, inputs=("x",), method=Method.INTEGRATED_GRADIENTS, batched=True):
    runner = TorchRunner(module.eval(), inputs=list(inputs), outputs=["y"])
    return Explainer(runner, method, batched=batched)


WEIGHTS = [[1.0], [-2.0], [0.5]]
ROW = np.array([[3.0, 1.0, -4.0]], np.float32)


@pytest.mark.parametrize("method", [Method.INTEGRATED_GRADIENTS, Method.FEATURE_ABLATION])
@pytest.mark.parametrize("batched", [True, False])
def test_of_a_linear_model_they_are_weight_times_value(method, batched):
    module = Linear(WEIGHTS if batched else [1.0, -2.0, 0.5])
    found = explainer(module, method=method, batched=batched).explain({"x": ROW})
    np.testing.assert_allclose(found.values["x"], [3.0, -2.0, -2.0], rtol=1e-5)
    assert (found.target, found.baseline_answer) == ("mean of y", 1.0)
    assert found.answer == pytest.approx(0.0, abs=1e-6)


def test_saliency_is_the_size_of_the_gradient():
    found = explainer(Linear(WEIGHTS), method=Method.SALIENCY).explain({"x": ROW})
    np.testing.assert_allclose(found.values["x"], [1.0, 2.0, 0.5])
    assert found.delta is None


def test_of_scores_the_class_that_the_model_chose_is_explained():
    found = explainer(Linear([[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])).explain({"x": ROW})
    assert (found.target, found.answer) == ("y[1]", 5.0)
    np.testing.assert_allclose(found.values["x"], [3.0, 1.0, 0.0], rtol=1e-5)


def test_they_add_up_to_the_difference_on_trained_digits():
    module, _, x, _ = train_mlp()
    for row in x[:8]:
        found = explainer(module).explain({"x": row[None]})
        assert abs(found.answer - found.baseline_answer) > 1
        total = float(found.values["x"].sum())
        assert total == pytest.approx(found.answer - found.baseline_answer, rel=0.02)
        assert found.delta == pytest.approx(total - (found.answer - found.baseline_answer), abs=1e-3)


def test_of_token_ids_each_position_has_its_share():
    module, tokens = Words(), np.array([[4, 9, 2]])
    mask = np.array([[1, 1, 0]])
    found = explainer(module, inputs=("tokens", "mask")).explain({"tokens": tokens, "mask": mask})
    rows = module.table.weight.detach().numpy()
    chosen = int((rows[4] + rows[9]).argmax())
    expected = [rows[4, chosen] - rows[0, chosen], rows[9, chosen] - rows[0, chosen], 0.0]
    np.testing.assert_allclose(found.values["tokens"], expected, rtol=1e-4, atol=1e-6)
    assert list(found.values) == ["tokens"], "the mask is held as it is"


def test_integers_without_an_embedding_say_what_to_do():
    class Counts(nn.Module):
        def forward(self, x):
            return x.float() * 2

    with pytest.raises(NotExplainableError, match="write method: FeatureAblation"):
        explainer(Counts()).explain({"x": np.array([[1, 2]])})
    with pytest.raises(NotExplainableError, match="Saliency needs inputs of floating-point numbers"):
        explainer(Counts(), method=Method.SALIENCY).explain({"x": np.array([[1, 2]])})
    found = explainer(Counts(), method=Method.FEATURE_ABLATION).explain({"x": np.array([[1, 2]])})
    np.testing.assert_allclose(found.values["x"], [0.0, 4.0])


def test_sums_by_cell_stay_the_sums_of_all_values():
    image = np.random.default_rng(0).standard_normal((3, 100, 70))
    grid = make_grid(image.shape)
    assert (grid.rows, grid.columns) == (32, 32)
    assert grid.sums(image).sum() == pytest.approx(image.sum())
    last = make_grid((100, 70, 3))
    np.testing.assert_allclose(last.sums(image.transpose(1, 2, 0)), grid.sums(image))
    small = np.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(make_grid(small.shape).sums(small), np.arange(6.0))
    assert [(make_grid(shape).rows, make_grid(shape).columns) for shape in ((), (7,), (5000,))] == [
        (1, 1),
        (1, 7),
        (1, 1024),
    ]


def test_ablation_of_many_values_goes_by_cells_and_keeps_the_sum():
    calls = []

    class Mean(nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return x.sum((1, 2, 3))[:, None]

    image = np.random.default_rng(1).standard_normal((1, 3, 96, 96)).astype(np.float32)
    found = explainer(Mean(), method=Method.FEATURE_ABLATION).explain({"x": image})
    assert found.values["x"].sum() == pytest.approx(image.sum(), rel=1e-3)
    assert sum(calls) < 1100


@pytest.fixture
def scripted(tmp_path):
    """A subject out of a module: a TorchScript file and 12 samples of three numbers."""

    def make(module, x=None):
        path = tmp_path / "model.pt"
        torch.jit.script(module.eval()).save(str(path))
        values = np.random.default_rng(2).standard_normal((12, 3)).astype(np.float32) if x is None else x
        save_file({"x": values}, tmp_path / "inputs.safetensors")
        return Subject(
            kind="torchscript",
            path=str(path),
            threads=1,
            inputs=str(tmp_path / "inputs.safetensors"),
            outputs=("y",),
            batched=True,
            source={"inputs": [{"name": "x"}]},
        )

    return make


def test_only_as_many_samples_as_asked_for_and_their_mean_size(scripted):
    found = explain_original(Explanations(samples=5), scripted(Linear(WEIGHTS)), variant="original-torch")
    assert [s.sample for s in found.samples] == [0, 1, 2, 3, 4]
    sizes = np.abs([s.inputs[0].values for s in found.samples]).mean(0)
    np.testing.assert_allclose(found.importance[0].values, sizes, rtol=1e-4)
    assert found.tool.startswith("captum ")


def test_what_is_no_number_never_gets_into_the_report(scripted):
    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(x).sum(1, keepdim=True)

    x = np.array([[1, 2, 3], [-1, 2, 3]], np.float32)
    found = explain_original(Explanations(method=Method.SALIENCY), scripted(Root(), x), variant="v")
    assert [s.problem for s in found.samples] == [None, NOT_FINITE]
    assert found.importance[0].values == pytest.approx(1 / (2 * np.sqrt([1, 2, 3])), rel=1e-4)
    assert "NaN" not in found.to_json()


def test_what_the_model_raises_is_told(scripted):
    class Fussy(nn.Module):
        def forward(self, x):
            assert x.shape[0] == 1, "one row only"
            return x

    found = explain_original(Explanations(), scripted(Fussy()), variant="v")
    assert found.samples == ()
    assert "one row only" in found.problem


def test_an_endless_one_is_ended(scripted):
    found = explain_original(Explanations(), scripted(Linear(WEIGHTS)), variant="v", most_seconds=0.2)
    assert found.problem == "it took more than 0 s; write fewer samples in optimization.explanations"


def test_one_that_does_not_fit_is_not_tried(scripted, monkeypatch):
    monkeypatch.setattr(explain, "room_here", lambda: 100 << 20)
    monkeypatch.setattr(sys, "executable", "/nowhere")
    found = explain_original(Explanations(), scripted(Linear(WEIGHTS)), variant="v")
    assert found.problem.endswith("100 MiB are left; raise spec.optimization.resources.memory")


@pytest.mark.parametrize("fields", [{"kind": "onnx"}, {"kind": "original", "source": {"format": "Keras"}}])
def test_what_did_not_come_from_pytorch_says_so(scripted, fields):
    found = explain_original(Explanations(), replace(scripted(Linear(WEIGHTS)), **fields), variant="v")
    assert found.problem == "Captum explains models that came from PyTorch, and this one did not"


def test_it_is_a_stage_of_its_own_before_the_artifact_is_packed():
    assert list(optimize_stages(OptimizationSpec(explanations=Explanations())))[-2:] == ["explain", "package"]
    assert "explain" not in optimize_stages(OptimizationSpec())


class Dropping(nn.Module):
    """The digits network with dropout, which must not be awake."""

    def __init__(self, net):
        super().__init__()
        self.net, self.drop = net, nn.Dropout(0.9)

    def forward(self, pixels):
        return self.net(self.drop(pixels))


def test_a_whole_run_on_digits(local):
    trained, example, x, _ = train_mlp()
    pilotfish.pack(
        Dropping(trained).eval(),
        {"pixels": example},
        local.folder / "m.zip",
        samples={"pixels": torch.from_numpy(x[:40])},
    )
    message = local.run({"uri": "m.zip"}, optimization={"batchSizes": [1], "explanations": {"samples": 3}})
    report = local.report(message)
    told = report["explanation"]
    assert "problem" not in told
    assert (told["method"], told["variant"], len(told["samples"])) == ("IntegratedGradients", "original-torch", 3)
    for sample in told["samples"]:
        row = torch.from_numpy(x[sample["sample"]])[None]
        with torch.no_grad():
            scores = trained(row)[0]
        assert sample["target"].endswith(f"[{int(scores.argmax())}]")
        assert sample["answer"] == pytest.approx(float(scores.max()), rel=1e-4)
        total = sum(sample["inputs"][0]["values"])
        assert total - (sample["answer"] - sample["baselineAnswer"]) == pytest.approx(sample["delta"], abs=2e-3)
    assert len(told["importance"][0]["values"]) == 64
    assert "explain" in [stage["stage"] for stage in report["stages"]]
    assert "What answers depend on" in (local.artifact(message) / "report.html").read_text()


def test_a_run_that_cannot_be_explained_ends_with_a_sentence(local):
    save_mlp(local.folder / "model.onnx")
    message = local.run({"uri": "model.onnx"}, optimization={"batchSizes": [1], "explanations": {}})
    told = local.report(message)["explanation"]
    assert told["problem"] == "Captum explains models that came from PyTorch, and this one did not"
    assert (local.artifact(message) / "report.html").is_file()


def test_nobody_asked_nobody_told(local):
    save_mlp(local.folder / "model.onnx")
    assert "explanation" not in local.report(local.run({"uri": "model.onnx"}, optimization={"batchSizes": [1]}))
