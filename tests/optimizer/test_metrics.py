"""The task metric: what fits which labels, what a loss is, and when it is too much."""

import numpy as np
import pytest

from pilotfish.api.report import ModelSignature, OptimizerReason, TensorSpec
from pilotfish.api.tolerance import Metric, Tolerance
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.metrics import find_task
from pilotfish.optimizer.model import Samples
from pilotfish.optimizer.samples import MAX_SAMPLES, check_samples

RNG = np.random.default_rng(5)
CLASSES = RNG.integers(0, 10, 100)
SCORES = np.eye(10, dtype=np.float32)[CLASSES] + RNG.random((100, 10)).astype(np.float32) * 0.5


def _task(answers, labels, **said):
    output = TensorSpec(name="y", dtype="FP32", shape=answers.shape[1:])
    signature = ModelSignature(inputs=(), outputs=(output,), batched=True)
    samples = Samples(inputs={"x": np.zeros(len(answers))}, labels=labels, given=True, seed=0)
    return find_task(Tolerance(**said) if said else None, samples, {"y": answers}, signature)


def _wrong(count):
    changed = SCORES.copy()
    changed[np.arange(count), CLASSES[:count]] = -1
    return {"y": changed}


def test_class_numbers_are_judged_by_accuracy_and_one_point_is_allowed():
    task = _task(SCORES, CLASSES)
    assert (task.metric, task.reference) == (Metric.ACCURACY, 1.0)
    assert task.judge(task.measure(_wrong(1))) is None
    sentence = task.judge(task.measure(_wrong(2)))
    assert "Accuracy falls from 1 to 0.98" in sentence
    assert "maxMetricDrop" in sentence


def test_the_users_own_bound():
    assert _task(SCORES, CLASSES, max_metric_drop="0.05").judge(0.96) is None
    assert _task(SCORES, CLASSES, max_metric_drop="0").judge(0.99) is not None


def test_a_better_answer_is_no_loss():
    task = _task(_wrong(20)["y"], CLASSES)
    assert task.judge(task.measure({"y": SCORES})) is None


def test_the_label_among_the_five_largest():
    second = SCORES.copy()
    second[np.arange(100), (CLASSES + 1) % 10] = 5
    assert _task(second, CLASSES).reference == 0.0
    assert _task(second, CLASSES, metric="Top5Accuracy").reference == 1.0


def test_numbers_of_the_outputs_shape_are_judged_by_the_relative_rise_of_the_squared_error():
    wanted = RNG.standard_normal((100, 2)).astype(np.float32)
    answers = wanted + 0.1 * RNG.standard_normal((100, 2)).astype(np.float32)
    task = _task(answers, wanted)
    assert task.metric is Metric.MEAN_SQUARED_ERROR
    assert task.judge(task.reference * 1.009) is None
    assert "MeanSquaredError rises" in task.judge(task.reference * 1.02)
    assert _task(answers, wanted, metric="MeanAbsoluteError").reference == pytest.approx(
        np.abs(answers - wanted).mean()
    )


@pytest.mark.parametrize(("shape", "labels"), [((7, 6, 10), (7, 6)), ((7, 10, 4, 5), (7, 4, 5)), ((7, 10), (7, 1))])
def test_classes_of_tokens_of_pixels_and_in_a_column(shape, labels):
    found = RNG.random(shape).astype(np.float32)
    axis = 1 if len(shape) == 4 else -1
    best = found.argmax(axis=axis).reshape(labels)
    assert _task(found, best).reference == 1.0
    ignored = np.where(np.arange(best.size).reshape(labels) % 2 == 0, -100, (best + 1) % 10)
    assert _task(found, ignored).reference == 0.0


def test_labels_that_suggest_no_metric_are_left_alone():
    assert _task(SCORES, None) is None
    assert _task(SCORES, RNG.integers(0, 2, (100, 3))) is None
    assert _task(RNG.random((100, 1)).astype(np.float32), RNG.integers(0, 2, 100)) is None, "0 and 1 are no regression"


@pytest.mark.parametrize(
    ("labels", "metric", "says"),
    [
        (None, "Accuracy", "needs labels"),
        (RNG.random(100), "Accuracy", "class numbers"),
        (CLASSES + 5, "Accuracy", "beyond its 10 classes"),
        (CLASSES, "MeanSquaredError", "numbers of shape"),
    ],
)
def test_a_metric_that_the_labels_cannot_give(labels, metric, says):
    with pytest.raises(OptimizerError, match=says) as caught:
        _task(SCORES, labels, metric=metric)
    assert caught.value.reason is OptimizerReason.SAMPLES_INVALID


def test_of_many_samples_some_of_every_class_are_kept():
    """Recorded data is often sorted by class."""
    labels = np.repeat(np.arange(10), 100)
    signature = ModelSignature(inputs=(TensorSpec(name="x", dtype="FP32", shape=(1,)),), outputs=(), batched=True)
    arrays = {"x": labels[:, None].astype(np.float32), "labels": labels}
    kept = check_samples(arrays, signature, where="the samples")
    assert len(kept.labels) == len(kept.inputs["x"]) == MAX_SAMPLES
    assert set(kept.labels) == set(range(10))
    np.testing.assert_array_equal(kept.inputs["x"][:, 0], kept.labels)
