"""A search in words: one line for each point, and one sentence about the end. Pure."""

from pilotfish.api.tuning import PointLoad, PointVerdict
from pilotfish.optimizer.tuning.search import Outcome


def tell_story(outcome: Outcome) -> str:
    """Every tried point with its figures and what became of it, then the winner."""
    lines = []
    for tried, point in zip(outcome.tried, outcome.points, strict=True):
        figures = "; ".join(_load(load) for load in point.loads) or "nothing measured"
        lines.append(f"{point.verdict.value:<8}  {tried.setting}: {figures}")
        if point.verdict in {PointVerdict.PRUNED, PointVerdict.FAILED}:
            lines.append(f"          {point.reason}")
    end = "nothing better was left to try" if outcome.complete else "time was out"
    return "\n".join([*lines, f"{len(outcome.tried)} points, {end}: {outcome.winner.setting}", outcome.why])


def _load(load: PointLoad) -> str:
    return (
        f"at {load.concurrency} {load.throughput:.0f}/s p50 {load.p50_ms:.3g} p95 {load.p95_ms:.3g} "
        f"p99 {load.p99_ms:.3g} ms"
    )
