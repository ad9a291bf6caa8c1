"""Which of several verdicts counts. Pure."""

from collections.abc import Iterable

from pilotfish.api.rollout import OnNoData
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict

WORST_FIRST = (Verdict.FAIL, Verdict.ERROR, Verdict.NO_DATA, Verdict.INCONCLUSIVE, Verdict.NOT_RUN, Verdict.PASS)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that counts; NotRun where there is none."""
    return min(verdicts, key=WORST_FIRST.index, default=Verdict.NOT_RUN)


def accepted(verdict: Verdict, on_no_data: OnNoData) -> Verdict:
    """What a verdict counts as: missing data can be good enough, by the user's will."""
    return Verdict.PASS if verdict is Verdict.NO_DATA and on_no_data is OnNoData.PASS else verdict
