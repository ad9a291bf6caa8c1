"""The original in TensorFlow: opened, asked, and handed to a converter. Runs in a child only; imports TensorFlow.

Names of inputs and outputs are the same here and in the converted file: that is how answers are compared.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pilotfish.api.model import ModelFormat
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.tensors import Array, Arrays


class Original(Protocol):
    """A model as its own framework runs it."""

    runtime: str

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""

    def source(self, scratch: Path) -> list[str]:
        """Arguments of the tf2onnx command line that name the model; what they need is written below `scratch`."""

    @property
    def names(self) -> dict[str, str]:
        """Names that the converted file must carry, by those that tf2onnx gives them."""


def open_original(kind: ModelFormat, path: Path, *, trusted: bool, threads: int) -> Original:
    """Open a model of one of `process.FORMATS`.

    Raises:
        OptimizerError: UnsafeModel, ModelInvalid, SignatureMissing.
    """
    if kind is ModelFormat.TFLITE:
        return TFLiteOriginal(path, threads=threads)
    if kind is ModelFormat.KERAS and not trusted:
        from pilotfish.optimizer.tensorflow.keras_check import check_keras

        check_keras(path)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return KerasOriginal(path, trusted=trusted) if kind is ModelFormat.KERAS else SavedModelOriginal(path)


class KerasOriginal:
    """A functional or sequential Keras model, called as Keras calls it."""

    def __init__(self, path: Path, *, trusted: bool) -> None:
        import keras

        self.runtime = f"keras {keras.__version__}"
        self._model = _load_keras(path, trusted=trusted)
        tensors = _declared(path, self._model)
        self._inputs = _distinct([t.name for t in tensors])
        self._outputs = _distinct(_output_names(self._model))
        self._call = _traced(self._model, tensors, self._inputs, self._outputs)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""
        import tensorflow as tf

        return _arrays(self._call(*(tf.constant(inputs[name]) for name in self._inputs)))

    def source(self, scratch: Path) -> list[str]:
        """As a SavedModel with one signature."""
        import tensorflow as tf

        holder = tf.Module()
        holder.model = self._model  # keeps the variables
        folder = scratch / "saved_model"
        tf.saved_model.save(holder, str(folder), signatures={"serving_default": self._call})
        return ["--saved-model", str(folder), "--tag", "serve", "--signature_def", "serving_default"]

    @property
    def names(self) -> dict[str, str]:
        """A signature's names are the file's."""
        return {}


class SavedModelOriginal:
    """A SavedModel through its serving signature. Its graph is code: only for what is trusted."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self.runtime = f"tensorflow {tf.__version__}"
        self._path = path
        try:
            self._loaded = tf.saved_model.load(str(path))
        except Exception as error:
            raise OptimizerError(
                Reason.MODEL_INVALID,
                f"TensorFlow {tf.__version__} cannot load {path.name}: {first_line(error)}; save it again",
            ) from error
        self._signature = _choose(path, self._loaded.signatures)
        self._call = self._loaded.signatures[self._signature]
        self._inputs = list(self._call.structured_input_signature[1])

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call."""
        import tensorflow as tf

        return _arrays(self._call(**{name: tf.constant(inputs[name]) for name in self._inputs}))

    def source(self, scratch: Path) -> list[str]:
        """The folder as it is."""
        del scratch
        return ["--saved-model", str(self._path), "--tag", "serve", "--signature_def", self._signature]

    @property
    def names(self) -> dict[str, str]:
        """A signature's names are the file's."""
        return {}


class TFLiteOriginal:
    """A TFLite file in its interpreter."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        self.runtime = f"litert {ai_edge_litert.__version__}"
        self._path = path
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except Exception as error:
            raise OptimizerError(
                Reason.MODEL_INVALID, f"the TFLite interpreter cannot load {path.name}: {first_line(error)}"
            ) from error
        self._inputs, self._outputs = self._named()

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One call; free sizes follow the inputs."""
        interpreter = self._interpreter
        resized = False
        for name, detail in self._inputs.items():
            if tuple(detail["shape"]) != inputs[name].shape:
                interpreter.resize_tensor_input(detail["index"], inputs[name].shape, strict=True)
                detail["shape"], resized = np.array(inputs[name].shape), True
        if resized:
            interpreter.allocate_tensors()
        for name, detail in self._inputs.items():
            interpreter.set_tensor(detail["index"], inputs[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}

    def source(self, scratch: Path) -> list[str]:
        """The file as it is."""
        del scratch
        return ["--tflite", str(self._path)]

    @property
    def names(self) -> dict[str, str]:
        """The signature's names by the tensors' own."""
        return {detail["name"]: name for name, detail in (self._inputs | self._outputs).items()}

    def _named(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Details of inputs and outputs by the signature's names, else by the tensors' own."""
        signatures = self._interpreter.get_signature_list()
        if signatures:
            runner = self._interpreter.get_signature_runner(next(iter(signatures)))
            return dict(runner.get_input_details()), dict(runner.get_output_details())
        given = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        first, second = (dict(zip(_distinct([d["name"] for d in details]), details, strict=True)) for details in given)
        return first, second


def first_line(error: Exception) -> str:
    """A framework's complaint without its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:240] if lines else type(error).__name__


def _load_keras(path: Path, *, trusted: bool) -> Any:
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:
        raise OptimizerError(
            Reason.MODEL_INVALID,
            f"Keras {keras.__version__} cannot load {path.name}: {first_line(error)}; "
            "save it again with this version, or hand over model.export(folder)",
        ) from error


def _declared(path: Path, model: Any) -> list[Any]:
    """The model's input tensors in call order."""
    import keras

    try:
        tensors = list(keras.tree.flatten(model.inputs))
    except (AttributeError, ValueError, TypeError):
        tensors = []
    if tensors and all(hasattr(tensor, "shape") for tensor in tensors):
        return tensors
    raise OptimizerError(
        Reason.SIGNATURE_MISSING,
        f"{path.name} is a Keras model that does not say its inputs (a subclassed one, or never built); "
        "export it with model.export(folder) and set trust: Executable",
    )


def _output_names(model: Any) -> list[str]:
    names = getattr(model, "output_names", None)
    if names:
        return list(names)
    last = getattr(model, "layers", None)
    if last and len(model.outputs) == 1:
        return [str(last[-1].name)]
    return [f"output_{index}" for index in range(len(model.outputs))]


def _traced(model: Any, tensors: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    import keras
    import tensorflow as tf

    try:
        structure = model.input
    except AttributeError:  # a sequential model that was loaded and not called yet: one tensor in
        structure = tensors[0]

    def call(*given: Any) -> dict[str, Any]:
        result = model(keras.tree.pack_sequence_as(structure, list(given)), training=False)
        return dict(zip(outputs, keras.tree.flatten(result), strict=True))

    specs = [tf.TensorSpec(t.shape, t.dtype, name=name) for t, name in zip(tensors, inputs, strict=True)]
    return tf.function(call, input_signature=specs)


def _choose(path: Path, signatures: Any) -> str:
    names = sorted(signatures)
    for name in ("serving_default", "serve"):
        if name in names:
            return name
    if len(names) == 1:
        return str(names[0])
    what = f"has {len(names)} signatures ({', '.join(names[:5])})" if names else "has no signature to call"
    raise OptimizerError(
        Reason.SIGNATURE_MISSING, f"{path.name} {what}; save it with one named serving_default, as model.export does"
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as Triton takes them, each once."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", re.sub(r":\d+$", "", str(name))).strip("_") or "tensor"
        found.append(plain if plain not in found else f"{plain}_{len(found)}")
    return found


def _arrays(result: Any) -> dict[str, Array]:
    return {str(name): np.asarray(value) for name, value in result.items()}
