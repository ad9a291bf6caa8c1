"""Figures and verdicts on answers whose error is known."""

import numpy as np
import pytest

from pilotfish.api.optimization import Precision
from pilotfish.api.tolerance import Tolerance
from pilotfish.optimizer.verify import bounds_for, check_answers, judge, measure_error, reference_problem

RNG = np.random.default_rng(3)
Y = {"y": RNG.standard_normal((32, 10)).astype(np.float32)}


def _noisy(amount):
    return {"y": Y["y"] + amount * RNG.standard_normal(Y["y"].shape).astype(np.float32)}


def test_equal_answers_have_no_error():
    error = measure_error(Y, Y, [Y])
    assert (error.max_abs, error.max_rel, error.top1_agreement, error.batch_parity) == (0, 0, 1, 0)
    assert error.cosine == pytest.approx(1)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"z": Y["y"]}, "no output 'y'"),
        ({"y": Y["y"][:, :9]}, "shape"),
        ({"y": Y["y"].astype(np.float64)}, "float64"),
        ({"y": np.where(Y["y"] > 1, np.nan, Y["y"])}, "NaN"),
    ],
)
def test_answers_that_cannot_be_compared(answers, says):
    assert says in check_answers(answers, Y)


def test_an_original_that_answers_nan_is_no_reference():
    assert "NaN" in reference_problem({"y": np.array([[np.nan]])})


@pytest.mark.parametrize(("precision", "noise", "fine"), [
    (Precision.FP32, 1e-6, True), (Precision.FP32, 1e-3, False),
    (Precision.FP16, 1e-3, True), (Precision.FP16, 3e-2, False),
    (Precision.INT8, 2e-2, True), (Precision.INT8, 2e-1, False),
])  # fmt: skip
def test_default_tolerances(precision, noise, fine):
    bounds = bounds_for(precision, None, given=False, batching=True)
    verdict = judge(measure_error(_noisy(noise), Y, []), bounds)
    assert (verdict is None) == fine, verdict


def test_answers_that_change_with_the_batch_are_refused_only_where_requests_are_batched():
    error = measure_error(Y, Y, [_noisy(0.05)])
    assert "batch" in judge(error, bounds_for(Precision.INT8, None, given=False, batching=True))
    assert judge(error, bounds_for(Precision.INT8, None, given=False, batching=False)) is None


def test_the_users_tolerance_replaces_the_default():
    error = measure_error(_noisy(1e-2), Y, [])
    assert (
        judge(error, bounds_for(Precision.FP32, Tolerance(max_abs="0.5", cosine="0.9"), given=False, batching=True))
        is None
    )
    strict = bounds_for(Precision.INT8, Tolerance(max_abs="1e-9"), given=False, batching=True)
    assert "maxAbs" in judge(error, strict)


def test_agreement_is_asked_for_where_samples_were_given():
    swapped = {"y": Y["y"].copy()}
    row = swapped["y"][0]
    best, second = np.argsort(row)[::-1][:2]
    row[second] = row[best] + 1e-3
    error = measure_error(swapped, Y, [])
    assert error.top1_agreement == pytest.approx(31 / 32)
    relaxed = Tolerance(cosine="0.5", max_abs="10")
    assert judge(error, bounds_for(Precision.INT8, relaxed, given=False, batching=True)) is None
    assert "agreement" in judge(error, bounds_for(Precision.INT8, relaxed, given=True, batching=True))
