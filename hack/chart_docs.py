"""Write what the chart says of its values from values.yaml: the table in its README and the texts of its schema.

A comment above a key is its description; README and schema take it from there, with the default. What a value may be
(pattern, limits) is kept by hand in values.schema.json: keys that are gone go, new ones come with the type of their
default, and every mapping of known keys is closed. With --check nothing is written: 1 when something is out of date.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from generated import ROOT, write_or_check

CHART = ROOT / "charts" / "pilotfish"
BEGIN, END = "<!-- values: made by hack/chart_docs.py from values.yaml -->\n", "<!-- /values -->\n"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
INHERITED = ("global",)
"""What Helm itself puts into the values of a chart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One key of values.yaml: its path, its default, and the comment above it, on one line."""

    path: tuple[str, ...]
    default: Any
    text: str

    @property
    def name(self) -> str:
        """As `--set` takes it."""
        return ".".join(self.path)


def read_values(text: str) -> tuple[Value, ...]:
    """Every key in the file's order, mappings before what is in them."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise TypeError("values.yaml is not a mapping")
    return tuple(_values(root, yaml.safe_load(text), text.splitlines(), ()))


def _values(node: yaml.MappingNode, body: dict[str, Any], lines: list[str], above: tuple[str, ...]) -> Iterator[Value]:
    for key, child in node.value:
        path = (*above, key.value)
        yield Value(path=path, default=body[key.value], text=_comment(lines, key.start_mark.line))
        if isinstance(child, yaml.MappingNode) and not child.flow_style:
            yield from _values(child, body[key.value], lines, path)


def _comment(lines: list[str], number: int) -> str:
    """The lines of comment that stand right above a line."""
    found: list[str] = []
    while number and lines[number - 1].lstrip().startswith("#"):
        number -= 1
        found.insert(0, lines[number].lstrip().removeprefix("#").strip())
    return " ".join(found)


def make_schema(values: tuple[Value, ...], kept: dict[str, Any]) -> dict[str, Any]:
    """`kept` with the keys, texts and defaults of the values."""
    return _node(kept, [value for value in values if len(value.path) == 1], values)


def _node(kept: dict[str, Any], members: list[Value], values: tuple[Value, ...]) -> dict[str, Any]:
    known = kept.get("properties", {})
    properties = {member.path[-1]: _property(known.get(member.path[-1]), member, values) for member in members}
    inherited = {name: known[name] for name in INHERITED if name in known}
    return {**kept, "type": "object", "additionalProperties": False, "properties": {**properties, **inherited}}


def _property(kept: dict[str, Any] | None, value: Value, values: tuple[Value, ...]) -> dict[str, Any]:
    told = {"description": value.text} if value.text else {}
    rules = {name: rule for name, rule in (kept or {}).items() if name not in {"description", "default"}}
    if is_group(value, values, kept):
        members = [member for member in values if member.path[:-1] == value.path]
        return {**told, **_node(rules, members, values)}
    return {**told, **(rules or {"type": TYPES[type(value.default)]}), "default": value.default}


def is_group(value: Value, values: tuple[Value, ...], schema: dict[str, Any] | None) -> bool:
    """Whether a mapping's keys are the chart's own; those of the others are the user's or Kubernetes'."""
    has_members = any(member.path[:-1] == value.path for member in values)
    return has_members and (schema is None or "properties" in schema)


def make_table(values: tuple[Value, ...], schema: dict[str, Any]) -> str:
    """A row for each value that can be set, in the file's order, under a row for each group that says something."""
    rows = ["| value | default | what it is |", "|---|---|---|"]
    hidden: set[tuple[str, ...]] = set()
    for value in values:
        if value.path[:-1] in hidden:
            hidden.add(value.path)
            continue
        group = "properties" in _at(schema, value.path)
        if not group:
            hidden.add(value.path)
        if not group or value.text:
            default = "" if group else f"`{json.dumps(value.default, ensure_ascii=False)}`"
            rows.append(f"| `{value.name}` | {default} | {value.text.replace('|', '&#124;').replace('<', '&lt;')} |")
    return "\n".join(rows) + "\n"


def _at(schema: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        schema = schema["properties"][key]
    return schema


def generated() -> dict[Path, str]:
    """Each file and what it has to hold."""
    values = read_values((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema_file, readme = CHART / "values.schema.json", CHART / "README.md"
    schema = make_schema(values, json.loads(schema_file.read_text(encoding="utf-8")))
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    table = make_table(values, schema)
    return {
        schema_file: json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        readme: f"{before}{BEGIN}\n{table}\n{END}{after}",
    }


def main() -> int:
    """Write or check the files; 1 when the check finds a difference."""
    return write_or_check(generated(), source="values.yaml")


if __name__ == "__main__":
    sys.exit(main())
