"""An object in the middle of a canary, with everything in its status that a status can have."""

from typing import Any

from pilotfish.names import COMPONENT_LABEL, REVISION_LABEL
from pilotfish.telemetry.state import ObjectState

TIME = "2026-11-22T10:00:00Z"


def child(kind: str, revision: str, uid: str = "u", **rest: Any) -> dict[str, Any]:
    """A child of the object with that uid."""
    labels = {REVISION_LABEL: revision, COMPONENT_LABEL: "triton"}
    owner = {"kind": "ModelDeployment", "name": "digits", "uid": uid, "controller": True}
    name = f"digits-{revision}"
    return {"kind": kind, "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}, **rest}


def deployment(revision: str, desired: int, ready: int, uid: str = "u") -> dict[str, Any]:
    """Triton pods of a revision."""
    return child("Deployment", revision, uid, spec={"replicas": desired}, status={"readyReplicas": ready})


def record(revision: str, speedup: str, error: str) -> dict[str, Any]:
    """A ControllerRevision."""
    figures = {"speedup": speedup, "maxAbsError": error}
    return child("ControllerRevision", revision, data={"artifact": {"bytes": 1234}, "summary": figures})


def _revision(name: str, since: str = TIME) -> dict[str, Any]:
    artifact = {"digest": "sha256:0", "format": "ONNX", "precision": "FP32", "variant": f"onnx-{name}"}
    return {"name": f"digits-{name}", "hash": name, "since": since, "artifact": artifact}


STATUS: dict[str, Any] = {
    "phase": "Canarying",
    "step": "2/3 25%",
    "variant": "onnx-old 2.1x",
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "WaitingForData"},
        {"type": "Available", "status": "True", "reason": "Serving"},
    ],
    "source": {"digest": "sha256:1", "checkedAt": TIME, "reason": "SourceForbidden"},
    "stableRevision": _revision("old"),
    "candidateRevision": _revision("new", "2026-11-22T10:05:00Z"),
    "optimization": {"progress": {"stage": "benchmark", "percent": 55}},
    "rollout": {
        "revision": "new",
        "stage": "Stepping",
        "stageStartedAt": "2026-11-22T10:06:00Z",
        "step": {
            "index": 1,
            "weight": 25,
            "startedAt": "2026-11-22T10:07:00Z",
            "readyAt": "2026-11-22T10:08:00Z",
        },
        "traffic": {"desired": 25, "assigned": 33, "achieved": "31.2"},
        "analysis": {
            "verdict": "Fail",
            "requests": 812,
            "checks": [
                {
                    "name": "tailLatency",
                    "verdict": "Fail",
                    "mode": "Enforce",
                    "value": ">5000ms",
                    "baseline": "12.3ms",
                    "threshold": "50ms",
                },
                {"name": "errorRate", "verdict": "Pass", "mode": "Observe", "value": "0.0714"},
            ],
        },
    },
}
MIDWAY = ObjectState(
    namespace="team",
    name="digits",
    uid="u",
    spec={"rollout": {"strategy": "Canary", "steps": [{"weight": 5}, {"weight": 25, "hold": "10m"}, {"weight": 50}]}},
    status=STATUS,
    objects=(
        deployment("old", 3, 2),
        deployment("new", 1, 1),
        deployment("older", 1, 0),
        deployment("older", 7, 7, uid="somebody else's"),
        record("old", "2.1", "1.2e-06"),
        record("new", "2.9", "3e-03"),
        record("older", "9", "9"),
    ),
)
