"""What people use instead: each peer builds a callable from the same module, as its own guide says.

Runs as a worker process of the benchmark (`python -m bench_optimizer.peers`), one peer each: `build` is not timed.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench_optimizer.subjects import SUBJECTS, Subject
from pilotfish.optimizer import worker

Array = np.ndarray[Any, Any]
Call = Callable[[dict[str, Array]], Array]
CALIBRATION = 16
"""Samples that the quantizers see: what ours calibrates on, too, at least."""


class PeerRunner:
    """A peer as the benchmark's worker knows runners."""

    def __init__(self, name: str, subject: Subject, call: Call) -> None:
        self.runtime = name
        self._output, self._call = subject.output, call

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """One call."""
        return {self._output: self._call(inputs)}


def eager(subject: Subject, _folder: Path) -> Call:
    """The module as it is."""
    return _torch_call(subject, subject.module)


def compiled(subject: Subject, _folder: Path) -> Call:
    """torch.compile with its defaults."""
    return _torch_call(subject, torch.compile(subject.module))


def torchscript(subject: Subject, _folder: Path) -> Call:
    """Traced, frozen and optimized for inference, in memory."""
    with torch.no_grad():
        traced = torch.jit.freeze(torch.jit.trace(subject.module, subject.example))
        return _torch_call(subject, torch.jit.optimize_for_inference(traced))


def ort_fp32(subject: Subject, folder: Path) -> Call:
    """ONNX Runtime over torch.onnx.export."""
    return _ort_call(_export(subject, folder))


def ort_int8_dynamic(subject: Subject, folder: Path) -> Call:
    """quantize_dynamic of what it is meant for; its defaults would make convolutions several times slower."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = folder / "dynamic.onnx"
    quantize_dynamic(
        str(_prepared(subject, folder)),
        str(target),
        op_types_to_quantize=["MatMul", "Gemm", "LSTM"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"DefaultTensorType": 1},
    )
    return _ort_call(target)


def ort_int8_static(subject: Subject, folder: Path) -> Call:
    """quantize_static with the settings that x86 wants: QDQ, unsigned activations, signed weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The samples one by one."""

        def __init__(self) -> None:
            self._feeds = iter(_singles(subject))

        def get_next(self) -> dict[str, Array] | None:
            """The next sample."""
            return next(self._feeds, None)

    target = folder / "static.onnx"
    quantize_static(
        str(_prepared(subject, folder)),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    return _ort_call(target)


def openvino_fp32(subject: Subject, folder: Path) -> Call:
    """OpenVINO over the ONNX file, single precision."""
    return _openvino_call(subject, _openvino_model(subject, folder), "f32")


def openvino_bf16(subject: Subject, folder: Path) -> Call:
    """OpenVINO with bfloat16, its own default where the processor has it."""
    return _openvino_call(subject, _openvino_model(subject, folder), "bf16")


def openvino_int8(subject: Subject, folder: Path) -> Call:
    """Post-training quantization by NNCF."""
    import nncf

    kind = nncf.ModelType.TRANSFORMER if "attention_mask" in subject.inputs else None
    model = nncf.quantize(
        _openvino_model(subject, folder), nncf.Dataset(_singles(subject)), model_type=kind, subset_size=CALIBRATION
    )
    return _openvino_call(subject, model, "f32")


def olive(subject: Subject, folder: Path) -> Call:
    """Olive's search over its two INT8 quantizers, run in the Python that hack/olive makes.

    Raises:
        RuntimeError: Olive failed; its last line says why.
    """
    samples = folder / "samples.npz"
    np.savez(samples, **{name: array[:CALIBRATION] for name, array in subject.inputs.items()})
    here = Path(__file__).resolve()
    python = subprocess.run([here.parents[1] / "olive"], capture_output=True, text=True, check=True).stdout.strip()
    recipe = [python, str(here.with_name("olive_recipe.py")), str(_export(subject, folder)), str(samples)]
    offline = {"OLIVE_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run([*recipe, str(folder / "olive")], env=offline, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2])
    return _ort_call(folder / "olive" / "model.onnx")


PEERS: dict[str, Callable[[Subject, Path], Call]] = {
    "PyTorch eager": eager,
    "torch.compile": compiled,
    "TorchScript": torchscript,
    "ORT fp32": ort_fp32,
    "ORT int8 dynamic": ort_int8_dynamic,
    "ORT int8 static": ort_int8_static,
    "OpenVINO fp32": openvino_fp32,
    "OpenVINO bf16": openvino_bf16,
    "OpenVINO int8 (NNCF)": openvino_int8,
    "Olive int8": olive,
}


def _torch_call(subject: Subject, module: Any) -> Call:
    names = list(subject.inputs)

    def call(inputs: dict[str, Array]) -> Array:
        with torch.inference_mode():
            answer: Array = module(*(torch.from_numpy(inputs[name]) for name in names)).numpy()
        return answer

    return call


def _export(subject: Subject, folder: Path) -> Path:
    target = folder / "model.onnx"
    names, batch = list(subject.inputs), torch.export.Dim("batch", min=1, max=64)
    # The default exporter unrolls or fixes recurrent layers; the older one keeps them.
    recurrent = any(isinstance(m, torch.nn.RNNBase) for m in subject.module.modules())
    shapes: dict[str, Any] = (
        {"dynamic_axes": {name: {0: "batch"} for name in [*names, subject.output]}}
        if recurrent
        else {"dynamic_shapes": tuple({0: batch} for _ in names), "external_data": False}
    )
    torch.onnx.export(
        subject.module,
        subject.example,
        str(target),
        input_names=names,
        output_names=[subject.output],
        dynamo=not recurrent,
        verbose=False,
        **shapes,
    )
    return target


def _prepared(subject: Subject, folder: Path) -> Path:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, target = _export(subject, folder), folder / "prepared.onnx"
    model = onnx.load(str(source))
    del model.graph.value_info[:]  # transposed weights would contradict the shapes that the exporter noted
    onnx.save(model, str(source))
    quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
    return target


def _ort_call(path: Path) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def call(inputs: dict[str, Array]) -> Array:
        answer: Array = session.run(None, inputs)[0]
        return answer

    return call


def _openvino_model(subject: Subject, folder: Path) -> Any:
    import openvino

    return openvino.Core().read_model(str(_export(subject, folder)))


def _openvino_call(subject: Subject, model: Any, precision: str) -> Call:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def call(inputs: dict[str, Array]) -> Array:
        answer: Array = request.infer(inputs)[subject.output].copy()
        return answer

    return call


def _singles(subject: Subject) -> list[dict[str, Array]]:
    return [{n: a[i : i + 1] for n, a in subject.inputs.items()} for i in range(CALIBRATION)]


def load_peer(order: worker.Subject) -> PeerRunner:
    """The peer that `order.kind` names (`<subject>/<peer>`), built in the folder `order.path`."""
    torch.set_num_threads(order.threads)
    name, _, peer = order.kind.partition("/")
    subject, folder = SUBJECTS[name](), Path(order.path)
    folder.mkdir(parents=True, exist_ok=True)
    return PeerRunner(peer, subject, PEERS[peer](subject, folder))


if __name__ == "__main__":
    worker.main(load_peer)
