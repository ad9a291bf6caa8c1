"""Every field of spec that a user can set, read from the CRD itself: a new one is found here without being named.

A path is written below spec, with `[]` for the items of a list: `model.signature.inputs[].name`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from pilotfish.api.crd import make_crd

Schema = Mapping[str, Any]
MISSING: Any = object()
_EXAMPLE = re.compile(r"Example: `(.*)`\.", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One field. `refused`: it, or a block around it, is not available in this version."""

    path: str
    schema: Schema
    refused: bool

    @property
    def parent(self) -> str:
        """The block around it; empty for spec itself."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The field alone."""
        return self.path.rpartition(".")[2]


@cache
def spec_schema() -> Schema:
    """The structural schema of spec as an API server gets it."""
    (version,) = make_crd()["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


@cache
def leaves() -> tuple[Leaf, ...]:
    """All of them in the order of the schema."""
    return tuple(_walk(spec_schema(), "", refused=False))


def example(schema: Schema) -> Any:
    """What the field's documentation shows; MISSING where it shows nothing that is YAML."""
    found = _EXAMPLE.search(schema.get("description", ""))
    try:
        return yaml.safe_load(found[1]) if found else MISSING
    except yaml.YAMLError:
        return MISSING


def get_at(spec: Mapping[str, Any], path: str) -> Any:
    """The value at a path, of the first item where the path goes through a list; MISSING where there is none."""
    place: Any = spec
    for part in _parts(path):
        if isinstance(part, int):
            place = place[part] if isinstance(place, list) and place else MISSING
        else:
            place = place.get(part, MISSING) if isinstance(place, Mapping) else MISSING
        if place is MISSING:
            return MISSING
    return place


def with_at(spec: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The spec with that value (without the field for MISSING); blocks around it that are missing are made small."""
    made: dict[str, Any] = json.loads(json.dumps(spec))  # blocks that bases share part here
    schema, place = spec_schema(), made
    *parents, last = _parts(path)
    for part in parents:
        if isinstance(part, int):
            schema, place = schema["items"], place[0]  # type: ignore[index]
            continue
        schema = schema["properties"][part]
        if part not in place:
            place[part] = [_smallest(schema["items"])] if schema.get("type") == "array" else _smallest(schema)
        place = place[part]
    if value is MISSING:
        place.pop(last, None)
    else:
        place[str(last)] = json.loads(json.dumps(value))
    return made


def _walk(schema: Schema, path: str, *, refused: bool) -> Iterator[Leaf]:
    refused = refused or any(rule["rule"] == "false" for rule in schema.get("x-kubernetes-validations", ()))
    if "properties" in schema:
        for name, child in schema["properties"].items():
            yield from _walk(child, f"{path}.{name}" if path else name, refused=refused)
    elif schema.get("type") == "array" and "properties" in schema["items"]:
        yield from _walk(schema["items"], f"{path}[]", refused=refused)
    else:
        yield Leaf(path=path, schema=schema, refused=refused)


def _parts(path: str) -> list[str | int]:
    return [part for name in path.split(".") for part in ((name[:-2], 0) if name.endswith("[]") else (name,))]


def _smallest(schema: Schema) -> dict[str, Any]:
    """A block with nothing but what it must have."""
    fields = schema.get("properties", {})
    return {name: _sample(fields[name]) for name in schema.get("required", ())}


def _sample(schema: Schema) -> Any:
    if (shown := example(schema)) is not MISSING:
        return shown
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "array":
        return [_sample(schema["items"])]
    if "properties" in schema:
        return _smallest(schema)
    return schema.get("minimum", 1) if schema.get("type") == "integer" else "x"
