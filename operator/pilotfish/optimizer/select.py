"""Choose: the best accepted candidate by the objective; a lead inside the noise goes to the higher precision."""

from pilotfish.api.optimization import ArtifactFormat, Objective, OnNoCandidate, OptimizationSpec, Precision
from pilotfish.api.report import CandidateReport, Measurement, Verdict
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError

MIN_GAIN = 0.05
"""A lower precision has to be better by this share at least, whatever the spread says."""
SAME_PRECISION_GAIN = 0.02
"""The same between candidates of one precision, where nothing but simplicity is given up."""
MIN_ROUNDS = 5
"""Fewer rounds that lie apart by chance are too likely."""
_PRECISION = {Precision.FP32: 0, Precision.BF16: 1, Precision.FP16: 2, Precision.INT8: 3}
_FORMAT = {ArtifactFormat.ONNX: 0, ArtifactFormat.TORCH_SCRIPT: 1}


def select(
    reports: tuple[CandidateReport, ...], spec: OptimizationSpec, *, fallback: tuple[str, ...]
) -> tuple[str, str]:
    """The winner's variant and a sentence why.

    `fallback` are the plain conversions that may serve as "the original", best first.

    Raises:
        OptimizerError: ConversionFailed when nothing could be built, NoCandidateWithinTolerance when nothing is good
            enough and spec.optimization.onNoCandidate says Fail or there is no plain conversion either.
    """
    accepted = [r for r in reports if r.verdict is Verdict.ACCEPTED and r.precision in spec.precisions]
    reasons = "; ".join(f"{r.variant}: {r.reason}" for r in reports if r.reason)
    if accepted:
        winner, why = _best(accepted, spec.objective)
        return winner, f"{why} ({reasons})" if reasons and len(accepted) == 1 else why
    plain = [name for name in fallback if any(r.variant == name and r.verdict is Verdict.ACCEPTED for r in reports)]
    if spec.on_no_candidate is OnNoCandidate.SERVE_ORIGINAL and plain:
        return plain[
            0
        ], f"no candidate of the precisions asked for is within the tolerance ({reasons}): served as it came"
    if all(r.verdict is Verdict.FAILED for r in reports):
        raise OptimizerError(
            Reason.CONVERSION_FAILED,
            f"the model could not be converted to any format ({reasons}); export it as ONNX yourself",
        )
    raise OptimizerError(
        Reason.NO_CANDIDATE_WITHIN_TOLERANCE,
        f"no candidate answers like the original ({reasons}); widen spec.optimization.tolerance or allow FP32",
    )


def _best(accepted: list[CandidateReport], objective: Objective) -> tuple[str, str]:
    ordered = sorted(accepted, key=_simplicity)
    if objective is Objective.NONE:
        return ordered[0].variant, "the objective is None: the simplest accepted candidate"
    tiers = {precision: [r for r in ordered if r.precision is precision] for precision in Precision}
    best, *lower = (_champion(tiers[p], objective) for p in sorted(tiers, key=_PRECISION.__getitem__) if tiers[p])
    for challenger in lower:
        if _leads(challenger, best, objective, by=MIN_GAIN):
            best = challenger
    runner_up = min((r for r in ordered if r is not best), key=lambda r: _cost(r, objective), default=None)
    if runner_up is None:
        return best.variant, "the only accepted candidate"
    if _cost(runner_up, objective) < _cost(best, objective):
        return best.variant, f"{runner_up.variant} leads by less than the noise; the simpler one is kept"
    return best.variant, f"best by {objective.value} of {len(accepted)} accepted candidates"


def _simplicity(report: CandidateReport) -> tuple[int, int]:
    return _PRECISION[report.precision], _FORMAT[report.format]


def _cost(report: CandidateReport, objective: Objective) -> float:
    """Smaller is better."""
    if objective is Objective.SIZE:
        return float(report.bytes or 0)
    if objective is Objective.THROUGHPUT:
        return 1 / _decisive(report, objective).throughput
    return _decisive(report, objective).latency_ms.median


def _decisive(report: CandidateReport, objective: Objective) -> Measurement:
    """The one measurement that the cost is read from."""
    if objective is Objective.THROUGHPUT:
        return max(_served(report), key=lambda m: m.throughput)
    return report.measurements[0]


def _served(report: CandidateReport) -> tuple[Measurement, ...]:
    """The batches that Triton makes: of single requests, where OpenVINO's backend merges none."""
    return report.measurements[:1] if report.runtime.startswith("openvino") else report.measurements


def _champion(equals: list[CandidateReport], objective: Objective) -> CandidateReport:
    """The best of one precision: the first that was listed, unless another leads by more than the noise."""
    holder, *others = equals
    ranked = sorted(others, key=lambda r: _cost(r, objective))
    return next((r for r in ranked if _leads(r, holder, objective, by=SAME_PRECISION_GAIN)), holder)


def _leads(challenger: CandidateReport, holder: CandidateReport, objective: Objective, *, by: float) -> bool:
    """Whether the challenger is better by more than a share of the holder's cost, and that is not noise.

    It is none when the lead is larger than both spreads, or when the rounds of the two lie apart: a model of some
    hundredths of a millisecond spreads by more than it can be improved, and still wins every round.
    """
    ours, theirs = _cost(challenger, objective), _cost(holder, objective)
    if ours >= theirs * (1 - by) or objective is Objective.SIZE:
        return ours < theirs * (1 - by)
    mine, other = _decisive(challenger, objective), _decisive(holder, objective)
    spread = min(max(mine.spread, other.spread), 0.5)
    return ours < theirs * (1 - spread) or _lie_apart(mine, other)


def _lie_apart(faster: Measurement, slower: Measurement) -> bool:
    """Whether each round of the one was faster than each of the other, but for one stray round on either side."""
    if min(len(faster.rounds), len(slower.rounds)) < MIN_ROUNDS:
        return False
    return sorted(faster.rounds)[-2] / faster.batch < sorted(slower.rounds)[1] / slower.batch
