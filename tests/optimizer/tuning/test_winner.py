"""What becomes of a run that asks for tuning: which settings are free, what is said when nothing can be measured."""

import json

import numpy as np
import pytest

from pilotfish.api.job_input import JobInput, JobServing, JobTuning
from pilotfish.api.model_config import ServingConfig
from pilotfish.api.optimization import ArtifactFormat, Objective, OptimizationSpec, Precision
from pilotfish.api.report import Backend, ModelSignature, OptimizerReason, TensorSpec
from pilotfish.api.serving import ServingSpec
from pilotfish.api.serving_settings import GivenServing, given_serving
from pilotfish.api.tuning import Accelerator, Tunable, TuningSpec
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.model import Candidate, Samples
from pilotfish.optimizer.progress import Progress, optimize_stages
from pilotfish.optimizer.tuning.search import TuningError
from pilotfish.optimizer.tuning.tune import make_goal, make_space
from pilotfish.optimizer.tuning.winner import Winner, _order, proven_batch, settle

SIGNATURE = ModelSignature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(16,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(4,)),),
    batched=True,
)
NOWHERE = JobTuning(address="127.0.0.1:1", cores=4)


def make_winner(tmp_path, *, where=NOWHERE, gpus=0, max_batch=16, backend=Backend.ONNXRUNTIME, **optimization):
    (tmp_path / "model.onnx").write_bytes(b"")
    job = JobInput.model_validate(
        {
            "name": "m",
            "revision": "r",
            "recipe_key": "k",
            "model": {"uri": "s3://b/m.onnx"},
            "optimization": {"tuning": {}, **optimization},
            "serving": JobServing(max_batch_size=8, gpus=gpus, tuning=where),
        }
    )
    x = np.zeros((2, 16), np.float32)
    return Winner(
        job=job,
        chosen=Candidate(
            variant="v",
            format=ArtifactFormat.ONNX,
            precision=Precision.FP32,
            folder=tmp_path,
            served_by=backend,
        ),
        signature=SIGNATURE,
        samples=Samples(inputs={"x": x}, labels=None, given=False, seed=1),
        reference={"y": np.zeros((2, 4), np.float32)},
        threads=4,
        max_batch=max_batch,
    )


def order(winner):
    return _order(winner, winner.job.optimization.tuning, winner.job.serving.tuning)


def run(winner, capsys):
    settled = settle(winner, Progress(optimize_stages(winner.job.optimization)))
    return settled, capsys.readouterr().out


def test_without_tuning_nothing_changes(tmp_path, capsys):
    winner = make_winner(tmp_path, tuning=None, max_batch=8)
    settled, said = run(winner, capsys)
    assert settled.config == ServingConfig(max_batch_size=8, intra_op_threads=4)
    assert (settled.serving, settled.report, said) == (None, None, "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"where": None}, "there is no Triton to measure; give --triton HOST:PORT or put tritonserver on PATH"),
        ({"objective": "Size"}, "the objective is Size"),
        ({"gpus": 1}, "the pods serve on GPUs and this Job has none"),
    ],
)
def test_what_cannot_be_measured_is_said_and_the_defaults_serve(tmp_path, capsys, changes, why):
    settled, said = run(make_winner(tmp_path, **changes), capsys)
    assert settled.report.why == f"nothing was tuned: {why}"
    assert settled.report.why in said
    assert settled.serving is None
    assert (settled.config.max_batch_size, settled.config.max_queue_delay_us) == (8, 2000)
    assert settled.report.points == ()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(28, "No space left on device"), "unexpected OSError: [Errno 28] No space left on device"),
        (TuningError("no Triton answered\nat 127.0.0.1:8001"), "no Triton answered at 127.0.0.1:8001"),
    ],
)
def test_whatever_breaks_the_run_goes_on(tmp_path, capsys, monkeypatch, error, why):
    def broken(*_):
        raise error

    monkeypatch.setattr("pilotfish.optimizer.tuning.winner.tune", broken)
    settled, said = run(make_winner(tmp_path), capsys)
    assert settled.report.why == f"nothing was tuned: {why}"
    assert settled.config.max_batch_size == 8
    assert why in said


def test_settings_that_are_all_given_leave_nothing_to_tune(tmp_path, capsys):
    given = GivenServing(
        max_batch_size=4, preferred_sizes=(4,), max_queue_delay_microseconds=100, instances=2, intra_op_threads=1
    )
    winner = make_winner(tmp_path, where=JobTuning(address="127.0.0.1:1", cores=4, given=given))
    settled, _ = run(winner, capsys)
    assert settled.report.why == "nothing was tuned: spec.serving says every setting"
    assert (settled.config.instances, settled.config.max_batch_size) == (2, 4)


def test_what_the_user_wrote_or_left_out_of_settings_is_not_free(tmp_path):
    given = GivenServing(instances=2, intra_op_threads=1)
    tuning = {"settings": ["Instances", "MaxQueueDelay", "Threads"]}
    winner = make_winner(tmp_path, where=JobTuning(address="127.0.0.1:1", cores=4, given=given), tuning=tuning)
    space = make_space(order(winner))
    assert space.free == {Tunable.MAX_QUEUE_DELAY}
    assert (space.start.instances, space.start.threads, space.fixed_threads) == (2, 1, True)


def test_batches_are_proven_as_far_as_they_may_be_tuned(tmp_path):
    def proven(concurrency, **given):
        spec = {"tuning": {"concurrency": concurrency}}
        where = JobTuning(address="127.0.0.1:1", cores=4, given=GivenServing(**given))
        return proven_batch(make_winner(tmp_path, where=where, **spec).job, 8)

    assert [proven(4), proven(16), proven(256)] == [8, 16, 64]
    assert proven(16, max_batch_size=8) == 8
    assert proven_batch(make_winner(tmp_path, tuning=None).job, 8) == 8


def test_accelerators_are_tried_for_onnx_on_gpus_alone(tmp_path):
    def tried(**changes):
        return make_space(order(make_winner(tmp_path, **changes))).accelerators

    assert tried() == ()
    assert tried(gpus=1) == (Accelerator.TENSORRT_FP32,)
    assert tried(gpus=1, precisions=["FP32", "FP16"]) == tuple(Accelerator)
    assert tried(gpus=1, backend=Backend.OPENVINO) == ()
    space = make_space(order(make_winner(tmp_path, gpus=1)))
    assert space.line(Tunable.THREADS, space.start) == ()
    assert [s.instances for s in space.line(Tunable.INSTANCES, space.start)] == [1, 2, 4]
    assert "KIND_GPU" in order(make_winner(tmp_path, gpus=1)).render(space.line(None, space.start)[1].config(gpu=True))


@pytest.mark.parametrize("objective", ["Latency", "Throughput"])
def test_the_goal_is_the_objective_s(tmp_path, objective):
    goal = make_goal(order(make_winner(tmp_path, objective=objective, tuning={"maxLatency": "2.5ms"})))
    assert (goal.objective, goal.bound_ms, goal.top) == (Objective(objective), 2.5, 16)
    assert goal.levels == ((1, 16) if objective == "Latency" else (16, 4, 1))


def test_a_default_that_is_written_counts_as_left_out():
    said = ServingSpec.model_validate({"batching": {"maxBatchSize": 8, "maxQueueDelay": "0.5ms"}, "instances": 1})
    assert given_serving(said) == GivenServing(max_queue_delay_microseconds=500)


def test_the_artifact_says_what_was_not_tuned(local, monkeypatch, tmp_path):
    from support.onnx_models import save_mlp

    monkeypatch.setenv("PATH", "/nowhere")
    save_mlp(tmp_path / "model.onnx")
    message = local.run({"uri": "model.onnx"}, optimization={"tuning": {}, "batchSizes": [1]})
    assert message.summary.tuning.startswith("nothing was tuned: there is no Triton to measure")
    assert message.artifact.serving is None
    report = local.report(message)
    assert report["tuning"]["why"] == message.summary.tuning
    assert json.dumps(report)


@pytest.mark.parametrize("address", ["8001", "host:", ":8001", "host:http"])
def test_an_address_that_is_none(local, tmp_path, address):
    from pilotfish.optimizer.local import run_local
    from support.onnx_models import save_mlp

    save_mlp(tmp_path / "model.onnx")
    path = tmp_path / "m.yaml"
    path.write_text("{kind: ModelDeployment, metadata: {name: m}, spec: {model: {uri: model.onnx}}}")
    with pytest.raises(OptimizerError, match="give HOST:PORT") as caught:
        run_local(path, tmp_path / "out", triton=address)
    assert caught.value.reason is OptimizerReason.INPUT_INVALID


def test_the_stage_is_there_when_it_is_asked_for():
    assert "tune" not in optimize_stages(OptimizationSpec())
    stages = list(optimize_stages(OptimizationSpec(tuning=TuningSpec())))
    assert stages.index("benchmark") < stages.index("tune") < stages.index("package")
