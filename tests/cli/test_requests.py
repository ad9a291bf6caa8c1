"""Whether a verb makes sense now, and the change of the object that says it."""

import json
import shlex
from datetime import UTC, datetime, timedelta, timezone

import pytest
import yaml

from pilotfish.api.rollout import Action
from pilotfish.cli import requests
from pilotfish.cli.requests import Pointless, Request, standing_of
from support.builders import make_model_deployment
from support.rollouts import (
    CANDIDATE,
    OLD,
    OLDEST,
    STABLE,
    aborted,
    in_canary,
    make_deployment,
    make_record,
    observed,
    records,
    revision_status,
    settled,
)

ALL = records(OLDEST, OLD, STABLE, CANDIDATE)


def action_of(request):
    """The action in the patch, and that the contract takes it."""
    action = {key: value for key, value in request.patch["spec"]["rollout"]["action"].items() if value is not None}
    Action.model_validate(action)
    return action


class TestPromote:
    def test_goes_on_from_a_step(self):
        request = requests.promote(standing_of(make_deployment(**in_canary())), "1", full=False)
        assert action_of(request) == {"id": "1", "verb": "promote"}
        assert request.action_id == "1"
        assert request.what == f"revision {CANDIDATE} goes on to its next step (now 2/4 25%)"

    def test_goes_all_the_way(self):
        request = requests.promote(standing_of(make_deployment(**in_canary())), "1", full=True)
        assert action_of(request) == {"id": "1", "verb": "promoteFull"}
        assert "to all of the traffic" in request.what

    def test_nothing_is_on_its_way(self):
        with pytest.raises(Pointless, match=f"nothing to promote: revision {STABLE} serves and nothing is on its way"):
            requests.promote(standing_of(make_deployment()), "1", full=False)

    def test_what_was_given_up_is_not_promoted(self):
        with pytest.raises(Pointless, match=r"given up: aborted at step 2/4.*; pilotfish retry digits starts it again"):
            requests.promote(standing_of(make_deployment(**aborted())), "1", full=True)

    def test_before_anything_serves_it_may_go_on(self):
        first = make_deployment(stableRevision=None, candidateRevision=revision_status(CANDIDATE))
        assert action_of(requests.promote(standing_of(first), "1", full=False))["verb"] == "promote"

    def test_the_operator_judges_a_spec_that_it_has_not_looked_at(self):
        body = make_deployment()
        body["metadata"]["generation"] += 1
        assert requests.promote(standing_of(body), "1", full=False).action_id == "1"

    def test_the_operator_judges_an_object_that_it_has_never_seen(self):
        assert requests.abort(standing_of(make_model_deployment()), "1").action_id == "1"

    def test_a_pause_holds_it_and_that_is_said(self):
        request = requests.promote(standing_of(make_deployment(paused=True, **in_canary())), "1", full=False)
        assert request.what.endswith("; spec.paused holds it until pilotfish resume digits")


class TestAbort:
    def test_names_who_keeps_serving(self):
        request = requests.abort(standing_of(make_deployment(**in_canary())), "1")
        assert action_of(request) == {"id": "1", "verb": "abort"}
        assert request.what == f"revision {CANDIDATE} is given up (now 2/4 25%); revision {STABLE} keeps serving"

    def test_ta01_nothing_is_on_its_way(self):
        with pytest.raises(Pointless, match="nothing to abort: revision"):
            requests.abort(standing_of(make_deployment()), "1")

    def test_an_aborted_one_is_not_aborted_again(self):
        with pytest.raises(Pointless, match=r"nothing to abort: .* was given up"):
            requests.abort(standing_of(make_deployment(**aborted())), "1")

    def test_the_first_revision_leaves_nobody(self):
        first = make_deployment(stableRevision=None, candidateRevision=revision_status(CANDIDATE))
        assert requests.abort(standing_of(first), "1").what.endswith("; nothing serves yet")


class TestRetry:
    @pytest.mark.parametrize("gone", ["history", "rollout"])
    def test_starts_what_failed_from_either_record_of_it(self, gone):
        request = requests.retry(standing_of(make_deployment(**{**aborted(), gone: None})), "1")
        assert action_of(request) == {"id": "1", "verb": "retry"}

    def test_an_abort_of_another_revision_is_no_failure_of_this_one(self):
        body = make_deployment(**{**aborted(), "candidateRevision": revision_status("ffff7777"), "step": "1/4 10%"})
        with pytest.raises(Pointless, match=r"nothing to retry: revision ffff7777 is on its way \(now 1/4 10%\)"):
            requests.retry(standing_of(body), "1")

    def test_nothing_has_failed(self):
        with pytest.raises(Pointless, match="nothing to retry"):
            requests.retry(standing_of(make_deployment()), "1")


class TestUndo:
    def undo(self, body, *objects, to=None):
        return requests.undo(standing_of(body), observed(body, *objects), "1", to_revision=to)

    def test_goes_to_the_one_that_served_before(self):
        request = self.undo(make_deployment(**settled()), *records(OLDEST, OLD, STABLE))
        assert action_of(request) == {"id": "1", "verb": "undo", "toRevision": OLD}
        assert request.what == f"revision {OLD} is served until the spec changes"

    def test_one_whose_record_is_gone_is_passed_over(self):
        request = self.undo(make_deployment(**settled()), *records(OLDEST, STABLE))
        assert action_of(request)["toRevision"] == OLDEST

    def test_without_history_the_newest_record_counts(self):
        request = self.undo(make_deployment(), *records(OLDEST, OLD, STABLE))
        assert action_of(request)["toRevision"] == OLD

    def test_in_the_middle_of_a_rollout_it_is_the_stable_one(self):
        assert action_of(self.undo(make_deployment(**in_canary()), *ALL))["toRevision"] == STABLE

    def test_a_revision_that_failed_is_no_place_to_go_back_to(self):
        history = [{"revision": OLD, "result": "Failed", "at": "2026-01-01T11:00:00Z"}]
        request = self.undo(make_deployment(history=history), *records(OLDEST, OLD, STABLE))
        assert action_of(request)["toRevision"] == OLDEST

    def test_again_goes_further_back(self):
        undo = {"undo": {"toRevision": OLD, "fromRevision": STABLE}}
        body = make_deployment(**{**settled(), "stableRevision": revision_status(OLD), "rollout": undo})
        assert action_of(self.undo(body, *records(OLDEST, OLD, STABLE)))["toRevision"] == OLDEST

    def test_to_one_by_name(self):
        request = self.undo(make_deployment(**settled()), *records(OLDEST, OLD, STABLE), to=OLDEST)
        assert action_of(request)["toRevision"] == OLDEST

    def test_to_one_that_nobody_knows(self):
        with pytest.raises(
            Pointless, match=rf"zzzz is not known \(known: {STABLE}, {OLD}\); see pilotfish history digits"
        ):
            self.undo(make_deployment(**settled()), *records(OLD, STABLE), to="zzzz")

    def test_to_the_one_that_serves(self):
        with pytest.raises(Pointless, match=f"revision {STABLE} serves"):
            self.undo(make_deployment(), *records(OLD, STABLE), to=STABLE)

    def test_to_the_stable_one_after_a_failure_is_no_mistake(self):
        request = self.undo(make_deployment(**aborted()), *ALL, to=STABLE)
        assert action_of(request)["toRevision"] == STABLE

    def test_nothing_is_kept(self):
        with pytest.raises(Pointless, match=f"nothing to undo: no revision before {STABLE} is still kept$"):
            self.undo(make_deployment(), make_record(STABLE, 1))

    def test_nothing_is_left_behind_an_undo_but_the_spec(self):
        undo = {"undo": {"toRevision": OLD, "fromRevision": STABLE}}
        body = make_deployment(stableRevision=revision_status(OLD), rollout=undo)
        with pytest.raises(Pointless, match=f"pilotfish undo digits --to-revision {STABLE} serves what the spec"):
            self.undo(body, *records(OLD, STABLE))


class TestPause:
    def test_pause_and_resume_change_one_field(self):
        assert requests.pause(standing_of(make_deployment())).patch == {"spec": {"paused": True}}
        assert requests.resume(standing_of(make_deployment(paused=True))).patch == {"spec": {"paused": False}}

    def test_twice_makes_no_sense(self):
        with pytest.raises(Pointless, match="digits is paused already; pilotfish resume digits"):
            requests.pause(standing_of(make_deployment(paused=True)))
        with pytest.raises(Pointless, match="digits is not paused"):
            requests.resume(standing_of(make_deployment()))


def test_an_earlier_undo_leaves_nothing_in_the_action():
    """A merge keeps what it does not name, and the API server refuses toRevision beside another verb."""
    body = make_deployment(
        asked={"strategy": "Canary", "action": {"id": "0", "verb": "undo", "toRevision": OLD}}, **in_canary()
    )
    request = requests.abort(standing_of(body), "1")
    assert request.patch["spec"]["rollout"]["action"] == {"id": "1", "verb": "abort", "toRevision": None}
    assert "toRevision" not in requests.as_yaml(request)
    assert '"toRevision":null' in requests.as_kubectl(request, name="digits", namespace="team")


def test_the_equivalents_say_the_same_as_the_patch():
    request = Request(
        what="", patch={"spec": {"rollout": {"action": {"id": "it's", "verb": "retry"}}}}, action_id="it's"
    )
    words = shlex.split(requests.as_kubectl(request, name="digits", namespace="team", context="far"))
    assert words[:-1] == [
        "kubectl",
        "patch",
        "modeldeployment.pilotfish.dev",
        "digits",
        "--namespace",
        "team",
        "--context",
        "far",
        "--type",
        "merge",
        "--patch",
    ]
    assert json.loads(words[-1]) == yaml.safe_load(requests.as_yaml(request)) == request.patch


def test_ids_tell_the_time_in_utc_and_are_short_enough():
    moment = datetime(2026, 11, 22, 14, 45, tzinfo=timezone(timedelta(hours=1)))
    made = requests.make_id(moment, "k7qx")
    assert made == "20261122-134500-k7qx"
    assert made == requests.make_id(moment.astimezone(UTC), "k7qx")
    assert yaml.safe_load(f"id: {made}") == {"id": made}
