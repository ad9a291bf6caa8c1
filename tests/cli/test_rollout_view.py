"""What `pilotfish get` shows of a rollout: every number that decides, from example statuses."""

from datetime import timedelta

import pytest
from rich.console import Console

from pilotfish.api.rollout_status import AnalysisVerdict
from pilotfish.cli.render import draw
from pilotfish.cli.rollout_view import make_rollout_nodes
from pilotfish.cli.tree import Health
from pilotfish.cli.view import make_view
from pilotfish.cli.words import age_of, span
from support.builders import NOW
from support.rollouts import (
    CANDIDATE,
    OLD,
    STABLE,
    aborted,
    in_canary,
    make_deployment,
    observed,
    revision_status,
)


def check(name, verdict, **more):
    return {"name": name, "verdict": verdict, **more}


ERROR_RATE = check(
    "errorRate",
    "Fail",
    mode="Enforce",
    value="0.071",
    baseline="0.001",
    threshold="0.05",
    message="error rate 7.1 % > 5 % over 60 s",
    passed=2,
    failed=1,
)
FULL = in_canary(
    verification={"verdict": "Pass", "message": "32 of 32 answers agree", "at": "2026-01-01T11:55:00Z"},
    traffic={
        "desired": 25,
        "assigned": 33,
        "achieved": "31.2",
        "source": "Replicas",
        "achievable": [33, 50],
        "message": "A step of 25 % cannot be met",
    },
    capacity={
        "plan": "Swap",
        "message": "one pod of cccc5555 stops for one of dddd6666",
        "gpusNeeded": 2,
        "gpusFree": 0,
        "expectedDowntime": "20s",
        "rollbackETA": "10s",
    },
    analysis={
        "verdict": "Fail",
        "measuredAt": "2026-01-01T11:59:50Z",
        "requests": 812,
        "checks": [ERROR_RATE, check("queueTime", "NoData", errors=3), check("gpu", "Fail", mode="Observe", value="1")],
    },
    promotion="Full",
    lastActionId="20260101-115900-k7qx",
    actionMessage="promoteFull: the revision goes to all of the traffic",
)


def nodes(body, now=NOW):
    return {node.title: node for node in make_rollout_nodes(body, now)}


def progress(now=NOW, asked=None, **status):
    body = make_deployment(asked=asked, **(status or FULL))
    found = nodes(body, now)[f"rollout of {CANDIDATE}"]
    return found, {child.title: child for child in found.children}


def test_nothing_to_say_before_a_rollout():
    assert make_rollout_nodes(make_deployment(), NOW) == ()


def test_the_stage_and_how_long_it_lasts():
    found, _ = progress()
    assert (found.state, found.health, found.detail) == ("Stepping", Health.BUSY, "for 10m")


def test_the_present_step_is_marked_and_counts_down():
    _, below = progress()
    steps = [below[title] for title in below if title.startswith("step ")]
    assert [(step.title, step.state, step.detail) for step in steps] == [
        ("step 1/4 10 %", "done", ""),
        ("step 2/4 25 %", "now", "3m of 5m left"),
        ("step 3/4 50 %", "", ""),
        ("step 4/4 80 %", "", "until promoted"),
    ]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (timedelta(minutes=2, seconds=59), "1s of 5m left"),
        (timedelta(minutes=3), "hold is over"),
        (timedelta(hours=3), "hold is over"),
    ],
)
def test_a_hold_ends_at_its_end(after, said):
    _, below = progress(now=NOW + after)
    assert below["step 2/4 25 %"].detail == said


def test_a_hold_begins_with_the_share():
    step = {"index": 1, "weight": 25, "startedAt": "2026-01-01T11:57:00Z"}
    _, below = progress(**in_canary(step=step))
    assert below["step 2/4 25 %"].detail == "its share is not reached yet"


def test_a_pause_stops_the_clock():
    found, below = progress(now=NOW + timedelta(hours=1), **in_canary(pausedAt="2026-01-01T11:59:00Z"))
    assert found.state == "Stepping, paused"
    assert found.detail == "for 9m"
    assert below["step 2/4 25 %"].detail == "4m of 5m left"


def test_a_step_that_waits_for_a_promotion():
    step = {"index": 3, "weight": 80, "startedAt": "2026-01-01T11:57:00Z", "readyAt": "2026-01-01T11:58:00Z"}
    _, below = progress(**in_canary(step=step))
    assert below["step 4/4 80 %"].detail == "holds until promoted"
    assert below["step 3/4 50 %"].state == "done"


@pytest.mark.parametrize(("stage", "states"), [("Starting", [""] * 4), ("Promoting", ["done"] * 4)])
def test_before_and_after_the_steps(stage, states):
    _, below = progress(**in_canary(stage=stage, step=None))
    assert [below[title].state for title in below if title.startswith("step ")] == states


def test_a_canary_without_steps_shows_the_default_ones():
    _, below = progress(asked={"strategy": "Canary"}, **in_canary(stage="Starting", step=None))
    assert [below[t].detail for t in below if t.startswith("step ")] == ["hold 2m", "hold 5m"]


def test_no_steps_without_a_canary():
    _, below = progress(asked={"strategy": "BlueGreen"}, **in_canary(stage="Baking", step=None))
    assert [title for title in below if title.startswith("step ")] == []


def test_a_spec_of_a_newer_version_is_no_reason_to_fail():
    body = make_deployment(**FULL)
    body["spec"]["rollout"]["strategy"] = "Rainbow"
    assert f"rollout of {CANDIDATE}" in nodes(body)


def test_traffic_desired_assigned_achieved():
    _, below = progress()
    assert below["traffic"].state == "desired 25 %, assigned 33 %, achieved 31.2 %"
    assert below["traffic"].detail == "by replicas; replicas can give 33, 50; A step of 25 % cannot be met"
    assert below["traffic"].health is Health.BUSY


def test_a_share_of_nothing_is_a_share():
    _, below = progress(**in_canary(traffic={"desired": 0, "assigned": 0}))
    assert (below["traffic"].state, below["traffic"].health) == ("desired 0 %, assigned 0 %", Health.PLAIN)


def test_capacity_says_what_stops_and_how_long_back_takes():
    _, below = progress()
    assert below["capacity"].state == "Swap"
    assert below["capacity"].detail == (
        "one pod of cccc5555 stops for one of dddd6666; 2 GPUs needed, 0 free; nothing serves for 20s; going back takes 10s"
    )


def test_verification():
    _, below = progress()
    assert (below["verification"].state, below["verification"].health) == ("Pass", Health.GOOD)
    assert below["verification"].detail == "32 of 32 answers agree (5m ago)"


def test_the_number_that_decided():
    _, below = progress()
    analysis = below["analysis"]
    assert (analysis.state, analysis.health) == ("Fail", Health.BAD)
    assert analysis.detail == "812 requests, measured 10s ago"
    error_rate, queue, gpu = analysis.children
    assert (error_rate.state, error_rate.health) == ("Fail", Health.BAD)
    assert error_rate.detail == "error rate 7.1 % > 5 % over 60 s; 2 good, 1 bad"
    assert (queue.state, queue.health, queue.detail) == ("NoData", Health.BUSY, "3 not measured")
    assert (gpu.state, gpu.health) == ("Fail, observed only", Health.PLAIN)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"value": "0.071", "threshold": "0.05", "baseline": "0.001"}, "0.071 against 0.05, stable 0.001"),
        ({"value": "0.071", "threshold": "0.05"}, "0.071 against 0.05"),
        ({"value": "0"}, "0"),
        ({"threshold": "0.05"}, ""),
    ],
)
def test_figures_stand_for_a_sentence_that_is_missing(figures, said):
    _, below = progress(**in_canary(analysis={"checks": [check("errorRate", "Fail", **figures)]}))
    assert below["analysis"].children[0].detail == said


@pytest.mark.parametrize("verdict", list(AnalysisVerdict))
def test_ta14_only_pass_looks_good_and_only_fail_and_error_look_bad(verdict):
    _, below = progress(**in_canary(analysis={"verdict": verdict.value}))
    expected = {"Pass": Health.GOOD, "Fail": Health.BAD, "Error": Health.BAD}.get(verdict.value, Health.BUSY)
    assert below["analysis"].health is expected


def test_silence_is_counted():
    _, below = progress(
        **in_canary(analysis={"verdict": "NoData", "requests": 0, "noDataSince": "2026-01-01T11:58:30Z"})
    )
    assert below["analysis"].detail == "0 requests, no data for 90s"


def test_an_analysis_before_its_first_measurement():
    _, below = progress(**in_canary(analysis={"startedAt": "2026-01-01T11:58:30Z"}))
    assert below["analysis"].state == "NotRun"


def test_a_promotion_that_is_not_used_up():
    _, below = progress()
    assert below["promoted"].detail == "goes on to all of the traffic as soon as it can"


def test_the_last_abort_with_its_message():
    found = nodes(make_deployment(**aborted()))[f"aborted {CANDIDATE}"]
    assert (found.state, found.health) == ("AnalysisFailed", Health.BAD)
    assert found.detail == "aborted at step 2/4: error rate 7.1 % > 5 % over 60 s, 812 requests (60s ago)"


def test_an_undo_in_force():
    body = make_deployment(
        stableRevision=revision_status(OLD), rollout={"undo": {"toRevision": OLD, "fromRevision": STABLE}}
    )
    found = nodes(body)["undo"]
    assert (found.state, found.health) == (OLD, Health.BUSY)
    assert f"in place of {STABLE}" in found.detail


def test_the_last_action_and_what_became_of_it():
    found = nodes(make_deployment(**FULL))["action 20260101-115900-k7qx"]
    assert found.detail == "promoteFull: the revision goes to all of the traffic"


def test_it_stands_in_the_tree_above_the_revisions():
    view = make_view(observed(make_deployment(**FULL)), NOW)
    titles = [child.title for child in view.children]
    assert titles.index(f"rollout of {CANDIDATE}") < titles.index(f"revision {STABLE}")
    console = Console(width=400, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(draw(view))
    assert "errorRate  ✖ Fail  error rate 7.1 % > 5 %" in console.export_text()


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=-5), "0s"),
        (timedelta(seconds=59.9), "59s"),
        (timedelta(seconds=60), "1m"),
        (timedelta(hours=25, seconds=1), "25h1s"),
        (timedelta(minutes=90), "1h30m"),
    ],
)
def test_lengths_are_written_as_in_a_spec(length, said):
    assert span(length) == said


@pytest.mark.parametrize(("seconds", "said"), [(-1, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172800, "2d")])
def test_ages_use_the_largest_unit_of_which_two_fit(seconds, said):
    assert age_of("2026-01-01T12:00:00Z", NOW + timedelta(seconds=seconds)) == said
