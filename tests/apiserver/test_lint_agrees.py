"""Lint and the API server give the same verdict on values that nobody thought of."""

import random

import pytest
from kubernetes import client, config

from pilotfish.api.base import GROUP, PLURAL, VERSION
from pilotfish.api.lint import lint
from support.invalid_objects import make_manifest
from support.kube import install_crd, make_kubectl

pytestmark = pytest.mark.apiserver

SEED = 20261122
EACH = 25
SEEDS_OF_VALUES = {
    "model.uri": [
        "s3://models/digits/",
        "https://host/a/../b?sig=1",
        "pvc://claim/path",
        "https://u:p@h/x",
        "hf://a@b",
    ],
    "model.digest": ["sha256:" + "0a" * 32],
    "model.credentials": [{"secretName": "s3-credentials"}, {"secretName": "a.b"}, {}],
    "model.architecture.factory": ["torchvision.models.resnet18", "timm.create_model"],
    "optimization.deadline": ["1h30m", "59s", "0.5h", "1000ms", "168h"],
    "optimization.tolerance": [{"cosine": "0.99"}, {"cosine": "1e-4"}, {"maxAbs": "1.5"}],
    "optimization.batchSizes": [[1, 8], [4096], [1.0]],
    "optimization.precisions": [["FP32", "INT8"], []],
    "storage.size": ["10Gi", 5, 0.5, "1.5M"],
    "serving.replicas": [0, 1000, "1", True, 1.5],
    "serving.gpus": [{"count": 1}, {"count": 16, "resource": "nvidia.com/gpu"}],
    "serving.batching": [{"maxBatchSize": 4, "preferredSizes": [4]}, {"preferredSizes": [1, 9]}],
    "rollout.strategy": ["Canary", "Replace", "canary"],
    "rollout.bake": ["0s", "168h", "5", "1h30m"],
    "rollout": [
        {"strategy": "Canary", "steps": [{"weight": 10, "hold": "2m"}, {"weight": 50, "hold": "Forever"}]},
        {"strategy": "Replace", "capacity": "Recreate"},
        {"capacity": "Swap", "steps": []},
        {"action": {"id": "1", "verb": "undo", "toRevision": "bcdfghjk"}},
        {"maintenanceWindows": [{"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Europe/Berlin"}]},
    ],
    "rollout.analysis": [
        {"interval": "5s", "window": "24h", "minRequests": 0, "failureLimit": 1},
        {"checks": {"errorRate": {"max": "0.01"}, "tailLatency": {"max": "50ms", "quantile": "0.99"}}},
        {"checks": {"queueTime": {"maxRegression": "1e-4"}, "podRestarts": {"max": 0}}},
    ],
    "paused": [True, "true", 1],
}
ALPHABET = "aZ09 ./:@?&=#-_%\\\n~é"


def _mutated(value, chance):
    """The value with one random edit at a random place."""
    if isinstance(value, dict):
        if not value:
            return value
        key = chance.choice(sorted(value))
        return {**value, key: _mutated(value[key], chance)}
    if isinstance(value, list):
        place = chance.randrange(len(value) + 1)
        return [*value[:place], *value[place:][:1], *value[place:]]
    if isinstance(value, str):
        start = chance.randrange(len(value) + 1)
        return value[:start] + chance.choice(ALPHABET) + value[start + chance.randrange(2) :]
    return value if isinstance(value, bool) else value + chance.choice([-1, 1, 5000])


@pytest.fixture(scope="module")
def api(api_server):
    install_crd(make_kubectl(api_server))
    with config.new_client_from_config(str(api_server)) as api_client:
        yield client.CustomObjectsApi(api_client)


def _accepted(api, manifest):
    try:
        api.create_namespaced_custom_object(GROUP, VERSION, "default", PLURAL, manifest, dry_run="All")
    except client.ApiException as error:
        if error.status != 422:
            raise
        return False
    return True


@pytest.mark.parametrize("path", SEEDS_OF_VALUES)
def test_same_verdict(api, path):
    chance = random.Random(f"{SEED} {path}")
    values = list(SEEDS_OF_VALUES[path])
    values += [_mutated(chance.choice(values), chance) for _ in range(EACH)]
    different = []
    for value in values:
        manifest = make_manifest({path: value})
        findings, accepted = lint(manifest), _accepted(api, manifest)
        if accepted is not (findings == ()):
            different.append((value, accepted, [str(finding) for finding in findings]))
    assert different == [], f"seed {SEED}"
