"""Texts at `/predict`: which inputs of a model take the tokens, and how many. Pure."""

from dataclasses import dataclass

from pilotfish.api.predict import Predict, Preprocessing
from pilotfish.api.report import ModelSignature, TensorSpec

TOKENIZER = "tokenizer.json"
"""File beside a model's weights and beside config.pbtxt in its artifact, as the library `tokenizers` writes it."""
TEXT = "text"
"""Key of a request."""

_IDS, _MASK, _TYPES = "input_ids", "attention_mask", "token_type_ids"
_WHOLE = ("INT32", "INT64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Where the tokens of a text go. `length`: tokens that the model takes, no more and no fewer; None: any number."""

    length: int | None
    max_tokens: int | None


def make_text(signature: ModelSignature, predict: Predict) -> Text:
    """How texts become the inputs of a model of this signature.

    Raises:
        ValueError: it takes no tokens, something beside them, or answers that would depend on the padding.
    """
    by_name = {spec.name: spec for spec in signature.inputs}
    over = sorted(by_name.keys() - {_IDS, _MASK, _TYPES})
    if _IDS not in by_name or over:
        raise ValueError(
            f"spec.serving.predict.input is Text but the model has the inputs {', '.join(by_name)}; texts become "
            f"{_IDS}, {_MASK} and {_TYPES}: write Values"
        )
    lengths = {_length(spec, batched=signature.batched) for spec in signature.inputs}
    if len(lengths) > 1:
        shapes = ", ".join(f"{spec.name!r} {list(spec.shape)}" for spec in signature.inputs)
        raise ValueError(f"spec.serving.predict.input is Text but the inputs differ in length: {shapes}; write Values")
    (length,) = lengths
    if length is None and _MASK not in by_name:
        raise ValueError(
            f"spec.serving.predict.input is Text but the model has no input {_MASK}, so that what stands beside a "
            f"short text would change its answer; export the model with {_MASK}, or with a fixed length"
        )
    most = (predict.preprocessing or Preprocessing()).max_tokens
    if length is not None and most is not None and most > length:
        raise ValueError(
            f"spec.serving.predict.preprocessing.maxTokens is {most} but the model takes {length} tokens; write at "
            f"most {length}"
        )
    return Text(length=length, max_tokens=most)


def _length(spec: TensorSpec, *, batched: bool) -> int | None:
    """Tokens of one text; None for any number."""
    alone = batched or spec.shape[:1] in ((1,), (-1,))
    shape = spec.shape if batched else spec.shape[1:]
    if spec.dtype not in _WHOLE or not alone or len(shape) != 1:
        raise ValueError(
            f"spec.serving.predict.input is Text but {spec.name!r} takes {spec.dtype} {list(spec.shape)}; tokens are "
            f"one row of {' or '.join(_WHOLE)}: write Values"
        )
    return shape[0] if shape[0] > 0 else None
