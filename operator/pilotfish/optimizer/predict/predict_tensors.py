"""Arrays of plain JSON to arrays of the model, and back. Runs in Triton's Python backend: numpy, Pillow for images."""

import base64
import binascii
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

KINDS: dict[str, Any] = {
    "BOOL": np.bool_,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
_MOST_PIXELS = 64 * 1024 * 1024
"""A small file may say that it is a large image; this is 192 MB of colours."""


class BadRequestError(Exception):
    """The request cannot be answered: one line that says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The members of the JSON, a row for each sample; `scores` are probabilities of classes where there are any."""

    members: dict[str, Array]
    scores: Array | None


def can_open_pictures() -> bool:
    """Whether the server's Python has Pillow."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return False
    return True


def make_feeds(given: dict[str, Array], settings: dict[str, Any]) -> dict[str, Array]:
    """The model's inputs from a request's. Raises BadRequestError."""
    mean, std = (np.array(settings[key] or [default], np.float64) for key, default in (("mean", 0.0), ("std", 1.0)))
    if settings["picture"]:
        ((name, encoded),) = given.items()
        pixels = [_open(text, settings["picture"]) for text in encoded.reshape(-1)]
        whole = settings["inputs"][name] == "UINT8"
        array = np.stack(pixels) if whole else (np.stack(pixels) / 255.0 - mean) / std
        if settings["picture"]["channelsFirst"]:
            array = array.transpose(0, 3, 1, 2)
        return {name: np.ascontiguousarray(array, dtype=KINDS[settings["inputs"][name]])}
    return {
        name: np.ascontiguousarray(
            (array - mean) / std if settings["inputs"][name].startswith("FP") else array,
            dtype=KINDS[settings["inputs"][name]],
        )
        for name, array in given.items()
    }


def make_answer(outputs: dict[str, Array], rows: int, settings: dict[str, Any]) -> Answer:
    """What is answered for `rows` samples."""
    told = {name: np.full((rows, 1), settings[name], dtype=object) for name in ("revision", "variant")}
    if not settings["batched"]:
        told = {name: array[0] for name, array in told.items()}
    if settings["classes"] is None:
        return Answer(members={**outputs, **told}, scores=None)
    scores = make_scores(next(iter(outputs.values())), rows, settings)
    top = np.argsort(-scores, axis=1, kind="stable")[:, : settings["top"]]
    likely = np.take_along_axis(scores, top, axis=1).astype(np.float32)
    named = np.array(settings["labels"] or [str(index) for index in range(settings["classes"])], dtype=object)[top]
    members = {"label": named[:, :1], "probability": likely[:, :1], "labels": named, "probabilities": likely}
    if not settings["batched"]:
        members = {name: array[0] for name, array in members.items()}
    return Answer(members={**members, **told}, scores=scores)


def make_scores(output: Array, rows: int, settings: dict[str, Any]) -> Array:
    """Probabilities [rows, classes] of what the model says."""
    scores = output.reshape(rows, settings["classes"]).astype(np.float64)
    return softmax(scores) if settings["softmax"] else scores


def softmax(scores: Array) -> Array:
    """Probabilities along the last axis."""
    grown = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def _open(text: bytes, picture: dict[str, Any]) -> Array:
    """uint8 [height, width, channels] of a file in base64."""
    from PIL import Image, UnidentifiedImageError

    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError("the image is not base64; send the file's bytes as base64 without a prefix") from None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            _check_size(image.width, image.height)
            coloured = image.convert("RGB" if picture["channels"] > 1 else "L")
    except UnidentifiedImageError:
        raise BadRequestError("the image is neither JPEG nor PNG") from None
    except BadRequestError:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever a decoder raises for a bad file is the sender's
        raise BadRequestError(f"the image cannot be read: {error}") from None
    size = (picture["width"], picture["height"])
    sized = coloured if coloured.size == size else coloured.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(sized, dtype=np.uint8).reshape(picture["height"], picture["width"], picture["channels"])


def _check_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise BadRequestError(f"the image has {width} x {height} pixels; send a smaller one")
