"""Values to set a field to, made from its schema: valid ones, those at an edge, the same said otherwise, invalid ones.

What no rule of the schema tells apart (a digest, a cron expression) is written down by hand at the end. A field that gets
too few values fails the test that counts them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pilotfish.api.base import IS_DNS_NAME, IS_DURATION, parse_duration
from pilotfish.api.source_rules import SCHEME
from pilotfish.resources.units import parse_quantity
from support.fuzz.leaves import MISSING, Leaf, Schema, example

_BOUNDS = re.compile(r"write a duration from (\S+) to (\S+)")
_NUMBER = re.compile(r"in quotes such as")


class Kind(StrEnum):
    """What a value is meant to be."""

    VALID = "valid"
    EDGE = "edge"
    EQUAL = "equal"
    """The value that stands there, spelt otherwise."""
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Value:
    """One value; `also` sets other paths with it, without which it would make no sense."""

    kind: Kind
    value: Any
    also: Mapping[str, Any] = field(default_factory=dict)


def values_of(leaf: Leaf, current: Any) -> tuple[Value, ...]:
    """All values for a field that stands at `current` (MISSING: unset); leaving it out is one of them."""
    made = [*_HAND.get(leaf.path, ()), *([] if leaf.path in _HAND else _made(leaf.schema, leaf.name, current))]
    if current is not MISSING:
        made.append(Value(Kind.VALID, MISSING))
    unique = {repr((value.value, value.also)): value for value in reversed(made)}
    return tuple(value for value in reversed(unique.values()) if value.value != current or value.also)


def _made(schema: Schema, name: str, current: Any) -> Iterator[Value]:
    if "enum" in schema:
        yield from (Value(Kind.VALID, choice) for choice in schema["enum"])
        yield from (Value(Kind.INVALID, "Nonsense"), Value(Kind.INVALID, 7))
        return
    if schema.get("x-kubernetes-int-or-string"):
        yield from _quantities(name, current)
        return
    match schema.get("type"):
        case "boolean":
            yield from (Value(Kind.VALID, True), Value(Kind.VALID, False))
            yield from (Value(Kind.INVALID, "yes"), Value(Kind.INVALID, 1))
        case "integer":
            yield from _integers(schema)
        case "array":
            yield from _lists(schema, name)
        case "object":
            yield from (Value(Kind.VALID, {"num_classes": 10}), Value(Kind.EDGE, {}), Value(Kind.INVALID, "text"))
            yield Value(Kind.EDGE, {"a": {"b": [None, 1.5, "x"]}})
        case "string":
            yield from _strings(schema, current)


def _integers(schema: Schema) -> Iterator[Value]:
    low, high = schema.get("minimum"), schema.get("maximum")
    assert low is not None and high is not None, "a whole number of the contract has bounds"  # noqa: PT018 - one thought
    yield from (Value(Kind.VALID, value) for value in (low + 1, min(low + 2, high)))
    yield from (Value(Kind.EDGE, low), Value(Kind.EDGE, high))
    yield from (Value(Kind.INVALID, value) for value in (low - 1, high + 1, "many", 1.5))


def _lists(schema: Schema, name: str) -> Iterator[Value]:
    items = schema["items"]
    several = len(schema.get("x-kubernetes-validations", ())) > 0
    choices = [value for value in _made(items, name, MISSING) if value.value is not MISSING]
    good = [value.value for value in choices if value.kind is not Kind.INVALID]
    if not good and (shown := example(schema)) is not MISSING:
        good = list(shown)
    most = schema["maxItems"]
    yield from (Value(Kind.VALID, [value]) for value in good[:2])
    yield Value(Kind.EDGE, good[:most])
    yield Value(Kind.INVALID if schema.get("minItems") else Kind.EDGE, [])
    yield from (Value(Kind.INVALID, [value.value]) for value in choices if value.kind is Kind.INVALID)
    yield Value(Kind.INVALID, "text")
    yield Value(Kind.INVALID, [good[0]] * (most + 1))
    if several:
        yield Value(Kind.INVALID, [good[0], good[0]])


def _strings(schema: Schema, current: Any) -> Iterator[Value]:
    rules = schema.get("x-kubernetes-validations", ())
    said = " ".join(rule["message"] for rule in rules)
    wrong: tuple[Any, ...] = (7, {"text": 1})
    if any(rule["rule"] == IS_DURATION.cel for rule in rules) or _BOUNDS.search(said):
        yield from _durations(said, current)
    elif _NUMBER.search(said):
        yield from _numbers(said, current)
    elif IS_DNS_NAME.message in said:
        yield from (
            Value(Kind.VALID, "other.name-2"),
            Value(Kind.EDGE, "a"),
            Value(Kind.EDGE, "a" * schema["maxLength"]),
        )
        wrong = (*wrong, "Not/A/Name", "", "-a")
    elif SCHEME.message in said:
        yield from (Value(Kind.VALID, "s3://models/other/v9/"), Value(Kind.VALID, "pvc://claim/path"))
        yield Value(Kind.EDGE, "https://h/" + "a" * (schema["maxLength"] - 10))
        wrong = (*wrong, "ftp://host/x", "s3://m/../x", "https://me:pw@host/x", "")
    else:
        if (shown := example(schema)) is not MISSING:
            yield from (Value(Kind.VALID, str(shown)), Value(Kind.EDGE, str(shown)[: schema.get("minLength", 1)]))
        wrong = (*wrong, "x" * (schema["maxLength"] + 1))
    yield from (Value(Kind.INVALID, value) for value in wrong)


def _durations(said: str, current: Any) -> Iterator[Value]:
    found = _BOUNDS.search(said)
    low, high = found.groups() if found else ("0s", "168h")
    least, most = parse_duration(low), parse_duration(high)
    yield from (
        Value(Kind.VALID, value) for value in ("1m", "90s", "5s", "20ms") if least < parse_duration(value) < most
    )
    yield from (Value(Kind.EDGE, low), Value(Kind.EDGE, high))
    if current is not MISSING:
        yield Value(Kind.EQUAL, _in_other_words(parse_duration(current)))
    yield from (Value(Kind.INVALID, value) for value in ("soon", "60", "-1m", 60, "2562047h"))
    if least > timedelta():
        yield Value(Kind.INVALID, "0s")


def _in_other_words(length: timedelta) -> str:
    milliseconds = length / timedelta(milliseconds=1)
    return f"{milliseconds / 1000:g}s" if milliseconds < 1000 else f"{milliseconds:.0f}ms"


def _numbers(said: str, current: Any) -> Iterator[Value]:
    least = "0.001" if "above 0" in said else "0"
    yield from (Value(Kind.VALID, "0.25"), Value(Kind.VALID, "3e-1"), Value(Kind.EDGE, least))
    if isinstance(current, str):
        yield Value(Kind.EQUAL, f"{current}00" if "." in current else f"{current}.0")
    yield from (Value(Kind.INVALID, value) for value in ("much", "-1", 0.5, 1))
    if "share" in said or "up to" in said:
        yield Value(Kind.INVALID, "7")
    else:
        yield Value(Kind.EDGE, "7")


def _quantities(name: str, current: Any) -> Iterator[Value]:
    amounts: tuple[Any, ...] = (3, "1500m") if name == "cpu" else ("21Gi", 22_548_578_304)
    yield from (Value(Kind.VALID, amount) for amount in amounts)
    yield Value(Kind.EDGE, "0.25" if name == "cpu" else "30000M")
    amount = None if current is MISSING else parse_quantity(str(current))
    if amount is not None:
        yield Value(Kind.EQUAL, f"{amount * 1000:f}".split(".")[0] + "m" if name == "cpu" else _in_mebibytes(amount))
    yield from (Value(Kind.INVALID, value) for value in ("lots", "4 GB", -1, 0.5))


def _in_mebibytes(amount: Decimal) -> str:
    return f"{int(amount / 2**20)}Mi"


def _hand(*, valid: tuple[Any, ...], edge: tuple[Any, ...] = (), invalid: tuple[Any, ...] = ()) -> tuple[Value, ...]:
    told = ((Kind.VALID, valid), (Kind.EDGE, edge), (Kind.INVALID, (*invalid, 7.5)))
    return tuple(Value(kind, value) for kind, values in told for value in values)


_LESSONS = ("optimization.fineTune", "optimization.prune.fineTune", "optimization.distill")
_HAND: dict[str, tuple[Value, ...]] = {
    # One recipe learns from one set of data, wherever it is named.
    **{
        f"{stage}.data.uri": (
            *(
                Value(kind, uri, {f"{other}.data.uri": uri for other in _LESSONS if other != stage})
                for kind, uri in ((Kind.VALID, "s3://data/other.npz"), (Kind.EDGE, "pvc://claim/" + "a" * 2036))
            ),
            *_hand(valid=(), invalid=("s3://data/other.npz", "ftp://host/x", "https://me:pw@host/x", "")),
        )
        for stage in _LESSONS
    },
    "model.digest": _hand(valid=("sha256:" + "c" * 64,), edge=("sha256:" + "0" * 64,), invalid=("sha256:c", "c" * 64)),
    "model.format": (
        *_hand(valid=("HuggingFace", "ExportedProgram", "ONNX", "Keras", "TFLite"), invalid=("Pickle",)),
        *(Value(Kind.VALID, code, {"model.trust": "Executable"}) for code in ("TorchScript", "SavedModel")),
        *(Value(Kind.INVALID, code, {"model.trust": "DataOnly"}) for code in ("TorchScript", "TorchServeArchive")),
        *(Value(Kind.INVALID, weights) for weights in ("StateDict", "SafeTensors")),
    ),
    **{
        f"{where}.factory": (
            *_hand(valid=("torchvision.models.resnet50",), edge=("timm.create_model",), invalid=("os system", "x")),
            Value(Kind.VALID, "mylib.models.build"),
        )
        for where in ("model.architecture", "optimization.distill.teacher.architecture")
    },
    **{
        f"{where}.file": (
            Value(Kind.VALID, "net/model.py#build", {f"{where}.factory": MISSING}),
            *_hand(valid=(), invalid=("model.py#build", "model.py", "../../x")),
        )
        for where in ("model.architecture", "optimization.distill.teacher.architecture")
    },
    "optimization.distill.teacher.format": (
        *_hand(valid=("HuggingFace", "SafeTensors"), invalid=("Pickle", "Keras", "TFLite")),
        Value(Kind.INVALID, "TorchScript", {"optimization.distill.teacher.trust": "DataOnly"}),
    ),
    # A thousand pods are played no faster than a thousand pods.
    "serving.replicas": _hand(valid=(1, 3), edge=(0, 12), invalid=(-1, 1001, "2")),
    "serving.gpus.resource": _hand(
        valid=("nvidia.com/mig-1g.5gb",), edge=("a/b",), invalid=("gpu", "nvidia.com/", "a/" + "b" * 127)
    ),
    "serving.gateway.hostnames": _hand(
        valid=(["b.example.org"], []), edge=(["*.example.org"],), invalid=(["https://a.org"], ["a.org:80"], ["A.org"])
    ),
    "serving.gateway.grpc.hostnames": _hand(
        valid=(["b.example.org"],), edge=([], ["*.example.org"]), invalid=(["https://a.org"], ["a.org:80"], [""])
    ),
    "serving.predict.preprocessing.mean": _hand(valid=(["0.5"],), edge=([], ["-1e3"]), invalid=(["much"],)),
    "serving.predict.preprocessing.std": _hand(valid=(["0.5"],), edge=([],), invalid=(["much"],)),
    "serving.predict.preprocessing.resize": (
        Value(Kind.VALID, [8, 8], {"serving.predict.input": "Image"}),
        *_hand(valid=(), edge=([],), invalid=([8], [8, 8, 8], [0, 1])),
    ),
    "serving.predict.preprocessing.maxTokens": (
        Value(Kind.VALID, 128, {"serving.predict.input": "Text"}),
        Value(Kind.EDGE, 131072, {"serving.predict.input": "Text"}),
        *_hand(valid=(), invalid=(0, 131073, "128", 8)),
    ),
    # The model that is played names ten classes and takes images of 8 by 8.
    "serving.predict.labels": _hand(valid=([*"abcdefghij"],), edge=([],), invalid=("cat",)),
    "serving.autoscaling.metrics[].query": _hand(valid=("max(x)",), invalid=("",)),
    "rollout.steps[].hold": _hand(
        valid=("30s", "Forever", MISSING), edge=("0s", "168h"), invalid=("long", "forever", "169h")
    ),
    "rollout.action.verb": (
        *_hand(valid=("promote", "promoteFull", "abort"), invalid=("restart", "undo")),
        Value(Kind.VALID, "undo", {"rollout.action.toRevision": "bcdfghjk"}),
    ),
    "rollout.action.toRevision": (
        Value(Kind.VALID, "bcdfghjk", {"rollout.action.verb": "undo"}),
        Value(Kind.EDGE, "x" * 63, {"rollout.action.verb": "undo"}),
        *_hand(valid=(), invalid=("bcdfghjk", "")),
    ),
    "rollout.maintenanceWindows[].schedule": _hand(
        valid=("0 2 * * 6", "*/5 * * * *"), edge=("59 23 31 12 SUN#5",), invalid=("0 2 * *", "0 24 * * 6", "daily")
    ),
    "rollout.maintenanceWindows[].timeZone": _hand(
        valid=("Europe/Berlin",), edge=("Not/AZone",), invalid=("Central Europe", "x" * 65)
    ),
    "storage.oci.repository": _hand(valid=("registry.example.org/team/models",), invalid=("https://h/a:1",)),
    "storage.kind": (
        Value(Kind.VALID, "Bucket", {"storage.bucket": {"uri": "s3://a/b"}}),
        *_hand(valid=(), invalid=("Bucket", "OCI", "Disk")),
    ),
    "storage.bucket.encryption.recipient": _hand(
        valid=("age1" + "q" * 58,), edge=("age1" + "l" * 58,), invalid=("age1", "AGE-SECRET-KEY-1", "age1" + "b" * 58)
    ),
    "storage.bucket.uri": _hand(
        valid=("gs://artifacts/team",), edge=("az://c",), invalid=("https://a/b", "s3://a/../b", "s3://k:s@a/b", "")
    ),
    "optimization.precisions": (
        *_hand(
            valid=(["FP16"], ["FP32", "BF16"]),
            edge=(["FP32", "FP16", "BF16"],),
            invalid=([], ["FP8"], ["FP32", "FP32"]),
        ),
        Value(Kind.VALID, ["FP32", "INT8"], {"model.samples": {"uri": "s3://m/s.npz"}}),
    ),
    "optimization.objective": _hand(valid=("Throughput", "Size"), edge=("None",), invalid=("Speed",)),
}
