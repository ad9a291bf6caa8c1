"""Drift and counts of the model that answers plain JSON: figures alone, no server."""

import numpy as np
import pytest

from pilotfish.api.job_input import InstallInput
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.golden_figures import install_golden
from pilotfish.optimizer.predict.predict_statistics import (
    CONFIDENCES,
    ENOUGH,
    FEWEST,
    WINDOW,
    Seen,
    Statistics,
    make_baseline,
    sample_means,
    stability_index,
)


def _population(rng, count, *, shift=0.0):
    """Means of an input and the scores of five classes."""
    raw = rng.standard_normal((count, 5)) + shift * np.arange(5)
    grown = np.exp(raw)
    return rng.standard_normal(count) + shift, grown / grown.sum(axis=1, keepdims=True)


def _figures(golden: int, seed: int, *, shift: float) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    means, scores = _population(rng, golden)
    seen = Statistics(rate=1, baseline=make_baseline({"x": means}, scores))
    now, said = _population(rng, WINDOW, shift=shift)
    seen.take({"x": now[:, np.newaxis]}, {"y": said}, said, batched=True)
    return seen.drift()


@pytest.mark.parametrize("golden", [FEWEST, 100, 256])
def test_one_population_is_no_drift_however_small_the_golden_set(golden):
    for seed in range(40):
        figures = _figures(golden, seed, shift=0)
        assert set(figures) == {"input x", "classes", "confidence"}
        assert max(figures.values()) < 0.25, (golden, seed, figures)


@pytest.mark.parametrize("golden", [FEWEST, 100, 256])
def test_another_population_is(golden):
    for seed in range(40):
        figures = _figures(golden, seed, shift=1.0)
        assert min(figures["input x"], figures["classes"]) > 0.25, (golden, seed, figures)


def test_drift_is_told_once_there_is_enough_and_forgets_what_is_long_ago():
    rng = np.random.default_rng(0)
    means, scores = _population(rng, 256)
    seen = Statistics(rate=1, baseline=make_baseline({"x": means}, scores))

    def take(count, shift):
        now, said = _population(rng, count, shift=shift)
        seen.take({"x": now[:, np.newaxis]}, {"y": said}, said, batched=True)
        return seen.drift()

    assert take(ENOUGH - 1, 0) == {}
    assert take(WINDOW, 2)["classes"] > 1
    assert take(WINDOW, 0)["classes"] < 0.1


def test_an_index_of_zero_for_the_golden_set_itself():
    means, scores = _population(np.random.default_rng(1), 200)
    assert stability_index(means, make_baseline({"x": means}, None)["input x"]) == 0
    assert make_baseline({"x": means[: FEWEST - 1]}, None) == {}
    assert set(make_baseline({"x": means}, scores)) == {"input x", "classes", "confidence"}


def test_not_finite_values_are_counted_and_left_out():
    seen, bad = Seen(), np.array([[np.nan, 1.0, np.inf], [-2.0, 3.0, 4.0]], np.float32)
    seen.add(bad)
    assert (seen.values, seen.not_finite, seen.least, seen.most) == (6, 2, -2.0, 4.0)
    assert sample_means(bad).tolist() == [1.0, pytest.approx(5 / 3)]
    whole = Seen()
    whole.add(np.array([3, 9], np.int64))
    assert (whole.not_finite, whole.least, whole.most) == (0, 3.0, 9.0)


def test_scores_that_are_not_finite_have_no_class():
    seen = Statistics(rate=1)
    scores = np.array([[0.2, 0.8], [np.nan, np.nan], [1.0, 0.0]])
    seen.take({"x": np.zeros((3, 1))}, {"y": scores}, scores, batched=True)
    assert (seen.samples, seen.classes, sum(seen.confidence_counts)) == (3, {1: 1, 0: 1}, 2)
    assert [end for end, n in zip(CONFIDENCES, seen.confidence_counts, strict=True) if n] == [0.8, 1.0]


def test_a_share_of_the_requests_is_counted():
    seen = Statistics(rate=0.25)
    seen.random.seed(3)
    for _ in range(2000):
        seen.take({"x": np.zeros((1, 1))}, {}, None, batched=True)
    assert 400 < seen.samples < 600


def test_a_golden_set_that_was_changed_is_refused(tmp_path):
    order = InstallInput(
        artifact="artifacts/k", digest="sha256:" + "a" * 64, model="digits", golden="sha256:" + "b" * 64
    )
    with pytest.raises(OptimizerError, match=r"the golden set in artifacts/k has sha256:.* the store was changed"):
        install_golden(order, source=[("inputs.safetensors", iter([b"x"]))], models=tmp_path)
