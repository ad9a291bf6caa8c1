"""What the operator would apply for a ModelDeployment, without a cluster: its own plans, played to the end.

Pure. The optimizer's result is not known here, so figures, digests and the signature of a model that does not state it
are placeholders; everything else is what the cluster gets.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pilotfish.api.predict import PredictInput, Preprocessing
from pilotfish.api.report import TerminationMessage
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.termination import encode_termination_message
from pilotfish.cli.manifests import without_nulls
from pilotfish.core import Body, Policy, observe, plan
from pilotfish.core.objects import label_of, name_of
from pilotfish.names import COMPONENT_LABEL, Component, recipe_key

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_UID = "00000000-0000-0000-0000-000000000000"
_DIGEST = "sha256:" + "0" * 64
_PASSES = 20


def preview(manifest: Mapping[str, Any], policy: Policy) -> tuple[Body, ...]:
    """All objects of a linted ModelDeployment, each as applied last, in the order of their first appearance."""
    spec = ModelDeploymentSpec.model_validate(without_nulls(manifest["spec"]))
    metadata = {"namespace": "default", **manifest["metadata"], "uid": _UID, "generation": 1, "resourceVersion": "1"}
    body: dict[str, Any] = {**manifest, "metadata": metadata, "spec": spec.to_wire()}
    stored: dict[tuple[str, str], dict[str, Any]] = {}
    applied: dict[tuple[str, str], Body] = {}
    for _ in range(_PASSES):
        world = list(stored.values())
        made = plan(observe(body, [*world, *_pods(world, spec)]), policy, _NOW)
        for apply in made.applies:
            key = (apply.body["kind"], name_of(apply.body))
            applied[key] = apply.body
            stored[key] = _settled(apply.body, number=len(stored))
        if made.status is not None:
            body = {**body, "status": made.status["status"]}
        elif not made.applies:
            break
    return tuple(applied.values())


def _settled(body: Body, *, number: int) -> dict[str, Any]:
    """The object as a cluster keeps it once its controller is done with it."""
    metadata = {
        **body["metadata"],
        "uid": f"{number:08d}-0000-0000-0000-000000000000",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    status: dict[str, Any] = {}
    if body["kind"] == "Job":
        status = {"conditions": [{"type": "Complete", "status": "True"}]}
    if body["kind"] == "Deployment":
        replicas = body["spec"]["replicas"]
        counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), replicas)
        status = {"observedGeneration": 1, **counts}
    return {**body, "metadata": metadata, "status": status}


def _pods(world: list[dict[str, Any]], spec: ModelDeploymentSpec) -> list[dict[str, Any]]:
    return [_ended_pod(job, spec) for job in world if job["kind"] == "Job"]


def _ended_pod(job: Body, spec: ModelDeploymentSpec) -> dict[str, Any]:
    owner = {"kind": "Job", "name": name_of(job), "uid": job["metadata"]["uid"], "controller": True}
    verifies = label_of(job, COMPONENT_LABEL) == Component.VERIFY
    ended = {"exitCode": 0, "message": encode_termination_message(_verified() if verifies else _result(spec))}
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name_of(job)}-0",
            "namespace": job["metadata"]["namespace"],
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "ownerReferences": [owner],
        },
        "spec": job["spec"]["template"]["spec"],
        "status": {
            "phase": "Succeeded",
            "containerStatuses": [{"name": container["name"], "state": {"terminated": ended}}],
        },
    }


def _verified() -> TerminationMessage:
    return TerminationMessage.model_validate(
        {
            "outcome": "Succeeded",
            "reason": "Succeeded",
            "message": "placeholder",
            "verification": {"pods": 1, "samples": 1, "maxAbsError": "0", "relativeError": "0", "cosine": "1"},
        }
    )


def _result(spec: ModelDeploymentSpec) -> TerminationMessage:
    formats = [chosen.value for chosen in spec.optimization.formats]
    onnx = not formats or "ONNX" in formats
    artifact = {
        "digest": _DIGEST,
        "path": f"artifacts/{recipe_key(spec)}",
        "bytes": 0,
        "format": "ONNX" if onnx else "TorchScript",
        "precision": "FP32",
        "variant": "onnx-fp32" if onnx else "torchscript-fp32",
        "backend": "onnxruntime" if onnx else "pytorch",
        "tokenizer": True,
    }
    return TerminationMessage.model_validate(
        {
            "outcome": "Succeeded",
            "reason": "Succeeded",
            "message": "placeholder",
            "source": {"digest": spec.model.digest or _DIGEST, "bytes": 0},
            "artifact": artifact,
            "signature": _signature(spec),
            "summary": {"winner": artifact["variant"]},
        }
    )


def _signature(spec: ModelDeploymentSpec) -> dict[str, object]:
    """As stated, else one that fits the plain-JSON endpoint where there is one."""
    stated = spec.model.signature
    inputs, outputs = ((), ()) if stated is None else (stated.inputs, stated.outputs)
    unknown: dict[str, object] = {"name": "placeholder", "dtype": "FP32"}
    text = spec.serving.predict is not None and spec.serving.predict.input is PredictInput.TEXT
    tokens = [{"name": "input_ids", "dtype": "INT64"}, {"name": "attention_mask", "dtype": "INT64"}]
    unstated = [{**one, "shape": _input_shape(spec)} for one in (tokens if text else [unknown])]
    return {
        "inputs": [tensor.to_wire() for tensor in inputs] or unstated,
        "outputs": [tensor.to_wire() for tensor in outputs] or [{**unknown, "shape": _output_shape(spec)}],
        "batched": _is_batched(spec),
    }


def _is_batched(spec: ModelDeploymentSpec) -> bool:
    return spec.serving.batching.max_batch_size > 0


def _input_shape(spec: ModelDeploymentSpec) -> list[int]:
    predict = spec.serving.predict
    if predict is None:
        return [1]
    steps = predict.preprocessing or Preprocessing()
    numbers = max(len(steps.mean), len(steps.std), 1)
    if predict.input is PredictInput.VALUES:
        return [numbers]
    if predict.input is PredictInput.TEXT:
        return [*([] if _is_batched(spec) else [1]), -1]
    return [*([] if _is_batched(spec) else [1]), 1 if numbers == 1 else 3, *(steps.resize or (1, 1))]


def _output_shape(spec: ModelDeploymentSpec) -> list[int]:
    predict = spec.serving.predict
    return [1] if predict is None else [len(predict.labels) or max(2, predict.top)]
