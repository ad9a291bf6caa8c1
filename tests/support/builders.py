"""Small makers of the values that tests of the core and of the resources start from."""

from datetime import UTC, datetime
from typing import Any

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.report import (
    ArtifactRecord,
    ModelSignature,
    Outcome,
    SourceRecord,
    Summary,
    TensorSpec,
    TerminationMessage,
)
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.resources import Images, Owner, Policy

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
OWNER = Owner(name="digits", namespace="team", uid=UID)
POLICY = Policy(
    images=Images(
        optimizer="pilotfish/optimizer:0.1.0",
        optimizer_torch="pilotfish/optimizer-torch:0.1.0",
        triton="pilotfish/triton-cpu:0.1.0",
        triton_torch="pilotfish/triton-cpu-torch:0.1.0",
    ),
    triton_version="2.51.0",
)
SMALL_SPEC: dict[str, Any] = {"model": {"uri": "s3://models/digits/v1/"}, "serving": {"gpus": {"count": 1}}}


def make_spec(spec: dict[str, Any] | None = None) -> ModelDeploymentSpec:
    """A spec as the operator reads it."""
    return ModelDeploymentSpec.model_validate(SMALL_SPEC if spec is None else spec)


def make_model_deployment(spec: dict[str, Any] | None = None, *, generation: int = 1, **extra: Any) -> dict[str, Any]:
    """The user's object as the API server hands it out."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": OWNER.name,
            "namespace": OWNER.namespace,
            "uid": UID,
            "generation": generation,
            "resourceVersion": "1",
        },
        "spec": SMALL_SPEC if spec is None else spec,
        **extra,
    }


def make_artifact(recipe_key: str = "recipe00", *, backend: str = "onnxruntime") -> ArtifactRecord:
    """The artifact of a small model."""
    return ArtifactRecord.model_validate(
        {
            "digest": "sha256:" + "a" * 64,
            "path": f"artifacts/{recipe_key}",
            "bytes": 1234,
            "format": "ONNX" if backend == "onnxruntime" else "TorchScript",
            "precision": "FP32",
            "variant": "onnx-fp32" if backend == "onnxruntime" else "torchscript-fp32",
            "backend": backend,
        }
    )


def make_signature() -> ModelSignature:
    """One image in, ten numbers out, batched."""
    return ModelSignature(
        inputs=(TensorSpec(name="image", dtype="FP32", shape=(1, 8, 8)),),
        outputs=(TensorSpec(name="logits", dtype="FP32", shape=(10,)),),
        batched=True,
    )


def make_result(recipe_key: str = "recipe00") -> TerminationMessage:
    """What a Job that went well leaves behind."""
    return TerminationMessage.model_validate(
        {
            "outcome": Outcome.SUCCEEDED,
            "reason": "Succeeded",
            "message": "onnx-fp32 wins of 2 candidates",
            "source": SourceRecord(digest="sha256:" + "b" * 64, format="ExportedProgram", bytes=4321),
            "artifact": make_artifact(recipe_key),
            "signature": make_signature(),
            "summary": Summary.model_validate(
                {
                    "winner": "onnx-fp32",
                    "speedup": "2.1",
                    "baselineLatencyMs": "1.23",
                    "latencyMs": "0.58",
                    "maxAbsError": "1.2e-06",
                    "candidates": [
                        {"variant": "onnx-fp32", "verdict": "Accepted", "latencyMs": "0.58", "error": "1.2e-06"},
                        {"variant": "torchscript-fp32", "verdict": "Accepted", "latencyMs": "0.9", "error": "0"},
                    ],
                }
            ),
        }
    )


def make_verification(*, passed: bool = True) -> TerminationMessage:
    """What a verification Job leaves behind."""
    figures = {"pods": 1, "samples": 32, "maxAbsError": "1e-06", "relativeError": "1e-06", "cosine": "1"}
    wrong = "output 'logits': relative error 0.31 is above 0.0001"
    return TerminationMessage.model_validate(
        {
            "outcome": Outcome.SUCCEEDED if passed else Outcome.FAILED,
            "reason": "Succeeded" if passed else "VerificationFailed",
            "message": "32 samples agree" if passed else wrong,
            "verification": figures,
        }
    )
