"""How a search ended, for the report: why the winner won, and what became of every other point. Pure."""

from dataclasses import dataclass

from pilotfish.api.optimization import Objective
from pilotfish.api.tuning import PointLoad, PointVerdict, TuningPoint
from pilotfish.optimizer.tuning.figures import Goal, Tried


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The winner, the start that it was compared with, and how many points were tried."""

    goal: Goal
    bound_ms: float
    start: Tried
    winner: Tried
    points: int

    def why(self) -> str:
        """The winner's figures beside the default's, and whether they can be trusted."""
        disturbed = self.winner.contended or self.start.contended
        return self._lead() + ("; other processes were at work all the time" if disturbed else "")

    def _lead(self) -> str:
        if self.winner is self.start:
            if self.points == 1:
                return "no other point was tried"
            return f"none of {self.points - 1} other points is better than the default beyond the noise"
        old, new = self._decisive(self.start), self._decisive(self.winner)
        if old is None or new is None:
            return f"the only point within {self.bound_ms:g} ms"
        if self.goal.objective is Objective.THROUGHPUT:
            return (
                f"{old.throughput:.0f} to {new.throughput:.0f} inferences/s at {new.concurrency} requests at once, "
                f"p95 {old.p95_ms:.3g} to {new.p95_ms:.3g} ms"
            )
        before, after = self.start.load(self.goal.top), self.winner.load(self.goal.top)
        more = ""
        if before is not None and after is not None:
            more = f", {before.throughput:.0f} to {after.throughput:.0f} inferences/s at {self.goal.top} at once"
        return f"p95 of single requests {old.p95_ms:.3g} to {new.p95_ms:.3g} ms{more}"

    def point(self, tried: Tried) -> TuningPoint:
        """One point of the report."""
        setting = tried.setting
        verdict, reason = self._verdict(tried)
        return TuningPoint(
            max_batch_size=setting.max_batch,
            preferred_sizes=setting.preferred,
            max_queue_delay_microseconds=setting.delay_us,
            instances=setting.instances,
            intra_op_threads=setting.threads,
            accelerator=setting.accelerator,
            verdict=verdict,
            reason=reason,
            loads=tried.loads(),
            contended=tried.contended,
        )

    def _decisive(self, tried: Tried) -> PointLoad | None:
        if self.goal.objective is Objective.LATENCY:
            return tried.load(1)
        return self.goal.scored(tried, self.bound_ms)

    def _verdict(self, tried: Tried) -> tuple[PointVerdict, str]:
        if tried is self.winner:
            return PointVerdict.WON, self.why()
        if tried.failed is not None:
            return PointVerdict.FAILED, tried.failed
        if tried.pruned is not None:
            return PointVerdict.PRUNED, tried.pruned
        beaten = self.goal.compare(self.winner, tried, self.bound_ms) > 0
        return PointVerdict.MEASURED, "the winner is better" if beaten else "no better than the winner beyond the noise"
