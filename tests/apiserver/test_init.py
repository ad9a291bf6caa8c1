"""What `pilotfish init` writes, taken by the real API server without a warning."""

import pytest
from typer.testing import CliRunner

from pilotfish.cli.main import app
from support.kube import fresh_namespace
from support.onnx_models import save_mlp

pytestmark = pytest.mark.apiserver


@pytest.mark.parametrize("more", [(), ("--gpus", "1", "--secret", "keys", "--pin")])
def test_the_api_server_takes_it(kubectl, tmp_path, more):
    target = tmp_path / "digits.yaml"
    source = save_mlp(tmp_path / "digits.onnx")
    done = CliRunner().invoke(app, ["init", str(source), "--out", str(target), *more])
    assert done.exit_code == 0, done.output
    with fresh_namespace(kubectl) as namespace:
        told = kubectl.run("apply", "--validate=strict", "-n", namespace, "-f", str(target))
    assert told == "modeldeployment.pilotfish.dev/digits created\n"
