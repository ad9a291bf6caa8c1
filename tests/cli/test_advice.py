"""Warnings of lint: taken by the API server, but perhaps not what was meant."""

import pytest
import yaml
from typer.testing import CliRunner

from pilotfish.cli.advice import advise
from pilotfish.cli.main import app
from support.invalid_objects import make_manifest
from support.valid_objects import VALID


def canary(*weights, replicas=1, **rollout):
    steps = [{"weight": weight} for weight in weights]
    return make_manifest({"serving.replicas": replicas, "rollout": {"strategy": "Canary", "steps": steps, **rollout}})


def test_a_step_that_replicas_cannot_give():
    (warning,) = advise(canary(10, 50))
    assert str(warning) == (
        "spec.rollout.steps[0].weight: A step of 10 % cannot be met with 1 replica: 1 of 2 pods take 50 %; "
        "raise spec.serving.replicas or set spec.serving.gateway"
    )


@pytest.mark.parametrize(
    ("weights", "replicas", "warned"),
    [
        ((20,), 2, ["spec.rollout.steps[0].weight"]),  # 1 of 3 pods: 33.3 %, 13.3 points off
        ((24,), 2, []),  # 9.3 points off
        ((10,), 4, []),  # 1 of 5: exactly 10 points off is not more than 10
        ((9,), 4, ["spec.rollout.steps[0].weight"]),
        ((10, 50), 9, []),
        ((10, 50, 75), 9, ["spec.rollout.steps[2].weight"]),  # beside a whole stable revision at most half
        ((10,), 0, []),
    ],
)
def test_more_than_ten_points_off_counts(weights, replicas, warned):
    assert [warning.path for warning in advise(canary(*weights, replicas=replicas))] == warned


def test_swapped_pods_give_other_shares():
    assert advise(canary(75, replicas=4, capacity="Swap")) == ()
    assert [w.path for w in advise(canary(75, replicas=4, capacity="Surge"))] == ["spec.rollout.steps[0].weight"]


def test_default_steps_are_looked_at_too():
    assert [w.path for w in advise(make_manifest({"rollout.strategy": "Canary"}))] == ["spec.rollout.steps (default)"]


def test_a_gateway_gives_any_share():
    manifest = canary(1)
    manifest["spec"]["serving"]["gateway"] = {"name": "public"}
    assert advise(manifest) == ()


def test_steps_that_recreate_skips():
    (warning, gap) = advise(canary(10, capacity="Recreate"))
    assert warning.path == "spec.rollout.capacity"
    assert "steps are skipped" in str(warning)
    assert "capacity: Recreate stops all pods" in str(gap)


@pytest.mark.parametrize(
    ("rollout", "warned"),
    [
        ({"analysis": {}}, ["spec.rollout.analysis"]),
        ({"analysis": {}, "bake": "5m"}, []),
        ({}, []),
        ({"strategy": "Replace"}, ["spec.rollout"]),
    ],
)
def test_without_steps(rollout, warned):
    assert [warning.path for warning in advise(make_manifest({"rollout": rollout}))] == warned


def test_who_accepts_the_gap_is_not_warned():
    assert advise(make_manifest({"rollout.strategy": "Replace", "serving.minAvailable": 0})) == ()


@pytest.mark.parametrize("changes", [changes for _, changes in VALID], ids=[name for name, _ in VALID])
def test_every_valid_object_can_be_judged(changes):
    advise(make_manifest(changes))


def test_lint_prints_warnings_and_does_not_fail(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(canary(10)))
    done = CliRunner().invoke(app, ["lint", "-f", str(path)])
    assert done.exit_code == 0
    assert f"{path}: digits: warning: spec.rollout.steps[0].weight: A step of 10 %" in done.output
    assert "1 ModelDeployment: nothing to correct" in done.output


def test_lint_prints_no_warnings_beside_mistakes(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(canary(10, 5)))
    done = CliRunner().invoke(app, ["lint", "-f", str(path)])
    assert done.exit_code == 1
    assert ": warning: " not in done.output


def test_replicas_beside_an_autoscaler():
    scaled = {"serving.autoscaling": {"minReplicas": 3, "maxReplicas": 4}}
    assert advise(make_manifest(scaled)) == ()
    (warning,) = advise(make_manifest({**scaled, "serving.replicas": 3}))
    assert str(warning).startswith("spec.serving.replicas: each apply sets back what the autoscaler has decided")


def test_a_step_is_judged_by_the_fewest_pods_of_an_autoscaler():
    steps = {"rollout": {"strategy": "Canary", "steps": [{"weight": 25}]}}
    assert advise(make_manifest({**steps, "serving.autoscaling": {"minReplicas": 3, "maxReplicas": 4}})) == ()
    assert len(advise(make_manifest({**steps, "serving.autoscaling": {"maxReplicas": 4}}))) == 1
