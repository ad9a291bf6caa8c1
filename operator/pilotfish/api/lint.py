"""What the API server would refuse in a manifest, and the unknown fields that it would silently drop. Pure, offline.

The same tree and the same rules as the CRD; only rules that compare with the stored object need the server.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.crd import NAME_RULES
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.structural import (
    Node,
    available_values,
    is_unavailable,
    make_tree,
    not_available,
    rules_of,
    unavailable_values,
    value_not_available,
)

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_BOUNDS = {
    "greater_than_equal": "write a number of at least {ge}",
    "less_than_equal": "write a number of at most {le}",
    "too_short": "write at least {min_length} item(s)",
    "too_long": "write at most {max_length} item(s)",
    "string_too_short": "write at least {min_length} character(s)",
    "string_too_long": "write at most {max_length} characters",
}
_TYPES = {
    "int_type": "write a whole number without quotes",
    "int_from_float": "write a whole number",
    "bool_type": "write true or false without quotes",
    "tuple_type": "write a list",
    "dict_type": "write a mapping",
    "model_type": "write a mapping",
    "missing": "is required",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to correct: where, such as `spec.model.uri`, and what to write instead."""

    path: str
    message: str

    def __str__(self) -> str:
        return self.message if self.message.startswith(self.path) else f"{self.path}: {self.message}"


def lint(manifest: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Everything wrong with a ModelDeployment as read from YAML or JSON; empty when it may be applied.

    Rules between fields are looked at once every field by itself is right, as the API server does.
    """
    if findings := tuple(_check_identity(manifest)):
        return findings
    spec = _without_nulls(_tree(), manifest["spec"])
    found = [*_check_name(manifest), *_check_shape(manifest, spec)]
    try:
        parsed = ModelDeploymentSpec.model_validate_json(json.dumps(spec, default=str), strict=True)
    except ValidationError as error:
        found += [_explain(details) for details in error.errors(include_url=False)]
    else:
        found += _check_rules(_tree(), parsed.to_wire(), "spec")
    return tuple(dict.fromkeys(found))


@cache
def _tree() -> Node:
    return make_tree(ModelDeploymentSpec)


def _check_identity(manifest: Mapping[str, Any]) -> Iterator[Finding]:
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if manifest.get(field) != wanted:
            yield Finding(field, f"write {field}: {wanted}")
    for field in ("metadata", "spec"):
        if not isinstance(manifest.get(field), Mapping):
            yield Finding(field, "is required; write a mapping")


def _check_name(manifest: Mapping[str, Any]) -> Iterator[Finding]:
    metadata = manifest["metadata"]
    if "name" not in metadata and "generateName" in metadata:
        return
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        yield Finding("metadata.name", "is required; write a name such as digits")
        return
    for rule in NAME_RULES:
        if rule.holds is not None and not rule.holds(manifest):
            yield Finding("metadata.name", rule.explain(metadata["name"]))


def _check_shape(manifest: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Finding]:
    for name in manifest:
        if name not in _TOP:
            yield Finding(str(name), _unknown(str(name), _TOP))
    yield from _walk_shape(_tree(), spec, "spec")


def _without_nulls(node: Node, value: Any) -> Any:
    """The value as the API server reads it: an empty `optimization:` in YAML is the same as none at all."""
    if isinstance(value, Mapping) and "properties" in node:
        known = node["properties"]
        return {k: _without_nulls(known.get(k, {}), v) for k, v in value.items() if v is not None or k not in known}
    if isinstance(value, list):
        return [_without_nulls(node.get("items", {}), item) for item in value]
    return value


def _walk_shape(node: Node, value: Any, path: str) -> Iterator[Finding]:
    """Unknown fields, and fields and values that this version refuses, whatever else is wrong."""
    if is_unavailable(node):
        yield Finding(path, not_available(path))
        return
    if isinstance(value, str) and value in unavailable_values(node):
        yield Finding(path, value_not_available(node).replace("{self}", value))
    if isinstance(value, Mapping) and "properties" in node:
        for name, child in value.items():
            if name not in node["properties"]:
                yield Finding(f"{path}.{name}", _unknown(str(name), tuple(node["properties"]), place=path))
            else:
                yield from _walk_shape(node["properties"][name], child, f"{path}.{name}")
    if isinstance(value, list) and "items" in node:
        for index, item in enumerate(value):
            yield from _walk_shape(node["items"], item, f"{path}[{index}]")


def _check_rules(node: Node, value: Any, path: str) -> Iterator[Finding]:
    for rule in rules_of(node):
        if rule.holds is not None and not rule.holds(value):
            yield Finding(path + (rule.field_path or ""), rule.explain(value))
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name in node.get("properties", {}) and child != "":
                yield from _check_rules(node["properties"][name], child, f"{path}.{name}")
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _check_rules(node["items"], item, f"{path}[{index}]")


def _unknown(name: str, known: tuple[str, ...], *, place: str = "") -> str:
    """What to write instead: the same field where it belongs, or a neighbour that is nearly the same."""
    wanted = _plain(name)
    if neighbour := next((candidate for candidate in known if _plain(candidate) == wanted), None):
        return f"unknown field; did you mean {neighbour}?"
    if place and (elsewhere := [path for path in _all_paths() if _plain(path.rpartition(".")[2]) == wanted]):
        return f"unknown field; did you mean {min(elsewhere, key=lambda path: _distance(path, place))}?"
    if close := _close(name, known):
        return f"unknown field; did you mean {close}?"
    return f"unknown field; known here: {', '.join(known)}"


def _close(said: str, known: tuple[str, ...]) -> str | None:
    plain = {_plain(candidate): candidate for candidate in known}
    found = difflib.get_close_matches(_plain(said), plain, n=1)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    """However it is spelt."""
    return name.lower().replace("_", "").replace("-", "")


@cache
def _all_paths() -> tuple[str, ...]:
    """Every field that this version takes."""
    return tuple(_walk_paths(_tree(), "spec"))


def _walk_paths(node: Node, path: str) -> Iterator[str]:
    for name, child in node.get("properties", {}).items():
        if not is_unavailable(child):
            yield f"{path}.{name}"
            yield from _walk_paths(child, f"{path}.{name}")
    if "items" in node:
        yield from _walk_paths(node["items"], f"{path}[]")


def _distance(path: str, place: str) -> tuple[int, int]:
    """Fields that are near come first, then those that are not deep."""
    ours, theirs = place.split("."), path.split(".")
    shared = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(ours))
    return -shared, len(theirs)


def _explain(details: ErrorDetails) -> Finding:
    location = details["loc"]
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    node = _node_at(location)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "enum":
        values = tuple(map(str, available_values(node)))
        meant = _close(str(details["input"]), values)
        return Finding(path, f"use one of {', '.join(values)}{f'; did you mean {meant}?' if meant else ''}")
    if kind in {"string_pattern_mismatch", "string_type"} and (rules := rules_of(node)):
        return Finding(path, rules[0].message)
    if kind == "value_error" and (broken := [r for r in rules_of(node) if r.holds and not r.holds(details["input"])]):
        return Finding(path, broken[0].message)
    if kind in _BOUNDS:
        return Finding(path, _BOUNDS[kind].format(**context))
    return Finding(path, _TYPES.get(kind, details["msg"][0].lower() + details["msg"][1:]))


def _node_at(location: tuple[int | str, ...]) -> Node:
    node = _tree()
    for part in location:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return node
