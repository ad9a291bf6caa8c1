"""Every YAML block in the documentation is what it looks like: a ModelDeployment that is taken, a part of one, or values."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from chart_docs import CHART

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.cli.check import check
from pilotfish.core.objects import Body
from support.doc_blocks import ROOT, Block, blocks
from support.kube import install_crd, make_kubectl

BLOCKS = blocks("yaml")
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
# Where a part of a spec belongs that is shown without what is around it.
PARTS = {
    "spec": (),
    **dict.fromkeys(("model", "optimization", "storage", "serving", "rollout"), ("spec",)),
    **dict.fromkeys(("analysis", "shadow", "steps"), ("spec", "rollout")),
    **dict.fromkeys(("predict", "autoscaling", "access"), ("spec", "serving")),
    **dict.fromkeys(("bucket",), ("spec", "storage")),
    **dict.fromkeys(
        ("tolerance", "fineTune", "prune", "distill", "tuning", "exports", "precisions"), ("spec", "optimization")
    ),
}
VALUES = json.loads((CHART / "values.schema.json").read_text())


def documents(block: Block) -> list[Any]:
    return [body for body in yaml.safe_load_all(block.text) if body is not None]


def bodies() -> list[tuple[str, Body]]:
    """Each ModelDeployment, whole or completed from a part, with where it is."""
    found = [
        (str(file.relative_to(ROOT)), body)
        for file in EXAMPLES
        for body in yaml.safe_load_all(file.read_text())
        if body.get("kind") == KIND and "uri" in body["spec"].get("model", {})  # overlays hold patches
    ]
    assert len(found) >= 3
    for block in BLOCKS:
        for body in documents(block):
            if body.get("kind") == KIND:
                found.append((block.where, body))
            elif is_part(body):
                found.append((block.where, complete(body)))
    return found


def is_part(body: Any) -> bool:
    return "kind" not in body and not set(body) - set(PARTS) and not is_values(body)


def is_values(body: Any) -> bool:
    return bool(set(body) & set(VALUES["properties"])) and not set(body) - set(VALUES["properties"])


def complete(part: dict[str, Any]) -> Body:
    """The smallest ModelDeployment with this in it."""
    whole: dict[str, Any] = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "digits"}, "spec": {}}
    for key, value in part.items():
        place = whole
        for step in PARTS[key]:
            place = place.setdefault(step, {})
        place[key] = {**place.get(key, {}), **value} if isinstance(value, dict) else value
    whole["spec"].setdefault("model", {}).setdefault("uri", "s3://models/digits/v1/")
    rollout = whole["spec"].get("rollout", {})
    if {"steps", "shadow"} & set(rollout):
        rollout.setdefault("strategy", "Canary")
    return whole


def test_every_block_is_known_for_what_it_is():
    unknown = [
        block.where
        for block in BLOCKS
        for body in documents(block)
        if not (body.get("kind") or is_values(body) or is_part(body)) and not block.note.startswith("part of: ")
    ]
    assert not unknown, "name the parts in PARTS, or write <!-- part of: KIND --> above the block"


@pytest.mark.parametrize(("where", "body"), bodies(), ids=lambda it: it if isinstance(it, str) else "")
def test_modeldeployments_are_taken(where: str, body: Body):
    assert not check(body), where


def test_values_are_those_of_the_chart():
    found = [
        (block.where, body) for block in BLOCKS for body in documents(block) if "kind" not in body and is_values(body)
    ]
    assert found, "no values in the documentation: is it still read?"
    for where, body in found:
        errors = [
            error.message
            for error in jsonschema.Draft7Validator(VALUES).iter_errors(body)
            if error.validator != "required"
        ]
        assert not errors, where


def test_first_objects_are_short():
    """What a page begins with has ten lines."""
    for page in ("README.md", "docs/index.md", "docs/tutorials/first-model.md"):
        first = next(block for block in BLOCKS if block.page == page)
        assert len(first.text.splitlines()) <= 10, first.where


@pytest.mark.apiserver
def test_a_real_api_server_takes_them_all(api_server: Path, tmp_path: Path):
    kubectl = make_kubectl(api_server)
    install_crd(kubectl)
    wanted = [
        {**body, "metadata": {**body["metadata"], "name": f"doc-{number}", "namespace": "default"}}
        for number, (_, body) in enumerate(bodies())
    ]
    file = tmp_path / "all.yaml"
    file.write_text(yaml.safe_dump_all(wanted))
    told = kubectl.run("apply", "--dry-run=server", "--validate=strict", "-f", str(file))
    assert told.count("created (server dry run)") == len(wanted), told
