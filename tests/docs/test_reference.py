"""The reference is made from what it describes, and leaves nothing out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from reference.__main__ import FOLDER, PAGES
from reference.conditions import MEANINGS, MILESTONES

from pilotfish.api.conditions import ConditionType
from pilotfish.api.crd import make_crd
from support.doc_blocks import ROOT

CORE = ROOT / "operator" / "pilotfish" / "core"


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_as_made(name: str):
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run hack/generate"


def fields(node: dict, path: str) -> Iterator[tuple[str, str]]:
    for name, child in node.get("properties", {}).items():
        yield path, name
        inner = child.get("items", child)
        yield from fields(inner, f"{path}.{name}{'[]' if 'items' in child else ''}")


def test_every_field_has_a_row_in_its_section():
    schema = make_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    parts = re.split(r"^## (\S+)$", PAGES["api.md"](), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = 0
    for root in ("spec", "status"):
        for path, name in fields(schema[root], root):
            found += 1
            assert re.search(rf"^\| \[?`{re.escape(name)}`", sections[path], flags=re.MULTILINE), f"{path}.{name}"
    assert found > 200


def test_every_refusal_is_told():
    page = PAGES["api.md"]()

    def messages(node: dict) -> Iterator[str]:
        for rule in node.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for child in [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]:
            yield from messages(child)

    schema = make_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    untold = {
        m for m in messages(schema) if " ".join(m.split()).replace("|", "&#124;").replace("<", "&lt;") not in page
    }
    assert not untold


def test_every_condition_has_a_meaning():
    assert set(MEANINGS) == set(ConditionType)


def told_milestones() -> set[str]:
    """First members of the tuples that the core tells as events, and the action of a refresh."""
    found = set()
    for file in CORE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
                first = node.args[0].elts[0] if node.args and isinstance(node.args[0], ast.Tuple) else None
                if ast.unparse(node.func.value) == "told" and isinstance(first, ast.Constant):
                    found.add(first.value)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_EVENT":
                found.add(node.value.value)
    return found


def test_every_event_of_a_milestone_is_told():
    assert {action for action, _, _ in MILESTONES} == told_milestones()


def test_events_are_made_where_this_test_looks():
    callers = {file.name for file in CORE.rglob("*.py") if "make_event(" in file.read_text(encoding="utf-8")}
    assert callers == {"report.py", "refresh.py"}


def test_the_check_of_hack_generate_calls_it():
    assert "python -m reference" in (ROOT / "hack" / "generate").read_text()
    assert Path(FOLDER).is_dir()
