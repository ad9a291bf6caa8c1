"""Texts to tokens. Runs in Triton's Python backend: numpy, and the library `tokenizers`."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from predict_tensors import KINDS, Array, BadRequestError

_DEFAULT_TOKENS = 512
"""What most encoders take; for a tokenizer that says nothing, before a model that takes any number."""
_MOST_BYTES = 1024 * 1024
_PADS = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")


class TokenizerError(Exception):
    """The server cannot take texts: one line that says why."""


class Tokenizer:
    """The tokenizer of one model. `settings`: `text` with `length` and `maxTokens`, `inputs` with the types."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Raises TokenizerError."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would be as many as the node has cores
        try:
            import tokenizers
        except ImportError:
            raise TokenizerError(
                "spec.serving.predict.input is Text and this server's image has no tokenizers; use an image with it"
            ) from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 -- the library raises bare exceptions
            said = " ".join(str(error).split())
            raise TokenizerError(f"the artifact's tokenizer.json cannot be read: {said}") from None
        self._types = settings["inputs"]
        self._length = settings["text"]["length"]
        own = (self._tokenizer.truncation or {}).get("max_length")
        self._most = settings["text"]["maxTokens"] or self._length or own or _DEFAULT_TOKENS
        self._pad = self._find_pad()
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._most)

    def make_feeds(self, given: Array) -> dict[str, Array]:
        """The model's inputs [texts, tokens] for the texts of one request. Raises BadRequestError."""
        found = self._tokenizer.encode_batch([_decode(text) for text in given.reshape(-1)])
        longest = self._length or max(len(one.ids) for one in found)
        if longest == 0:
            raise BadRequestError("the text holds no token; send one that is not empty")
        rows = {
            "input_ids": [_fill(one.ids, longest, self._pad) for one in found],
            "attention_mask": [_fill(one.attention_mask, longest, 0) for one in found],
            "token_type_ids": [_fill(one.type_ids, longest, 0) for one in found],
        }
        return {name: np.array(rows[name], dtype=KINDS[dtype]) for name, dtype in self._types.items()}

    def _find_pad(self) -> int:
        """The id that fills a row up: what the tokenizer says, else its usual names, else 0; no mask points at it."""
        padding = self._tokenizer.padding
        if padding is not None:
            return int(padding["pad_id"])
        known = (self._tokenizer.token_to_id(name) for name in _PADS)
        return next((found for found in known if found is not None), 0)


def _decode(text: bytes) -> str:
    if len(text) > _MOST_BYTES:
        raise BadRequestError(f"the text has {len(text)} bytes; send at most {_MOST_BYTES}")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise BadRequestError("the text is not UTF-8") from None


def _fill(values: list[int], length: int, filler: int) -> list[int]:
    return [*values, *[filler] * (length - len(values))]
