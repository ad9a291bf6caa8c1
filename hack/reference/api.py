"""The page of the API: every field of the CRD's schema with its type, bounds, default and rules."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.crd import make_crd
from reference.markdown import cell, code, table

Schema = Mapping[str, Any]

INTRO = f"""\
# API: {KIND}

`apiVersion: {API_VERSION}`, kind `{KIND}`, short name `mdep`. Made from the CRD by `hack/generate`.

`kubectl explain mdep.spec.serving` prints the same in a terminal. A field without a default may be left out unless it
is marked *required*. Where a rule is broken, the API server answers with the sentence that stands under the table, and
`pilotfish lint -f FILE` with the same one and no cluster. Fields that are not listed here are refused by
`kubectl apply` (`--validate=strict` is its default) and named by `pilotfish lint`.
"""
_BOUNDS = (
    ("minimum", "≥ {}"),
    ("maximum", "≤ {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
)


def api_page() -> str:
    """The whole page; one section for each object of the schema, from the outside in."""
    schema = make_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    root = "\n".join(_rules(schema))
    sections = [section for part in ("spec", "status") for section in _sections(schema["properties"][part], part)]
    return "\n".join((INTRO, f"Rules of the object itself:\n\n{root}\n", *sections))


def _sections(node: Schema, path: str) -> Iterator[str]:
    properties = node.get("properties", {})
    if properties:
        required = set(node.get("required", ()))
        rows = [_row(name, child, path, required=name in required) for name, child in properties.items()]
        parts = [f"## {path}", "", node.get("description", ""), "", *table(("field", "type", "what it is"), rows)]
        rules = [
            *_rules(node),
            *(rule for name, child in properties.items() for rule in _rules(child, name, leaf=True)),
        ]
        yield "\n".join((*parts, *(["", "Rules:", "", *rules] if rules else []), ""))
    for name, child in properties.items():
        inner = child.get("items", child)
        yield from _sections(inner, f"{path}.{name}{'[]' if 'items' in child else ''}")


def _row(name: str, node: Schema, path: str, *, required: bool) -> tuple[str, str, str]:
    inner = node.get("items", node)
    shown = f"{path}.{name}{'[]' if 'items' in node else ''}"
    label = f"[`{name}`](#{anchor(shown)})" if inner.get("properties") else f"`{name}`"
    told = [node.get("description", ""), *(["*Required.*"] if required else []), _bounds(node)]
    if "default" in node and "Default:" not in node.get("description", ""):
        told.append(f"Default: {code(json.dumps(node['default'], ensure_ascii=False))}.")
    return label, _type(node), cell(" ".join(part for part in told if part))


def _type(node: Schema) -> str:
    if node.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "items" in node:
        return f"list of {_type(node['items'])}"
    if "additionalProperties" in node:
        return "mapping"
    if "enum" in node:
        return "one word"
    return str(node.get("type", "anything"))


def _bounds(node: Schema) -> str:
    told = [text.format(node[name]) for name, text in _BOUNDS if name in node]
    return f"({', '.join(told)})" if told else ""


def _rules(node: Schema, name: str = "", *, leaf: bool = False) -> Iterator[str]:
    """The sentences with which the API server refuses; of what has a section of its own, they stand there."""
    items = node.get("items", {})
    told = [
        *(() if leaf and node.get("properties") else node.get("x-kubernetes-validations", ())),
        *(() if items.get("properties") else items.get("x-kubernetes-validations", ())),
    ]
    for rule in told:
        where = name or rule.get("fieldPath", "").lstrip(".")
        yield f"- {f'`{where}`: ' if where else ''}{cell(rule['message'])}"


def anchor(heading: str) -> str:
    """As the site's table of contents makes it from a heading such as `spec.model.uri`."""
    return "".join(sign for sign in heading.lower() if sign.isalnum() or sign in "-_")
