"""Lint with the libraries at hand: what the API server lets pass and the operator could not follow."""

import pytest

from pilotfish.api.lint import lint
from pilotfish.cli.check import check
from support.invalid_objects import make_manifest


def _windows(*windows):
    return make_manifest({"rollout.maintenanceWindows": list(windows)})


@pytest.mark.parametrize(
    ("window", "says"),
    [
        ({"schedule": "0 2 30 2 *", "duration": "4h"}, "has a wrong day-of-month"),
        ({"schedule": "0 5-3 * * *", "duration": "4h"}, "has a wrong hour"),
        ({"schedule": "0 0 LW * */6", "duration": "4h"}, "never begins"),
        ({"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Europe/Atlantis"}, "is not known"),
    ],
)
def test_windows_that_can_never_open(window, says):
    manifest = _windows({"schedule": "0 2 * * 6", "duration": "4h", "timeZone": None}, window)
    assert lint(manifest) == ()
    (finding,) = check(manifest)
    assert finding.path == "spec.rollout.maintenanceWindows[1]"
    assert says in finding.message


@pytest.mark.parametrize(
    "schedule", ["*/15 1-5,22 1,15 * *", "0 2 L * *", "0 2 LW jan-mar *", "0 2 * * sat", "0 2 * * 5L", "30 2 * * 1#2"]
)
def test_whatever_cron_understands_may_be_written(schedule):
    assert check(_windows({"schedule": schedule, "duration": "4h"})) == ()


def test_the_contract_comes_first():
    (finding,) = check(_windows({"schedule": "0 24 * * 6", "duration": "4h"}))
    assert "write the five fields of a cron expression" in finding.message


@pytest.mark.parametrize("rollout", [None, {"maintenanceWindows": None}])
def test_nothing_said_is_nothing_wrong(rollout):
    assert check(make_manifest({"rollout": rollout})) == ()
