"""Objects at the edge that must be accepted: what is changed on the ten-line object, by dotted path below spec."""

from typing import Any

_SIGNATURE = {
    "inputs": [{"name": "image", "dtype": "FP32", "shape": [3, 224, 224]}],
    "outputs": [{"name": "logits", "dtype": "FP32", "shape": [10]}],
}

VALID: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ten lines", {}),
    ("a claim", {"model.uri": "pvc://models/digits/v3"}),
    ("a name with dots in a path", {"model.uri": "s3://models/digits..v3/model.onnx"}),
    ("Hugging Face at a revision", {"model.uri": "hf://gpt2@main"}),
    ("an at sign in a path", {"model.uri": "s3://models/digits@v3/"}),
    ("a query without secrets", {"model.uri": "https://host:8443/m.onnx?version=3"}),
    ("a container in Azure", {"model.uri": "az://container/digits"}),
    ("an artifact by its tag", {"model.uri": "oci://registry.example.org:5000/team/digits:v1.2"}),
    ("an artifact by its digest", {"model.uri": "oci://registry/digits:v1@sha256:" + "0a" * 32}),
    ("samples in a registry", {"model.samples": {"uri": "oci://registry/digits-samples"}}),
    (
        "weights with all they need",
        {
            "model.format": "SafeTensors",
            "model.architecture": {"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 10}},
            "model.signature": _SIGNATURE,
        },
    ),
    (
        "a factory of one's own",
        {
            "model.format": "StateDict",
            "model.trust": "Executable",
            "model.architecture": {"factory": "mylib.models.build"},
            "model.signature": _SIGNATURE,
        },
    ),
    ("TorchScript, trusted", {"model.format": "TorchScript", "model.trust": "Executable"}),
    ("Keras", {"model.format": "Keras"}),
    ("TFLite", {"model.format": "TFLite"}),
    ("SavedModel, trusted", {"model.format": "SavedModel", "model.trust": "Executable"}),
    ("a TorchServe archive, trusted", {"model.format": "TorchServeArchive", "model.trust": "Executable"}),
    ("code beside the weights", {"model.architecture": {"file": "net/model.py#build"}, "model.trust": "Executable"}),
    ("INT8, samples by the packed model", {"optimization.precisions": ["FP32", "INT8"]}),
    ("BF16", {"optimization.precisions": ["FP32", "BF16"]}),
    ("explanations", {"optimization.explanations": {}, "model.format": "HuggingFace"}),
    ("explanations of many samples", {"optimization.explanations": {"method": "FeatureAblation", "samples": 64}}),
    ("exports", {"optimization.exports": ["OpenVINO", "TFLite", "ExportedProgram", "AOTInductor"]}),
    (
        "INT8, samples of one's own",
        {
            "model.format": "ONNX",
            "model.samples": {"uri": "s3://m/s.npz", "secretName": "s3.team-a"},
            "optimization.precisions": ["INT8"],
        },
    ),
    (
        "a new head for other labels",
        {
            "model.format": "SafeTensors",
            "model.architecture": {"factory": "torchvision.models.resnet18", "fresh": ["fc.*"]},
            "model.signature": _SIGNATURE,
            "optimization.fineTune": {"data": {"uri": "s3://d/t.npz"}, "freeze": ["layer1.*"], "learningRate": "3e-4"},
        },
    ),
    (
        "all of training, one set of data",
        {
            "optimization.fineTune": {"data": {"uri": "s3://d/t.npz", "secretName": "s3.data"}, "epochs": 2},
            "optimization.prune": {"ratio": "0.5", "fineTune": {"data": {"uri": "s3://d/t.npz"}}},
            "optimization.distill": {
                "teacher": {"uri": "hf://team/teacher", "secretName": "hf.team-a", "format": "HuggingFace"},
                "temperature": "2",
            },
        },
    ),
    (
        "zeros instead of channels",
        {"optimization.prune": {"method": "Unstructured", "fineTune": {"data": {"uri": "s3://d/t.npz"}}}},
    ),
    ("a signed source", {"model.verification": {"publicKeySecret": "team.keys"}}),
    ("a digest", {"model.digest": "sha256:" + "0a" * 32}),
    ("integers for quantities", {"serving.resources": {"cpu": 2, "memory": "4Gi"}, "storage.size": "20Gi"}),
    (
        "every tolerance",
        {"optimization.tolerance": {"maxAbs": "1e-4", "cosine": "0.999", "top1Agreement": "1"}},
    ),
    (
        "artifacts in a bucket",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://a/b", "secretName": "s3.team-a", "maxSize": "20Gi"}}},
    ),
    (
        "artifacts that their store cannot read",
        {
            "storage": {
                "kind": "Bucket",
                "bucket": {
                    "uri": "s3://a/b",
                    "kmsKey": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab",
                    "encryption": {
                        "recipient": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
                        "identitySecret": "artifacts.key",
                    },
                },
            }
        },
    ),
    ("artifacts in Azure, without a Secret", {"storage": {"kind": "Bucket", "bucket": {"uri": "az://artifacts"}}}),
    ("tuning", {"optimization.tuning": {}, "serving.gpus": {"count": 0}}),
    (
        "tuning in full",
        {
            "optimization": {
                "objective": "Throughput",
                "tuning": {"settings": ["Instances"], "concurrency": 8, "maxLatency": "2.5ms", "time": "30s"},
            },
            "serving.gpus": {"count": 0},
        },
    ),
    (
        "a task metric",
        {
            "model.format": "ONNX",
            "model.samples": {"uri": "s3://m/s.npz"},
            "optimization.tolerance": {"metric": "MeanSquaredError", "maxMetricDrop": "0.05"},
        },
    ),
    ("a task metric, labels by the packed model", {"optimization.tolerance": {"metric": "Top5Accuracy"}}),
    ("bounds included", {"optimization.deadline": "1m", "rollout.progressDeadline": "24h"}),
    ("a compound duration", {"optimization.deadline": "1h30m", "serving.batching": {"maxQueueDelay": "0.5ms"}}),
    ("preferred sizes", {"serving.batching": {"maxBatchSize": 16, "preferredSizes": [4, 16]}}),
    ("a MIG profile", {"serving.gpus": {"count": 1, "resource": "nvidia.com/mig-1g.5gb"}}),
    ("an autoscaler", {"serving.autoscaling": {"maxReplicas": 4}}),
    ("what an autoscaler has written", {"serving.autoscaling": {"maxReplicas": 4}, "serving.replicas": 3}),
    ("a turned off autoscaler", {"serving.autoscaling": {"maxReplicas": 4}, "serving.replicas": 0}),
    (
        "an autoscaler by all it knows",
        {
            "serving.autoscaling": {
                "minReplicas": 2,
                "maxReplicas": 2,
                "metrics": [
                    {"type": "QueueTime", "target": "0.5"},
                    {"type": "CPU", "target": "100"},
                    {"type": "GPUUtilization", "target": "8e1"},
                ],
            }
        },
    ),
    ("plain JSON", {"serving.predict": {}}),
    (
        "plain JSON with all of it",
        {
            "serving.predict": {
                "input": "Image",
                "preprocessing": {"resize": [224, 224], "mean": ["0.485", "-1e-2", "0"], "std": ["0.229", "1", "1"]},
                "scores": "Probabilities",
                "labels": ["cat", "dog"],
                "top": 1,
                "sampleRate": "0.1",
            }
        },
    ),
    ("texts in plain JSON", {"serving.predict": {"input": "Text", "preprocessing": {"maxTokens": 128}}}),
    ("a gateway for HTTP", {"serving.gateway": {"name": "public"}, "serving.protocols": ["HTTP"]}),
    (
        "a gateway for both, by host",
        {"serving.gateway": {"name": "public", "hostnames": ["*.a.org"], "grpc": {"hostnames": ["grpc.a.org"]}}},
    ),
    (
        "a gateway for both, by listener",
        {"serving.gateway": {"name": "public", "sectionName": "web", "grpc": {"sectionName": "rpc"}}},
    ),
    (
        "TLS for both sides",
        {
            "serving.access": {"tls": {"secretName": "digits-tls", "clientCA": "digits-clients"}},
            "serving.protocols": ["GRPC"],
        },
    ),
    ("open access", {"serving.access": {"mode": "Open"}}),
    ("access for two more namespaces", {"serving.access": {"fromNamespaces": ["shop", "web"]}}),
    (
        "access for a gateway alone",
        {"serving.gateway": {"name": "public"}, "serving.protocols": ["HTTP"], "serving.access": {"mode": "Gateway"}},
    ),
    ("no pods", {"serving.replicas": 0, "serving.minAvailable": 0}),
    ("empty blocks", {"optimization": None, "serving.batching": None, "serving.replicas": None, "model.refresh": None}),
    ("arguments that are null", {"model.architecture": {"factory": "timm.create_model", "arguments": {"act": None}}}),
    ("defaults written out", {"rollout": {"strategy": "BlueGreen", "capacity": "Auto"}, "storage.kind": "PVC"}),
    ("a canary without a word", {"rollout": {"strategy": "Canary"}}),
    ("an empty list of steps", {"rollout": {"strategy": "BlueGreen", "steps": []}}),
    (
        "a canary with every kind of hold",
        {
            "rollout": {
                "strategy": "Canary",
                "capacity": "Swap",
                "steps": [{"weight": 1}, {"weight": 50, "hold": "168h"}, {"weight": 99, "hold": "Forever"}],
                "bake": "0s",
            }
        },
    ),
    ("Replace", {"rollout": {"strategy": "Replace"}}),
    ("Replace, said in full", {"rollout": {"strategy": "Replace", "capacity": "Recreate"}}),
    ("BlueGreen in place", {"rollout": {"capacity": "Recreate", "bake": "168h"}, "serving.minAvailable": 0}),
    ("an empty shadow", {"rollout": {"strategy": "Canary", "shadow": {}}}),
    ("a shadow", {"rollout": {"strategy": "Canary", "shadow": {"sampleRate": "1", "minAgreement": "0"}}}),
    ("an empty analysis", {"rollout": {"strategy": "Canary", "analysis": {}}}),
    (
        "every check",
        {
            "rollout": {
                "strategy": "Canary",
                "verification": {"tolerance": {"cosine": "0.999"}},
                "analysis": {
                    "interval": "5s",
                    "window": "10s",
                    "minRequests": 0,
                    "onNoData": "Pass",
                    "noDataDeadline": "1m",
                    "failureLimit": 3,
                    "errorLimit": 0,
                    "checks": {
                        "errorRate": {"max": "0.01", "maxRegression": "0.5"},
                        "meanLatency": {"maxRegression": "0.2"},
                        "tailLatency": {"quantile": "0.95", "max": "1h"},
                        "queueTime": {"max": "0ms", "mode": "Observe"},
                        "computeTime": {"maxRegression": "0"},
                        "podRestarts": {"max": 2},
                        "prometheus": [{"name": "gpu-memory", "query": 'max(used{pod=~"x.*"})', "max": "0.9"}],
                    },
                },
            }
        },
    ),
    (
        "windows",
        {
            "rollout.maintenanceWindows": [
                {"schedule": "0 2 * * 6", "duration": "4h", "timeZone": "Europe/Berlin"},
                {"schedule": "*/30 * * * *", "duration": "1m"},
            ]
        },
    ),
    ("an action", {"rollout.action": {"id": "2026-11-22-1", "verb": "promoteFull"}}),
    ("undo", {"rollout.action": {"id": "2026-11-22-2", "verb": "undo", "toRevision": "bcdfghjk"}}),
)
