"""Who wins, and what happens when nobody does."""

import pytest

from pilotfish.api.optimization import ArtifactFormat, Objective, OnNoCandidate, OptimizationSpec, Precision
from pilotfish.api.report import CandidateReport, Latency, Measurement, OptimizerReason, Verdict
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.select import select

ALL = (Precision.FP32, Precision.FP16, Precision.INT8)


def _candidate(variant, ms, *, verdict=Verdict.ACCEPTED, size=100, spread=0.01, rounds=()):
    fmt = ArtifactFormat.ONNX if variant.startswith("onnx") else ArtifactFormat.TORCH_SCRIPT
    precision = Precision.INT8 if "int8" in variant else Precision.FP16 if "fp16" in variant else Precision.FP32
    measured = Measurement(
        batch=1, latency_ms=Latency(median=ms, p95=ms), throughput=1e3 / ms, spread=spread, rounds=rounds
    )
    return CandidateReport(
        variant=variant, format=fmt, precision=precision, runtime="r", bytes=size, verdict=verdict,
        reason=None if verdict is Verdict.ACCEPTED else "because", measurements=(measured,),
    )  # fmt: skip


def _winner(*candidates, **spec):
    chosen = OptimizationSpec(**{"precisions": ALL, **spec})
    return select(candidates, chosen, fallback=("onnx-fp32", "torchscript-fp32"))[0]


def test_the_fastest_accepted_candidate_wins():
    assert _winner(_candidate("onnx-fp32", 2.0), _candidate("onnx-int8-dynamic", 1.0)) == "onnx-int8-dynamic"
    refused = _candidate("onnx-int8-dynamic", 1.0, verdict=Verdict.REFUSED)
    assert _winner(_candidate("onnx-fp32", 2.0), refused) == "onnx-fp32"


def test_a_lead_inside_the_noise_goes_to_the_higher_precision_and_the_simpler_format():
    assert _winner(_candidate("onnx-int8-dynamic", 0.95), _candidate("onnx-fp32", 1.0)) == "onnx-fp32"
    assert _winner(_candidate("torchscript-fp32", 0.7, spread=0.4), _candidate("onnx-fp32", 1.0)) == "onnx-fp32"
    assert _winner(_candidate("torchscript-fp32", 0.7), _candidate("onnx-fp32", 1.0)) == "torchscript-fp32"


def test_precisions_are_compared_one_after_the_other():
    single, half, whole = _candidate("onnx-fp32", 10), _candidate("onnx-fp16", 5.1), _candidate("onnx-int8-static", 5.0)
    assert _winner(whole, half, single) == "onnx-fp16", "two hundredths do not pay for 8 bits"
    assert _winner(whole, single) == "onnx-int8-static"
    assert _winner(_candidate("onnx-int8-static", 4.7), half, single) == "onnx-int8-static"


def test_who_wins_every_round_leads_however_much_the_rounds_spread():
    single = _candidate("onnx-fp32", 0.030, spread=0.2, rounds=(0.028, 0.029, 0.030, 0.033, 0.034))
    dynamic = _candidate("onnx-int8-dynamic", 0.026, spread=0.2, rounds=(0.024, 0.025, 0.026, 0.027, 0.040))
    assert _winner(single, dynamic) == "onnx-int8-dynamic", "one stray round is nothing"
    among = _candidate("onnx-int8-dynamic", 0.026, spread=0.2, rounds=(0.024, 0.025, 0.026, 0.0295, 0.040))
    assert _winner(single, among) == "onnx-fp32"
    few = _candidate("onnx-int8-dynamic", 0.026, spread=0.2, rounds=(0.024, 0.026, 0.026))
    assert _winner(single, few) == "onnx-fp32", "three rounds are too few to tell"
    close = _candidate("onnx-int8-dynamic", 0.029, spread=0.2, rounds=(0.0289, 0.0289, 0.029, 0.029, 0.029))
    assert _winner(single, close) == "onnx-fp32", "a lead that does not pay for 8 bits stays one"


def test_what_merges_no_requests_has_the_throughput_of_single_ones():
    def measured(name, runtime, *throughputs):
        sizes = zip((1, 8), throughputs, strict=True)
        figures = tuple(
            Measurement(batch=b, latency_ms=Latency(median=1, p95=1), throughput=t, spread=0.01) for b, t in sizes
        )
        return _candidate(name, 1.0).model_copy(update={"runtime": runtime, "measurements": figures})

    merged = measured("onnx-fp32", "onnxruntime 1", 100, 300)
    single = measured("openvino-fp32", "openvino 1 f32", 200, 900)
    assert _winner(merged, single, objective=Objective.THROUGHPUT) == "onnx-fp32"


def test_of_one_precision_the_fastest_wins_as_soon_as_it_leads_by_more_than_the_noise():
    dynamic = _candidate("onnx-int8-dynamic", 1.0)
    assert _winner(dynamic, _candidate("onnx-int8-static", 0.96)) == "onnx-int8-static"
    assert _winner(dynamic, _candidate("onnx-int8-static", 0.99)) == "onnx-int8-dynamic"
    assert _winner(dynamic, _candidate("onnx-int8-static", 0.96, spread=0.1)) == "onnx-int8-dynamic"


def test_a_lonely_winner_says_what_became_of_the_others():
    refused = _candidate("onnx-int8-static", 1.0, verdict=Verdict.REFUSED)
    chosen = OptimizationSpec(precisions=ALL)
    _, why = select((_candidate("onnx-fp32", 2.0), refused), chosen, fallback=("onnx-fp32",))
    assert why == "the only accepted candidate (onnx-int8-static: because)"


def test_other_objectives():
    small = _candidate("onnx-fp16", 3.0, size=50)
    assert _winner(_candidate("onnx-fp32", 1.0), small, objective=Objective.SIZE) == "onnx-fp16"
    assert (
        _winner(_candidate("onnx-int8-dynamic", 0.1), _candidate("onnx-fp32", 1.0), objective=Objective.NONE)
        == "onnx-fp32"
    )


def test_without_a_candidate_the_plain_conversion_serves_or_the_run_fails():
    refused = _candidate("onnx-int8-dynamic", 1.0, verdict=Verdict.REFUSED)
    plain = _candidate("onnx-fp32", 2.0)
    assert _winner(plain, refused, precisions=(Precision.INT8,)) == "onnx-fp32"
    with pytest.raises(OptimizerError) as caught:
        _winner(plain, refused, precisions=(Precision.INT8,), on_no_candidate=OnNoCandidate.FAIL)
    assert caught.value.reason is OptimizerReason.NO_CANDIDATE_WITHIN_TOLERANCE
    assert "because" in caught.value.message


def test_nothing_could_be_built():
    with pytest.raises(OptimizerError) as caught:
        _winner(
            _candidate("onnx-fp32", 1, verdict=Verdict.FAILED),
            _candidate("torchscript-fp32", 1, verdict=Verdict.FAILED),
        )
    assert caught.value.reason is OptimizerReason.CONVERSION_FAILED
