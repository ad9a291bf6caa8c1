"""The OpenAPI document of plain JSON beside what a real tritonserver takes and answers."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from typer.testing import CliRunner

from pilotfish.api.openapi import Endpoint, make_openapi
from pilotfish.api.predict import Predict
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.cli.main import app
from pilotfish.cli.openapi import _of_stable
from pilotfish.resources import make_controller_revision
from support.asked_models import convolution, recurrent, tabular, transformer
from support.builders import OWNER
from support.predicting import REVISION, ask, installed
from support.two_revisions import OLD, record_of, scope_of

ROW = [0.0, 3.0, 15.0, 2.0]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


def _unbatched() -> tuple[ModelSignature, bytes]:
    signature = ModelSignature(
        inputs=(TensorSpec(name="pixels", dtype="FP32", shape=(1, 4)),),
        outputs=(TensorSpec(name="logits", dtype="FP32", shape=(1, 3)),),
        batched=False,
    )
    return signature, tabular()[1]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Bodies that the document and the server must agree on."""

    model: Any
    predict: dict[str, Any]
    good: tuple[dict[str, Any], ...]
    bad: tuple[dict[str, Any], ...]


CASES = {
    "table": Case(
        model=tabular,
        predict={"labels": ["cat", "dog", "fish"], "top": 1},
        good=({"pixels": ROW}, {"pixels": ROW * 3}),
        bad=({}, {"pixels": ROW[:3]}, {"pixels": "7"}, {"pixels": 7}, {"pixels": [ROW]}),
    ),
    "image": Case(
        model=convolution,
        predict={"input": "Image"},
        good=({"image": PIXEL}, {"image": [PIXEL, PIXEL]}),
        bad=({"image": 7}, {"picture": PIXEL}),
    ),
    "sequence": Case(model=recurrent, predict={}, good=({"readings": [1, 2, 3, 4]},), bad=({"readings": True},)),
    "tokens": Case(
        model=transformer,
        predict={"scores": "None"},
        good=({"input_ids": [101, 7, 102], "attention_mask": [1, 1, 1]}, {"input_ids": 101, "attention_mask": 1}),
        bad=({"input_ids": [101]}, {"input_ids": [101], "attention_mask": ["one"]}),
    ),
    "no batches": Case(
        model=_unbatched, predict={}, good=({"pixels": ROW},), bad=({"pixels": ROW * 2}, {"pixels": ROW[:2]})
    ),
}


def _document(case: Case) -> dict[str, Any]:
    endpoint = Endpoint(model=OWNER.name, namespace="shop", hosts=("digits.example.org",), gateway=True)
    predict = Predict.model_validate(case.predict)
    return make_openapi(endpoint, signature=case.model()[0], predict=predict, version=REVISION)


def _fits(document: dict[str, Any], schema: str, value: Any) -> bool:
    return jsonschema.Draft202012Validator(document["components"]["schemas"][schema]).is_valid(value)


@pytest.mark.parametrize("name", CASES)
def test_the_document_is_openapi(name):
    document = _document(CASES[name])
    validate(document)
    assert list(document["paths"]) == [f"/v2/models/{OWNER.name}-predict/generate", "/predict"]


@pytest.mark.triton
@pytest.mark.parametrize("name", CASES)
def test_the_document_says_what_is_taken_and_answered(name, tmp_path, start_triton):
    case = CASES[name]
    document = _document(case)
    server = start_triton(installed(tmp_path, *case.model(), case.predict)).wait_ready(f"{OWNER.name}-predict")

    for body in case.good:
        status, answer = ask(server, body)
        assert status == 200, (body, answer)
        assert _fits(document, "Request", body), body
        assert _fits(document, "Answer", answer), answer
        assert set(answer) == set(document["components"]["schemas"]["Answer"]["properties"])
    for body in case.bad:
        status, answer = ask(server, body)
        # Values of another type are a failure of its own to Triton.
        assert status in {400, 500}, (body, answer)
        assert not _fits(document, "Request", body), body
        assert _fits(document, "Refusal", answer)


MANIFEST = """
apiVersion: pilotfish.dev/v1alpha1
kind: ModelDeployment
metadata: {name: digits, namespace: shop}
spec:
  model:
    uri: s3://models/digits/v3/
    signature:
      inputs: [{name: pixels, dtype: FP32, shape: [64]}]
      outputs: [{name: logits, dtype: FP32, shape: [10]}]
  serving:
    predict: PREDICT
"""


def _from_file(tmp_path, predict: str, *, text: str = MANIFEST):
    file = tmp_path / "digits.yaml"
    file.write_text(text.replace("PREDICT", predict))
    return CliRunner().invoke(app, ["openapi", "-f", str(file)])


def test_the_command_makes_it_from_a_manifest(tmp_path):
    done = _from_file(tmp_path, "{top: 2}")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    validate(document)
    assert document["servers"][0]["url"] == "http://digits.shop.svc:8000"
    assert document["components"]["schemas"]["Answer"]["properties"]["labels"]["minItems"] == 2


@pytest.mark.parametrize(
    ("predict", "says"),
    [
        ("null", "digits has no plain-JSON endpoint; write spec.serving.predict: {}"),
        ("{labels: [cat]}", "labels names 1 classes but output 'logits' has 10"),
        ("{input: Image}", "'pixels' has the shape [64]; images are"),
        ("{top: 0}", "the spec is not valid; see pilotfish lint"),
    ],
)
def test_the_command_says_what_to_write(predict, says, tmp_path):
    done = _from_file(tmp_path, predict)
    assert done.exit_code == 1
    assert says in " ".join(done.stderr.split())


def test_the_command_asks_for_a_signature(tmp_path):
    text = "\n".join(line for line in MANIFEST.splitlines() if "puts:" not in line and "signature" not in line)
    done = _from_file(tmp_path, "{}", text=text)
    assert done.exit_code == 1
    assert "ask by NAME once it serves" in " ".join(done.stderr.split())
    assert CliRunner().invoke(app, ["openapi"]).exit_code == 2


async def test_the_command_tells_what_the_stable_revision_answers():
    """The record counts: neither a spec that is not served yet nor a label that is not recorded."""
    asked = {"predict": {"top": 1}, "gateway": {"name": "public", "hostnames": ["a.org"]}, "protocols": ["HTTP"]}
    record = record_of(scope_of(**asked), OLD)
    today = scope_of(make_controller_revision(OWNER, record, number=1), **{**asked, "predict": {"top": 2}})

    async def look() -> Any:
        return today.observed

    session = SimpleNamespace(name=OWNER.name, namespace="shop", look=look)
    document = json.loads(await _of_stable(session))

    validate(document)
    assert document["info"]["version"] == OLD
    assert document["paths"]["/predict"]["servers"] == [{"url": "https://a.org"}]
    assert document["components"]["schemas"]["Answer"]["properties"]["labels"]["oneOf"][0] == {"type": "string"}
