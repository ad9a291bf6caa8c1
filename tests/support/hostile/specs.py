"""Specs that the API server lets in, seeded: any base with several fields at any value that their schema allows.

Text that is free gets what pods, shells, YAML or the kubelet might understand.
"""

import random
from collections.abc import Iterator
from typing import Any

from support.fuzz.admission import RefusedError, admit
from support.fuzz.bases import BASES, base_of
from support.fuzz.leaves import MISSING, Leaf, get_at, leaves, with_at
from support.fuzz.values import Kind, values_of

NASTY = (
    "$(HOME)", "$$(PATH)", "$$", "$(LD_PRELOAD)", "`id`", "$(id)", "; rm -rf /", "{{ .Values.x }}", "\u202e\u0000".strip("\0"),
    "x\ny: z", "LD_PRELOAD=/x.so", "NVIDIA_VISIBLE_DEVICES=all", "hostPath: /", "' or 1=1", "/var/run/secrets",
)  # fmt: skip
_MOST_CHANGES = 5
_RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
_ENCRYPTED = {"uri": "s3://a/b", "encryption": {"recipient": _RECIPIENT, "identitySecret": "key"}}
_CLOSED: tuple[dict[str, Any], ...] = (
    {"model": {"uri": "s3://a/b"}, "storage": {"kind": "Bucket", "bucket": _ENCRYPTED}},
    {"model": {"uri": "s3://a/b"}, "serving": {"protocols": ["GRPC"], "access": {"tls": {"secretName": "tls"}}}},
)
"""For fields that ask for others beside them."""


def fuzzed_specs(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """`count` specs as the API server stores them: first one for every field that can be set, then whatever comes."""
    rng = random.Random(seed)
    fields = [leaf for leaf in leaves() if not leaf.refused]
    made = 0
    for spec in (*(_alone(leaf) for leaf in fields), *(None for _ in range(100 * count))):
        try:
            stored = admit(_changed(rng, rng.choice(fields), fields) if spec is None else spec)
        except RefusedError:
            continue
        yield stored
        made += 1
        if made == count:
            return


def _alone(leaf: Leaf) -> dict[str, Any]:
    """A base with the first value of that field that goes with it."""
    for base in (base_of(leaf)[1], *_CLOSED):
        for value in values_of(leaf, MISSING):
            if value.kind is Kind.INVALID or value.value is MISSING:
                continue
            spec = with_at(base, leaf.path, value.value)
            for path, told in value.also.items():
                spec = with_at(spec, path, told)
            try:
                return admit(spec)
            except RefusedError:
                continue
    return base_of(leaf)[1]


def _changed(rng: random.Random, first: Leaf, fields: list[Leaf]) -> dict[str, Any]:
    """Every field comes first as often as any other, on a base that has its block."""
    spec = dict(base_of(first)[1] if rng.random() < 0.5 else rng.choice(list(BASES.values())))
    for leaf in (first, *rng.sample(fields, rng.randrange(_MOST_CHANGES))):
        spec = with_at(spec, leaf.path, _value(rng, leaf, spec))
    return spec


def _value(rng: random.Random, leaf: Leaf, spec: dict[str, Any]) -> Any:
    current = get_at(spec, leaf.path)
    if leaf.schema.get("type") == "string" and "enum" not in leaf.schema and rng.random() < 0.4:
        text = current if isinstance(current, str) else "x"
        return rng.choice((text + rng.choice(NASTY), rng.choice(NASTY), text + "a" * 500))
    if "x-kubernetes-preserve-unknown-fields" in leaf.schema and rng.random() < 0.5:
        return {rng.choice(NASTY): {"env": [{"name": "LD_PRELOAD", "value": rng.choice(NASTY)}]}}
    fine = [value.value for value in values_of(leaf, MISSING) if value.kind is not Kind.INVALID]
    return rng.choice(fine) if fine else MISSING
