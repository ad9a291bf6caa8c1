"""One figure against one bound: the verdict, the words, and the figures that go with it into status."""

from dataclasses import replace
from fractions import Fraction

import pytest

from pilotfish.api.rollout import CheckMode
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.bounds import Bound, Subject, at_most, conclude, incomparable, missing_baseline, no_worse
from pilotfish.core.health.figures import Figure, Unit

MS = Unit.MILLISECONDS
SUBJECT = Subject(name="meanLatency", mode=CheckMode.ENFORCE, noun="mean latency", unit=MS, basis=" over 60 s")


def figure(value, *, at_least=False):
    return Figure(value=Fraction(value), at_least=at_least)


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        (figure(10), figure(-2), "stable's -2 ms is below 0"),
        (
            figure(10),
            figure(5, at_least=True),
            "of stable's only the lower bound is known, and the figure is above what it allows",
        ),
        (figure(10, at_least=True), figure(20), "the histogram ends below what is allowed"),
        (figure(10, at_least=True), figure(20, at_least=True), "the histogram ends below what is allowed"),
    ],
)
def test_what_cannot_be_compared_tells_both_figures_and_the_bound(ours, theirs, why):
    said = "above 10 ms" if ours.at_least else "10 ms"
    assert no_worse(ours, theirs, Fraction("0.1"), MS) == Bound(
        verdict=Verdict.INCONCLUSIVE,
        value=said,
        why=why,
        threshold=Figure(value=theirs.value * Fraction("1.1")),
        baseline=theirs,
    )


def test_a_lower_bound_that_is_exactly_what_is_allowed_is_above_it():
    found = no_worse(figure(11, at_least=True), figure(10), Fraction("0.1"), MS)
    assert found.verdict is Verdict.FAIL
    assert no_worse(figure("10.99", at_least=True), figure(10), Fraction("0.1"), MS).verdict is Verdict.INCONCLUSIVE
    assert no_worse(figure(11), figure(10), Fraction("0.1"), MS).verdict is Verdict.PASS
    assert no_worse(figure("11.01"), figure(10), Fraction("0.1"), MS).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("ours", "theirs", "growth", "said"),
    [
        (12, 10, "0.1", "is 20 % above stable's 10 ms (allowed 10 %)"),
        (9, 10, "0.1", "is 10 % below stable's 10 ms (allowed 10 %)"),
        (10, 10, "0.125", "equals stable's 10 ms (allowed 12 %)"),
        (3, 0, "0.1", "is above stable's 0 ms (allowed 10 %)"),
        ("11.001", 10, "0.1", "is 10.01 % above stable's 10 ms (allowed 10 %)"),
        (10, 10, "1", "equals stable's 10 ms (allowed 100 %)"),
    ],
)
def test_growth_reads_as_people_say_it(ours, theirs, growth, said):
    assert no_worse(figure(ours), figure(theirs), Fraction(growth), MS).rest == said


def test_without_a_figure_of_stable_the_own_one_is_told_in_its_unit():
    assert missing_baseline(figure("0.071"), "no pod", Unit.SHARE) == Bound(
        verdict=Verdict.NO_DATA, value="7.1 %", why="no pod"
    )
    assert missing_baseline(figure(12, at_least=True), "no pod", MS).value == "above 12 ms"
    found = incomparable(figure("0.071"), "they differ", Unit.SHARE, stable=figure(1))
    assert (found.verdict, found.value, found.why) == (Verdict.INCONCLUSIVE, "7.1 %", "they differ")
    assert (found.threshold, found.baseline) == (None, figure(1))


def test_the_bound_that_decides_gives_the_threshold():
    bounds = (
        no_worse(figure(10), figure(10), Fraction("0.5"), MS),
        no_worse(figure(10), figure(-1), Fraction("0.5"), MS),
    )
    found = conclude(SUBJECT, figure(10), bounds)
    assert (found.verdict, found.threshold, found.baseline) == (Verdict.INCONCLUSIVE, "-1.5ms", "10ms")
    assert found.message == "mean latency 10 ms over 60 s: stable's -1 ms is below 0"


def test_a_limit_beyond_what_is_known_is_told_too():
    found = at_most(figure(20, at_least=True), Fraction(21), MS)
    assert (found.verdict, found.threshold) == (Verdict.INCONCLUSIVE, Figure(value=Fraction(21)))


def test_without_bounds_the_figure_is_told_in_its_unit():
    share = replace(SUBJECT, unit=Unit.SHARE, noun="error rate")
    assert conclude(share, figure("0.071"), ()).message == "error rate 7.1 % over 60 s"
