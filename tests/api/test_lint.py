"""Lint refuses what the API server refuses, and what the server would silently drop."""

import pytest

from pilotfish.api.lint import lint
from support.invalid_objects import INVALID, make_manifest
from support.valid_objects import VALID


@pytest.mark.parametrize("case", [c for c in INVALID if c.lint_says is not None], ids=lambda case: case.what)
def test_refuses_and_says_what_to_write(case):
    found = lint(case.manifest())
    assert any(case.lint_says in str(finding) for finding in found), found


@pytest.mark.parametrize(("what", "changes"), VALID, ids=[what for what, _ in VALID])
def test_lets_valid_objects_pass(what, changes):
    assert lint(make_manifest(changes)) == ()


def test_names_the_place_of_every_mistake():
    manifest = make_manifest({"model.uri": "ftp://h/m", "serving.batching": {"preferredSizes": [1, 99]}})
    assert [finding.path for finding in lint(manifest)] == ["spec.model.uri", "spec.serving.batching.preferredSizes"]


def test_list_items_have_their_index():
    manifest = make_manifest({"optimization.precisions": ["FP32", "FP8"]})
    assert [str(finding) for finding in lint(manifest)] == [
        "spec.optimization.precisions[1]: use one of FP32, FP16, BF16, INT8"
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"apiVersion": "v1"}, "write apiVersion: pilotfish.dev/v1alpha1"),
        ({"kind": "Deployment"}, "write kind: ModelDeployment"),
        ({"metadata": None}, "metadata: is required"),
        ({"metadata": {}}, "metadata.name: is required"),
        ({"spec": []}, "spec: is required; write a mapping"),
        ({"data": {}}, "data: unknown field; did you mean metadata?"),
    ],
)
def test_frame_of_the_object(change, says):
    assert any(says in str(finding) for finding in lint({**make_manifest(), **change}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"replicas": 2}, "spec.replicas: unknown field; did you mean spec.serving.replicas?"),
        ({"serving.maxBatchSize": 4}, "unknown field; did you mean spec.serving.batching.maxBatchSize?"),
        ({"serving.batching.max_batch_size": 4}, "unknown field; did you mean maxBatchSize?"),
        ({"serving.threads.Weight": 1}, "unknown field; did you mean spec.rollout.steps[].weight?"),
        ({"serving.gpu": {}}, "unknown field; did you mean gpus?"),
        ({"rollout.zzz": 1}, "unknown field; known here: strategy"),
        ({"rollout.strategy": "canry"}, "use one of Canary, BlueGreen, Replace; did you mean Canary?"),
        ({"model.format": "onnx"}, "did you mean ONNX?"),
    ],
)
def test_what_was_meant_is_proposed(change, says):
    assert any(says in str(finding) for finding in lint(make_manifest(change)))


def test_a_generated_name_is_a_name():
    assert lint({**make_manifest(), "metadata": {"generateName": "digits-"}}) == ()


def test_secrets_are_not_repeated():
    found = lint(make_manifest({"model.uri": "https://me:hunter2@host/m.onnx?token=hunter2"}))
    assert found
    assert not any("hunter2" in str(finding) for finding in found)


@pytest.mark.parametrize("name", ["errorRate", "meanLatency", "tailLatency", "queueTime", "computeTime"])
def test_a2_a_check_without_condition_is_refused(name):
    analysis = {"checks": {name: {"mode": "Enforce"}}}
    (finding,) = lint(make_manifest({"rollout": {"strategy": "Canary", "analysis": analysis}}))
    assert finding.path == f"spec.rollout.analysis.checks.{name}"
    assert "set max (absolute) or maxRegression" in finding.message
