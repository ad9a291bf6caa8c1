"""One figure against its bounds: an absolute one, and growth against the stable revision. Pure.

Each bound gives a verdict and the words for it; the worst one decides and makes the sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from pilotfish.api.rollout import CheckMode
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.figures import Figure, Unit, notation, prose, tell_apart
from pilotfish.core.health.verdicts import WORST_FIRST


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one check found at one moment. Figures are short decimals in the notation of spec: `0.0714`, `12.3ms`."""

    name: str
    mode: CheckMode
    verdict: Verdict
    message: str
    """One sentence with the numbers."""
    value: str | None = None
    baseline: str | None = None
    """The same figure of the stable revision."""
    threshold: str | None = None
    """The bound that decided, as a value of the same kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is judged. `noun` opens the sentence, `basis` (` over 60 s, 812 requests`) tells what it rests on."""

    name: str
    mode: CheckMode
    noun: str
    unit: Unit
    basis: str = ""

    def without_figure(self, verdict: Verdict, why: str) -> Measurement:
        """There is nothing to compare."""
        return Measurement(name=self.name, mode=self.mode, verdict=verdict, message=f"{self.noun}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One bound's verdict. `rest` follows the figure in the sentence; `why` replaces it where nothing was compared."""

    verdict: Verdict
    value: str
    """The figure in prose, with the digits that it takes to tell it from the bound."""
    rest: str = ""
    why: str = ""
    threshold: Figure | None = None
    baseline: Figure | None = None


def at_most(figure: Figure, limit: Fraction, unit: Unit) -> Bound:
    """The figure may reach the limit, not pass it. One that is only known from below cannot keep a higher limit."""
    value, bound = tell_apart(figure.value, limit, unit)
    threshold = Figure(value=limit)
    said = _said(value, figure)
    if figure.value > limit or (figure.at_least and figure.value == limit):
        return Bound(verdict=Verdict.FAIL, value=said, rest=f"> {bound}", threshold=threshold)
    if figure.at_least:
        why = f"the histogram ends below the limit of {bound}"
        return Bound(verdict=Verdict.INCONCLUSIVE, value=said, why=why, threshold=threshold)
    return Bound(verdict=Verdict.PASS, value=said, rest=f"≤ {bound}", threshold=threshold)


def at_least(figure: Figure, limit: Fraction, unit: Unit) -> Bound:
    """The figure may fall to the limit, not below."""
    value, bound = tell_apart(figure.value, limit, unit)
    below = figure.value < limit
    return Bound(
        verdict=Verdict.FAIL if below else Verdict.PASS,
        value=value,
        rest=f"{'<' if below else '≥'} {bound}",
        threshold=Figure(value=limit),
    )


def no_worse(figure: Figure, stable: Figure, growth: Fraction, unit: Unit) -> Bound:
    """The figure may be larger than the stable revision's by that share."""
    allowed = stable.value * (1 + growth)
    value = _said(prose(figure.value, unit), figure)
    threshold = Figure(value=allowed)
    if stable.value < 0:
        return _incomparable(value, f"stable's {prose(stable.value, unit)} is below 0", threshold, stable)
    above = figure.value > allowed
    if above and stable.at_least:
        why = "of stable's only the lower bound is known, and the figure is above what it allows"
        return _incomparable(value, why, threshold, stable)
    if figure.at_least and not above and (stable.at_least or figure.value < allowed):
        return _incomparable(value, "the histogram ends below what is allowed", threshold, stable)
    return Bound(
        verdict=Verdict.FAIL if above or figure.at_least else Verdict.PASS,
        value=value,
        rest=_compared(figure, stable, growth, unit),
        threshold=threshold,
        baseline=stable,
    )


def missing_baseline(figure: Figure, why: str, unit: Unit) -> Bound:
    """The stable revision gives nothing to compare with."""
    return Bound(verdict=Verdict.NO_DATA, value=_said(prose(figure.value, unit), figure), why=why)


def incomparable(figure: Figure, why: str, unit: Unit, *, stable: Figure) -> Bound:
    """Both were measured, under conditions that differ."""
    return _incomparable(_said(prose(figure.value, unit), figure), why, None, stable)


def conclude(subject: Subject, figure: Figure, bounds: Sequence[Bound]) -> Measurement:
    """The worst bound decides; the first of equals. Without bounds there is nothing against the figure."""
    baseline = next((b.baseline for b in bounds if b.baseline is not None), None)
    decisive = min(bounds, key=lambda bound: WORST_FIRST.index(bound.verdict), default=None)
    threshold = decisive.threshold if decisive is not None else None
    return Measurement(
        name=subject.name,
        mode=subject.mode,
        verdict=Verdict.PASS if decisive is None else decisive.verdict,
        message=_sentence(subject, figure, bounds, decisive),
        value=notation(figure, subject.unit),
        baseline=None if baseline is None else notation(baseline, subject.unit),
        threshold=None if threshold is None else notation(threshold, subject.unit),
    )


def _sentence(subject: Subject, figure: Figure, bounds: Sequence[Bound], decisive: Bound | None) -> str:
    if decisive is None:
        return f"{subject.noun} {_said(prose(figure.value, subject.unit), figure)}{subject.basis}"
    if decisive.why:
        return f"{subject.noun} {decisive.value}{subject.basis}: {decisive.why}"
    told = [decisive] if decisive.verdict is not Verdict.PASS else bounds
    return f"{subject.noun} {decisive.value} {' and '.join(bound.rest for bound in told)}{subject.basis}"


def _compared(figure: Figure, stable: Figure, growth: Fraction, unit: Unit) -> str:
    _, base = tell_apart(figure.value, stable.value, unit)
    _, allowed = tell_apart(Fraction(0), growth, Unit.SHARE)
    if figure.value == stable.value:
        change = "equals"
    elif not stable.value:
        change = "is above"
    else:
        grown = figure.value / stable.value - 1
        size, allowed = tell_apart(abs(grown), growth, Unit.SHARE)
        change = f"is {size} {'above' if grown > 0 else 'below'}"
    return f"{change} stable's {_said(base, stable)} (allowed {allowed})"


def _incomparable(value: str, why: str, threshold: Figure | None, stable: Figure) -> Bound:
    return Bound(verdict=Verdict.INCONCLUSIVE, value=value, why=why, threshold=threshold, baseline=stable)


def _said(text: str, figure: Figure) -> str:
    return f"above {text}" if figure.at_least else text
