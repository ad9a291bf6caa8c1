"""The wire types: what goes into the termination message always fits and always reads back."""

import pytest
from pydantic import ValidationError

from pilotfish.api.job_input import InstallInput, JobInput
from pilotfish.api.report import (
    CandidateSummary,
    ModelSignature,
    OptimizerReason,
    Outcome,
    Summary,
    TensorSpec,
    TerminationMessage,
    Verdict,
)
from pilotfish.api.termination import decode_termination_message, encode_termination_message


def _message(*, candidates: int, tensors: int, words: int) -> TerminationMessage:
    spec = TensorSpec(name="a_long_name_of_a_tensor", dtype="FP32", shape=(-1, 3, 224, 224), example=(16, 3, 224, 224))
    rows = [
        CandidateSummary(
            variant=f"onnx-{i}", verdict=Verdict.REFUSED, latency_ms="1.23", error="0.1", reason="ä" * words
        )
        for i in range(candidates)
    ]
    return TerminationMessage(
        outcome=Outcome.SUCCEEDED,
        reason=OptimizerReason.SUCCEEDED,
        message="word " * words,
        signature=ModelSignature(inputs=(spec,) * tensors, outputs=(spec,) * tensors, batched=True),
        summary=Summary(winner="onnx-1", candidates=tuple(rows)),
    )


def test_a_short_message_keeps_everything():
    message = _message(candidates=2, tensors=1, words=3)
    assert decode_termination_message(encode_termination_message(message)) == message


@pytest.mark.parametrize(("candidates", "tensors", "words"), [(3, 1, 900), (40, 1, 200), (4, 60, 10), (60, 60, 900)])
def test_a_long_message_is_cut_to_fit_and_still_says_who_won(candidates, tensors, words):
    message = _message(candidates=candidates, tensors=tensors, words=words)
    text = encode_termination_message(message)
    assert len(text.encode()) <= 4096
    read = decode_termination_message(text)
    assert read.summary.winner == "onnx-1"
    assert "onnx-1" in {c.variant for c in read.summary.candidates}
    assert text == encode_termination_message(message)


def test_wire_names_are_camel_case_and_unset_fields_are_left_out():
    job = JobInput.model_validate(
        {
            "name": "m",
            "revision": "r",
            "recipeKey": "abcd2345",
            "model": {"uri": "s3://b/m"},
            "serving": {"maxBatchSize": 4},
        }
    )
    assert job.serving.max_batch_size == 4
    assert '"recipeKey":"abcd2345"' in job.to_json()
    assert "digest" not in job.to_json()


def test_an_artifact_path_that_climbs_is_refused():
    with pytest.raises(ValidationError):
        InstallInput(artifact="artifacts/../../etc", digest="sha256:" + "0" * 64, model="m")
