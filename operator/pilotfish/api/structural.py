"""Pydantic models as the structural schema that an API server accepts. Pure; knows nothing of the whole CRD object.

First `make_tree` makes one tree without references and null branches, markers still in it (lint walks this tree too);
then `make_structural` turns the tree into plain OpenAPI v3 with x-kubernetes extensions.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pilotfish.api.markers import MARKERS, MEANINGS, ListType, Marker, Rule, RuleReason, quoted

Node = dict[str, Any]

NOT_AVAILABLE = "is not available in this version"
_ITEM = re.compile(r"\[\d*\]")
"""The schema's sentence is one for all items of a list."""
_KEPT = ("format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties")


class SchemaError(ValueError):
    """A model that no structural schema can express."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A field, or some of its values, that this version refuses."""

    path: str
    values: tuple[str, ...] = ()


def make_tree(model: type[BaseModel]) -> Node:
    """The model's JSON schema with references inlined, `| None` collapsed and titles gone; markers are kept.

    Raises:
        SchemaError: a union other than `| None`, or a model that holds itself.
    """
    schema = model.model_json_schema(by_alias=True)
    return _inline(schema, schema.get("$defs", {}), ())


def markers_of(node: Mapping[str, Any]) -> tuple[Marker, ...]:
    """The markers of a node of the tree."""
    return tuple(node.get(MARKERS, ()))


def rules_of(node: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules of a node, each once, in the order in which they were written."""
    return tuple(dict.fromkeys(rule for marker in markers_of(node) for rule in marker.rules))


def is_unavailable(node: Mapping[str, Any]) -> bool:
    """Whether the whole field is refused."""
    return any(marker.unavailable is True for marker in markers_of(node))


def unavailable_values(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of the enum that are refused."""
    return tuple(
        str(value)
        for marker in markers_of(node)
        if isinstance(marker.unavailable, tuple)
        for value in marker.unavailable
    )


def find_unavailable(node: Mapping[str, Any], path: str) -> Iterator[Unavailable]:
    """Everything below the node that is refused; what lies inside a refused field is not listed."""
    if is_unavailable(node):
        yield Unavailable(path=path)
        return
    if values := unavailable_values(node):
        yield Unavailable(path=path, values=values)
    for name, child in node.get("properties", {}).items():
        yield from find_unavailable(child, f"{path}.{name}")
    if "items" in node:
        yield from find_unavailable(node["items"], f"{path}[]")


def make_structural(node: Mapping[str, Any], path: str) -> Node:
    """The structural schema of a node; `path` stands in messages, such as `spec.model.uri`."""
    schema: Node = {}
    if description := _describe(node):
        schema["description"] = description
    if any(marker.int_or_string for marker in markers_of(node)):
        schema["x-kubernetes-int-or-string"] = True
    elif "type" in node:
        schema["type"] = node["type"]
    if "enum" in node:
        schema["enum"] = list(node["enum"])
    if "pattern" in node and not rules_of(node):
        schema["pattern"] = node["pattern"]
    schema |= {key: node[key] for key in _KEPT if key in node}
    if _has_default(node):
        schema["default"] = _default_of(node)
    if node.get("type") == "array":
        schema |= _list_parts(node, path)
    if node.get("type") == "object":
        schema |= _object_parts(node, path)
    if rules := [rule.to_wire() for rule in (*_availability_rules(node, path), *rules_of(node))]:
        schema["x-kubernetes-validations"] = rules
    return schema


def available_values(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of an enum that this version takes."""
    refused = unavailable_values(node)
    return tuple(value for value in node["enum"] if value not in refused)


def not_available(path: str) -> str:
    """The sentence for a field that this version refuses."""
    return f"{_ITEM.sub('', path)} {NOT_AVAILABLE}; remove it"


def value_not_available(node: Mapping[str, Any]) -> str:
    """The sentence for a value that this version refuses; `{self}` stands for the value."""
    rest = available_values(node)
    return f"{{self}} {NOT_AVAILABLE}; use {'one of ' if rest[1:] else ''}{', '.join(rest)}"


def _availability_rules(node: Mapping[str, Any], path: str) -> Iterator[Rule]:
    if is_unavailable(node):
        # A rule on a field is looked at only where the field is set.
        yield Rule(cel="false", message=not_available(path), holds=None, reason=RuleReason.FORBIDDEN)
    if values := unavailable_values(node):
        listed = ", ".join(quoted(value) for value in values)
        yield Rule(cel=f"!(self in [{listed}])", message=value_not_available(node), holds=None)


def _has_default(node: Mapping[str, Any]) -> bool:
    return node.get("default") not in (None, [], {}, "") and not is_unavailable(node)


def _default_of(node: Mapping[str, Any]) -> Any:
    """What the API server writes: of a block only what its own fields' defaults would not fill in."""
    if node.get("type") != "object":
        return node["default"]
    said = {name: value for name, value in node["default"].items() if value is not None}
    fields = node["properties"]
    told = {name: _default_of({**fields[name], "default": value}) for name, value in said.items()}
    return {name: value for name, value in told.items() if value != _own_default(fields[name])}


def _own_default(field: Mapping[str, Any]) -> Any:
    return _default_of(field) if field.get("default") is not None else None


def _list_parts(node: Mapping[str, Any], path: str) -> Node:
    found = next((m for m in markers_of(node) if m.list_type is ListType.MAP), Marker())
    keys = {"x-kubernetes-list-map-keys": list(found.list_keys)} if found.list_keys else {}
    return {
        "x-kubernetes-list-type": found.list_type.value,
        **keys,
        "items": make_structural(node["items"], f"{path}[]"),
    }


def _object_parts(node: Mapping[str, Any], path: str) -> Node:
    if node.get("additionalProperties") is True:
        return {"x-kubernetes-preserve-unknown-fields": True}
    properties = {name: make_structural(child, f"{path}.{name}") for name, child in node["properties"].items()}
    required = {"required": list(node["required"])} if node.get("required") else {}
    return {"properties": properties, **required}


def _describe(node: Mapping[str, Any]) -> str:
    sentences = [" ".join(node.get("description", "").split())]
    choice = node.get("items", node)
    if meanings := choice.get(MEANINGS):
        sentences.append("One of: " + "; ".join(f"{value} ({meanings[value]})" for value in choice["enum"]) + ".")
    if _has_default(node) and (default := _default_of(node)) != {}:
        sentences.append(f"Default: {_default_text(default)}.")
    if is_unavailable(node):
        sentences.append("Not available in this version.")
    elif values := unavailable_values(node) or unavailable_values(node.get("items", {})):
        sentences.append(f"Not available in this version: {', '.join(values)}.")
    return " ".join(filter(None, sentences))


def _default_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_default_text(child)}" for name, child in value.items()) + "}"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _inline(node: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Node:
    merged = _resolve(dict(node), definitions, inside)
    node, inside = merged.node, merged.inside
    flat = {key: value for key, value in node.items() if key not in {"title", "$defs"}}
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    if "properties" in flat:
        flat["properties"] = {k: _inline(v, definitions, inside) for k, v in flat["properties"].items()}
    if "items" in flat:
        flat["items"] = _inline(flat["items"], definitions, inside)
    return flat


@dataclass(frozen=True, slots=True)
class _Resolved:
    node: Node
    inside: tuple[str, ...]


def _resolve(node: Node, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> _Resolved:
    """The node without `$ref` and without the null branch; what stands beside them wins over what they point at."""
    if "anyOf" in node:
        branches = [branch for branch in node.pop("anyOf") if branch.get("type") != "null"]
        if len(branches) != 1:
            raise SchemaError(f"a union of {len(branches)} types: use one optional field for each and a rule")
        return _resolve(_merge(branches[0], node), definitions, inside)
    if "$ref" in node:
        name = node.pop("$ref").rpartition("/")[2]
        if name in inside:
            raise SchemaError(f"{name} holds itself: a structural schema is finite")
        return _resolve(_merge(definitions[name], node), definitions, (*inside, name))
    return _Resolved(node, inside)


def _merge(base: Mapping[str, Any], beside: Mapping[str, Any]) -> Node:
    merged = {**base, **beside}
    if found := [*base.get(MARKERS, ()), *beside.get(MARKERS, ())]:
        merged[MARKERS] = found
    return merged
