"""Looks for new bytes at the same address: when, what follows from a result, and that nothing is ever disturbed."""

from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.api.conditions import timestamp
from pilotfish.api.report import Look, SourceRecord, TerminationMessage
from pilotfish.api.status import RefreshStatus, SourceStatus
from pilotfish.core import observe
from pilotfish.core.pin import address_of, effective_spec, known_pin
from pilotfish.core.refresh import Refresh, advance_refresh, source_status
from pilotfish.core.scope import make_scope
from pilotfish.resources import (
    RevisionObjects,
    RevisionRecord,
    ServingIntent,
    make_config_map,
    make_controller_revision,
    make_deployment,
    make_headless_service,
    make_refresh_job,
)
from support.builders import NOW, OWNER, POLICY, UID, make_artifact, make_model_deployment, make_result, make_signature
from support.builders import make_spec as read_spec

URI = "s3://models/digits/"
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
COMPLETE = ("Complete", "CompletionsReached")
REFUSED = ("Failed", "PodFailurePolicy")
EXHAUSTED = ("Failed", "BackoffLimitExceeded")
TOO_LATE = ("Failed", "DeadlineExceeded")


def digest(letter):
    return "sha256:" + letter * 64


ONE, TWO, THREE = digest("1"), digest("2"), digest("3")


def wire(*, pin=None, interval="1h", uri=URI, **more):
    model = {
        "uri": uri,
        **({"digest": pin} if pin else {}),
        **({"refresh": {"interval": interval}} if interval else {}),
    }
    return {"model": model, **more}


def make_record(spec, made_of):
    revision = names.revision_hash(spec)
    artifact, signature = make_artifact(names.recipe_key(spec)), make_signature()
    intent = ServingIntent(serving=spec.serving, revision=revision, artifact=artifact)
    return RevisionRecord(
        hash_version=names.HASH_VERSION,
        revision=revision,
        recipe_key=names.recipe_key(spec),
        intent=names.intent(spec),
        source=SourceRecord(digest=made_of, bytes=1, format="ONNX"),
        artifact=artifact,
        signature=signature,
        summary=make_result().summary,
        objects=RevisionObjects(
            deployment=make_deployment(OWNER, intent, POLICY),
            config_map=make_config_map(
                OWNER,
                revision=revision,
                serving=spec.serving,
                backend=artifact.backend,
                signature=signature,
                policy=POLICY,
            ),
            service=make_headless_service(OWNER, revision=revision),
        ),
    )


def result(found, *, changed=True):
    return TerminationMessage(
        outcome="Succeeded",
        reason="Succeeded",
        message="other bytes",
        source=SourceRecord(digest=found, bytes=1),
        look=Look(changed=changed, fingerprint="f"),
    )


def failure(reason="SourceForbidden", message="s3://models/digits/ refuses access; check the credentials"):
    return TerminationMessage(outcome="Failed", reason=reason, message=message)


class Case:
    """A deployment that serves the bytes `serves`, with whatever was remembered and is on its way."""

    def __init__(self, spec=None, *, serves=ONE, pinned=None, since=2 * HOUR, **more):
        self.wire = wire() if spec is None else spec
        self.more = more
        self.status = {}
        self.objects = []
        self.records = []
        self.now = NOW
        if serves is not None:
            self.stable = self.add_record(serves, pinned=pinned)
            self.status["stableRevision"] = {
                "name": "n",
                "hash": self.stable.revision,
                "since": timestamp(NOW - since),
            }

    def add_record(self, made_of, *, pinned=None, **changes):
        told = {**self.wire, **changes}
        told = {**told, "model": {**told["model"], **({"digest": pinned} if pinned else {})}}
        record = make_record(read_spec(told), made_of)
        body = make_controller_revision(OWNER, record, number=len(self.records) + 1)
        self.records.append(record)
        self.objects.append(self._ours(body))
        return record

    def _ours(self, body):
        meta = {**body["metadata"], "uid": f"uid-{len(self.objects)}"}
        return {**body, "metadata": {**meta, "creationTimestamp": timestamp(self.now - timedelta(minutes=1))}}

    def remember(self, *, age=None, **told):
        checked = {} if age is None else {"checkedAt": timestamp(NOW - age)}
        source = {"digest": ONE, "address": address_of(read_spec(self.wire)), **checked, **told}
        self.status["source"] = {key: value for key, value in source.items() if value is not None}
        return self

    def with_job(self, *conditions, deleting=False, model=None):
        job = self._ours(make_refresh_job(OWNER, read_spec(model or self.wire).model, POLICY))
        status = {"conditions": [{"type": kind, "status": "True", "reason": reason} for kind, reason in conditions]}
        if deleting:
            job["metadata"]["deletionTimestamp"] = timestamp(NOW)
        self.job = {**job, "status": status}
        self.objects.append(self.job)
        return self

    def with_pod(self, told, *, code=0):
        text = told if isinstance(told, str) else told.to_json()
        ended = {"terminated": {"exitCode": code, "message": text, "reason": "Error" if code else "Completed"}}
        found = {"name": "refresh", "state": ended, "restartCount": 0, "ready": False, "image": "i:1"}
        template = self.job["spec"]["template"]
        owner = {"kind": "Job", "uid": self.job["metadata"]["uid"], "controller": True, "name": "j"}
        meta = {"name": "p", "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [found]}
        self.objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"], "status": status})  # fmt: skip
        return self

    def found(self, what):
        return self.with_job(COMPLETE).with_pod(result(what))

    def candidate(self, revision, *, failed=False):
        self.status["candidateRevision"] = {"name": "c", "hash": revision}
        if failed:
            entry = {"revision": revision, "result": "Failed", "reason": "ModelInvalid", "at": timestamp(NOW)}
            self.status |= {"history": [entry], "observedGeneration": 1}
        return self

    def scope(self):
        body = make_model_deployment(self.wire, status=self.status, **self.more)
        observed = observe(body, self.objects)
        told = make_scope(observed, read_spec(self.wire), POLICY, self.now)
        spec = effective_spec(read_spec(self.wire), told.status, told.records, told.stable)
        return make_scope(observed, spec, POLICY, self.now)

    def advance(self) -> Refresh:
        return advance_refresh(self.scope())


def kinds(refresh):
    return [apply.body["kind"] for apply in refresh.applies]


def idle(refresh):
    return not (refresh.applies or refresh.deletes or refresh.events)


class TestWhen:
    def test_one_interval_after_the_revision_came_to_serve(self):
        case = Case(since=HOUR - SECOND)
        early = case.advance()
        assert idle(early)
        assert early.wake == NOW + SECOND
        case.now = early.wake
        assert kinds(case.advance()) == ["PersistentVolumeClaim", "Job"]

    @pytest.mark.parametrize(
        ("age", "looks"), [(0 * HOUR, False), (HOUR - SECOND, False), (HOUR, True), (HOUR + SECOND, True)]
    )
    def test_one_interval_after_the_last_look(self, age, looks):
        refresh = Case().remember(age=age).advance()
        assert ("Job" in kinds(refresh)) is looks
        assert refresh.status.checked_at == timestamp(NOW - age)
        assert (refresh.wake is None) is looks

    def test_the_job_asks_for_the_users_address(self):
        (job,) = [apply.body for apply in Case().advance().applies if apply.body["kind"] == "Job"]
        assert job == make_refresh_job(OWNER, read_spec(wire()).model, POLICY)
        assert job["metadata"]["name"] == "digits-refresh"

    def test_a_clock_that_was_ahead_puts_off_nothing(self):
        assert "Job" in kinds(Case().remember(age=-HOUR).advance())

    @pytest.mark.parametrize("text", ["yesterday", "2026-01-01T11:59:00", ""])
    def test_a_time_that_cannot_be_read_is_no_time(self, text):
        assert "Job" in kinds(Case().remember(checkedAt=text).advance())

    def test_a_lost_status_means_a_look(self):
        case = Case()
        case.status = {}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "digits", "labels": {names.REVISION_LABEL: case.stable.revision}, "ownerReferences": [{"uid": UID, "controller": True}]}}  # fmt: skip
        case.objects.append(service)
        assert "Job" in kinds(case.advance())

    @pytest.mark.parametrize(
        "case",
        [
            Case(wire(interval=None)).remember(age=2 * HOUR),
            Case(wire(pin=ONE)).remember(age=2 * HOUR),
            Case({**wire(), "paused": True}).remember(age=2 * HOUR),
            Case(serves=None),
        ],
        ids=["not asked for", "pinned by the user", "paused", "nothing serves"],
    )
    def test_no_look(self, case):
        refresh = case.advance()
        assert idle(refresh)
        assert refresh.wake is None

    def test_a_candidate_on_its_way_is_left_alone_and_ends_a_running_look(self):
        case = Case().remember(age=2 * HOUR)
        case.wire = {**wire(), "optimization": {"deadline": "5h"}}
        assert idle(case.advance())
        running = case.with_job().advance()
        assert [body["kind"] for body in running.deletes] == ["Job"]
        assert not running.applies

    def test_a_candidate_that_became_stable_is_not_on_its_way(self):
        assert "Job" in kinds(Case().remember(age=2 * HOUR).candidate("elsewhr2").advance())

    def test_a_candidate_that_failed_is_not_on_its_way(self):
        case = Case().remember(age=2 * HOUR)
        case.wire = {**wire(), "optimization": {"deadline": "5h"}}
        case.candidate(names.revision_hash(read_spec(case.wire)), failed=True)
        assert "Job" in kinds(case.advance())

    def test_pausing_leaves_a_look_alone(self):
        refresh = Case({**wire(), "paused": True}).remember(age=2 * HOUR, pin=TWO).with_job(COMPLETE).advance()
        assert idle(refresh)
        assert refresh.pin == TWO

    def test_turning_it_off_clears_up(self):
        off = Case(wire(interval=None)).with_job(COMPLETE).advance()
        assert [body["kind"] for body in off.deletes] == ["Job"]
        assert off.status == RefreshStatus()

    def test_an_interval_that_no_rule_let_in_is_a_week(self):
        case = Case(wire(interval="2562047h"), since=timedelta(hours=168) - SECOND)
        assert case.advance().wake == NOW + SECOND


class TestWhileItLooks:
    def test_a_running_look_is_waited_for(self):
        refresh = Case().remember(age=2 * HOUR).with_job().advance()
        assert idle(refresh)
        assert refresh.status.checked_at == timestamp(NOW - 2 * HOUR)

    def test_one_that_goes_away_is_waited_for(self):
        assert idle(Case().remember(age=2 * HOUR).with_job(COMPLETE, deleting=True).advance())

    def test_one_that_looks_elsewhere_goes(self):
        refresh = Case().remember(age=2 * HOUR).with_job(COMPLETE, model=wire(uri="s3://other/")).advance()
        assert [body["kind"] for body in refresh.deletes] == ["Job"]
        assert not refresh.events
        assert refresh.status.checked_at == timestamp(NOW - 2 * HOUR)

    def test_somebody_elses_job_is_told_and_left_alone(self):
        case = Case().remember(age=2 * HOUR)
        body = make_refresh_job(OWNER, read_spec(case.wire).model, POLICY)
        owner = [{"uid": "other", "controller": True}]
        case.objects.append({**body, "metadata": {**body["metadata"], "uid": "x", "ownerReferences": owner}})
        refresh = case.advance()
        assert (refresh.applies, refresh.deletes) == ((), ())
        assert (refresh.status.reason, refresh.wake) == ("NotOwned", NOW + HOUR)


class TestWhatWasFound:
    def test_the_bytes_that_serve_make_no_revision(self):
        case = Case().remember(age=2 * HOUR).found(ONE)
        refresh = case.advance()
        assert refresh.pin is None
        assert refresh.status.checked_at == timestamp(NOW)
        assert refresh.wake == NOW + HOUR
        assert [body["kind"] for body in refresh.deletes] == ["Job"]
        assert (refresh.applies, refresh.events) == ((), ())

    def test_other_bytes_become_the_pin_and_a_new_revision(self):
        case = Case().remember(age=2 * HOUR).found(TWO)
        before = case.scope().revision
        refresh = case.advance()
        assert (refresh.pin, refresh.wake) == (TWO, NOW)
        (event,) = refresh.events
        assert (event["reason"], event["type"]) == ("SourceChanged", "Normal")
        assert TWO in event["note"]
        case.remember(pin=refresh.pin)
        after = case.scope()
        assert after.spec.model.digest == TWO
        assert after.revision != before
        assert after.recipe_key != case.stable.recipe_key

    def test_the_result_counts_by_its_digest_not_by_what_the_look_calls_new(self):
        # The result of the look before may have been lost on its way into the status.
        case = Case().remember(age=2 * HOUR).with_job(COMPLETE).with_pod(result(TWO, changed=False))
        assert case.advance().pin == TWO

    def test_the_pinned_bytes_again_change_nothing(self):
        case = Case(serves=TWO, pinned=TWO).remember(age=2 * HOUR, pin=TWO).found(TWO)
        refresh = case.advance()
        assert (refresh.pin, refresh.events) == (TWO, ())

    def test_newer_bytes_move_the_pin(self):
        assert Case(serves=TWO, pinned=TWO).remember(age=2 * HOUR, pin=TWO).found(THREE).advance().pin == THREE

    def test_bytes_whose_revision_failed_are_not_tried_again(self):
        case = Case().remember(age=2 * HOUR, pin=TWO)
        case.candidate(case.scope().revision, failed=True)
        refresh = case.found(TWO).advance()
        assert (refresh.pin, refresh.events) == (TWO, ())

    def test_old_bytes_that_come_back_ask_for_the_revision_that_was_made_of_them(self):
        case = Case(serves=TWO, pinned=TWO).remember(age=2 * HOUR, pin=TWO)
        first = case.add_record(ONE)
        refresh = case.found(ONE).advance()
        assert refresh.pin is None
        assert len(refresh.events) == 1
        case.remember(pin=refresh.pin)
        assert case.scope().revision == first.revision

    def test_pinned_bytes_that_come_back_are_their_own_pin(self):
        case = Case(serves=THREE, pinned=THREE).remember(age=2 * HOUR, pin=THREE)
        second = case.add_record(TWO, pinned=TWO)
        refresh = case.found(TWO).advance()
        assert refresh.pin == TWO
        case.remember(pin=TWO)
        assert case.scope().revision == second.revision

    def test_old_bytes_of_another_spec_are_a_pin_of_their_own(self):
        case = Case(serves=TWO, pinned=TWO).remember(age=2 * HOUR, pin=TWO)
        case.add_record(ONE, optimization={"deadline": "5h"})
        assert case.found(ONE).advance().pin == ONE

    def test_a_failed_change_of_the_spec_does_not_turn_the_served_bytes_into_a_pin(self):
        case = Case().remember(age=2 * HOUR)
        case.wire = {**wire(), "optimization": {"deadline": "5h"}}
        case.candidate(case.scope().revision, failed=True).remember(age=2 * HOUR)
        assert case.found(ONE).advance().pin is None

    def test_an_unpinned_revision_of_other_bytes_that_failed_gets_the_old_ones(self):
        case = Case().remember(age=2 * HOUR)
        case.wire = {**wire(), "optimization": {"deadline": "5h"}}
        case.add_record(TWO)
        case.candidate(case.scope().revision, failed=True)
        assert case.found(TWO).advance().pin is None
        assert Case.found(_without_pod(case), ONE).advance().pin == ONE

    def test_a_record_without_its_source_is_no_proof(self):
        case = Case().remember(age=2 * HOUR)
        case.objects[0]["data"].pop("source")
        assert case.found(ONE).advance().pin == ONE


def _without_pod(case):
    case.objects = [body for body in case.objects if body["kind"] == "ControllerRevision"]
    return case


class TestFailures:
    @pytest.mark.parametrize(
        ("job", "told", "code", "reason", "says"),
        [
            (REFUSED, failure(), 10, "SourceForbidden", "refuses access"),
            (EXHAUSTED, failure("SourceUnreachable", "cannot reach it"), 1, "SourceUnreachable", "cannot reach it"),
            (EXHAUSTED, "", 1, "RefreshFailed", "ended with exit code 1 and said nothing"),
            (EXHAUSTED, "", 137, "RefreshFailed", "of memory; point spec.model.uri at fewer files"),
            (TOO_LATE, "", 143, "RefreshFailed", "did not end within 30m; the next look goes on"),
            (COMPLETE, "", 0, "WrongImage", "no result that this operator can read"),
            (COMPLETE, result(THREE).model_copy(update={"look": None}), 0, "WrongImage", "no result"),
            (COMPLETE, result(THREE).model_copy(update={"source": None}), 0, "WrongImage", "no result"),
        ],
    )
    def test_it_is_told_and_nothing_else_happens(self, job, told, code, reason, says):
        case = Case(serves=TWO, pinned=TWO).remember(age=2 * HOUR, pin=TWO).with_job(job).with_pod(told, code=code)
        refresh = case.advance()
        assert refresh.status.reason == reason
        assert says in refresh.status.message
        assert refresh.status.checked_at == timestamp(NOW)
        assert refresh.pin == TWO
        assert refresh.wake == NOW + HOUR
        assert [body["kind"] for body in refresh.deletes] == ["Job"]
        assert not refresh.applies
        (event,) = refresh.events
        assert (event["reason"], event["type"], event["note"]) == (reason, "Warning", refresh.status.message)

    def test_a_lost_result_is_a_failed_look(self):
        refresh = Case().remember(age=2 * HOUR).with_job(COMPLETE).advance()
        assert refresh.status.reason == "RefreshFailed"
        assert "lost" in refresh.status.message

    def test_the_same_failure_is_an_event_once(self):
        case = Case().remember(age=2 * HOUR, reason="SourceForbidden", message="before").with_job(REFUSED)
        refresh = case.with_pod(failure(), code=10).advance()
        assert refresh.events == ()
        assert "refuses access" in refresh.status.message

    def test_a_failure_is_kept_until_a_look_goes_well(self):
        told = {"reason": "SourceForbidden", "message": "refused"}
        waiting = Case().remember(age=HOUR - SECOND, **told).advance()
        assert (waiting.status.reason, waiting.status.message) == ("SourceForbidden", "refused")
        started = Case().remember(age=HOUR, **told).advance()
        assert (started.status.reason, kinds(started)) == ("SourceForbidden", ["PersistentVolumeClaim", "Job"])
        well = Case().remember(age=2 * HOUR, **told).found(ONE).advance()
        assert (well.status.reason, well.status.message) == (None, None)


class TestThePin:
    @staticmethod
    def _effective(case):
        return case.scope().spec.model.digest

    def test_another_address_drops_it_and_what_was_remembered(self):
        case = Case(serves=TWO, pinned=TWO).remember(age=HOUR, pin=TWO, reason="SourceForbidden")
        case.wire = wire(uri="s3://models/other/")
        assert self._effective(case) is None
        status = case.advance().status
        assert (status.pin, status.checked_at, status.reason) == (None, None, None)
        assert status.address == address_of(read_spec(case.wire))

    def test_a_digest_of_the_users_own_comes_first(self):
        case = Case(wire(pin=THREE, interval=None)).remember(pin=TWO)
        assert self._effective(case) == THREE
        assert case.advance().status == RefreshStatus()

    def test_it_survives_a_lost_status_in_what_serves(self):
        case = Case(serves=TWO, pinned=TWO)
        assert "source" not in case.status
        assert self._effective(case) == TWO
        assert case.scope().revision == case.stable.revision
        assert case.advance().pin == TWO

    def test_a_status_that_knows_of_none_is_believed(self):
        case = Case(serves=TWO, pinned=TWO).remember(age=HOUR)
        assert self._effective(case) is None

    def test_it_survives_the_end_of_refreshing(self):
        case = Case(serves=TWO, pinned=TWO).remember(age=HOUR, pin=TWO)
        case.wire = wire(interval=None)
        assert case.scope().revision == case.stable.revision
        status = case.advance().status
        assert status == RefreshStatus(pin=TWO, address=address_of(read_spec(case.wire)))
        case.remember(pin=TWO)
        assert case.advance().status == status

    def test_without_refreshing_a_digest_that_the_user_took_back_is_no_pin(self):
        case = Case(wire(interval=None), serves=TWO, pinned=TWO)
        assert self._effective(case) is None
        case.wire = wire()
        assert self._effective(case) == TWO
        case.wire = wire(uri="s3://models/other/")
        assert self._effective(case) is None

    @pytest.mark.parametrize("stable", [None, "unknown2"])
    def test_nobody_serves(self, stable):
        case = Case(serves=TWO, pinned=TWO)
        told = case.scope()
        assert known_pin(read_spec(case.wire), told.status, told.records, stable) is None

    def test_turning_it_on_and_another_interval_move_no_pods(self):
        specs = [wire(interval=interval) for interval in (None, "1h", "5m")]
        assert len({names.revision_hash(read_spec(spec)) for spec in specs}) == 1
        assert len({names.job_input_hash(read_spec(spec)) for spec in specs}) == 1

    def test_everything_else_of_the_spec_stays(self):
        spec = read_spec({**wire(), "serving": {"replicas": 3}})
        case = Case().remember(pin=TWO)
        told = case.scope()
        pinned = effective_spec(spec, told.status, told.records, told.stable)
        assert pinned == read_spec({**wire(pin=TWO), "serving": {"replicas": 3}})


class TestStatus:
    def test_the_newest_record_and_what_looks_remember(self):
        refresh = Case(serves=TWO, pinned=TWO).remember(age=HOUR - SECOND, pin=TWO).advance()
        source = source_status(SourceRecord(digest=TWO, bytes=5, format="ONNX"), refresh, old=None)
        assert source.to_wire() == {
            "digest": TWO,
            "bytes": 5,
            "format": "ONNX",
            "pin": TWO,
            "address": address_of(read_spec(wire())),
            "checkedAt": timestamp(NOW - HOUR + SECOND),
        }

    def test_the_pin_stays_while_no_record_does(self):
        refresh = Refresh(status=RefreshStatus(pin=TWO, address="a"))
        old = SourceStatus(digest=ONE, bytes=5, pin=ONE, address="a", reason="x")
        assert source_status(None, refresh, old=old) == SourceStatus(digest=ONE, bytes=5, pin=TWO, address="a")
        assert source_status(None, refresh, old=None) is None
        assert source_status(None, Refresh(status=RefreshStatus()), old=old) is None

    def test_without_refreshing_it_is_the_record_alone(self):
        source = source_status(SourceRecord(digest=TWO, bytes=5), Refresh(status=RefreshStatus()), old=None)
        assert source.to_wire() == {"digest": TWO, "bytes": 5}
