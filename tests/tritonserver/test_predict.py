"""Plain JSON on a real tritonserver: preprocessing, labels, who answered, and statistics in the server's metrics."""

import base64
import io
import math
import threading
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from PIL import Image

from pilotfish.api.report import ModelSignature, TensorSpec
from support import infer
from support.asked_models import answers, convolution, recurrent, tabular, transformer
from support.builders import OWNER
from support.predicting import REVISION, VARIANT, ask, installed
from support.triton import TritonError

pytestmark = pytest.mark.triton

WHO = {"revision": REVISION, "variant": VARIANT, "model_name": f"{OWNER.name}-predict", "model_version": "1"}
ROW = [0.0, 3.0, 15.0, 2.0]


def _softmax(scores: np.ndarray) -> np.ndarray:
    grown = np.exp(scores - scores.max())
    return grown / grown.sum()


def _start(start_triton, tmp_path, model, predict, **settings):
    return start_triton(installed(tmp_path, *model(), predict, **settings)).wait_ready(f"{OWNER.name}-predict")


def test_numbers_in_labels_and_who_answered_out(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {"labels": ["cat", "dog", "fish"], "top": 2})

    status, answer = ask(server, {"pixels": ROW})

    right = _softmax(answers("digits", {"pixels": np.array([ROW], np.float32)})[0])
    best = np.argsort(-right)
    named = [["cat", "dog", "fish"][index] for index in best[:2]]
    assert status == 200
    assert answer.pop("probability") == pytest.approx(right[best[0]], rel=1e-5)
    assert answer.pop("probabilities") == pytest.approx(right[best[:2]].tolist(), rel=1e-4)
    assert answer == {**WHO, "label": named[0], "labels": named}


def test_several_samples_are_one_flat_list(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {"top": 1})
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

    status, answer = ask(server, {"pixels": rows.reshape(-1).tolist()})

    right = answers("digits", {"pixels": rows}).argmax(axis=1)
    assert status == 200
    assert answer["label"] == [str(index) for index in right]
    assert answer["revision"] == [REVISION] * 3


def test_each_value_of_a_list_is_normalised(tmp_path, start_triton):
    steps = {"mean": ["1", "-2", "3", "0.5"], "std": ["2", "4", "0.5", "1"]}
    server = _start(start_triton, tmp_path, tabular, {"preprocessing": steps, "scores": "None"})

    _, answer = ask(server, {"pixels": ROW})

    normal = (np.array([ROW]) - [1, -2, 3, 0.5]) / [2, 4, 0.5, 1]
    np.testing.assert_allclose(answer["logits"], answers("digits", {"pixels": normal.astype(np.float32)})[0], rtol=1e-5)
    assert {key: answer[key] for key in WHO} == WHO


def _file(kind: str, size: tuple[int, int] = (64, 48)) -> tuple[str, Image.Image]:
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode(), Image.open(io.BytesIO(file.getvalue()))


def test_images_are_opened_resized_and_normalised(tmp_path, start_triton):
    mean, std = ["0.485", "0.456", "0.406"], ["0.229", "0.224", "0.225"]
    server = _start(
        start_triton, tmp_path, convolution, {"input": "Image", "preprocessing": {"mean": mean, "std": std}}
    )

    for kind in ("PNG", "JPEG"):
        encoded, image = _file(kind)
        status, answer = ask(server, {"image": encoded})

        sized = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), np.float64) / 255
        normal = ((sized - np.array(mean, float)) / np.array(std, float)).transpose(2, 0, 1)[np.newaxis]
        right = _softmax(answers("photos", {"image": normal.astype(np.float32)})[0])
        assert (status, answer["label"]) == (200, str(right.argmax()))
        assert answer["probability"] == pytest.approx(right.max(), rel=1e-4)

    pictures = {
        "no base64!": "the image is not base64",
        base64.b64encode(b"GIF89a").decode(): "the image is neither JPEG nor PNG",
        encoded[:400]: "the image cannot be read",
    }
    for text, sentence in pictures.items():
        status, answer = ask(server, {"image": text})
        assert (status, sentence in answer["error"]) == (400, True), answer
    assert ask(server, {"image": encoded})[0] == 200


def test_sequences_and_tokens_of_any_length(tmp_path, start_triton):
    server = _start(start_triton, tmp_path / "lstm", recurrent, {})
    steps = np.linspace(-1, 1, 14, dtype=np.float32).reshape(1, 7, 2)
    _, answer = ask(server, {"readings": steps.reshape(-1).tolist()})
    assert answer["label"] == str(answers("sensors", {"readings": steps})[0].argmax())

    server = start_triton(installed(tmp_path / "text", *transformer(), {"scores": "None"}), name="text").wait_ready(
        f"{OWNER.name}-predict"
    )
    tokens = {"input_ids": [101, 2748, 1012, 102], "attention_mask": [1, 1, 1, 1]}
    _, answer = ask(server, tokens)
    right = answers("sentences", {name: np.array([values], np.int64) for name, values in tokens.items()})[0]
    np.testing.assert_allclose(answer["embedding"], right, rtol=1e-5)


def test_a_model_without_a_batch_dimension(tmp_path, start_triton):
    _, model = tabular()
    signature = ModelSignature(
        inputs=(TensorSpec(name="pixels", dtype="FP32", shape=(1, 4)),),
        outputs=(TensorSpec(name="logits", dtype="FP32", shape=(1, 3)),),
        batched=False,
    )
    server = start_triton(installed(tmp_path, signature, model, {})).wait_ready(f"{OWNER.name}-predict")

    status, answer = ask(server, {"pixels": ROW})

    right = answers("digits", {"pixels": np.array([ROW], np.float32)})[0]
    assert (status, answer["label"], answer["revision"]) == (200, str(right.argmax()), REVISION)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "expected 1 inputs but got 0 inputs"),
        ({"pixels": [1, 2, 3]}, "can not convert input 'pixels' to tensor with proper shape"),
        ({"pixels": "seven"}, "can not convert input 'pixels' to tensor with proper shape"),
        ({"pixels": [0.0] * 4 * 9}, "batch-size must be <= 8"),
    ],
)
def test_a_wrong_request_is_the_senders_and_counts_against_nobody(body, says, tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {})

    status, answer = ask(server, body)

    assert (status, says in answer["error"]) == (400, True), answer
    assert (
        _metrics(server).get(f'nv_inference_request_failure{{model="{OWNER.name}",reason="OTHER",version="1"}}', 0) == 0
    )


def test_many_at_once_get_their_own_answers(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {"top": 1})
    rows = np.random.default_rng(2).standard_normal((40, 4)).astype(np.float32) * 3
    got: dict[int, str] = {}

    def send(start: int) -> None:
        for index in range(start, len(rows), 8):
            got[index] = ask(server, {"pixels": rows[index].tolist()})[1]["label"]

    senders = [threading.Thread(target=send, args=(start,)) for start in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()

    right = answers("digits", {"pixels": rows}).argmax(axis=1)
    assert got == {index: str(label) for index, label in enumerate(right)}


def test_the_model_itself_answers_as_before_and_the_second_one_over_grpc_too(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {"scores": "None"})
    rows = np.array([ROW], np.float32)

    for model in (OWNER.name, f"{OWNER.name}-predict"):
        answer = infer.infer(infer.grpc(server), triton_grpc, model, {"pixels": rows}, output="logits")
        np.testing.assert_allclose(answer, answers("digits", {"pixels": rows}), rtol=1e-5)


def _metrics(server) -> dict[str, float]:
    with urllib.request.urlopen(server.metrics_url, timeout=5) as answer:
        text = answer.read().decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def _series(server, name: str, **labels: str) -> float:
    told = {"model": OWNER.name, "revision": REVISION, "variant": VARIANT, **labels}
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(told.items()))
    found = {key: value for key, value in _metrics(server).items() if key.startswith(f"pilotfish_model_{name}{{")}
    return next(
        (v for k, v in found.items() if sorted(k[k.index("{") + 1 : -1].split(",")) == wanted.split(",")), math.nan
    )


def test_statistics_of_what_is_asked_and_said(tmp_path, start_triton):
    labels = ["cat", "dog", "fish"]
    server = _start(start_triton, tmp_path, tabular, {"labels": labels})
    rows = np.random.default_rng(3).standard_normal((20, 4)).astype(np.float32)
    for row in rows:
        ask(server, {"pixels": row.tolist()})

    scores = np.stack([_softmax(one) for one in answers("digits", {"pixels": rows})])
    counts = np.bincount(scores.argmax(axis=1), minlength=3)
    assert _series(server, "samples_total") == 20
    for label, count in zip(labels, counts, strict=True):
        assert _series(server, "class_total", **{"class": label}) == pytest.approx(count or math.nan, nan_ok=True)
    assert _series(server, "confidence_sum") == pytest.approx(scores.max(axis=1).sum(), rel=1e-3)
    assert _series(server, "confidence_bucket", le="0.5") == pytest.approx(
        (scores.max(axis=1) <= 0.5).sum(), nan_ok=True
    )
    assert _series(server, "confidence_bucket", le="+Inf") == _series(server, "confidence_count") == 20
    assert _series(server, "least_value", kind="input", tensor="pixels") == pytest.approx(rows.min(), rel=1e-5)
    assert _series(server, "most_value", kind="input", tensor="pixels") == pytest.approx(rows.max(), rel=1e-5)
    assert _series(server, "values_total", kind="input", tensor="pixels") == 80

    bad = np.array([[np.nan, 1, np.inf, 2]], np.float32)
    infer.infer(infer.grpc(server), triton_grpc, f"{OWNER.name}-predict", {"pixels": bad}, output="probability")
    assert _series(server, "not_finite_total", kind="input", tensor="pixels") == 2
    assert _series(server, "samples_total") == 21


def _golden(count: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rows = np.random.default_rng(4).standard_normal((count, 4)).astype(np.float32)
    return {"pixels": rows}, {"logits": answers("digits", {"pixels": rows})}


def test_drift_against_the_golden_set(tmp_path, start_triton):
    models = installed(tmp_path, *tabular(), {}, golden=_golden(200))
    server = start_triton(models).wait_ready(f"{OWNER.name}-predict")

    def send(rows: np.ndarray) -> dict[str, float]:
        for start in range(0, len(rows), 8):
            assert ask(server, {"pixels": rows[start : start + 8].astype(float).reshape(-1).tolist()})[0] == 200
        return {about: _series(server, "drift", of=about) for about in ("classes", "confidence", "input pixels")}

    rng = np.random.default_rng(5)
    few = send(rng.standard_normal((40, 4)))
    same = send(rng.standard_normal((360, 4)))
    other = send(rng.standard_normal((2000, 4)) * 3 + [4, 0, 0, 0])

    assert all(math.isnan(index) for index in few.values())
    assert all(0 <= index < 0.1 for index in same.values()), same
    assert all(index > 0.25 for index in other.values()), other


def test_no_drift_without_recorded_samples(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {})
    for _ in range(20):
        ask(server, {"pixels": ROW * 8})
    assert _series(server, "samples_total") == 160
    assert math.isnan(_series(server, "drift", of="classes"))


def test_no_statistics_where_none_are_wanted(tmp_path, start_triton):
    server = _start(start_triton, tmp_path, tabular, {"sampleRate": "0"})
    assert ask(server, {"pixels": ROW})[0] == 200
    assert math.isnan(_series(server, "samples_total"))


def test_what_does_not_start_says_why(tmp_path, start_triton):
    models = installed(tmp_path, *tabular(), {})
    (models / f"{OWNER.name}-predict" / "1" / "predict_gauges.py").write_text("raise RuntimeError('broken')")
    with pytest.raises(TritonError, match="broken"):
        start_triton(models).wait_ready(f"{OWNER.name}-predict")
