"""What `/predict` takes and answers, from a model's signature, and the config.pbtxt of the server's second model.

Pure. Triton's generate endpoint makes the JSON: each input is a string, a number or one flat list, each output too.
"""

import json
from dataclasses import dataclass
from math import prod
from typing import Any

from pilotfish.api.predict import Predict, PredictInput, Preprocessing, Scores
from pilotfish.api.predict_text import TEXT, TOKENIZER, Text, make_text
from pilotfish.api.report import ModelSignature, TensorSpec

REVISION, VARIANT = "revision", "variant"
LABEL, PROBABILITY, LABELS, PROBABILITIES = "label", "probability", "labels", "probabilities"
SETTINGS = "predict"
"""The parameter of config.pbtxt with all that the second model is told, as JSON."""

_CHANNELS = (1, 3)
_IMAGE_DIMENSIONS = 3
_FLOATS = ("FP16", "FP32", "FP64")
_TYPES = {
    "BYTES": "TYPE_STRING",
    "BOOL": "TYPE_BOOL",
    "FP32": "TYPE_FP32",
    "FP64": "TYPE_FP64",
    **{f"{kind}{bits}": f"TYPE_{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One key of the JSON: Triton's type in there, and its shape without the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    base64: bool = False
    """A string is bytes in base64, not a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Where the pixels of an image go."""

    height: int
    width: int
    channels: int
    channels_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a request holds and what an answer holds; `classes` is None where the model names none."""

    inputs: tuple[Member, ...]
    outputs: tuple[Member, ...]
    batched: bool
    picture: Picture | None
    text: Text | None
    classes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Who answers. `drift`: the golden set was recorded, so that there is something to compare with.

    `tokenizer`: the artifact holds one.
    """

    model: str
    revision: str
    variant: str
    max_batch_size: int
    drift: bool
    tokenizer: bool = False


def make_contract(signature: ModelSignature, predict: Predict) -> Contract:
    """The JSON that a model of this signature takes and gives.

    Raises:
        ValueError: the model and `spec.serving.predict` do not fit, or JSON cannot say what the model takes.
    """
    picture = _picture(signature, predict) if predict.input is PredictInput.IMAGE else None
    text = make_text(signature, predict) if predict.input is PredictInput.TEXT else None
    _check_normalising(signature, predict.preprocessing or Preprocessing(), picture)
    classes = None if predict.scores is Scores.NONE else _classes(signature, predict)
    told = (
        Member(name=REVISION, dtype="BYTES", shape=(1,), meaning="The revision that answered."),
        Member(name=VARIANT, dtype="BYTES", shape=(1,), meaning="What it was optimized to."),
    )
    return Contract(
        inputs=_inputs(signature, picture, text),
        outputs=(*(_class_outputs(classes, predict.top) if classes else _value_outputs(signature)), *told),
        batched=signature.batched,
        picture=picture,
        text=text,
        classes=classes,
    )


def render_predict_config(*, signature: ModelSignature, predict: Predict, answering: Answering) -> str:
    """The complete config.pbtxt of the second model.

    Raises ValueError as `make_contract` does, and where texts find no tokenizer.
    """
    contract = make_contract(signature, predict)
    if contract.text and not answering.tokenizer:
        raise ValueError(
            f"spec.serving.predict.input is Text but the artifact holds no {TOKENIZER}; put one of at most 64 MiB "
            "beside the model's weights; if it lies there, an older version made the artifact: change spec.optimization"
        )
    batch = max(answering.max_batch_size, 1) if signature.batched else 0
    settings = json.dumps(_settings(signature, predict, answering, contract), ensure_ascii=False, sort_keys=True)
    parameters = {REVISION: answering.revision, VARIANT: answering.variant, SETTINGS: settings}
    blocks = [
        f"name: {_quote(predict_model(answering.model))}",
        'backend: "python"',
        f"max_batch_size: {batch}",
        *(_tensor("input", member) for member in contract.inputs),
        *(_tensor("output", member) for member in contract.outputs),
        "instance_group {\n  count: 1\n  kind: KIND_CPU\n}",
        *(["dynamic_batching {\n  max_queue_delay_microseconds: 0\n}"] if batch > 1 else []),
        *(
            f"parameters {{\n  key: {_quote(key)}\n  value {{ string_value: {_quote(text)} }}\n}}"
            for key, text in parameters.items()
        ),
    ]
    return "\n".join(blocks) + "\n"


def predict_model(model: str) -> str:
    """Name of the second model in the server."""
    return f"{model}-predict"


def _settings(signature: ModelSignature, predict: Predict, answering: Answering, contract: Contract) -> dict[str, Any]:
    """All that the second model is told."""
    preprocessing = predict.preprocessing or Preprocessing()
    picture = contract.picture
    return {
        "model": answering.model,
        "revision": answering.revision,
        "variant": answering.variant,
        "batched": contract.batched,
        "inputs": {spec.name: spec.dtype for spec in signature.inputs},
        "outputs": [spec.name for spec in signature.outputs],
        "picture": picture
        and {
            "height": picture.height,
            "width": picture.width,
            "channels": picture.channels,
            "channelsFirst": picture.channels_first,
        },
        **({"text": {"length": contract.text.length, "maxTokens": contract.text.max_tokens}} if contract.text else {}),
        "mean": [float(number) for number in preprocessing.mean],
        "std": [float(number) for number in preprocessing.std],
        "softmax": predict.scores is Scores.LOGITS,
        "classes": contract.classes,
        "labels": list(predict.labels),
        "top": predict.top,
        "sampleRate": float(predict.sample_rate),
        "drift": answering.drift,
    }


def _picture(signature: ModelSignature, predict: Predict) -> Picture:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise ValueError(f"spec.serving.predict.input is Image but the model has the inputs {names}; write Values")
    spec = signature.inputs[0]
    shape = spec.shape if signature.batched else spec.shape[1:]
    first, last = shape[:1], shape[-1:]
    alone = signature.batched or spec.shape[:1] in ((1,), (-1,))
    if not alone or len(shape) != _IMAGE_DIMENSIONS or (first[0] not in _CHANNELS and last[0] not in _CHANNELS):
        raise ValueError(
            f"spec.serving.predict.input is Image but {spec.name!r} has the shape {list(spec.shape)}; "
            "images are [channels, height, width] or [height, width, channels] with 1 or 3 channels"
        )
    channels_first = first[0] in _CHANNELS
    own = shape[1:] if channels_first else shape[:2]
    asked = (predict.preprocessing or Preprocessing()).resize
    size = asked or own
    if any(side < 1 for side in size):
        raise ValueError(
            f"{spec.name!r} takes images of any size; write spec.serving.predict.preprocessing.resize: [HEIGHT, WIDTH]"
        )
    if any(fixed not in (-1, side) for fixed, side in zip(own, size, strict=True)):
        raise ValueError(
            f"spec.serving.predict.preprocessing.resize is {list(size)} but {spec.name!r} takes {list(own)} alone; "
            "remove resize"
        )
    if spec.dtype not in ("FP16", "FP32", "FP64", "UINT8"):
        raise ValueError(f"spec.serving.predict.input is Image but {spec.name!r} takes {spec.dtype}; write Values")
    return Picture(
        height=size[0], width=size[1], channels=first[0] if channels_first else last[0], channels_first=channels_first
    )


def _check_normalising(signature: ModelSignature, preprocessing: Preprocessing, picture: Picture | None) -> None:
    for field, numbers in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if field == "std" and any(float(number) == 0 for number in numbers):
            raise ValueError("spec.serving.predict.preprocessing.std holds 0; values are divided by it")
        if len(numbers) <= 1:
            continue
        if picture and len(numbers) != picture.channels:
            raise ValueError(
                f"spec.serving.predict.preprocessing.{field} holds {len(numbers)} numbers but images have "
                f"{picture.channels} channels"
            )
        for spec in signature.inputs if picture is None else ():
            if spec.dtype in _FLOATS and spec.shape[-1:] != (len(numbers),):
                raise ValueError(
                    f"spec.serving.predict.preprocessing.{field} holds {len(numbers)} numbers but {spec.name!r} has "
                    f"the shape {list(spec.shape)}; write one number, or one for each place of its last dimension"
                )


def _classes(signature: ModelSignature, predict: Predict) -> int:
    spec = signature.outputs[0]
    count = spec.shape[-1] if spec.shape else 0
    if spec.dtype not in _FLOATS or count <= 1 or prod(spec.shape) != count:
        raise ValueError(
            f"output {spec.name!r} with {spec.dtype} {list(spec.shape)} holds no scores of classes; write "
            "spec.serving.predict.scores: None"
        )
    if predict.labels and len(predict.labels) != count:
        raise ValueError(
            f"spec.serving.predict.labels names {len(predict.labels)} classes but output {spec.name!r} has {count}"
        )
    return count


def _inputs(signature: ModelSignature, picture: Picture | None, text: Text | None) -> tuple[Member, ...]:
    if picture:
        name = signature.inputs[0].name
        return (Member(name=name, dtype="BYTES", shape=(1,), meaning="A JPEG or PNG file as base64.", base64=True),)
    if text:
        return (Member(name=TEXT, dtype="BYTES", shape=(1,), meaning="A text."),)
    return tuple(_value_input(spec) for spec in signature.inputs)


def _value_input(spec: TensorSpec) -> Member:
    free = sum(side < 0 for side in spec.shape)
    if free > 1:
        raise ValueError(
            f"input {spec.name!r} has {free} free dimensions and a flat list says the length of one; remove "
            "spec.serving.predict and ask over the open inference protocol"
        )
    return _member(spec, f"Values of the shape {list(spec.shape)}, the last dimension first to run.")


def _class_outputs(classes: int, top: int) -> tuple[Member, ...]:
    count = min(classes, top)
    return (
        Member(name=LABEL, dtype="BYTES", shape=(1,), meaning="The likeliest class."),
        Member(name=PROBABILITY, dtype="FP32", shape=(1,), meaning="Its probability."),
        Member(name=LABELS, dtype="BYTES", shape=(count,), meaning="The likeliest classes, likeliest first."),
        Member(name=PROBABILITIES, dtype="FP32", shape=(count,), meaning="Their probabilities."),
    )


def _value_outputs(signature: ModelSignature) -> tuple[Member, ...]:
    for spec in signature.outputs:
        if spec.name in (REVISION, VARIANT):
            raise ValueError(f"output {spec.name!r} has a name that answers of /predict use; rename it in the model")
    return tuple(_member(spec, f"Values of the shape {list(spec.shape)}, flat.") for spec in signature.outputs)


def _member(spec: TensorSpec, meaning: str) -> Member:
    dtype = "FP32" if spec.dtype == "FP16" else spec.dtype
    if dtype not in _TYPES or dtype == "BYTES":
        raise ValueError(
            f"{spec.name!r} has {spec.dtype}, which plain JSON does not carry here; remove spec.serving.predict"
        )
    return Member(name=spec.name, dtype=dtype, shape=spec.shape or (1,), meaning=meaning)


def _tensor(kind: str, member: Member) -> str:
    dims = ", ".join(map(str, member.shape))
    return f"{kind} {{\n  name: {_quote(member.name)}\n  data_type: {_TYPES[member.dtype]}\n  dims: [ {dims} ]\n}}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
