"""The kustomize examples as kubectl builds them, and what docs/gitops.md shows of all examples."""

import json
import re
import subprocess

import pytest
import yaml
from typer.testing import CliRunner

from pilotfish.api.crd import make_crd
from pilotfish.cli.main import app
from support.apiserver import REPOSITORY, tools_path

EXAMPLES = REPOSITORY / "examples"
KUSTOMIZE = EXAMPLES / "kustomize"
PAGE = REPOSITORY / "docs" / "gitops.md"
SECRETS = {"secretName", "publicKeySecret", "identitySecret", "clientCA"}


def build(folder):
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)],
        env={"PATH": tools_path(), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_an_overlay_is_valid_without_a_warning(overlay, tmp_path):
    (body,) = build(KUSTOMIZE / "overlays" / overlay)
    assert body["metadata"]["namespace"] == overlay
    file = tmp_path / "built.yaml"
    file.write_text(yaml.safe_dump(body))
    done = CliRunner().invoke(app, ["lint", "-f", str(file)])
    assert done.exit_code == 0, done.output
    assert "nothing to correct" in done.output
    assert "warning" not in done.output


def test_what_differs_between_the_environments():
    (staging,), (production,) = (build(KUSTOMIZE / "overlays" / name) for name in ("staging", "production"))
    assert staging["spec"]["serving"] == {"replicas": 1, "gpus": {"count": 0}}
    assert staging["spec"]["rollout"] == {"strategy": "BlueGreen"}
    assert staging["spec"]["model"]["uri"] == "s3://models/digits/v2/"
    assert production["spec"]["serving"] == {"replicas": 3, "gpus": {"count": 1}}
    assert production["spec"]["model"]["uri"] == "s3://models/digits/v1/"
    checks = production["spec"]["rollout"]["analysis"]["checks"]
    assert checks["errorRate"] == {"max": "0.01"}
    assert checks["prometheus"] == [
        {"name": "gpu-memory", "query": "max(gpu_memory_used_ratio)", "max": "0.9", "mode": "Enforce"}
    ], "the entry of that name was merged"


def test_generated_secrets_are_followed(tmp_path):
    names = {"resources": [f"../{KUSTOMIZE.name}/base"], "namePrefix": "team-"}
    secret = {"name": "store-credentials", "literals": ["AWS_ACCESS_KEY_ID=testing"]}
    (tmp_path / KUSTOMIZE.name).symlink_to(KUSTOMIZE)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(json.dumps({**names, "secretGenerator": [secret]}))
    bodies = {body["kind"]: body for body in build(overlay)}
    made = bodies["Secret"]["metadata"]["name"]
    assert re.fullmatch(r"team-store-credentials-\w+", made)
    assert bodies["ModelDeployment"]["spec"]["model"]["credentials"]["secretName"] == made


def test_every_field_that_names_a_secret_is_followed():
    config = yaml.safe_load((KUSTOMIZE / "base" / "kustomizeconfig.yaml").read_text())
    (reference,) = config["nameReference"]
    listed = {field["path"] for field in reference["fieldSpecs"]}
    assert listed == {path for path, _ in fields_of(spec_schema(), "spec") if path.rpartition("/")[2] in SECRETS}


def test_every_named_list_is_merged():
    schema = json.loads((KUSTOMIZE / "overlays" / "production" / "schema.json").read_text())
    (definition,) = schema["definitions"].values()
    merged = {
        path: node["x-kubernetes-patch-merge-key"]
        for path, node in fields_of(definition["properties"]["spec"], "spec")
        if "x-kubernetes-patch-merge-key" in node
    }
    named = {
        path: node["x-kubernetes-list-map-keys"][0]
        for path, node in fields_of(spec_schema(), "spec")
        if "x-kubernetes-list-map-keys" in node
    }
    assert merged == named


def spec_schema():
    (version,) = make_crd()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def fields_of(node, path):
    """Every field below, with its schema; the entries of a list have the list's path and []."""
    for name, below in node.get("properties", {}).items():
        yield f"{path}/{name}", below
        yield from fields_of(below, f"{path}/{name}")
        yield from fields_of(below.get("items", {}), f"{path}/{name}[]")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def documents(text):
    return [body for body in yaml.safe_load_all(text) if body]


def test_the_page_shows_the_examples(tmp_path):
    shown = [body for block in blocks("yaml") for body in documents(block)]
    for name in ("flux.yaml", "argo-cd.yaml"):
        for body in documents((EXAMPLES / "gitops" / name).read_text()):
            assert body in shown, f"{name}: {body['kind']}"
            shown.remove(body)
    component = next(body for body in shown if body["kind"] == "Kustomization")
    assert (REPOSITORY / component["components"][0] / "kustomization.yaml").is_file()
    shown.remove(component)
    for body in shown:
        file = tmp_path / "shown.yaml"
        file.write_text(yaml.safe_dump(body))
        done = CliRunner().invoke(app, ["lint", "-f", str(file)])
        assert done.exit_code == 0, done.output
    (command,) = blocks("sh")
    built, _, linted = command.strip().partition(" | ")
    assert linted == "pilotfish lint -f -"
    assert (REPOSITORY / built.split()[-1] / "kustomization.yaml").is_file()
