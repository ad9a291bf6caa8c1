"""All revisions with their roles and how they ended."""

import pytest

from pilotfish.cli.history import as_table, make_history
from support.builders import NOW
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


def test_newest_first_with_role_and_result():
    rows = make_history(observed(make_deployment(**{**settled(), **in_canary()}), *records(OLDEST, OLD, STABLE)))
    assert {(row.revision, row.role, row.result, row.number) for row in rows} == {
        (CANDIDATE, "candidate", "OnItsWay", None),
        (STABLE, "stable", "Stable", 3),
        (OLD, "kept", "Superseded", 2),
        (OLDEST, "kept", "Superseded", 1),
    }
    assert [row.at for row in rows] == sorted((row.at for row in rows), reverse=True)


def test_a_failed_revision_says_why_even_without_a_record():
    body = make_deployment(**{**aborted(), "candidateRevision": None, "rollout": None})
    row = next(r for r in make_history(observed(body, *records(STABLE))) if r.revision == CANDIDATE)
    assert (row.role, row.result, row.reason) == ("gone", "Failed", "AnalysisFailed")
    assert row.message.startswith("aborted at step 2/4: error rate 7.1 % > 5 %")


def test_a_failed_candidate_is_not_on_its_way():
    row = next(r for r in make_history(observed(make_deployment(**aborted()))) if r.revision == CANDIDATE)
    assert (row.role, row.result) == ("candidate", "Failed")


def test_a_revision_that_came_back_is_on_its_way_not_superseded():
    body = make_deployment(**{**settled(), "candidateRevision": revision_status(OLD)})
    row = next(r for r in make_history(observed(body)) if r.revision == OLD)
    assert (row.role, row.result) == ("candidate", "OnItsWay")


def test_a_revision_that_serves_again_is_stable_whatever_was_on_record():
    body = make_deployment(**settled(), stableRevision=revision_status(OLD))
    row = next(r for r in make_history(observed(body)) if r.revision == OLD)
    assert (row.result, row.reason, row.at) == ("Stable", None, "2026-01-01T11:00:00Z")


def test_the_cause_is_what_differs_from_the_revision_before():
    first = make_record(OLD, 1)
    second = make_record(STABLE, 2, optimization={"precisions": ["FP32", "FP16"]}, serving={"warmup": False})
    causes = {row.revision: row.cause for row in make_history(observed(make_deployment(), second, first))}
    assert causes == {
        OLD: None,
        STABLE: "model.uri: s3://models/digits/v1/ → s3://models/digits/v2/; "
        "optimization.precisions: default → [FP32, FP16]; serving.warmup: default → false",
    }


def test_a_long_cause_is_cut():
    first = make_record(OLD, 1)
    second = make_record(STABLE, 2, serving={"instances": 2, "warmup": False, "threads": {"intraOp": 1, "interOp": 1}})
    cause = next(r.cause for r in make_history(observed(make_deployment(), first, second)) if r.revision == STABLE)
    assert cause.count(" → ") == 3
    assert cause.endswith("; 2 more")


def test_the_author_s_own_cause_wins():
    record = make_record(STABLE, 2)
    record["metadata"]["annotations"] = {"kubernetes.io/change-cause": "ticket 17"}
    (row,) = make_history(observed(make_deployment(), record))
    assert row.cause == "ticket 17"


def test_nothing_yet():
    assert make_history(observed(make_deployment(stableRevision=None))) == ()
    assert as_table((), NOW) == "REVISION   NUMBER   ROLE   VARIANT   SOURCE   RESULT   REASON   WHEN   CAUSE"


def test_the_table_lines_up_and_shortens_digests():
    rows = make_history(observed(make_deployment(**settled()), *records(OLDEST, OLD, STABLE)))
    title, *lines = as_table(rows, NOW).splitlines()
    for word in ("ROLE", "SOURCE", "WHEN"):
        assert len({line[title.index(word) - 1] for line in lines}) == 1
    assert "sha256:bbbbbbbbbbbb " in lines[1] + " "
    assert " 60m ago" in lines[0] or " 1h ago" in lines[0]


@pytest.mark.parametrize("field", ["number", "reason", "message", "cause"])
def test_what_is_not_known_is_not_printed(field):
    body = make_deployment(stableRevision=None, candidateRevision=revision_status(CANDIDATE))
    (row,) = make_history(observed(body))
    assert field not in row.to_wire()
    assert row.to_wire()["sourceDigest"].startswith("sha256:")
