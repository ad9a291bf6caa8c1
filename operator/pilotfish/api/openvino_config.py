"""What Triton's OpenVINO backend needs in a config.pbtxt, and what it cannot serve. Pure.

NVIDIA's backend fixes the batch of a model with max_batch_size at that size and computes padding for every smaller
call. Served without max_batch_size, the same model takes any batch as it comes, at its own cost, but requests are not
merged: the batch dimension is one of the model's own, which clients do not notice. All instances of a model share one
compiled model there, so threads and streams are for all of them together. Parameters that it does not know are passed
over.
"""

from collections.abc import Mapping

from pilotfish.api.report import ModelSignature, TensorSpec

MODEL_FILE = "model.onnx"
PRECISION = "INFERENCE_PRECISION_HINT"
"""Read by the backend of the CPU image; NVIDIA's backend knows HINT_BF16 alone and otherwise lets OpenVINO choose."""
EXACT: Mapping[str, str] = {PRECISION: "f32"}
BFLOAT16: Mapping[str, str] = {PRECISION: "bf16", "HINT_BF16": "YES"}


def serving_problem(signature: ModelSignature) -> str | None:
    """Why the backend cannot serve a model, None when it can."""
    for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
        for spec in specs:
            if not spec.shape:
                return f"{kind} {spec.name!r} has no dimensions, which Triton's OpenVINO backend does not serve"
            if spec.dtype in {"FP64", "BF16", "BYTES"}:
                return f"{kind} {spec.name!r} is {spec.dtype}, which Triton's OpenVINO backend does not serve"
    return None


def with_own_batch(signature: ModelSignature) -> ModelSignature:
    """The same tensors with the batch as a free dimension of the model's own."""
    if not signature.batched:
        return signature
    return ModelSignature(
        inputs=tuple(map(_batched, signature.inputs)), outputs=tuple(map(_batched, signature.outputs)), batched=False
    )


def thread_parameters(*, threads: int, instances: int) -> dict[str, str]:
    """One stream for each instance; threads 0 are OpenVINO's own choice, which is every core of the host."""
    all_threads = {"INFERENCE_NUM_THREADS": str(threads * instances)} if threads else {}
    return {**all_threads, "NUM_STREAMS": str(instances)}


def _batched(spec: TensorSpec) -> TensorSpec:
    return spec.model_copy(update={"shape": (-1, *spec.shape), "example": (1, *(spec.example or spec.shape))})
