"""TensorBoard logs, read back by TensorBoard's own reader."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pilotfish.api.report import Report
from pilotfish.optimizer.report.tensorboard import write_tensorboard
from pilotfish.optimizer.report.views import write_views
from support.reports import candidate, make_report, make_wire


def read(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    return {tag: {e.step: pytest.approx(e.value) for e in found.Scalars(tag)} for tag in found.Tags()["scalars"]}


def texts(folder):
    found = EventAccumulator(str(folder)).Reload()
    return {tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_tensorboard(make_report(), folder)
    return folder / "tensorboard"


def test_every_candidate_the_original_and_every_stage_of_training_is_a_run(logs):
    assert {run.name for run in logs.iterdir()} == {
        "report", "original", "onnx-fp32", "onnx-int8-static", "onnx-int8-dynamic", "torchscript-fp32", "training-0-distill",
        "profile-winner", "profile-baseline",
    }  # fmt: skip


def test_figures_by_batch_size(logs):
    told = read(logs / "onnx-int8-static")
    assert told["latency_ms/median"] == {1: 0.12, 8: 0.5}
    assert told["latency_ms/p99"] == {1: 0.18, 8: 0.75}
    assert told["speedup"] == {0: 5}
    assert told["error/relative"] == {0: 0.012}
    assert told["error/by_layer_worst_first"] == {0: 0.05, 1: 0.004}
    assert set(told["samples_per_second_by_callers/batch_1"]) == {2}


def test_training_by_epoch(logs):
    told = read(logs / "training-0-distill")
    assert told["training/loss"] == {n: 1 / n for n in range(1, 6)}
    assert set(told) == {"training/loss", "training/validation_loss", "training/accuracy", "training/learning_rate"}


def test_profiles_by_operator(logs):
    told = read(logs / "profile-winner")["profile/milliseconds_longest_first"]
    assert told == {0: 0.08, 1: 0.02}
    (table,) = texts(logs / "profile-winner").values()
    assert len(table.splitlines()) == 6 + len(told)
    assert "profile/winner.trace.json.gz" in table
    (table,) = texts(logs / "profile-baseline").values()
    assert "the profiler ended with exit code 1" in table


def test_hyperparameters_with_their_results(logs):
    from tensorboard.plugins.hparams import plugin_data_pb2

    found = EventAccumulator(str(logs / "onnx-int8-static" / "hparams")).Reload()
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["precision"].string_value == "INT8"
    assert found.Scalars("result/speedup")[0].value == pytest.approx(5)


def test_the_report_as_text_holds_no_markup_of_a_model(tmp_path):
    name = "a|b`<script>alert(1)</script>\n# c"
    wire = make_wire(candidates=[candidate("onnx-fp32", reason=name)], winner="onnx-fp32", name=name)
    write_tensorboard(Report.model_validate(wire), tmp_path)
    text = next(iter(texts(tmp_path / "tensorboard" / "report").values()))
    assert "<script" not in text
    assert text.count("\n") == 6
    assert text.splitlines()[-1].count("|") == 6


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "..", "", "a" * 300])
def test_a_hostile_name_stays_in_its_folder(tmp_path, name):
    home = tmp_path / "artifact"
    home.mkdir()
    write_views(make_report(candidates=[candidate(name)], winner="x"), home)
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifact"]
    assert {entry.name for entry in home.iterdir()} == {"report.html", "tensorboard"}
    assert len(list((home / "tensorboard").iterdir())) == 6


def test_a_view_that_cannot_be_made_is_told_and_no_failure(tmp_path, monkeypatch, capsys):
    def fail(_report):
        raise ZeroDivisionError("no figures")

    monkeypatch.setattr("pilotfish.optimizer.report.views.render_page", fail)
    write_views(make_report(), tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tensorboard"]
    assert "the report's page could not be made: ZeroDivisionError: no figures" in capsys.readouterr().err


def test_a_full_store_is_told_as_such(tmp_path, monkeypatch):
    def fail(_report):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pilotfish.optimizer.report.views.render_page", fail)
    with pytest.raises(OSError, match="No space"):
        write_views(make_report(), tmp_path)
