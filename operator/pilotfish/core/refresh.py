"""Looking for new bytes at the model's address: when to look, what was found, and the pin that follows from it. Pure.

A look never disturbs what is served: one that fails is told in status.source and in an event, and comes again after the
interval, though not sooner than AFTER_FAILURE: an object that nobody looks after must not make pods for ever. Other
bytes become a pin, the pin a new revision, and that goes through the same gates as every other.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pilotfish import names
from pilotfish.api.base import parse_duration
from pilotfish.api.conditions import timestamp
from pilotfish.api.reasons import Reason
from pilotfish.api.report import SourceRecord, TerminationMessage
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import RefreshStatus, SourceStatus
from pilotfish.core.artifact import keep_store
from pilotfish.core.drift import create_if_missing
from pilotfish.core.failures import Finding, parse_time
from pilotfish.core.job_outcome import JobKind, Running, job_outcome
from pilotfish.core.objects import Body, annotation_of, is_deleting, name_of
from pilotfish.core.pin import address_of, known_pin
from pilotfish.core.plan import Apply
from pilotfish.core.scope import Scope
from pilotfish.resources.event import make_event
from pilotfish.resources.refresh_job import DEADLINE, REFRESH_CONTAINER, make_refresh_job

REFRESH = JobKind(
    containers=frozenset({REFRESH_CONTAINER}),
    result=REFRESH_CONTAINER,
    is_result=lambda told: told.look is not None and told.source is not None,
    failed=Reason.REFRESH_FAILED,
    out_of_memory=Reason.REFRESH_FAILED,
    deadline_exceeded=Reason.REFRESH_FAILED,
    more_memory="point spec.model.uri at fewer files",
    more_time="the next look goes on where this one stopped",
)
# The schema's bounds, for objects that an older one let in: looking again at once, for ever, helps nobody.
_SHORTEST, _LONGEST = timedelta(minutes=1), timedelta(hours=168)
AFTER_FAILURE = timedelta(minutes=15)
"""Between a look that failed and the next one, where the interval is shorter."""
_EVENT = "Refresh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """What a pass does about new bytes, and what it remembers of it."""

    status: RefreshStatus
    """For status.source, beside the digest."""
    applies: tuple[Apply, ...] = ()
    deletes: tuple[Body, ...] = ()
    events: tuple[Body, ...] = ()
    """To send after the status was stored."""
    wake: datetime | None = None

    @property
    def pin(self) -> str | None:
        """The digest that the next pass asks for."""
        return self.status.pin


def advance_refresh(scope: Scope) -> Refresh:
    """One step: nothing, the start of a look, or its result. `scope.spec` may hold the pin already."""
    asked = _asked(scope)
    kept = _kept(scope, asked)
    job = scope.observed.child("Job", names.refresh_job(scope.owner.name))
    if scope.spec.paused or (job is not None and is_deleting(job)):
        return Refresh(status=kept)
    if job is None:
        return _wait_or_start(scope, kept) if _may_look(scope, asked) else Refresh(status=kept)
    same = annotation_of(job, names.INPUT_HASH) == annotation_of(_wanted_job(scope), names.INPUT_HASH)
    if same and _may_look(scope, asked):
        return _heed(scope, kept, job)
    return Refresh(status=kept, deletes=(job,))


def source_status(source: SourceRecord | None, refresh: Refresh, *, old: SourceStatus | None) -> SourceStatus | None:
    """status.source: the bytes of the newest record, and what looks remember. Without a record the old bytes stay."""
    told = refresh.status.model_dump()
    if source is not None:
        return SourceStatus(**source.model_dump(), **told)
    return None if old is None or refresh.status.address is None else old.model_copy(update=told)


def _asked(scope: Scope) -> ModelDeploymentSpec:
    """The user's own spec, without a pin."""
    model = (scope.observed.body.get("spec") or {}).get("model") or {}
    digest = model.get("digest")
    return scope.spec.model_copy(update={"model": scope.spec.model.model_copy(update={"digest": digest})})


def _kept(scope: Scope, asked: ModelDeploymentSpec) -> RefreshStatus:
    """What was remembered, as far as it still holds."""
    pin = known_pin(asked, scope.status, scope.records, scope.stable)
    if asked.model.refresh is None:
        return RefreshStatus() if pin is None else RefreshStatus(pin=pin, address=address_of(asked))
    if asked.model.digest is not None:
        return RefreshStatus()
    source = scope.status.source
    if source is None or source.address != address_of(asked):
        return RefreshStatus(pin=pin, address=address_of(asked))
    return RefreshStatus.model_validate(source.model_dump(include=set(RefreshStatus.model_fields)))


def _may_look(scope: Scope, asked: ModelDeploymentSpec) -> bool:
    """Whether looks are asked for, something serves, and no candidate is on its way; one that has failed is not."""
    wanted = asked.model.refresh is not None and asked.model.digest is None
    busy = scope.revision != scope.stable and scope.failure_on_record() is None
    return wanted and scope.stable is not None and not busy


def _wait_or_start(scope: Scope, kept: RefreshStatus) -> Refresh:
    due = _due(scope, kept)
    if due > scope.now:
        return Refresh(status=kept, wake=due)
    wanted = _wanted_job(scope)
    if any((ref.kind, ref.name) == ("Job", name_of(wanted)) for ref in scope.observed.foreign):
        theirs = f'Job "{name_of(wanted)}" exists and belongs to somebody else; remove it to look for new bytes'
        return _failed(scope, kept, None, Finding(reason=Reason.NOT_OWNED, message=theirs))
    job = create_if_missing(scope.observed, wanted)
    return Refresh(status=kept, applies=(*keep_store(scope), *(() if job is None else (job,))))


def _due(scope: Scope, kept: RefreshStatus) -> datetime:
    """One interval after the last look; before the first one, after the present revision came to serve."""
    served = scope.status.stable_revision
    last = _moment(kept.checked_at) or _moment(served.since if served else None)
    # A clock that was ahead must not put off looks for ever.
    return scope.now if last is None or last > scope.now else last + _gap(scope, failed=kept.reason is not None)


def _gap(scope: Scope, *, failed: bool) -> timedelta:
    """Until the next look."""
    return max(_interval(scope), AFTER_FAILURE) if failed else _interval(scope)


def _interval(scope: Scope) -> timedelta:
    refresh = scope.spec.model.refresh
    try:
        return _LONGEST if refresh is None else max(_SHORTEST, min(parse_duration(refresh.interval), _LONGEST))
    except ValueError:
        return _LONGEST


def _moment(text: str | None) -> datetime | None:
    try:
        moment = None if text is None else parse_time(text)
    except ValueError:
        return None
    return None if moment is None or moment.tzinfo is None else moment


def _heed(scope: Scope, kept: RefreshStatus, job: Body) -> Refresh:
    outcome = job_outcome(scope.observed, job, kind=REFRESH, deadline=DEADLINE, now=scope.now)
    match outcome:
        case Running():
            return Refresh(status=kept)
        case TerminationMessage(source=SourceRecord(digest=digest)):
            return _found(scope, kept, job, digest)
        case Finding():
            return _failed(scope, kept, job, outcome)
        case _:
            lost = Finding(reason=Reason.REFRESH_FAILED, message="The result of the look was lost with its pod")
            return _failed(scope, kept, job, lost)


def _found(scope: Scope, kept: RefreshStatus, job: Body, digest: str) -> Refresh:
    pin = _pin_for(scope, kept, digest)
    seen = RefreshStatus(checked_at=timestamp(scope.now), pin=pin, address=kept.address)
    if pin == kept.pin:
        return Refresh(status=seen, deletes=(job,), wake=scope.now + _interval(scope))
    note = f"Other bytes at {scope.spec.model.uri}: {digest}"
    event = make_event(scope.owner, reason=Reason.SOURCE_CHANGED, note=note, action=_EVENT, now=scope.now)
    return Refresh(status=seen, deletes=(job,), events=(event,), wake=scope.now)


def _failed(scope: Scope, kept: RefreshStatus, job: Body | None, finding: Finding) -> Refresh:
    told = {"checked_at": timestamp(scope.now), "reason": finding.reason.value, "message": finding.message}
    event = make_event(
        scope.owner, reason=finding.reason, note=finding.message, action=_EVENT, now=scope.now, warning=True
    )
    return Refresh(
        status=kept.model_copy(update=told),
        deletes=() if job is None else (job,),
        events=() if kept.reason == finding.reason else (event,),
        wake=scope.now + _gap(scope, failed=True),
    )


def _pin_for(scope: Scope, kept: RefreshStatus, digest: str) -> str | None:
    """The pin that asks for these bytes. A revision that was made of them from the same spec is asked for again."""
    if digest == (kept.pin or _unpinned_digest(scope)):
        return kept.pin
    wanted = _without_digest(names.intent(scope.spec))
    for record in reversed(tuple(scope.records.values())):
        made_of = None if record.source is None else record.source.digest
        if made_of == digest and _without_digest(dict(record.intent)) == wanted:
            return (record.intent.get("model") or {}).get("digest")
    return digest


def _unpinned_digest(scope: Scope) -> str | None:
    """The bytes of the wanted revision, when it was made without a pin; else those that serve."""
    asked = scope.records.get(names.revision_hash(scope.spec))
    serves = scope.records.get(scope.stable) if scope.stable else None
    record = asked or serves
    return None if record is None or record.source is None else record.source.digest


def _without_digest(intent: dict[str, object]) -> dict[str, object]:
    model = intent.get("model")
    kept = {key: value for key, value in model.items() if key != "digest"} if isinstance(model, dict) else model
    return {**intent, "model": kept}


def _wanted_job(scope: Scope) -> Body:
    return make_refresh_job(scope.owner, scope.spec.model, scope.policy, storage=scope.spec.storage)
