"""What is counted when a status follows another: each end once, under the right name."""

import pytest

from pilotfish.telemetry.metrics import REGISTRY
from pilotfish.telemetry.outcomes import OPTIMIZATION_FAILURES_BY, count_outcomes
from support.states import child

START, END = "2026-11-22T10:00:00Z", "2026-11-22T10:02:30Z"


def revision(name, since=START):
    return {
        "name": f"digits-{name}",
        "hash": name,
        "since": since,
        "artifact": {"format": "ONNX", "variant": "onnx-fp32"},
    }


def entry(name, result, at=END, reason="AnalysisFailed"):
    return {"revision": name, "result": result, "reason": reason, "at": at}


def status(stable=None, candidate=None, history=(), artifact="True", since=START):
    told = {"history": list(history), "conditions": [{"type": "ArtifactReady", "status": artifact, "reason": "x"}]}
    if stable:
        told["stableRevision"] = revision(stable, since)
    if candidate:
        told["candidateRevision"] = revision(candidate)
    return told


def job(name, *, ended=True):
    times = {"startTime": START, "completionTime": END} if ended else {"startTime": START}
    body = child("Job", name, status=times)
    body["metadata"]["labels"]["pilotfish.dev/component"] = "optimize"
    return body


@pytest.fixture
def counted():
    """What a step adds, zeros left out."""
    names = (
        "pilotfish_rollouts_total",
        "pilotfish_rollout_duration_seconds_sum",
        "pilotfish_optimization_failures_total",
        "pilotfish_optimization_duration_seconds_sum",
    )

    def read():
        samples = (sample for metric in REGISTRY.collect() for sample in metric.samples if sample.name in names)
        return {(s.name.removeprefix("pilotfish_"), *s.labels.values()): s.value for s in samples}

    def count(before, after, objects=()):
        was = read()
        count_outcomes(before, after, objects)
        return {key: value - was.get(key, 0) for key, value in read().items() if value != was.get(key, 0)}

    return count


def took(outcome, seconds=150):
    return {("rollouts_total", outcome): 1, ("rollout_duration_seconds_sum", outcome): seconds}


def test_the_first_revision_is_promoted(counted):
    assert counted(status(candidate="a"), status(stable="a", since=END)) == took("promoted")


def test_a_canary_is_promoted(counted):
    after = status(stable="b", since=END, history=[entry("a", "Superseded")])
    assert counted(status(stable="a", candidate="b"), after) == took("promoted")


def test_what_was_stable_before_is_rolled_back_to(counted):
    before = status(stable="b", candidate="a", history=[entry("a", "Superseded")])
    after = status(stable="a", since=END, history=[entry("b", "Superseded")])
    assert counted(before, after) == took("rolled_back")


def test_a_canary_that_fails_is_aborted_once(counted):
    before = status(stable="a", candidate="b")
    after = status(stable="a", candidate="b", history=[entry("b", "Failed")])
    assert counted(before, after) == took("aborted")
    assert counted(after, after) == {}
    assert counted(after, status(stable="a", candidate="c")) == {}, "it has ended already"


def test_the_same_revision_may_fail_again(counted):
    before = status(stable="a", candidate="b", history=[entry("z", "Failed")])
    again = status(
        stable="a", candidate="b", history=[entry("b", "Failed", at="2026-11-22T11:00:00Z"), entry("z", "Failed")]
    )
    assert counted(before, again) == took("aborted", 3600)


def test_another_spec_in_between_supersedes(counted):
    after = status(stable="a", candidate="c")
    after["candidateRevision"]["since"] = END
    assert counted(status(stable="a", candidate="b"), after) == took("superseded")


def test_going_back_to_what_serves_supersedes_without_a_time(counted):
    assert counted(status(stable="a", candidate="b"), status(stable="a")) == {("rollouts_total", "superseded"): 1}


def test_a_failed_optimization_is_no_rollout(counted):
    before = status(stable="a", candidate="b", artifact="Unknown")
    failed = entry("b", "Failed", reason="SourceNotFound")
    after = status(stable="a", candidate="b", artifact="False", history=[failed])
    assert counted(before, after) == {("optimization_failures_total", "SourceNotFound"): 1}
    assert counted(after, after) == {}


def test_an_optimization_took_as_long_as_its_job(counted):
    before = status(stable="a", candidate="b", artifact="Unknown")
    after = status(stable="a", candidate="b")
    found = counted(before, after, [job("b"), job("a"), job("b", ended=False)])
    assert found == {("optimization_duration_seconds_sum", "ONNX"): 150}
    assert counted(after, after, [job("b")]) == {}


def test_an_artifact_without_a_job_took_no_time(counted):
    before = status(stable="a", candidate="b", artifact="Unknown")
    assert counted(before, status(stable="a", candidate="b"), [job("a")]) == {}


def test_going_back_does_not_time_the_old_job_again(counted):
    before = status(stable="b", artifact="Unknown")
    assert counted(before, status(stable="b", candidate="a"), [job("a")]) == {}


@pytest.mark.parametrize("lost", [{}, {"phase": "Ready"}])
def test_a_lost_status_that_is_found_again_is_no_rollout(counted, lost):
    assert counted(lost, status(stable="a")) == {}


def test_reasons_of_failure_are_a_closed_list_without_what_is_no_failure():
    assert {"SourceNotFound", "OptimizerFailed", "NoCandidateWithinTolerance"} <= set(OPTIMIZATION_FAILURES_BY)
    assert not {"Succeeded", "ArtifactReused", "VerificationFailed"} & set(OPTIMIZATION_FAILURES_BY)
