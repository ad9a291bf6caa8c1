"""From verdicts to a decision: go on, wait, or go back. Pure, idempotent, total over any counters and any status.

A run belongs to the moment when the share was reached: another moment is a new run with fresh counts. The first
measurement comes when a full window has passed since then, however short the step's hold; then one each interval.
Decisions follow from the status alone, so that between two measurements nothing changes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pilotfish.api.base import parse_duration
from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import Analysis, CheckMode, OnNoData, Shadow
from pilotfish.api.rollout_status import AnalysisStatus, CheckStatus
from pilotfish.api.rollout_status import AnalysisVerdict as Verdict
from pilotfish.core.health.bounds import Measurement
from pilotfish.core.health.checks import Scene, measure, names_of
from pilotfish.core.health.figures import counted, span
from pilotfish.core.health.samples import Health
from pilotfish.core.health.verdicts import accepted, worst
from pilotfish.core.health.wanted import interval_of
from pilotfish.core.health.window import compared_answers, look

_LACKING = frozenset({Verdict.NO_DATA, Verdict.INCONCLUSIVE})


class Decision(StrEnum):
    """What the analysis says about the rollout. PROCEED: it has nothing against going on; holds may."""

    PROCEED = "Proceed"
    WAIT = "Wait"
    ABORT = "Abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The analysis after this look.

    `message` of WAIT holds no figures that change by themselves; that of ABORT holds the figures that decided.
    """

    status: AnalysisStatus
    decision: Decision
    reason: Reason | None
    message: str
    wake: datetime
    """When the next measurement is due, or before that when its window opens: a difference needs a sample there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How verdicts count: the spec's budgets, which checks are enforced, and whether this is the bake time."""

    analysis: Analysis
    enforced: tuple[str, ...]
    baking: bool

    def counts_as(self, verdict: Verdict) -> Verdict:
        """In bake time the stable revision is idle and the candidate has it all: silence is no reason to go back."""
        if self.baking and verdict in {Verdict.NO_DATA, Verdict.NOT_RUN}:
            return Verdict.PASS
        return accepted(verdict, self.analysis.on_no_data)

    def checks(self, status: AnalysisStatus) -> tuple[CheckStatus, ...]:
        """The enforced checks; one that was not measured as such is NotRun."""
        known = {check.name: check for check in status.checks if check.mode == CheckMode.ENFORCE.value}
        return tuple(known.get(name) or CheckStatus(name=name, verdict=Verdict.NOT_RUN) for name in self.enforced)


def judge(
    *,
    analysis: Analysis,
    previous: AnalysisStatus | None,
    health: Health,
    candidate: str,
    stable: str | None,
    restarts: int,
    since: datetime,
    now: datetime,
    shadow: Shadow | None = None,
    baking: bool = False,
    baseline_required: bool = True,
) -> Judgement:
    """The verdict on the candidate, measured anew if it is time to.

    Args:
        analysis: What is judged and how.
        previous: What status says; None at the first look.
        health: All that was measured.
        candidate: Hash of the revision that is judged.
        stable: Hash of the revision that it is compared with, if there is one.
        restarts: Of the candidate's containers since `since`, see restarts_since.
        since: When the share was reached; nothing before it counts.
        now: The present moment. Aware, as `since`.
        shadow: What is compared live, if anything.
        baking: All traffic has moved: missing data and a missing baseline neither abort nor hold.
        baseline_required: False leaves bounds against stable out where stable has no figure, such as a stable revision
            that is broken and must not keep its cure away.
    """
    began = timestamp(since)
    status = previous if previous is not None and previous.started_at == began else _fresh(began)
    enforced = tuple(name for name, mode in names_of(analysis.checks, shadow) if mode is CheckMode.ENFORCE)
    rules = Rules(analysis=analysis, enforced=enforced, baking=baking)
    if now >= _due(status, analysis, health, since, now):
        length = parse_duration(analysis.window)
        scene = Scene(
            candidate=look(health, candidate, since=since, length=length, now=now),
            stable=None if stable is None else look(health, stable, since=since, length=length, now=now),
            length=length,
            min_requests=analysis.min_requests,
            baseline_required=baseline_required and not baking,
            restarts=restarts,
            queries=health.queries,
            baselines=health.baselines,
            compared=compared_answers(health.shadow, since=since, now=now),
        )
        status = _measured(status, scene, rules, shadow, now)
    decision, reason, message = _decide(status, rules)
    due = _due(status, analysis, health, since, now)
    opens = due - parse_duration(analysis.window)
    wake = opens if now < opens else due
    return Judgement(status=status, decision=decision, reason=reason, message=message, wake=wake)


def _fresh(began: str) -> AnalysisStatus:
    return AnalysisStatus(verdict=Verdict.NOT_RUN, started_at=began)


def _due(status: AnalysisStatus, analysis: Analysis, health: Health, since: datetime, now: datetime) -> datetime:
    """When to measure next: not before a full window was looked at, since `since` and since the looking began.

    A clock that was set back leaves times in the future: nobody waits for those.
    """
    length, interval = parse_duration(analysis.window), interval_of(analysis)
    measured = _moment(status.measured_at, latest=now + interval)
    due = since + length if measured is None else measured + interval
    return due if health.since is None or health.since > now else max(due, health.since + length)


def _measured(
    before: AnalysisStatus, scene: Scene, rules: Rules, shadow: Shadow | None, now: datetime
) -> AnalysisStatus:
    known = {check.name: check for check in before.checks}
    found = measure(rules.analysis.checks, shadow, scene)
    checks = tuple(_fold(known.get(one.name), one, rules.analysis.on_no_data) for one in found)
    status = AnalysisStatus(
        started_at=before.started_at,
        measured_at=timestamp(now),
        requests=scene.candidate.requests,
        checks=checks,
    )
    enforced = rules.checks(status)
    return status.model_copy(
        update={
            "verdict": worst(accepted(check.verdict, rules.analysis.on_no_data) for check in enforced)
            if enforced
            else Verdict.PASS,
            "no_data_since": _no_data_since(before, enforced, rules, now),
        }
    )


def _fold(before: CheckStatus | None, found: Measurement, on_no_data: OnNoData) -> CheckStatus:
    """The check after one more measurement. A check whose mode has changed counts anew."""
    known = before if before is not None and before.mode == found.mode.value else None
    passed, failed, errors = (known.passed, known.failed, known.errors) if known else (0, 0, 0)
    counts_as = accepted(found.verdict, on_no_data)
    return CheckStatus(
        name=found.name,
        verdict=found.verdict,
        mode=found.mode.value,
        value=found.value,
        baseline=found.baseline,
        threshold=found.threshold,
        message=found.message,
        passed=passed + (counts_as is Verdict.PASS),
        failed=failed + (counts_as is Verdict.FAIL),
        errors=errors + 1 if counts_as is Verdict.ERROR else 0,
    )


def _no_data_since(before: AnalysisStatus, enforced: Iterable[CheckStatus], rules: Rules, now: datetime) -> str | None:
    """Kept through errors, else errors in between would put the deadline off for ever."""
    verdicts = {rules.counts_as(check.verdict) for check in enforced}
    known = before.no_data_since if _moment(before.no_data_since, latest=now) is not None else None
    if verdicts & _LACKING:
        return known or timestamp(now)
    return known if Verdict.ERROR in verdicts else None


def _decide(status: AnalysisStatus, rules: Rules) -> tuple[Decision, Reason | None, str]:
    """The worst wins. Every rule reads the status only."""
    ended = _out_of_budget(status, rules) or _out_of_time(status, rules)
    if ended is not None:
        return Decision.ABORT, *ended
    if status.measured_at is None and not rules.baking:
        length = span(parse_duration(rules.analysis.window))
        return Decision.WAIT, Reason.HOLDING, f"The first measurement looks back over {length}"
    by_verdict: dict[Verdict, list[str]] = {}
    for check in rules.checks(status):
        by_verdict.setdefault(rules.counts_as(check.verdict), []).append(check.name)
    verdict = worst(by_verdict) if by_verdict else Verdict.PASS
    if verdict is Verdict.PASS:
        return Decision.PROCEED, None, "Every check is within its bounds"
    reason, text = _WAITING[verdict]
    return Decision.WAIT, reason, text.format(", ".join(by_verdict[verdict]))


_WAITING = {
    Verdict.FAIL: (Reason.HOLDING, "Outside its bounds, fewer times than failureLimit: {}"),
    Verdict.ERROR: (Reason.WAITING_FOR_DATA, "Could not be measured: {}"),
    Verdict.NO_DATA: (Reason.WAITING_FOR_DATA, "Too little data to judge: {}"),
    Verdict.INCONCLUSIVE: (Reason.ANALYSIS_INCONCLUSIVE, "Measured, but not comparable: {}"),
    Verdict.NOT_RUN: (Reason.HOLDING, "Not measured yet: {}"),
}


def _out_of_budget(status: AnalysisStatus, rules: Rules) -> tuple[Reason, str] | None:
    """A check that failed too often, else one that could not be measured too often in a row."""
    checks, limit = rules.checks(status), rules.analysis.failure_limit
    for check in checks:
        if check.failed >= limit:
            told = check.message if check.verdict is Verdict.FAIL else f"{check.name} was outside its bounds"
            times = f" ({counted(check.failed, 'failed measurement')}, failureLimit {limit})" if limit > 1 else ""
            return Reason.ANALYSIS_FAILED, f"{told or check.name}{times}"
    for check in checks:
        if check.errors > rules.analysis.error_limit:
            times = f"{counted(check.errors, 'measurement')} in a row, errorLimit {rules.analysis.error_limit}"
            return Reason.ANALYSIS_ERROR, f"{check.message or check.name} ({times})"
    return None


def _out_of_time(status: AnalysisStatus, rules: Rules) -> tuple[Reason, str] | None:
    """Data that is missing, by the user's will at once, else for too long; figures that cannot be compared likewise."""
    lacking = {rules.counts_as(check.verdict): check for check in reversed(rules.checks(status))}
    missing = lacking.get(Verdict.NO_DATA)
    if missing is not None and rules.analysis.on_no_data is OnNoData.ABORT:
        return Reason.NO_DATA, f"{missing.message or missing.name} (onNoData Abort)"
    since, measured = _moment(status.no_data_since), _moment(status.measured_at)
    deadline = parse_duration(rules.analysis.no_data_deadline)
    if since is None or measured is None or measured - since < deadline or not rules.enforced:
        return None
    unclear = lacking.get(Verdict.INCONCLUSIVE)
    reason = Reason.ANALYSIS_INCONCLUSIVE if missing is None and unclear is not None else Reason.NO_DATA
    last = missing or unclear or lacking.get(Verdict.ERROR)
    told = (last.message or last.name) if last is not None else "too little data to judge"
    return reason, f"{told} (for {span(deadline)}, noDataDeadline)"


def _moment(text: str | None, *, latest: datetime | None = None) -> datetime | None:
    """An aware time of the status, not after `latest`; None for anything else."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None and (latest is None or found <= latest) else None
