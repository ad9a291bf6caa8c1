"""Objects that must not be accepted, one mistake each, with a piece of the sentence that the user reads.

The API server's and lint's tests walk the same table, so that they cannot drift apart.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pilotfish.api.base import API_VERSION, KIND

MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Invalid:
    """One mistake: dotted paths below spec that are set on the ten-line object (MISSING removes one).

    `says` is in both answers unless `server` or `lint` names its own; None there means that this one lets it pass.
    """

    what: str
    says: str
    spec: dict[str, Any] = field(default_factory=dict)
    name: str = "digits"
    server: str | None = ""
    lint: str | None = ""

    @property
    def server_says(self) -> str | None:
        """What the API server must say."""
        return self.says if self.server == "" else self.server

    @property
    def lint_says(self) -> str | None:
        """What lint must say."""
        return self.says if self.lint == "" else self.lint

    def manifest(self) -> dict[str, Any]:
        """The whole object."""
        return make_manifest(self.spec, name=self.name)


def make_manifest(changes: dict[str, Any] | None = None, *, name: str = "digits") -> dict[str, Any]:
    """The ten-line object with changes at dotted paths below spec."""
    spec: dict[str, Any] = {"model": {"uri": "s3://models/digits/v3/"}, "serving": {"gpus": {"count": 1}}}
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is MISSING:
            del place[last]
        else:
            place[last] = deepcopy(value)
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def _prune(**more: Any) -> dict[str, Any]:
    return {"fineTune": {"data": {"uri": "s3://d/train.npz"}}, **more}


def _distill(**teacher: Any) -> dict[str, Any]:
    return {"teacher": {"uri": "s3://a/b", **teacher}, "data": {"uri": "s3://d/train.npz"}}


def _tensor(name: str = "x", dtype: str = "FP32", shape: Any = (4,)) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape)}


_SIGNATURE = {"inputs": [_tensor()]}
_RESNET = {"factory": "torchvision.models.resnet18"}

NAMES = (
    Invalid("a name too long for its children", "use at most 40 characters", name="a" * 41),
    Invalid("a name that begins with a digit", "a letter first", name="3digits"),
    Invalid("a name with dots", "use lower-case letters, digits and '-'", name="digits.v1"),
)

SOURCES = (
    Invalid("no model", "spec.model", {"model": MISSING}, server="spec.model: Required value", lint="is required"),
    Invalid(
        "no uri", "spec.model.uri", {"model.uri": MISSING}, server="spec.model.uri: Required value", lint="is required"
    ),
    Invalid("an empty uri", "at least", {"model.uri": ""}, server="should be at least 1 chars long"),
    Invalid("a plain path", "begins with s3://", {"model.uri": "/models/digits"}),
    Invalid("an unknown scheme", "begins with s3://", {"model.uri": "ftp://host/digits"}),
    Invalid("a local file", "begins with s3://", {"model.uri": "file:///etc/passwd"}),
    Invalid("a scheme in capitals", "begins with s3://", {"model.uri": "S3://models/digits"}),
    Invalid("a uri without host", "begins with s3://", {"model.uri": "s3:///digits"}),
    Invalid("a space in a uri", "without spaces", {"model.uri": "s3://models/my digits"}),
    Invalid("a line break in a uri", "without spaces", {"model.uri": "s3://models/digits\n"}),
    Invalid(
        "a uri that is too long", "2048", {"model.uri": "s3://m/" + "a" * 2048}, server="may not be more than 2048"
    ),
    Invalid("the parent folder", "write the path without '..'", {"model.uri": "s3://models/../secrets/"}),
    Invalid("the parent folder at the end", "write the path without '..'", {"model.uri": "pvc://claim/models/.."}),
    Invalid("the parent folder, encoded", "write the path without '..'", {"model.uri": "https://h/a/%2E%2e/b"}),
    Invalid("the parent folder, slashes encoded", "write the path without '..'", {"model.uri": "https://h/a%2F..%5Cb"}),
    Invalid("the parent folder, backslashes", "write the path without '..'", {"model.uri": "s3://m/a\\..\\b"}),
    Invalid("user and password", "put them into a Secret", {"model.uri": "https://me:secret@host/digits.onnx"}),
    Invalid("a token for a user", "put them into a Secret", {"model.uri": "https://ghp_token@host/digits.onnx"}),
    Invalid("keys before a bucket", "put them into a Secret", {"model.uri": "s3://AKIA:secret@models/digits"}),
    Invalid("a presigned S3 uri", "query", {"model.uri": "https://h/m.onnx?X-Amz-Signature=0a1b&X-Amz-Expires=9"}),
    Invalid("a presigned GCS uri", "query", {"model.uri": "https://h/m.onnx?X-Goog-Signature=0a1b"}),
    Invalid("a SAS token", "query", {"model.uri": "https://h/m.onnx?sv=2024&sig=0a1b"}),
    Invalid("a token in the query", "query", {"model.uri": "https://h/m.onnx?a=1&token=0a1b"}),
    Invalid("a claim without a path", "write pvc://claim/path", {"model.uri": "pvc://claim"}),
    Invalid("a claim in capitals", "write pvc://claim/path", {"model.uri": "pvc://Claim/digits"}),
    Invalid("samples of an unknown scheme", "begins with s3://", {"model.samples": {"uri": "ftp://h/s.npz"}}),
    Invalid("samples with a token", "query", {"model.samples": {"uri": "https://h/s.npz?token=1"}}),
    Invalid("samples without uri", "spec.model.samples.uri", {"model.samples": {}}, lint="is required"),
    Invalid("a short digest", "write sha256: and 64", {"model.digest": "sha256:abc"}),
    Invalid("a digest in capitals", "write sha256: and 64", {"model.digest": "sha256:" + "A" * 64}),
    Invalid("a digest without algorithm", "write sha256: and 64", {"model.digest": "0" * 64}),
    Invalid("a secret of another namespace", "no '/'", {"model.credentials": {"secretName": "other/s3"}}),
    Invalid("an empty secret", "at least 1", {"model.credentials": {"secretName": ""}}),
    Invalid("a format nobody knows", "ONNX", {"model.format": "Pickle"}, server="Unsupported value"),
    Invalid("a trust nobody knows", "DataOnly", {"model.trust": "Full"}, server="Unsupported value"),
)

CODE = (
    Invalid("weights alone", "set architecture.factory", {"model.format": "StateDict", "model.signature": _SIGNATURE}),
    Invalid(
        "safetensors alone", "set architecture.factory", {"model.format": "SafeTensors", "model.signature": _SIGNATURE}
    ),
    Invalid(
        "weights without signature",
        "set signature.inputs",
        {"model.format": "StateDict", "model.architecture": _RESNET},
    ),
    Invalid("TorchScript as data", "set trust: Executable", {"model.format": "TorchScript"}),
    Invalid(
        "a factory of the standard library",
        "torchvision, timm or transformers",
        {"model.architecture.factory": "os.system"},
    ),
    Invalid(
        "a library whose name begins alike",
        "torchvision, timm or transformers",
        {"model.architecture.factory": "torchvision_evil.build"},
    ),
    Invalid(
        "a call instead of a name",
        "write the dotted name",
        {"model.architecture.factory": "torchvision.models.vgg('x')"},
    ),
    Invalid("an architecture without code", "exactly one of factory", {"model.architecture": {"arguments": {"n": 1}}}),
)

SIGNATURES = (
    Invalid("no inputs", "at least 1", {"model.signature": {"inputs": []}}, server="should have at least 1 items"),
    Invalid("an element type nobody knows", "FP32", {"model.signature.inputs": [_tensor(dtype="float")]}),
    Invalid("the same input twice", "a name of its own", {"model.signature.inputs": [_tensor(), _tensor()]}),
    Invalid(
        "the same output twice",
        "a name of its own",
        {"model.signature": {**_SIGNATURE, "outputs": [_tensor(), _tensor()]}},
    ),
    Invalid("an input without name", "name", {"model.signature.inputs": [{"dtype": "FP32", "shape": [1]}]}),
    Invalid("a name with a path", "without spaces and '/'", {"model.signature.inputs": [_tensor("a/b")]}),
    Invalid(
        "a size below -1",
        "-1",
        {"model.signature.inputs": [_tensor(shape=[-2])]},
        server="should be greater than or equal to -1",
    ),
    Invalid(
        "a size as text",
        "whole number",
        {"model.signature.inputs": [_tensor(shape=["batch"])]},
        server="must be of type integer",
    ),
)

OPTIMIZATION = (
    Invalid("tuning without a goal", "Latency or Throughput", {"optimization": {"objective": "Size", "tuning": {}}}),
    Invalid("tuning on no GPU", "the Job has no GPU", {"optimization.tuning": {}, "serving.gpus": {"count": 1}}),
    Invalid("tuning without a setting", "at least 1", {"optimization.tuning": {"settings": []}}, server="at least 1"),
    Invalid("a setting twice", "each setting once", {"optimization.tuning": {"settings": ["Threads", "Threads"]}}),
    Invalid("tuning within no time", "from 1ms to 60s", {"optimization.tuning": {"maxLatency": "0s"}}),
    Invalid("tuning for too short", "from 5s to 30m", {"optimization.tuning": {"time": "1s"}}),
    Invalid("no formats", "at least 1", {"optimization.formats": []}, server="should have at least 1 items"),
    Invalid("a format twice", "name each format once", {"optimization.formats": ["ONNX", "ONNX"]}),
    Invalid("a precision twice", "name each precision once", {"optimization.precisions": ["FP16", "FP32", "FP16"]}),
    Invalid("a precision nobody knows", "FP32", {"optimization.precisions": ["FP8"]}, server="Unsupported value"),
    Invalid(
        "INT8 without samples", "set model.samples.uri", {"model.format": "ONNX", "optimization.precisions": ["INT8"]}
    ),
    Invalid("an objective nobody knows", "Latency", {"optimization.objective": "Speed"}, server="Unsupported value"),
    Invalid("a batch of none", "at least 1", {"optimization.batchSizes": [0]}, server="greater than or equal to 1"),
    Invalid("a batch size twice", "name each batch size once", {"optimization.batchSizes": [1, 8, 1]}),
    Invalid(
        "a float", 'in quotes such as "0.995"', {"optimization.tolerance": {"cosine": 0.99}}, server="must be of type"
    ),
    Invalid("a tolerance in words", 'such as "0.995"', {"optimization.tolerance": {"maxAbs": "little"}}),
    Invalid("a tolerance below zero", 'such as "0.995"', {"optimization.tolerance": {"maxAbs": "-1"}}),
    Invalid(
        "a tolerance without quotes",
        'such as "0.995"',
        {"optimization.tolerance": {"maxAbs": 1}},
        server="must be of type string",
    ),
    Invalid("percent for a share", "a share from 0 to 1", {"optimization.tolerance": {"top1Agreement": "99.5"}}),
    Invalid(
        "a metric without samples",
        "measured on labelled samples: set model.samples.uri",
        {"model.format": "ONNX", "optimization.tolerance": {"metric": "Accuracy"}},
    ),
    Invalid("a metric nobody knows", "Accuracy", {"optimization.tolerance": {"metric": "F1"}}),
    Invalid("whole percent for a share", "a share from 0 to 1", {"optimization.tolerance": {"cosine": "99"}}),
    Invalid("a deadline without unit", "with its unit such as", {"optimization.deadline": "60"}),
    Invalid("a deadline too short", "write a duration from 1m to 168h", {"optimization.deadline": "5s"}),
    Invalid("a deadline too long", "write a duration from 1m to 168h", {"optimization.deadline": "169h"}),
    Invalid(
        "a deadline beyond all counting",
        "write a duration from 1m to 168h",
        {"optimization.deadline": "99999999999999999h"},
    ),
    Invalid("a deadline as a number", "with its unit", {"optimization.deadline": 60}, server="must be of type string"),
    Invalid("memory in words", "write a quantity such as", {"optimization.resources": {"memory": "4 GB"}}),
    Invalid("fewer than no cores", "write a quantity such as", {"optimization.resources": {"cpu": -1}}),
)

SERVING = (
    Invalid("fewer than no pods", "at least 0", {"serving.replicas": -1}, server="greater than or equal to 0"),
    Invalid("too many pods", "at most 1000", {"serving.replicas": 1001}, server="less than or equal to 1000"),
    Invalid("pods as text", "without quotes", {"serving.replicas": "2"}, server="must be of type integer"),
    Invalid("half a GPU", "whole number", {"serving.gpus.count": 0.5}, server="must be of type integer"),
    Invalid("too many GPUs", "at most 16", {"serving.gpus.count": 17}, server="less than or equal to 16"),
    Invalid("a GPU without vendor", "full name such as nvidia.com/gpu", {"serving.gpus.resource": "gpu"}),
    Invalid(
        "a preferred size above the largest",
        "at or below maxBatchSize",
        {"serving.batching": {"maxBatchSize": 4, "preferredSizes": [2, 8]}},
    ),
    Invalid(
        "a preferred size above the default",
        "at or below maxBatchSize",
        {"serving.batching": {"preferredSizes": [16]}},
    ),
    Invalid("a preferred size twice", "each preferred size once", {"serving.batching": {"preferredSizes": [4, 4]}}),
    Invalid("a queue delay too long", "from 0s to 10s", {"serving.batching": {"maxQueueDelay": "1m"}}),
    Invalid("no instances", "at least 1", {"serving.instances": 0}, server="greater than or equal to 1"),
    Invalid("no protocols", "at least 1", {"serving.protocols": []}, server="should have at least 1 items"),
    Invalid("a protocol twice", "name each protocol once", {"serving.protocols": ["HTTP", "HTTP"]}),
    Invalid("a protocol nobody knows", "GRPC", {"serving.protocols": ["REST"]}, server="Unsupported value"),
    Invalid("warm-up as text", "true or false", {"serving.warmup": "yes"}, server="must be of type boolean"),
    Invalid("no grace period", "from 1s to 1h", {"serving.terminationGracePeriod": "0s"}),
    Invalid("resources as a list", "mapping", {"serving.resources": ["cpu"]}, server="must be of type object"),
    Invalid("a progress deadline too short", "from 10s to 24h", {"rollout.progressDeadline": "1s"}),
    Invalid("a negative history", "at least 0", {"revisionHistoryLimit": -1}, server="greater than or equal to 0"),
    Invalid("a size in words", "write a quantity such as", {"storage.size": "big"}),
    Invalid("a class of another namespace", "no '/'", {"storage.className": "team/fast"}),
    Invalid("an access mode nobody knows", "ReadWriteOnce", {"storage.accessMode": "ReadOnly"}),
    Invalid("a bucket without its kind", "set bucket with kind: Bucket", {"storage.bucket": {"uri": "s3://a/b"}}),
    Invalid("a kind without its bucket", "set bucket with kind: Bucket", {"storage.kind": "Bucket"}),
    Invalid(
        "a class without a claim",
        "only claims have a class",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://a/b"}, "className": "fast"}},
    ),
    Invalid(
        "a bucket with keys",
        "put them into a Secret",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://k:s@a/b"}}},
    ),
    Invalid(
        "a bucket behind http",
        "begins with s3://, gs:// or az://",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "https://a/b"}}},
    ),
    Invalid(
        "a bucket's size in words",
        "write a quantity such as",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://a/b", "maxSize": "big"}}},
    ),
    Invalid(
        "a bucket that climbs",
        "write the path without '..'",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://a/../b"}}},
    ),
    Invalid(
        "a key of AWS in another cloud",
        "remove kmsKey",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "gs://a/b", "kmsKey": "alias/models"}}},
    ),
    Invalid(
        "a key of KMS with a space",
        "write the id or the ARN of a key",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://a/b", "kmsKey": "my key"}}},
    ),
    Invalid(
        "a private key in the object",
        "write an age public key",
        {
            "storage": {
                "kind": "Bucket",
                "bucket": {
                    "uri": "s3://a/b",
                    "encryption": {"recipient": "AGE-SECRET-KEY-1" + "Q" * 40, "identitySecret": "key"},
                },
            }
        },
    ),
)


def _canary(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"rollout": {"strategy": "Canary", "steps": list(steps)}}


def _checks(**checks: Any) -> dict[str, Any]:
    return {"rollout": {"strategy": "Canary", "analysis": {"checks": checks}}}


def _action(**action: Any) -> dict[str, Any]:
    return {"rollout.action": {"id": "2026-11-22-1", **action}}


def _window(schedule: str = "0 2 * * 6", duration: str = "4h", **more: str) -> dict[str, Any]:
    return {"rollout.maintenanceWindows": [{"schedule": schedule, "duration": duration, **more}]}


ROLLOUT = (
    Invalid("steps that go down", "in ascending order", _canary({"weight": 50}, {"weight": 10, "hold": "2m"})),
    Invalid("the same step twice", "each once", _canary({"weight": 50}, {"weight": 50})),
    Invalid("a step of all", "at most 99", _canary({"weight": 100}), server="less than or equal to 99"),
    Invalid("a step of nothing", "at least 1", _canary({"weight": 0}), server="greater than or equal to 1"),
    Invalid(
        "a step that does not say its weight", "is required", _canary({"hold": "2m"}), server="weight: Required value"
    ),
    Invalid(
        "more steps than allowed",
        "at most 32",
        _canary(*({"weight": weight} for weight in range(1, 34))),
        server="must have at most 32 items",
    ),
    Invalid("a hold in words", "or Forever", _canary({"weight": 10, "hold": "long"})),
    Invalid("a hold without unit", "or Forever", _canary({"weight": 10, "hold": "120"})),
    Invalid("a hold of for ever in lower case", "or Forever", _canary({"weight": 10, "hold": "forever"})),
    Invalid("a hold of more than a week", "from 0s to 168h", _canary({"weight": 10, "hold": "168h1s"})),
    Invalid(
        "steps without Canary",
        "steps are those of a canary",
        {"rollout": {"steps": [{"weight": 10}]}},
    ),
    Invalid(
        "steps with Replace",
        "steps are those of a canary",
        {"rollout": {"strategy": "Replace", "steps": [{"weight": 10}]}},
    ),
    Invalid(
        "Replace with Surge",
        "Replace stops the old revision first",
        {"rollout": {"strategy": "Replace", "capacity": "Surge"}},
    ),
    Invalid(
        "Replace with Swap",
        "Replace stops the old revision first",
        {"rollout": {"strategy": "Replace", "capacity": "Swap"}},
    ),
    Invalid(
        "shadow without steps",
        "shadow compares answers at the steps of a canary: set strategy: Canary, or remove shadow",
        {"rollout": {"shadow": {"sampleRate": "0.05"}}},
    ),
    Invalid(
        "shadow behind a gateway",
        "shadow is not available with a gateway in this version; remove rollout.shadow or serving.gateway",
        {
            "rollout": {"strategy": "Canary", "shadow": {}},
            "serving.gateway": {"name": "public"},
            "serving.protocols": ["HTTP"],
        },
    ),
    Invalid("a strategy nobody knows", "use one of Canary, BlueGreen", {"rollout.strategy": "Blue"}, server="Blue"),
    Invalid("a capacity nobody knows", "use one of Auto, Surge", {"rollout.capacity": "Spare"}, server="Spare"),
    Invalid("a bake in words", "with its unit such as", {"rollout.bake": "long"}),
    Invalid("a bake of more than a week", "from 0s to 168h", {"rollout.bake": "169h"}),
    Invalid("a bake below zero", "with its unit such as", {"rollout.bake": "-5m"}),
    # A2: a check without condition is no measurement that passes, but a mistake.
    Invalid("a check without bounds", "set max (absolute) or", _checks(errorRate={})),
    Invalid("a check that only says its mode", "set max (absolute) or", _checks(queueTime={"mode": "Observe"})),
    Invalid("a tail without bounds", "set max (absolute) or", _checks(tailLatency={"quantile": "0.99"})),
    Invalid("a time as a share", "with its unit such as", _checks(tailLatency={"max": "0.5"})),
    Invalid("a share as a time", 'such as "0.995"', _checks(errorRate={"max": "5ms"})),
    Invalid("a time that is too long", "from 0s to 1h", _checks(computeTime={"max": "2h"})),
    Invalid("a quantile above one", "a share from 0 to 1", _checks(tailLatency={"max": "5ms", "quantile": "99"})),
    Invalid(
        "a mode nobody knows", "use one of Enforce", _checks(errorRate={"max": "1", "mode": "Warn"}), server="Warn"
    ),
    Invalid(
        "fewer restarts than none", "at least 0", _checks(podRestarts={"max": -1}), server="greater than or equal to 0"
    ),
    Invalid(
        "two checks of one name",
        "a name of its own",
        _checks(prometheus=[{"name": "a", "query": "x", "max": "1"}, {"name": "a", "query": "y", "max": "1"}]),
    ),
    Invalid(
        "a query without bounds",
        "set max (absolute) or",
        _checks(prometheus=[{"name": "gpu-memory", "query": "max(x)"}]),
    ),
    Invalid(
        "a query without a name",
        "is required",
        _checks(prometheus=[{"query": "max(x)", "max": "1"}]),
        server="name: Required value",
    ),
    Invalid("judging too often", "from 5s to 1h", {"rollout.analysis": {"interval": "1s"}}),
    Invalid("judging too little", "from 10s to 24h", {"rollout.analysis": {"window": "9s"}}),
    Invalid("waiting too briefly for data", "from 1m to 168h", {"rollout.analysis": {"noDataDeadline": "59s"}}),
    Invalid(
        "no failure at all aborts",
        "at least 1",
        {"rollout.analysis": {"failureLimit": 0}},
        server="greater than or equal to 1",
    ),
    Invalid("no data, no rule", "use one of Hold", {"rollout.analysis": {"onNoData": "Ignore"}}, server="Ignore"),
    Invalid(
        "a tolerance of the loaded model in percent",
        "a share from 0 to 1",
        {"rollout.verification": {"tolerance": {"top1Agreement": "99.5"}}},
    ),
    Invalid("undo to nowhere", "set toRevision with verb undo", _action(verb="undo")),
    Invalid(
        "a promotion to somewhere", "set toRevision with verb undo", _action(verb="promote", toRevision="bcdfghjk")
    ),
    Invalid("a verb nobody knows", "use one of promote", _action(verb="restart"), server="restart"),
    Invalid("an action without id", "is required", {"rollout.action": {"verb": "retry"}}, server="id: Required value"),
    Invalid("a window of four fields", "five fields of a cron expression", _window("0 2 * *")),
    Invalid("a window without end", "from 1m to 168h", _window(duration="169h")),
    Invalid("a window of no time", "from 1m to 168h", _window(duration="59s")),
    Invalid("a time zone with a space", "such as Europe/Berlin", _window(timeZone="Central Europe")),
)

_GONE = "is not available in this version"


def _scaled(kind: str, target: str, **more: str) -> dict[str, Any]:
    return {"serving.autoscaling": {"maxReplicas": 2, "metrics": [{"type": kind, "target": target, **more}]}}


def _gateway(**more: Any) -> dict[str, Any]:
    return {"serving.gateway": {"name": "public", **more}}


def _predict(**more: Any) -> dict[str, Any]:
    return {"serving.predict": more}


PREDICT = (
    Invalid(
        "plain JSON without HTTP",
        "add HTTP to protocols",
        {"serving.predict": {}, "serving.protocols": ["GRPC"]},
    ),
    Invalid("labels of no classes", "remove labels, or say in scores", _predict(scores="None", labels=["cat", "dog"])),
    Invalid("numbers resized", "write input: Image", _predict(preprocessing={"resize": [8, 8]})),
    Invalid(
        "a height without a width",
        "write height and width",
        _predict(input="Image", preprocessing={"resize": [224]}),
    ),
    Invalid(
        "a std for some channels",
        "as many numbers in std",
        _predict(preprocessing={"mean": ["0.1", "0.2"], "std": ["1", "1", "1"]}),
    ),
    Invalid("a mean that is no number", "write a decimal number", _predict(preprocessing={"mean": ["half"]})),
    Invalid("numbers made into tokens", "write input: Text", _predict(preprocessing={"maxTokens": 8})),
    Invalid(
        "tokens normalised",
        "tokens of a text are no measurements",
        _predict(input="Text", preprocessing={"mean": ["0.5"]}),
    ),
    Invalid(
        "texts of no token",
        "at least 1",
        _predict(input="Text", preprocessing={"maxTokens": 0}),
        server="greater than or equal to 1",
    ),
    Invalid("a share above one", "write a share from 0 to 1", _predict(sampleRate="2")),
)


# What is refused as a whole in this version is still checked inside: the rules must be right on the day it arrives.
COMING = (
    Invalid("a kind without its registry", "set oci with kind: OCI", {"storage.kind": "OCI"}),
    Invalid(
        "two kinds at once",
        "set oci with kind: OCI",
        {"storage": {"kind": "Bucket", "bucket": {"uri": "s3://a/b"}, "oci": {"repository": "h/a"}}},
    ),
    Invalid(
        "an image with a tag",
        "without scheme, tag or digest",
        {"storage": {"kind": "OCI", "oci": {"repository": "https://h/a:1"}}},
    ),
    Invalid(
        "fewer than the fewest",
        "at or above minReplicas",
        {"serving.autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
    ),
    Invalid("a percentage of nothing", "a percentage of the CPU request", _scaled("CPU", "0.5")),
    Invalid("more than all of a CPU", "a percentage of the CPU request", _scaled("CPU", "1e9")),
    Invalid("more than all of a GPU", "a percentage of the GPU's time", _scaled("GPUUtilization", "101")),
    Invalid("a wait of no time", "milliseconds from 0.001", _scaled("QueueTime", "0")),
    Invalid("a target that is no number", "a non-negative decimal number", _scaled("QueueTime", "5ms")),
    Invalid(
        "a metric without its query",
        "set query with type Prometheus",
        {"serving.autoscaling": {"maxReplicas": 2, "metrics": [{"type": "Prometheus", "target": "5"}]}},
    ),
    Invalid(
        "a namespace with a slash",
        "write the name of a namespace",
        {"serving.access": {"mode": "Internal", "fromNamespaces": ["a/b"]}},
    ),
    Invalid("a gateway for both without hosts", "give gRPC hosts that HTTP does not have", _gateway(grpc={})),
    Invalid(
        "gRPC under the host of HTTP",
        "give gRPC hosts that HTTP does not have",
        _gateway(hostnames=["a.example.org"], grpc={"hostnames": ["b.example.org", "a.example.org"]}),
    ),
    Invalid(
        "gRPC at the listener of HTTP",
        "give gRPC hosts that HTTP does not have",
        _gateway(sectionName="https", grpc={"sectionName": "https"}),
    ),
    Invalid("a gateway for both with one route", "set gateway.grpc", _gateway(hostnames=["a.example.org"])),
    Invalid("a host with its scheme", "a host without scheme", _gateway(hostnames=["https://a.example.org"])),
    Invalid("a host with its port", "a host without scheme", _gateway(hostnames=["a.example.org:443"])),
    Invalid("a file without its function", "write file.py#function", {"model.architecture.file": "model.py"}),
    Invalid("a SavedModel as data", "run code when opened", {"model.format": "SavedModel"}),
    Invalid("a TorchServe archive as data", "run code when opened", {"model.format": "TorchServeArchive"}),
    Invalid("code in a file as data", "set trust: Executable to run", {"model.architecture.file": "model.py#build"}),
    Invalid(
        "explanations of ONNX",
        "explanations are for models that came from PyTorch",
        {"optimization.explanations": {}, "model.format": "ONNX"},
    ),
    Invalid(
        "explanations of too many samples",
        "at most 64",
        {"optimization.explanations": {"samples": 65}},
        server="less than or equal to 64",
    ),
    Invalid("an export twice", "name each export once", {"optimization.exports": ["TFLite", "TFLite"]}),
    Invalid(
        "TLS for HTTP",
        "write protocols: [GRPC], because Triton has no TLS for HTTP",
        {"serving.access": {"tls": {"secretName": "digits-tls"}}},
    ),
    Invalid(
        "TLS behind a gateway",
        "give the gateway's listener the certificate",
        {
            "serving.access": {"tls": {"secretName": "digits-tls"}},
            "serving.protocols": ["GRPC"],
            "serving.gateway": {"name": "public"},
        },
    ),
    Invalid(
        "a shadow of encrypted requests",
        "shadow is not available with access.tls in this version",
        {
            "serving.access": {"tls": {"secretName": "digits-tls"}},
            "serving.protocols": ["GRPC"],
            "rollout.strategy": "Canary",
            "rollout.shadow": {"sampleRate": "0.1"},
        },
    ),
    Invalid(
        "access for a gateway that is not there",
        "set serving.gateway, whose pods alone may connect",
        {"serving.access": {"mode": "Gateway"}},
    ),
    Invalid(
        "namespaces beside open access",
        "remove fromNamespaces, or write mode: Internal",
        {"serving.access": {"mode": "Open", "fromNamespaces": ["shop"]}},
    ),
    Invalid(
        "a namespace twice",
        "name each namespace once",
        {"serving.access": {"mode": "Internal", "fromNamespaces": ["a", "a"]}},
    ),
    Invalid("a registry without a repository", "write oci://registry/repository:tag", {"model.uri": "oci://host"}),
    Invalid("a digest too short", "write oci://registry/repository:tag", {"model.uri": "oci://h/a@sha256:12"}),
    Invalid("looking too often", "from 1m to 168h", {"model.refresh": {"interval": "59s"}}),
    Invalid("looking too seldom", "from 1m to 168h", {"model.refresh": {"interval": "169h"}}),
    Invalid(
        "new bytes of a pin",
        "remove digest, or remove refresh",
        {"model.refresh": {"interval": "1h"}, "model.digest": "sha256:" + "0a" * 32},
    ),
    Invalid(
        "a window at an hour that is none",
        "five fields of a cron expression",
        {"rollout.maintenanceWindows": [{"schedule": "0 24 * * 6", "duration": "4h"}]},
    ),
)


TRAINING = (
    Invalid("training on nothing", "training needs labelled data", {"optimization.fineTune": {"epochs": 3}}),
    Invalid("pruning without data", "training needs labelled data", {"optimization.prune": {"ratio": "0.5"}}),
    Invalid(
        "two sets of data",
        "one recipe is trained and judged on one set",
        {"optimization": {"fineTune": {"data": {"uri": "s3://d/1.npz"}}, "distill": _distill()}},
    ),
    Invalid(
        "steps too large",
        "write a learning rate above 0 and up to 1",
        {"optimization.fineTune": {"data": {"uri": "s3://d/t.npz"}, "learningRate": "1e38"}},
    ),
    Invalid("nothing to prune", "write a share above 0", {"optimization.prune": _prune(ratio="0")}),
    Invalid("everything pruned", "write a share above 0", {"optimization.prune": _prune(ratio="1.0")}),
    Invalid(
        "half in words", 'write a decimal number in quotes such as "0.5"', {"optimization.prune": _prune(ratio="half")}
    ),
    Invalid(
        "a temperature of nothing",
        "write a number above 0",
        {"optimization.distill": {**_distill(), "temperature": "0"}},
    ),
    Invalid(
        "more than all of the teacher",
        "write a share from 0 to 1",
        {"optimization.distill": {**_distill(), "alpha": "2"}},
    ),
    Invalid(
        "a teacher's weights alone",
        "StateDict and SafeTensors hold weights only",
        {"optimization.distill": _distill(format="SafeTensors")},
    ),
    Invalid(
        "a teacher that is code",
        "set trust: Executable if you trust",
        {"optimization.distill": _distill(format="TorchScript")},
    ),
    Invalid(
        "a student that cannot learn",
        "a model of this format cannot be trained",
        {"optimization.distill": _distill(), "model.format": "ONNX"},
    ),
    Invalid(
        "a program without channels",
        "the sizes of an exported program are fixed",
        {"optimization.prune": _prune(), "model.format": "ExportedProgram"},
    ),
    Invalid(
        "a new head that nobody trains",
        "parameters that start anew know nothing yet",
        {"model.architecture": {"factory": "torchvision.models.resnet18", "fresh": ["fc.*"]}},
    ),
)


def _refused(path: str, value: Any) -> Invalid:
    return Invalid(f"{path}, not built yet", f"spec.{path} {_GONE}; remove it", {path: value})


def _refused_value(path: str, value: str, sentence: str, **more: Any) -> Invalid:
    item = [value] if path.endswith("precisions") else value
    return Invalid(f"{path} {value}, not built yet", f"{value} {_GONE}; {sentence}", {path: item, **more})


NOT_AVAILABLE = (
    *(
        Invalid(
            f"a teacher as {name}, not built yet",
            f"{name} {_GONE}; use one of ExportedProgram",
            {"optimization.distill": _distill(format=name, trust="Executable")},
        )
        for name in ("Keras", "SavedModel", "TFLite")
    ),
    _refused("optimization.gpus", {"count": 1}),
    _refused("storage.oci", {"repository": "host/models"}),
    Invalid(
        "scaling by a query, not built yet",
        f"Prometheus {_GONE}; use one of CPU, QueueTime, GPUUtilization",
        _scaled("Prometheus", "5", query="max(x)"),
    ),
    Invalid(
        "a query to scale by, not built yet",
        f"spec.serving.autoscaling.metrics.query {_GONE}; remove it",
        _scaled("CPU", "50", query="max(x)"),
    ),
    _refused("serving.placement", {"profile": "a100"}),
    _refused("rollout.verification.tolerance.metric", "Accuracy"),
    _refused("rollout.verification.tolerance.maxMetricDrop", "0.01"),
    _refused_value("storage.kind", "OCI", "use one of PVC, Bucket", **{"storage.oci": {"repository": "host/models"}}),
)

# The server prunes unknown fields without a word (kubectl asks it to be strict); lint always says them.
LINT_ONLY = (
    Invalid("a typo", "did you mean replicas?", {"serving.replica": 2}, server=None),
    Invalid(
        "snake_case",
        "did you mean secretName?",
        {"model.credentials": {"secretName": "a", "secret_name": "a"}},
        server=None,
    ),
    Invalid("a field of another API", "known here", {"template": {"spec": {}}}, server=None),
)

INVALID = (
    *NAMES,
    *SOURCES,
    *CODE,
    *SIGNATURES,
    *OPTIMIZATION,
    *SERVING,
    *ROLLOUT,
    *TRAINING,
    *PREDICT,
    *COMING,
    *NOT_AVAILABLE,
    *LINT_ONLY,
)
