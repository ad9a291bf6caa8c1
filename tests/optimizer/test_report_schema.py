"""The schema of report.json: up to date, strict where it matters, and kept by reports of this version and of earlier ones.

Every other test that optimizes something holds its report against the schema as well (support/report_schema.py).
"""

import copy
import json
from pathlib import Path

import pytest
import report_schema
from jsonschema import ValidationError

from pilotfish.api.report import Report
from pilotfish.optimizer.report.page import render_page
from support.onnx_models import save_mlp
from support.report_schema import FILE, validator
from support.reports import make_wire

RECORDED = sorted((Path(__file__).parent / "recorded").glob("report-*.json"))


def test_the_committed_file_is_what_the_contract_says():
    assert FILE.read_text() == report_schema.schema_text(), "run hack/generate"


def test_a_report_with_everything_in_it_keeps_to_it_and_reads_back_the_same():
    wire = Report.model_validate(make_wire()).to_wire()
    validator().validate(wire)
    assert Report.model_validate(wire).to_wire() == wire


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_a_report_of_an_earlier_version_is_still_read_and_shown(file):
    wire = json.loads(file.read_text())
    validator().validate(wire)
    read = Report.model_validate(wire)
    assert read.winner in {c.variant for c in read.candidates}
    assert read.winner in render_page(read)


def test_there_is_a_report_of_the_first_version_on_record():
    assert "report-0.1.0" in {file.stem for file in RECORDED}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schemaVersion"], 2),
        (["candidates", 0, "verdict"], "Fine"),
        (["source", "digest"], "sha256:abc"),
        (["baseline", "measurements", 0, "latencyMs"], {"median": "fast"}),
        (["winner"], None),
        (["training", 0, "epochs", 0, "loss"], "small"),
    ],
)
def test_nonsense_is_refused(path, value):
    wire = copy.deepcopy(make_wire())
    place = wire
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        validator().validate(wire)


def test_a_field_that_nobody_knows_yet_is_passed_over():
    wire = make_wire(somethingNew={"a": 1})
    validator().validate(wire)
    assert Report.model_validate(wire) == Report.model_validate(make_wire())


def test_a_real_run_keeps_to_it(local):
    save_mlp(local.folder / "model.onnx")
    message = local.run({"uri": "model.onnx"}, optimization={"profile": True, "batchSizes": [1]})
    report, artifact = local.report(message), local.artifact(message)
    assert report["profile"][0]["role"] == "winner"
    assert all(p["operators"] and (artifact / p["trace"]["path"]).is_file() for p in report["profile"])
    accepted = [c for c in report["candidates"] if c["verdict"] == "Accepted"]
    assert all(m["histogram"]["counts"] for c in accepted for m in c["measurements"])
    served = next(c for c in accepted if c["variant"] == "onnx-fp32")
    assert [load["concurrency"] for load in served["measurements"][0]["loads"]] == [2, 4]
    assert (artifact / "tensorboard" / report["winner"]).is_dir()
    assert not [f for f in report["files"] if not f["path"].startswith("m/")], "nothing for people counts as the model"
    assert {f["path"] for f in report["files"]} == {
        f.relative_to(artifact / "model_repository").as_posix()
        for f in (artifact / "model_repository").rglob("*")
        if f.is_file()
    }
