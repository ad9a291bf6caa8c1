"""The first tutorial does by hand what `make demo` does; blocks that say so are files of examples/, word for word."""

import ast
import re
import sys

import pytest
import yaml

from support.doc_blocks import ROOT, blocks, commands

TUTORIAL = "docs/tutorials/first-model.md"
DEMO = ROOT / "hack" / "demo" / "__main__.py"


def test_blocks_that_are_files():
    found = [block for block in blocks("yaml") if block.note.startswith("same as: ")]
    assert {block.note for block in found} >= {"same as: examples/digits.yaml", "same as: examples/digits-canary.yaml"}
    for block in found:
        file = ROOT / block.note.removeprefix("same as: ")
        assert yaml.safe_load(block.text) == yaml.safe_load(file.read_text()), block.where


def demo_calls(name: str) -> list[str]:
    """String arguments of the demo's calls of a function, in its order."""
    tree = ast.parse(DEMO.read_text())
    calls = [
        n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
    ]
    calls.sort(key=lambda call: call.lineno)
    return [arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)]


def test_the_tutorial_applies_what_the_demo_applies():
    applied = [name for name in demo_calls("apply_example") if name.startswith("digits")]
    words = [command.words for command in commands() if command.where.startswith(TUTORIAL)]
    by_hand = [line[-1] for line in words if line[:2] == ("kubectl", "apply")]
    assert by_hand == [f"examples/{name}.yaml" for name in applied]


def test_the_tutorial_uses_the_demo_s_addresses():
    text = DEMO.read_text()
    uris = re.findall(r"s3://models/(digits/v\d)/", (ROOT / TUTORIAL).read_text())
    assert set(uris) == {"digits/v1", "digits/v2"}
    for key in uris:
        assert f'"{key}": packed' in text


def test_the_secret_of_the_tutorial_is_the_demo_s():
    from testbed.manifests import make_store

    secret = next(body for body in make_store("demo") if body["kind"] == "Secret")
    told = next(
        c.words for c in commands() if c.where.startswith(TUTORIAL) and c.words[:3] == ("kubectl", "create", "secret")
    )
    literal = dict(
        word.removeprefix("--from-literal=").split("=", 1) for word in told if word.startswith("--from-literal=")
    )
    assert secret["metadata"]["name"] == told[4]
    assert set(literal) <= set(secret["stringData"])


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.where)
def test_python_is_python(block):
    compile(block.text, block.where, "exec")


@pytest.mark.torch
@pytest.mark.soak
@pytest.mark.parametrize("block", [b for b in blocks("python") if b.note == "run"], ids=lambda block: block.where)
def test_python_that_is_marked_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["block"])
    exec(compile(block.text, block.where, "exec"), {"__name__": "block"})
    assert (tmp_path / "digits" / "v1" / "model.pt2").exists()
