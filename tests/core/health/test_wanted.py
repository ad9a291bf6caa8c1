"""What is measured when: the stage, the spec and the pods decide, and outside a rollout nothing is wanted."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.core.health.wanted import Target, Wanted, wanted_measurements
from pilotfish.core.observed import Observed
from pilotfish.core.pin import address_of
from support.builders import OWNER, make_model_deployment, make_spec

SPEC = {"model": {"uri": "s3://models/digits/v2/"}, "rollout": {"strategy": "Canary"}}
ON_GPU = {**SPEC, "serving": {"gpus": {"count": 1, "resource": "nvidia.com/mig-1g.5gb"}}}
AT = "2026-01-01T12:00:00Z"
CHECK = {"name": "gpu-memory", "query": "max(x)", "max": "0.9"}


def make_pod(uid, revision, *, component="triton", address="10.0.0.1", started=True, **metadata):
    statuses = [] if started is None else [{"name": "triton", "started": started}]
    is_shadow = component == "shadow"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": uid,
            "uid": uid,
            "labels": names.shadow_labels(OWNER.name, revision)
            if is_shadow
            else names.labels(OWNER.name, names.Component(component), revision),
            **metadata,
        },
        "spec": {},
        "status": {"podIP": address, "containerStatuses": statuses},
    }


def make_status(stage, *, candidate="new", stable="old", **rollout):
    status = {
        "rollout": {**({"stage": stage} if stage else {}), **({"revision": candidate} if candidate else {}), **rollout}
    }
    if stable:
        status["stableRevision"] = {"name": f"digits-{stable}", "hash": stable}
    return status


def look(*pods, spec=SPEC, status=None, deleting=False):
    body = make_model_deployment(spec)
    if status is not None:
        body["status"] = status
    if deleting:
        body["metadata"]["deletionTimestamp"] = AT
    return wanted_measurements(Observed(body=body, pods=pods))


def with_action(spec, verb, **more):
    return {**spec, "rollout": {**spec["rollout"], "action": {"id": "1", "verb": verb, **more}}}


PODS = (make_pod("a", "old"), make_pod("b", "new", address="10.0.0.2"))


@pytest.mark.parametrize("stage", ["Stepping", "Promoting", "Baking"])
def test_stable_and_candidate_are_measured_while_requests_reach_both(stage):
    found = look(*PODS, status=make_status(stage))
    assert found == Wanted(
        model="digits",
        targets=(
            Target(uid="a", revision="old", address="10.0.0.1"),
            Target(uid="b", revision="new", address="10.0.0.2"),
        ),
        uids=frozenset({"a", "b"}),
        interval=timedelta(seconds=15),
        window=timedelta(minutes=1),
    )
    assert found.counts


@pytest.mark.parametrize("stage", [None, "Starting", "Verifying"])
def test_nothing_is_measured_before_requests_reach_the_candidate(stage):
    found = look(*PODS, status=make_status(stage))
    assert found == Wanted()
    assert not found.counts


def test_nothing_is_measured_without_a_rollout():
    assert look(*PODS) == Wanted()
    assert look(*PODS, status={"rollout": {}}) == Wanted()
    assert look(*PODS, status=make_status("Stepping", candidate=None)) == Wanted()
    assert look(*PODS, spec={"model": 3}, status=make_status("Stepping")) == Wanted()
    assert look(*PODS, status=make_status("Stepping"), deleting=True) == Wanted()
    assert look(*PODS, status={"rollout": "?"}) == Wanted()


def test_a_rollout_without_stable_measures_the_candidate_and_one_of_itself_measures_it_once():
    assert [t.uid for t in look(*PODS, status=make_status("Promoting", stable=None)).targets] == ["b"]
    assert [t.uid for t in look(*PODS, status=make_status("Baking", stable="new")).targets] == ["b"]


@pytest.mark.parametrize(
    "pod",
    [
        make_pod("c", "new", address=None),
        make_pod("c", "new", address=""),
        make_pod("c", "new", started=False),
        make_pod("c", "new", started=None),
        {**make_pod("c", "new"), "spec": {"hostNetwork": True}},
        {key: value for key, value in make_pod("c", "new").items() if key != "status"},
    ],
    ids=["no address", "empty address", "not started", "no containers", "on the node's network", "no status"],
)
def test_a_pod_that_cannot_be_asked_is_not_asked_and_not_forgotten(pod):
    found = look(pod, status=make_status("Stepping"))
    assert found.targets == ()
    assert found.uids == {"c"}


@pytest.mark.parametrize(
    "pod",
    [
        make_pod("c", "other"),
        make_pod("c", "new", component="optimize"),
        make_pod("c", "new", deletionTimestamp=AT),
    ],
    ids=["another revision", "a Job's", "on its way out"],
)
def test_other_pods_do_not_count(pod):
    assert look(pod, status=make_status("Stepping")).uids == frozenset()


def analysed(**analysis):
    return {**SPEC, "rollout": {"analysis": analysis}}


def test_the_analysis_sets_the_pace_and_the_queries():
    spec = analysed(interval="30s", window="5m", checks={"prometheus": [CHECK]})
    found = look(*PODS, spec=spec, status=make_status("Stepping"))
    assert (found.interval, found.window) == (timedelta(seconds=30), timedelta(minutes=5))
    assert found.queries == {"gpu-memory": "max(x)"}
    assert found.baselines == {}
    assert look(spec=spec, status=make_status("Stepping")).counts, "a query needs no pod"


def test_without_an_analysis_the_default_one_sets_the_pace_and_asks_nothing():
    found = look(*PODS, spec={**SPEC, "rollout": {"strategy": "BlueGreen"}}, status=make_status("Promoting"))
    assert (found.interval, found.window, found.queries) == (timedelta(seconds=15), timedelta(minutes=1), {})


def test_a_pod_without_a_spec_is_asked_like_any_other():
    bare = {key: value for key, value in make_pod("c", "new").items() if key != "spec"}
    assert [target.uid for target in look(bare, status=make_status("Stepping")).targets] == ["c"]
    assert look(bare, spec=ON_GPU, status=make_status("Starting")).tolerations == ()


def test_a_query_may_name_the_revision_and_is_then_asked_about_stable_as_well():
    query = 'max(x{pod=~"digits-${revision}-.*"}) / count(y{r="${revision}"})'
    compared = {"name": "compared", "query": query, "maxRegression": "0.1"}
    checks = [compared, {**CHECK, "name": "own", "query": query}, {**compared, "name": "all", "query": "max(x)"}]
    found = look(*PODS, spec=analysed(checks={"prometheus": checks}), status=make_status("Stepping"))
    assert found.queries["compared"] == 'max(x{pod=~"digits-new-.*"}) / count(y{r="new"})'
    assert found.queries["own"] == found.queries["compared"]
    assert found.baselines == {"compared": 'max(x{pod=~"digits-old-.*"}) / count(y{r="old"})'}
    first = look(*PODS, spec=analysed(checks={"prometheus": checks}), status=make_status("Promoting", stable=None))
    assert first.baselines == {}


def test_the_newest_running_shadow_of_the_candidate_is_read():
    shadows = (
        make_pod("s1", "new", component="shadow", creationTimestamp="2026-01-01T00:00:01Z"),
        make_pod("s2", "new", component="shadow", creationTimestamp="2026-01-01T00:00:02Z"),
        make_pod("s3", "new", component="shadow", creationTimestamp="2026-01-01T00:00:03Z", started=False),
        make_pod("s4", "new", component="shadow", creationTimestamp="2026-01-01T00:00:04Z", deletionTimestamp=AT),
        make_pod("s5", "old", component="shadow", creationTimestamp="2026-01-01T00:00:05Z"),
    )
    found = look(*shadows, status=make_status("Stepping"))
    younger = make_pod("s0", "new", component="shadow", address="10.0.0.9", creationTimestamp="2026-01-01T00:00:03Z")
    assert look(*shadows, younger, status=make_status("Stepping")).shadow.uid == "s0", "the newest, whatever its name"
    ageless = make_pod("s9", "new", component="shadow")
    assert look(ageless, younger, status=make_status("Stepping")).shadow.uid == "s0", "no time is the oldest"
    assert found.shadow == Target(uid="s2", revision="new", address="10.0.0.1")
    assert found.uids == frozenset()
    assert found.counts
    assert look(shadows[2], status=make_status("Stepping")).shadow is None


def test_what_a_shadow_tolerates_says_nothing_of_a_new_pod():
    tolerated = {"key": "nvidia.com/gpu", "operator": "Exists"}
    serving = {**make_pod("a", "old", creationTimestamp="2026-01-01T00:00:01Z"), "spec": {"tolerations": [tolerated]}}
    shadow = make_pod("s", "new", component="shadow", creationTimestamp="2026-01-01T00:00:02Z")
    assert look(serving, shadow, spec=ON_GPU, status=make_status("Starting")).tolerations == (tolerated,)


def test_an_abort_that_waits_is_urgent_until_it_was_carried_out():
    stepping = make_status("Stepping")
    assert look(*PODS, spec=with_action(SPEC, "abort"), status=stepping).is_urgent
    assert not look(*PODS, spec=with_action(SPEC, "abort"), status=make_status("Stepping", lastActionId="1")).is_urgent
    assert not look(*PODS, spec=with_action(SPEC, "promote"), status=stepping).is_urgent
    assert not look(*PODS, status=stepping).is_urgent


ASKED = names.revision_hash(make_spec(ON_GPU))


def abort_of(revision):
    return {"aborted": {"revision": revision, "reason": "AnalysisFailed", "at": AT}}


@pytest.mark.parametrize(
    ("status", "wants"),
    [
        (None, True),
        (make_status(None, candidate=None), True),
        (make_status(None, candidate=None, stable=ASKED), False),
        (make_status(None, candidate=None, stable=None), True),
        (make_status("Starting"), True),
        (make_status("Verifying"), False),
        (make_status("Stepping"), True),
        (make_status("Promoting"), True),
        (make_status("Baking"), False),
        (make_status(None, candidate=None, **abort_of(ASKED)), False),
        (make_status(None, candidate=None, **abort_of("older")), True),
        (make_status(None, candidate=None, undo={"toRevision": "old", "fromRevision": ASKED}), False),
        (make_status(None, candidate=None, undo={"toRevision": "older", "fromRevision": ASKED}), True),
        (make_status(None, candidate=None, stable="older", undo={"toRevision": "old", "fromRevision": "x"}), True),
        (make_status(None, candidate=None, stable="old", undo={"toRevision": "old", "fromRevision": "x"}), True),
    ],
)
def test_room_is_looked_for_while_a_candidate_needs_a_place(status, wants):
    assert look(spec=ON_GPU, status=status).room == ("nvidia.com/mig-1g.5gb" if wants else None)


def test_a_revision_of_pinned_bytes_that_serves_is_not_new():
    model = {**ON_GPU["model"], "refresh": {"interval": "1h"}}
    pin = "sha256:" + "c" * 64
    pinned = names.revision_hash(make_spec({**ON_GPU, "model": {**model, "digest": pin}}))
    spec = {**ON_GPU, "model": model}
    source = {"digest": pin, "pin": pin, "address": address_of(make_spec(spec))}
    serving = make_status(None, candidate=None, stable=pinned)
    assert look(spec=spec, status={**serving, "source": source}).room is None
    assert look(spec=spec, status=serving).room is not None


def test_a_new_action_may_want_a_revision_that_was_given_up():
    given_up = make_status(None, candidate=None, **abort_of(ASKED))
    assert look(spec=with_action(ON_GPU, "retry"), status=given_up).room is not None
    done = replace_action(given_up)
    assert look(spec=with_action(ON_GPU, "retry"), status=done).room is None


def replace_action(status):
    return {**status, "rollout": {**status["rollout"], "lastActionId": "1"}}


def test_room_is_for_pods_with_the_tolerations_that_pods_really_get():
    def pod(uid, key, **more):
        return {**make_pod(uid, "old", **more), "spec": {"tolerations": [{"key": key}]} if key else {}}

    pods = (
        pod("a", "older", creationTimestamp="2026-01-01T00:00:01Z"),
        pod("b", "added", creationTimestamp="2026-01-01T00:00:02Z"),
        pod("c", "job", component="optimize", creationTimestamp="2026-01-01T00:00:03Z"),
    )
    for stage in (None, "Stepping"):
        assert look(*pods, spec=ON_GPU, status=make_status(stage)).tolerations == ({"key": "added"},)
    assert look(pod("a", None), spec=ON_GPU, status=make_status(None)).tolerations == ()
    for stage in (None, "Starting", "Stepping"):
        assert look(*pods, status=make_status(stage)).tolerations == ()


def test_without_gpus_no_room_is_looked_for():
    assert look(status=make_status("Starting")).room is None
    assert replace(look(spec=ON_GPU, status=make_status("Starting")), room=None) == Wanted()
