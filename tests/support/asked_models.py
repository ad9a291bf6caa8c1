"""The models that docs/inference.md asks: the four families, hand-made, with the page's names and shapes."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pilotfish.api.model_config import ServingConfig, render_model_config
from pilotfish.api.report import Backend, ModelSignature, TensorSpec
from support.repository import serialize, write_model

VOCABULARY, WIDTH, HIDDEN = 30522, 8, 6


def _weights(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _signature(inputs: dict, outputs: dict, *, dtype: str = "FP32", batched: bool = True) -> ModelSignature:
    return ModelSignature(
        inputs=tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, shape in inputs.items()),
        outputs=tuple(TensorSpec(name=name, dtype="FP32", shape=shape) for name, shape in outputs.items()),
        batched=batched,
    )


def _bytes(signature: ModelSignature, nodes: list, weights: dict[str, np.ndarray]) -> bytes:
    types = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64}

    def values(specs: tuple[TensorSpec, ...]) -> list:
        lead = ["batch"] if signature.batched else []
        shapes = [[*lead, *(d if d > 0 else "free" for d in one.shape)] for one in specs]
        return [
            helper.make_tensor_value_info(one.name, types[one.dtype], shape)
            for one, shape in zip(specs, shapes, strict=True)
        ]

    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", values(signature.inputs), values(signature.outputs), tensors)
    return serialize(graph)


def tabular() -> tuple[ModelSignature, bytes]:
    """pixels [4] to logits [3]."""
    signature = _signature({"pixels": (4,)}, {"logits": (3,)})
    nodes = [helper.make_node("MatMul", ["pixels", "w"], ["logits"])]
    return signature, _bytes(signature, nodes, {"w": _weights((4, 3), 1)})


def convolution() -> tuple[ModelSignature, bytes]:
    """image [3, 32, 32] to logits [5]."""
    signature = _signature({"image": (3, 32, 32)}, {"logits": (5,)})
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["maps"], strides=[4, 4]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    return signature, _bytes(signature, nodes, {"k": _weights((5, 3, 4, 4), 2)})


def recurrent() -> tuple[ModelSignature, bytes]:
    """readings [any, 2] to logits [6]: the last hidden state of an LSTM."""
    signature = _signature({"readings": (-1, 2)}, {"logits": (HIDDEN,)})
    nodes = [
        helper.make_node("Transpose", ["readings"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["last", "first"], ["logits"]),
    ]
    weights = {"w": _weights((1, 4 * HIDDEN, 2), 3), "r": _weights((1, 4 * HIDDEN, HIDDEN), 4), "first": np.array([0])}
    return signature, _bytes(signature, nodes, weights)


def transformer() -> tuple[ModelSignature, bytes]:
    """input_ids and attention_mask [any] to embedding [8]: one head of attention over embedded tokens, masked mean."""
    names = {"input_ids": (-1,), "attention_mask": (-1,)}
    signature = _signature(names, {"embedding": (WIDTH,)}, dtype="INT64")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Unsqueeze", ["mask", "one"], ["row"]),
        helper.make_node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "xt"], ["scores"]),
        helper.make_node("Mul", ["scores", "row"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["attention"]),
        helper.make_node("MatMul", ["attention", "x"], ["mixed"]),
        helper.make_node("Mul", ["mixed", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["embedding"], keepdims=0),
    ]
    weights = {"table": _weights((VOCABULARY, WIDTH), 5), "last": np.array([-1]), "one": np.array([1])}
    return signature, _bytes(signature, nodes, weights)


FAMILIES = {"digits": tabular, "photos": convolution, "sensors": recurrent, "sentences": transformer}


def write_family(repository: Path, name: str) -> ModelSignature:
    """Lay the model of that name into a repository as the operator configures it."""
    signature, model = FAMILIES[name]()
    config = render_model_config(
        name=name,
        backend=Backend.ONNXRUNTIME,
        signature=signature,
        serving=ServingConfig(intra_op_threads=1, warmup=False),
    )
    write_model(repository, name, config, model)
    return signature


def answers(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """What the model's first output is, by ONNX Runtime."""
    import onnxruntime

    _, model = FAMILIES[name]()
    onnx.load_from_string(model)
    return onnxruntime.InferenceSession(model).run(None, arrays)[0]
