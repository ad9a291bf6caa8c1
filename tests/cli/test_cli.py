"""The command line as a person uses it."""

import subprocess
import sys

import kubernetes_validate
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from pilotfish.cli.main import app
from support.apiserver import REPOSITORY
from support.invalid_objects import make_manifest
from support.valid_objects import VALID

MANIFEST = """
apiVersion: pilotfish.dev/v1alpha1
kind: ModelDeployment
metadata: {name: digits}
spec:
  model:
    uri: s3://models/digits/v3/
"""


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(MANIFEST)
    return path


class TestLint:
    def test_a_good_object_is_good(self, manifest):
        done = run("lint", "-f", manifest)
        assert (done.exit_code, done.output) == (0, "1 ModelDeployment: nothing to correct\n")

    def test_the_examples_are_good(self):
        done = run("lint", "-f", REPOSITORY / "examples")
        assert done.exit_code == 0, done.output

    def test_a_typo_is_named_with_its_place_and_its_cure(self, manifest):
        manifest.write_text(MANIFEST.replace("uri:", "url:"))
        done = run("lint", "-f", manifest)
        assert done.exit_code == 1
        assert f"{manifest}: digits: spec.model.url: unknown field; did you mean uri?" in done.output

    def test_all_documents_and_all_files_are_looked_at(self, tmp_path):
        (tmp_path / "a.yaml").write_text("---\nkind: Secret\n---\n" + MANIFEST + "---" + MANIFEST.replace("uri", "urk"))
        (tmp_path / "b.yml").write_text(MANIFEST.replace("digits}", "UPPER}"))
        done = run("lint", "-f", tmp_path)
        assert done.exit_code == 1
        assert "a.yaml: digits: spec.model.urk" in done.output
        assert "b.yml: UPPER: metadata.name" in done.output

    def test_a_wrong_version_of_our_group_is_not_passed_over(self, manifest):
        manifest.write_text(MANIFEST.replace("v1alpha1", "v1"))
        done = run("lint", "-f", manifest)
        assert done.exit_code == 1
        assert "write apiVersion: pilotfish.dev/v1alpha1" in done.output

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("kind: Secret\n", "no ModelDeployment in it"),
            ("a: [1\nb: 2\n", "model.yaml:2:"),
            ("", "no ModelDeployment in it"),
        ],
    )
    def test_what_cannot_be_read_is_said_in_one_line(self, manifest, text, sentence):
        manifest.write_text(text)
        done = run("lint", "-f", manifest)
        assert done.exit_code == 1
        assert sentence in done.output
        assert len(done.output.splitlines()) == 1

    def test_a_missing_file_is_said_in_one_line(self, tmp_path):
        done = run("lint", "-f", tmp_path / "none.yaml")
        assert (done.exit_code, done.output) == (1, f"error: {tmp_path}/none.yaml: No such file or directory\n")

    def test_standard_input(self):
        assert run("lint", "-f", "-", stdin=MANIFEST).exit_code == 0


class TestRender:
    def test_it_prints_everything_that_the_operator_makes(self, manifest):
        done = run("render", "-f", manifest, "-n", "team")
        bodies = list(yaml.safe_load_all(done.output))
        assert [body["kind"] for body in bodies] == [
            "NetworkPolicy",
            "PersistentVolumeClaim",
            "Job",
            "ControllerRevision",
            "ConfigMap",
            "Service",
            "Deployment",
            "Job",
            "Service",
        ]
        assert {body["metadata"]["namespace"] for body in bodies} == {"team"}
        for body in bodies:
            kubernetes_validate.validate(body, "1.36", strict=True)

    @pytest.mark.parametrize("changes", [changes for _, changes in VALID], ids=[name for name, _ in VALID])
    def test_every_valid_object_can_be_rendered(self, tmp_path, changes):
        path = tmp_path / "x.yaml"
        path.write_text(yaml.safe_dump(make_manifest(changes)))
        done = run("render", "-f", path)
        assert done.exit_code == 0, done.output
        kinds = [body["kind"] for body in yaml.safe_load_all(done.output)]
        assert {"Job", "Deployment"} <= set(kinds)
        assert ("PersistentVolumeClaim" in kinds) == ("bucket" not in changes.get("storage", {}))

    def test_the_same_input_gives_the_same_bytes(self, manifest):
        assert run("render", "-f", manifest).output == run("render", "-f", manifest).output

    def test_an_object_with_a_mistake_is_not_rendered(self, manifest):
        manifest.write_text(MANIFEST.replace("uri:", "url:"))
        done = run("render", "-f", manifest)
        assert done.exit_code == 1
        assert "did you mean uri?" in done.output

    def test_images_come_from_the_operator_s_settings(self, manifest, monkeypatch):
        monkeypatch.setenv("PILOTFISH_TRITON_IMAGE", "example.com/triton:1")
        assert "image: example.com/triton:1" in run("render", "-f", manifest).output


def test_the_commands_without_a_cluster_load_no_client_and_no_optimizer():
    """They must start fast and run where only the command line is installed."""
    code = (
        "import sys; import pilotfish.cli.main; "
        "print([m for m in ('kubernetes', 'aiohttp', 'kopf', 'torch', 'onnx', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version():
    assert run("version").output == "0.1.0\n"


def test_get_without_a_cluster_says_what_is_missing(tmp_path):
    done = run("get", "digits", "--kubeconfig", tmp_path / "none")
    assert done.exit_code == 1
    assert done.output.startswith("error: cannot reach a cluster: kubeconfig")


class TestOptimize:
    @pytest.mark.slow
    def test_it_runs_the_job_s_code_here(self, tmp_path):
        weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
        shape = {
            name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n]) for name, n in (("x", 4), ("y", 3))
        }
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "linear", [shape["x"]], [shape["y"]], [weight]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "linear.onnx")
        path = tmp_path / "model.yaml"
        path.write_text(MANIFEST.replace("s3://models/digits/v3/", "file:linear.onnx"))
        done = run("optimize", "-f", path, "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
        (report,) = (tmp_path / "out" / "artifacts").glob("*/report.json")
        assert f"artifact: {report.parent}" in done.output

    def test_its_failure_is_one_sentence(self, tmp_path):
        done = run("optimize", "-f", tmp_path / "none.yaml", "--out", tmp_path / "out")
        assert done.exit_code == 1
        assert done.output.splitlines()[-1].startswith("error: ")
