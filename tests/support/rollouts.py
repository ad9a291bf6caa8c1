"""A ModelDeployment in the middle of its rollout as the API server hands it out: examples that keep to the contract."""

from typing import Any

from pilotfish.api.status import ModelDeploymentStatus
from pilotfish.core import Observed, observe
from pilotfish.names import Component
from pilotfish.resources.meta import make_metadata
from support.builders import OWNER, make_model_deployment

OLDEST, OLD, STABLE, CANDIDATE = "aaaa2222", "bbbb4444", "cccc5555", "dddd6666"
CANARY = {
    "strategy": "Canary",
    "steps": [
        {"weight": 10, "hold": "2m"},
        {"weight": 25, "hold": "5m"},
        {"weight": 50},
        {"weight": 80, "hold": "Forever"},
    ],
}


def revision_status(
    revision: str, *, variant: str = "onnx-fp32", since: str = "2026-01-01T11:00:00Z"
) -> dict[str, Any]:
    """A revision as status names it."""
    artifact = {"digest": "sha256:" + "a" * 64, "format": "ONNX", "precision": "FP32", "variant": variant}
    return {
        "name": f"digits-{revision}",
        "hash": revision,
        "artifact": artifact,
        "since": since,
        "sourceDigest": "sha256:" + revision[:2] * 32,
    }


def make_record(
    revision: str, number: int, *, uri: str = "", variant: str = "onnx-fp32", **intent: Any
) -> dict[str, Any]:
    """The ControllerRevision of a revision."""
    metadata = make_metadata(OWNER, name=f"digits-{revision}", component=Component.TRITON, revision=revision)
    model = {"uri": uri or f"s3://models/digits/v{number}/"}
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {**metadata, "creationTimestamp": f"2026-01-01T0{number}:00:00Z"},
        "revision": number,
        "data": {
            "revision": revision,
            "intent": {"model": model, **intent},
            "source": {"digest": "sha256:" + revision[:2] * 32},
            "artifact": {"variant": variant},
        },
    }


def make_deployment(*, asked: dict[str, Any] | None = None, paused: bool = False, **status: Any) -> dict[str, Any]:
    """The object with a stable revision; `status` is laid over it, and None removes a field."""
    spec = {
        "model": {"uri": "s3://models/digits/v4/"},
        "rollout": CANARY if asked is None else asked,
        "paused": paused,
    }
    base = {"observedGeneration": 1, "phase": "Ready", "stableRevision": revision_status(STABLE)}
    told = {key: value for key, value in {**base, **status}.items() if value is not None}
    ModelDeploymentStatus.model_validate(told)
    return make_model_deployment(spec, status=told)


def in_canary(**rollout: Any) -> dict[str, Any]:
    """Status fields of a canary at its second step."""
    return {
        "phase": "Canarying",
        "step": "2/4 25%",
        "candidateRevision": revision_status(CANDIDATE),
        "rollout": {
            "revision": CANDIDATE,
            "stage": "Stepping",
            "stageStartedAt": "2026-01-01T11:50:00Z",
            "step": {
                "index": 1,
                "weight": 25,
                "startedAt": "2026-01-01T11:57:00Z",
                "readyAt": "2026-01-01T11:58:00Z",
            },
            **rollout,
        },
    }


def aborted() -> dict[str, Any]:
    """Status fields after an abort by the analysis."""
    message = "aborted at step 2/4: error rate 7.1 % > 5 % over 60 s, 812 requests"
    at = "2026-01-01T11:59:00Z"
    return {
        "phase": "Aborted",
        "candidateRevision": revision_status(CANDIDATE),
        "history": [
            {"revision": CANDIDATE, "result": "Failed", "reason": "AnalysisFailed", "message": message, "at": at},
            {"revision": OLD, "result": "Superseded", "reason": "Superseded", "at": "2026-01-01T11:00:00Z"},
        ],
        "rollout": {
            "aborted": {"revision": CANDIDATE, "reason": "AnalysisFailed", "message": message, "at": at},
        },
    }


def settled() -> dict[str, Any]:
    """Status fields of a stable revision with two behind it."""
    return {
        "history": [
            {"revision": OLD, "result": "Superseded", "reason": "Superseded", "at": "2026-01-01T11:00:00Z"},
            {"revision": OLDEST, "result": "Superseded", "reason": "Superseded", "at": "2026-01-01T10:00:00Z"},
        ]
    }


def records(*revisions: str) -> tuple[dict[str, Any], ...]:
    """Their ControllerRevisions, oldest first."""
    return tuple(make_record(revision, number) for number, revision in enumerate(revisions, start=1))


def observed(body: dict[str, Any], *objects: dict[str, Any]) -> Observed:
    """As the command line reads it."""
    return observe(body, objects)
