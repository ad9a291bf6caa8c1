"""Which layer hurts: each layer of a quantized file against the same layer in float, on a few samples.

`lone_errors` asks what quantizing this layer alone does to its own answer; it ranks layers for a retreat.
`matched_errors` compares what every layer answers inside both files, errors of the layers before it included.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from pilotfish.api.report_sections import LayerError
from pilotfish.optimizer.compress.graph import ONE_FILE_LIMIT, is_large
from pilotfish.optimizer.tensors import Array, is_float

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_RENAMED = "_QuantizeLinear_Input"
"""What ONNX Runtime appends to the name of an output of the graph that it quantizes."""
_ALONE = "__alone"
_MOST = 1e6
_SAME_RANGE = ("Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that pass numbers on as they are."""


def lone_errors(
    reference: Path, quantized: Path, calls: Iterable[dict[str, Array]], *, ops: Sequence[str]
) -> tuple[LayerError, ...]:
    """The relative error of every quantized layer of the given types when it alone is quantized.

    Its inputs come from the float model. Largest first; empty for models that fill more than one file.
    """
    probe = _Probe(onnx.load(str(reference), load_external_data=False), onnx.load(str(quantized)))
    probe.build(ops)
    if not probe.layers or probe.model.ByteSize() > ONE_FILE_LIMIT:
        return ()
    sums = np.zeros((len(probe.layers), 2))
    session = _session(probe.model, reference)
    for inputs in calls:
        sums += np.array(session.run(probe.wanted, inputs), dtype=np.float64).reshape(-1, 2)
    return _ranked(
        LayerError(layer=name, op=op, error=_ratio(wrong, whole))
        for (name, op), (wrong, whole) in zip(probe.layers, sums, strict=True)
    )


def retreat_order(quantized: Path, layers: Sequence[LayerError]) -> tuple[str, ...]:
    """Names of the layers, the worst first, each followed by the layers that make its inputs.

    A tensor is in 8 bits as long as one side of it is: a layer goes back to float only together with those before it.
    """
    graph = onnx.load(str(quantized), load_external_data=False).graph
    producers = {name: node for node in graph.node for name in node.output}
    nodes, known = {node.name: node for node in graph.node}, {one.layer for one in layers}
    order: dict[str, None] = {}
    for one in layers:
        order[one.layer] = None
        waiting = list(nodes[one.layer].input)
        while waiting:
            maker = producers.get(waiting.pop())
            if maker is None or maker.name in order:
                continue
            if maker.name in known:
                order[maker.name] = None
            if maker.op_type in (*_PAIR, *_SAME_RANGE):
                waiting += maker.input
    return tuple(order)


def matched_errors(
    reference: Path, candidate: Path, calls: Iterator[dict[str, Array]], *, ops: Sequence[str]
) -> tuple[LayerError, ...]:
    """The relative error of what each node of the given types answers inside both files; largest first."""
    if is_large(reference) or is_large(candidate):
        return ()
    made = {name for node in _nodes(candidate) for name in node.output}
    watched = {n.output[0]: (n.name, n.op_type) for n in _nodes(reference) if n.op_type in ops and n.output[0] in made}
    if not watched:
        return ()
    runs = [_session(_showing(path, list(watched)), path) for path in (reference, candidate)]
    sums = np.zeros((len(watched), 2))
    for inputs in calls:
        wanted, found = (session.run(list(watched), inputs) for session in runs)
        sums += np.array([_squares(a, b) for a, b in zip(found, wanted, strict=True)])
    return _ranked(
        LayerError(layer=name, op=op, error=_ratio(wrong, whole))
        for (name, op), (wrong, whole) in zip(watched.values(), sums, strict=True)
    )


@dataclass(slots=True)
class _Probe:
    """The float graph with a quantized twin beside each layer, and two sums for each pair."""

    model: Any
    quantized: Any
    layers: list[tuple[str, str]] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    _nodes: list[Any] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    def build(self, ops: Sequence[str]) -> None:
        """Make the twins of nodes of these types; layers whose tensors have no counterpart are left out."""
        graph = self.model.graph
        self._known = {t.name for t in (*graph.initializer, *graph.input)}
        self._known |= {name for node in graph.node for name in node.output}
        producers = {name: node for node in self.quantized.graph.node for name in node.output}
        constants = {t.name: t for t in self.quantized.graph.initializer}
        for node in self.quantized.graph.node:
            fed = any(name in producers and producers[name].op_type == _PAIR[1] for name in node.input)
            if node.op_type not in ops or not fed or node.output[0].removesuffix(_RENAMED) not in self._known:
                continue
            needed = self._needed(node, producers, constants)
            if needed is not None:
                self._twin(node, *needed)
        del graph.output[:]
        graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in self.wanted)
        graph.node.extend(self._nodes)
        have = {(o.domain or "ai.onnx") for o in self.model.opset_import}
        self.model.opset_import.extend(o for o in self.quantized.opset_import if (o.domain or "ai.onnx") not in have)

    def _needed(
        self, node: Any, producers: dict[str, Any], constants: dict[str, Any]
    ) -> tuple[list[Any], list[Any]] | None:
        """Pairs and constants that the layer's inputs come from; None when one leads to a tensor that is not there."""
        pairs: list[Any] = []
        weights: list[Any] = []
        names = list(node.input)
        while names:
            name = names.pop()
            if not name or name in self._known:
                continue
            if name in constants:
                weights.append(constants[name])
            elif name in producers and producers[name].op_type in _PAIR:
                pairs.insert(0, producers[name])
                names += producers[name].input
            elif name.removesuffix(_RENAMED) in self._known:
                alias = helper.make_node("Identity", [name.removesuffix(_RENAMED)], [name])
                pairs.insert(0, alias)
            else:
                return None
        return pairs, weights

    def _twin(self, node: Any, pairs: list[Any], weights: list[Any]) -> None:
        graph = self.model.graph
        for pair in pairs:
            self._add(pair)
        fresh = {t.name: t for t in weights if t.name not in self._known}
        graph.initializer.extend(fresh.values())
        self._known |= set(fresh)
        original, out = node.output[0].removesuffix(_RENAMED), f"{node.output[0]}{_ALONE}"
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name = f"{node.name}{_ALONE}"
        del twin.output[:]
        twin.output.extend([out, *(f"{name}{_ALONE}" for name in node.output[1:])])
        self._nodes.append(twin)
        out = self._leaving(node, out)
        self._nodes += [
            helper.make_node("Sub", [out, original], [f"{out}_d"]),
            helper.make_node("Mul", [f"{out}_d", f"{out}_d"], [f"{out}_dd"]),
            helper.make_node("ReduceSum", [f"{out}_dd"], [f"{out}_wrong"], keepdims=0),
            helper.make_node("Mul", [original, original], [f"{out}_oo"]),
            helper.make_node("ReduceSum", [f"{out}_oo"], [f"{out}_whole"], keepdims=0),
        ]
        self.wanted += [f"{out}_wrong", f"{out}_whole"]
        self.layers.append((node.name, node.op_type))

    def _leaving(self, node: Any, out: str) -> str:
        """The twin's answer behind the pair that follows the layer, where there is one."""
        after = next(
            (n for n in self.quantized.graph.node if n.op_type == _PAIR[0] and n.input[0] == node.output[0]), None
        )
        if after is None:
            return out
        constants = {t.name: t for t in self.quantized.graph.initializer}
        fresh = {name: constants[name] for name in after.input[1:] if name not in self._known}
        self.model.graph.initializer.extend(fresh.values())
        self._known |= set(fresh)
        self._nodes.append(helper.make_node(_PAIR[0], [out, *after.input[1:]], [f"{out}_q"]))
        self._nodes.append(helper.make_node(_PAIR[1], [f"{out}_q", *after.input[1:]], [f"{out}_dq"]))
        return f"{out}_dq"

    def _add(self, node: Any) -> None:
        if node.output[0] not in self._known:
            self._nodes.append(node)
            self._known |= set(node.output)


def _nodes(path: Path) -> list[Any]:
    return list(onnx.load(str(path), load_external_data=False).graph.node)


def _showing(path: Path, names: list[str]) -> Any:
    """The model with these tensors as its outputs; what lies beside the file stays there."""
    model = onnx.load(str(path), load_external_data=False)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    return model


def _session(model: Any, beside: Path) -> ort.InferenceSession:
    """A session of a changed graph that still finds the tensors beside the file that it came from."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(beside.parent))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _squares(found: Array, wanted: Array) -> tuple[float, float]:
    if not is_float(wanted):
        return 0.0, 0.0
    right = wanted.astype(np.float64)
    return float(np.sum((found.astype(np.float64) - right) ** 2)), float(np.sum(right**2))


def _ratio(wrong: float, whole: float) -> float:
    """At most a million: infinity and NaN have no place in JSON."""
    ratio = np.sqrt(wrong / whole) if whole > 0 else np.sqrt(wrong)
    return float(f"{min(float(ratio), _MOST) if np.isfinite(ratio) else _MOST:.4g}")


def _ranked(layers: Iterable[LayerError]) -> tuple[LayerError, ...]:
    return tuple(sorted(layers, key=lambda one: -one.error))
