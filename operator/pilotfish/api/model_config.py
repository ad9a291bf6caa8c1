"""config.pbtxt as text, from an artifact's signature and a few serving figures.

Pure: the optimizer's package stage and the operator's ConfigMap render the same bytes from the same values.

Names: the signature's names are kept for both backends, so a client does not notice which format won. NVIDIA's libtorch
backend then maps inputs by the names of forward()'s arguments when all of them match, and else by their order here,
which is forward()'s order too; outputs go by order. Its third rule reads an index out of names like `x__0`, so names of
that form are accepted only where the index equals the position.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pilotfish.api import openvino_config
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from pilotfish.api.tuning import Accelerator

WARMUP_FOLDER = "warmup"
_INDEXED = re.compile(r"^(?:(?!__).)*__(\d+)$")
_TRITON_TYPES = {
    "BOOL": "TYPE_BOOL",
    "UINT8": "TYPE_UINT8",
    "UINT16": "TYPE_UINT16",
    "UINT32": "TYPE_UINT32",
    "UINT64": "TYPE_UINT64",
    "INT8": "TYPE_INT8",
    "INT16": "TYPE_INT16",
    "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64",
    "FP16": "TYPE_FP16",
    "BF16": "TYPE_BF16",
    "FP32": "TYPE_FP32",
    "FP64": "TYPE_FP64",
    "BYTES": "TYPE_STRING",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """The serving figures of a config.pbtxt.

    `max_batch_size` 0 or 1 means no batcher. `intra_op_threads` 0 leaves the runtime's default, which is every core of
    the host: give the pod's CPU limit.
    """

    max_batch_size: int = 8
    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_us: int = 2000
    instances: int = 1
    gpu: bool = False
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    warmup: bool = True
    accelerator: Accelerator | None = None


def warmup_file(index: int) -> str:
    """Name of the file in `warmup/` that holds input `index` of one sample, raw, without a batch dimension."""
    return f"input_{index}"


def largest_batch(backend: Backend, signature: ModelSignature, asked: int) -> int:
    """max_batch_size: up to how many samples Triton merges requests; 0 where it merges none."""
    return max(asked, 1) if signature.batched and backend is not Backend.OPENVINO else 0


def render_model_config(
    *,
    name: str,
    backend: Backend,
    signature: ModelSignature,
    serving: ServingConfig,
    parameters: Mapping[str, str] | None = None,
) -> str:
    """The complete config.pbtxt text, nothing left to Triton's auto-completion. `parameters` are the artifact's own.

    Raises:
        ValueError: a dtype Triton has no name for, names that NVIDIA's PyTorch backend would misread, or a signature
            that the OpenVINO backend does not serve.
    """
    if backend is Backend.PYTORCH:
        _check_indexed_names("input", signature.inputs)
        _check_indexed_names("output", signature.outputs)
    batch = largest_batch(backend, signature, serving.max_batch_size)
    if backend is Backend.OPENVINO:
        if problem := openvino_config.serving_problem(signature):
            raise ValueError(problem)
        signature = openvino_config.with_own_batch(signature)
    blocks = [
        f"name: {_quote(name)}",
        f"backend: {_quote(backend.value)}",
        *([f"default_model_filename: {_quote(openvino_config.MODEL_FILE)}"] if backend is Backend.OPENVINO else []),
        f"max_batch_size: {batch}",
        *(_tensor("input", spec, batch) for spec in signature.inputs),
        *(_tensor("output", spec, batch) for spec in signature.outputs),
        _instance_group(serving),
        *_accelerators(serving),
        *_batching(batch, serving),
        *_parameters({**_threads(backend, serving), **(parameters or {})}),
        *_warmups(batch, signature, serving),
    ]
    return "\n".join(blocks) + "\n"


def _quote(text: str) -> str:
    return json.dumps(text)


def _type(spec: TensorSpec) -> str:
    try:
        return _TRITON_TYPES[spec.dtype]
    except KeyError:
        known = ", ".join(_TRITON_TYPES)
        raise ValueError(f"tensor {spec.name!r} has dtype {spec.dtype!r}; use one of {known}") from None


def _numbers(values: tuple[int, ...]) -> str:
    return ", ".join(str(v) for v in values)


def _tensor(kind: str, spec: TensorSpec, batch: int) -> str:
    lines = [f"{kind} {{", f"  name: {_quote(spec.name)}", f"  data_type: {_type(spec)}"]
    if spec.shape:
        lines.append(f"  dims: [ {_numbers(spec.shape)} ]")
    else:  # Triton has no empty dims: a scalar travels as [1]; it refuses to reshape that where there is no batch
        lines += ["  dims: [ 1 ]", *(["  reshape { shape: [ ] }"] if batch > 0 else [])]
    return "\n".join([*lines, "}"])


def _instance_group(serving: ServingConfig) -> str:
    # An accelerator on an instance that AUTO put on the CPU would be passed over in silence.
    kind = "KIND_GPU" if serving.gpu and serving.accelerator else "KIND_AUTO" if serving.gpu else "KIND_CPU"
    return f"instance_group {{\n  count: {serving.instances}\n  kind: {kind}\n}}"


def _accelerators(serving: ServingConfig) -> list[str]:
    if not serving.gpu or serving.accelerator is None:
        return []
    precision = "FP16" if serving.accelerator is Accelerator.TENSORRT_FP16 else "FP32"
    return [
        "\n".join(
            [
                "optimization {",
                "  execution_accelerators {",
                "    gpu_execution_accelerator {",
                '      name: "tensorrt"',
                f'      parameters {{ key: "precision_mode" value: "{precision}" }}',
                '      parameters { key: "max_workspace_size_bytes" value: "1073741824" }',
                "    }",
                "  }",
                "}",
            ]
        )
    ]


def _batching(batch: int, serving: ServingConfig) -> list[str]:
    if batch <= 1:
        return []
    preferred = tuple(size for size in serving.preferred_batch_sizes if size <= batch)
    lines = ["dynamic_batching {"]
    if preferred:
        lines.append(f"  preferred_batch_size: [ {_numbers(preferred)} ]")
    return ["\n".join([*lines, f"  max_queue_delay_microseconds: {serving.max_queue_delay_us}", "}"])]


def _threads(backend: Backend, serving: ServingConfig) -> dict[str, str]:
    if backend is Backend.OPENVINO:
        return openvino_config.thread_parameters(threads=serving.intra_op_threads, instances=serving.instances)
    names = {
        Backend.ONNXRUNTIME: ("intra_op_thread_count", "inter_op_thread_count"),
        Backend.PYTORCH: ("INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT"),
    }[backend]
    counts = (serving.intra_op_threads, serving.inter_op_threads)
    return {key: str(count) for key, count in zip(names, counts, strict=True) if count}


def _parameters(wanted: Mapping[str, str]) -> list[str]:
    return [
        f"parameters {{\n  key: {_quote(key)}\n  value {{ string_value: {_quote(text)} }}\n}}"
        for key, text in wanted.items()
    ]


def _warmups(batch: int, signature: ModelSignature, serving: ServingConfig) -> list[str]:
    if not serving.warmup or any(spec.dtype == "BYTES" for spec in signature.inputs):
        return []
    sizes = sorted({1, batch}) if batch > 0 else [0]
    return [_warmup(size, signature) for size in sizes]


def _warmup(size: int, signature: ModelSignature) -> str:
    lines = ["model_warmup {", f'  name: "batch-{size}"', f"  batch_size: {size}", "  count: 3"]
    for index, spec in enumerate(signature.inputs):
        dims = (spec.example if spec.example is not None else spec.shape) or (1,)
        lines += [
            "  inputs {",
            f"    key: {_quote(spec.name)}",
            "    value {",
            f"      data_type: {_type(spec)}",
            f"      dims: [ {_numbers(dims)} ]",
            f"      input_data_file: {_quote(warmup_file(index))}",
            "    }",
            "  }",
        ]
    return "\n".join([*lines, "}"])


def _check_indexed_names(kind: str, specs: tuple[TensorSpec, ...]) -> None:
    found = [_INDEXED.match(spec.name) for spec in specs]
    if not all(found):
        return
    for position, (spec, match) in enumerate(zip(specs, found, strict=True)):
        if match is not None and int(match.group(1)) != position:
            raise ValueError(
                f"{kind} {spec.name!r} stands at position {position} but Triton's PyTorch backend reads another one "
                f"from its name; rename it to end with __{position} or to a plain name"
            )
