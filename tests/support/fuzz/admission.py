"""What an API server does to a ModelDeployment before it stores it: nulls and unknown fields go, defaults come, rules hold.

The rules are lint's, those that compare with the stored object are told here by their CEL. tests/faults holds every value
that is fuzzed against the real server's answer.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.lint import lint
from pilotfish.resources.units import parse_quantity
from support.builders import OWNER
from support.fuzz.leaves import Schema, spec_schema

_KEPT = re.compile(r"has\(self\.(\w+)\) == has\(oldSelf\.\1\) && \(!has\(self\.\1\) \|\| self\.\1 == oldSelf\.\1\)")
_GROWS = re.compile(r"!has\(oldSelf\.(\w+)\) \|\| !isQuantity\(")


class RefusedError(Exception):
    """The API server does not take the object."""


def admit(spec: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The spec as it is stored, over `old`, which is stored. Raises RefusedError."""
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": OWNER.name}, "spec": spec}
    wrong = [str(finding) for finding in lint(manifest) if "unknown field" not in finding.message]
    stored = as_stored(spec)
    if not wrong and old is not None:
        wrong = list(_changes(spec_schema(), stored, old))
    if wrong:
        raise RefusedError("; ".join(wrong))
    return stored


def is_taken(spec: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> bool:
    """Whether the API server takes it."""
    try:
        admit(spec, old=old)
    except RefusedError:
        return False
    return True


def as_stored(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Pruned and with defaults, whether it is right or not."""
    made: dict[str, Any] = _stored(spec_schema(), spec)
    return made


def _stored(schema: Schema, value: Any) -> Any:
    if isinstance(value, list) and "items" in schema:
        return [_stored(schema["items"], item) for item in value]
    if not isinstance(value, Mapping) or "properties" not in schema:
        return copy.deepcopy(value)
    fields = schema["properties"]
    said = {name: child for name, child in value.items() if name in fields and child is not None}
    told = {name: child["default"] for name, child in fields.items() if "default" in child and name not in said}
    return {name: _stored(fields[name], child) for name, child in {**said, **told}.items()}


def _changes(schema: Schema, new: Any, old: Any) -> Iterator[str]:
    """What of the new value may not follow the old one."""
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and not _may_follow(rule["rule"], new, old):
            yield rule["message"]
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for name, child in schema.get("properties", {}).items():
            if name in new and name in old:
                yield from _changes(child, new[name], old[name])


def _may_follow(rule: str, new: Any, old: Any) -> bool:
    if rule == "self == oldSelf":
        return bool(new == old)
    if found := _KEPT.fullmatch(rule):
        return bool(new.get(found[1]) == old.get(found[1]))
    if found := _GROWS.match(rule):
        before, after = (parse_quantity(str(value.get(found[1], "0"))) for value in (old, new))
        return before is None or after is None or after >= before
    raise AssertionError(f"teach support.fuzz.admission what this rule says: {rule}")
