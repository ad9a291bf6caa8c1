"""Good specs to start from: between them every block of the contract stands once, so that each of its fields can change."""

from collections.abc import Mapping
from typing import Any

from support.fuzz.admission import is_taken
from support.fuzz.leaves import MISSING, Leaf, example, get_at, with_at

_TENSOR = {"name": "image", "dtype": "FP32", "shape": [3, 8, 8]}
_FACTORY = {"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 10}, "fresh": ["fc.*"]}
_DATA = {"uri": "s3://data/digits/train.npz", "secretName": "data"}
_LESSON = {"epochs": 3, "data": _DATA, "freeze": ["layer1.*"], "learningRate": "0.001", "batchSize": 64}
_BOUND = {"max": "0.5", "maxRegression": "5"}
_TIME = {"max": "30s", "maxRegression": "5"}

_PLAIN: dict[str, Any] = {
    "model": {"uri": "s3://models/digits/v1/"},
    "optimization": {"resources": {"cpu": 2, "memory": "4Gi"}},
    "storage": {"size": "20Gi"},
    "serving": {
        "replicas": 2,
        "gpus": {"count": 1},
        "resources": {"cpu": "2", "memory": "4Gi"},
        "batching": {"preferredSizes": [4]},
        "terminationGracePeriod": "60s",
    },
}
_WEIGHTS: dict[str, Any] = {
    "model": {
        "uri": "s3://models/digits/v1/",
        "format": "SafeTensors",
        "trust": "Executable",
        "architecture": _FACTORY,
        "credentials": {"secretName": "source"},
        "signature": {"inputs": [_TENSOR], "outputs": [{"name": "logits", "dtype": "FP32", "shape": [10]}]},
        "samples": {"uri": "s3://models/digits/samples.npz", "secretName": "samples"},
    },
    "optimization": {
        "tolerance": {
            "maxAbs": "0.1",
            "cosine": "0.9",
            "top1Agreement": "0.5",
            "metric": "Accuracy",
            "maxMetricDrop": "0.1",
        },
        "fineTune": _LESSON,
        "prune": {"ratio": "0.5", "fineTune": _LESSON},
        "distill": {
            "teacher": {
                "uri": "s3://models/digits/teacher/",
                "secretName": "teacher",
                "format": "SafeTensors",
                "trust": "Executable",
                "architecture": _FACTORY,
            },
            "temperature": "4",
            "alpha": "0.7",
            "data": _DATA,
            "learningRate": "0.001",
        },
    },
}
_CANARY: dict[str, Any] = {
    "model": {"uri": "s3://models/digits/v1/"},
    "serving": {"replicas": 2, "gpus": {"count": 1}},
    "rollout": {
        "strategy": "Canary",
        "capacity": "Auto",
        "steps": [{"weight": 50, "hold": "1m"}],
        "verification": {"tolerance": {"maxAbs": "0.1", "cosine": "0.9", "top1Agreement": "0.5"}},
        "analysis": {
            "interval": "15s",
            "window": "30s",
            "minRequests": 10,
            "onNoData": "Pass",  # The small world measures no tail and compares no answers.
            "checks": {
                "errorRate": _BOUND,
                "meanLatency": _TIME,
                "tailLatency": _TIME,
                "queueTime": _TIME,
                "computeTime": _TIME,
                "podRestarts": {"max": 1},
            },
        },
        "bake": "30s",
        "progressDeadline": "10m",
        "action": {"id": "1", "verb": "retry"},
    },
}
_QUERY = {"name": "memory", "query": "max(x)", "max": "0.9", "maxRegression": "5", "mode": "Observe"}

BASES: dict[str, dict[str, Any]] = {
    "plain": _PLAIN,
    "weights": _WEIGHTS,
    "tuned": {
        "model": {"uri": "s3://models/digits/v1/"},
        "optimization": {"tuning": {"settings": ["Instances"], "concurrency": 8, "maxLatency": "50ms", "time": "30s"}},
    },
    "bucket": {
        "model": {"uri": "s3://models/digits/v1/"},
        "storage": {
            "kind": "Bucket",
            "bucket": {"uri": "s3://artifacts/team", "secretName": "store", "maxSize": "20Gi"},
        },
    },
    "canary": _CANARY,
    "windows": with_at(
        _CANARY, "rollout.maintenanceWindows", [{"schedule": "*/10 * * * *", "duration": "3m", "timeZone": "UTC"}]
    ),
    "shadow": {
        "model": {"uri": "s3://models/digits/v1/"},
        "rollout": {
            "strategy": "Canary",
            "steps": [{"weight": 50}],
            "shadow": {"sampleRate": "0.5", "minAgreement": "0"},
        },
    },
    "asked": with_at(_CANARY, "rollout.analysis.checks.prometheus", [_QUERY]),
    "gateway": {
        "model": {"uri": "s3://models/digits/v1/"},
        "serving": {
            "gateway": {
                "name": "public",
                "sectionName": "web",
                "hostnames": ["a.org"],
                "grpc": {"sectionName": "rpc", "hostnames": ["grpc.a.org"]},
            }
        },
    },
    "encrypted": {
        "model": {"uri": "s3://models/digits/v1/"},
        "storage": {
            "kind": "Bucket",
            "bucket": {
                "uri": "s3://artifacts/team",
                "encryption": {
                    "recipient": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
                    "identitySecret": "key",
                },
            },
        },
    },
    "closed": {
        "model": {"uri": "s3://models/digits/v1/"},
        "serving": {
            "protocols": ["GRPC"],
            "access": {"mode": "Internal", "fromNamespaces": ["shop"], "tls": {"secretName": "tls", "clientCA": "ca"}},
        },
    },
    "scaled": {
        "model": {"uri": "s3://models/digits/v1/"},
        "serving": {"autoscaling": {"maxReplicas": 3, "metrics": [{"type": "CPU", "target": "70"}]}},
    },
    "refreshed": {"model": {"uri": "s3://models/digits/v1/", "refresh": {"interval": "1h"}}},
}


def base_of(leaf: Leaf) -> tuple[str, dict[str, Any]]:
    """Name and spec of the first base with the block that the field lies in.

    For a block that none has a small one is made from the schema's own examples; one that is refused stays away.
    """
    for name, spec in BASES.items():
        if not leaf.parent or _stands(spec, leaf):
            return name, _lasting(spec)
    if leaf.refused:
        return "plain", _lasting(_PLAIN)
    small = with_at(_PLAIN, leaf.path, MISSING)
    return "made", _lasting(small if is_taken(small) else with_at(_PLAIN, leaf.path, example(leaf.schema)))


def _lasting(spec: Mapping[str, Any]) -> dict[str, Any]:
    """With room for every revision of a test: what goes beyond the limit is another test's matter."""
    return with_at(spec, "revisionHistoryLimit", 60)


def _stands(spec: Mapping[str, Any], leaf: Leaf) -> bool:
    # A block that stands by default counts: every object has it.
    whole = leaf.parent in {"model", "optimization", "storage", "serving", "rollout"}
    return whole or get_at(spec, leaf.parent) is not MISSING
