"""What users do while things go wrong: between them these make every kind of object that the operator makes.

A workload is a line of specs, each followed until it is where it leads. Names are those of support.specs; what becomes
of a version is decided by `Surroundings`.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish.api.report import TerminationMessage
from pilotfish.core.objects import condition_of
from support.builders import make_result, make_verification
from support.kubelet import make_look

Body = Mapping[str, Any]
OTHER_BYTES = "sha256:" + "c" * 64
GATEWAY = {"name": "public", "sectionName": "web", "hostnames": ["digits.example.org"]}
GRPC = {"hostnames": ["grpc.digits.example.org"]}
ANALYSIS = {"interval": "5s", "window": "30s", "minRequests": 1, "errorLimit": 100}
"""A machine that is too busy to take two samples in time is no fault."""


def is_ready(body: Body) -> bool:
    """Served as asked."""
    return _says(body, "Ready", "True")


def is_stuck(body: Body) -> bool:
    """It failed and says so."""
    return _says(body, "Ready", "False") and _says(body, "Progressing", "False")


def is_pinned(body: Body) -> bool:
    """The bytes that a look found are served."""
    return is_ready(body) and (body["status"].get("source") or {}).get("digest") == OTHER_BYTES


def _says(body: Body, kind: str, status: str) -> bool:
    found = condition_of(body, kind)
    return (
        found is not None
        and found["status"] == status
        and found.get("observedGeneration") == body["metadata"]["generation"]
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A spec, and when the next one may come."""

    spec: Mapping[str, Any]
    there: Callable[[Body], bool] = is_ready


@dataclass(frozen=True, slots=True)
class Workload:
    """`uncounted` are words in titles of objects whose number depends on time alone."""

    name: str
    steps: tuple[Step, ...]
    gateway: bool = False
    uncounted: tuple[str, ...] = ()


def make(version: str = "v1", *, replicas: int = 1, rollout: Mapping[str, Any] | None = None, **more: Any) -> Body:
    """A small spec."""
    serving = {"replicas": replicas, **more.pop("serving", {})}
    model = {"uri": f"s3://models/digits/{version}/", **more.pop("model", {})}
    return {"model": model, "serving": serving, **({"rollout": rollout} if rollout else {}), **more}


def _canary(**more: Any) -> dict[str, Any]:
    return {"strategy": "Canary", "steps": [{"weight": 50, "hold": "2s"}], "analysis": ANALYSIS, **more}


def _routed(version: str) -> Body:
    gateway = {"gateway": {**GATEWAY, "grpc": GRPC}}
    return make(version, replicas=2, serving=gateway, rollout=_canary())


WORKLOADS: Mapping[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("first", (Step(make(replicas=2)),)),
        Workload("update and back", tuple(Step(make(version)) for version in ("v1", "v2", "v1"))),
        Workload("update that fails", (Step(make()), Step(make("bad"), is_stuck))),
        Workload("other answers", (Step(make()), Step(make("wrong"), is_stuck))),
        Workload(
            "scale and replace",
            (Step(make()), Step(make(replicas=3)), Step(make("v2", rollout={"strategy": "Replace"}))),
        ),
        Workload("canary", tuple(Step(make(version, replicas=2, rollout=_canary())) for version in ("v1", "v2"))),
        Workload("routes", tuple(Step(_routed(version)) for version in ("v1", "v2")), gateway=True),
        Workload(
            "shadow",
            tuple(Step(make(v, replicas=2, rollout=_canary(shadow={"sampleRate": "0.5"}))) for v in ("v1", "v2")),
        ),
        Workload(
            "other bytes",
            (Step(make(model={"refresh": {"interval": "1m"}}), is_pinned), Step(make())),
            uncounted=("-refresh",),
        ),
    )
}


def chosen() -> dict[str, Workload]:
    """Those that a soak run takes: all, or the names in PILOTFISH_FAULT_WORKLOADS, with commas between them."""
    names = os.environ.get("PILOTFISH_FAULT_WORKLOADS", "")
    return {name: WORKLOADS[name] for name in names.split(",")} if names else dict(WORKLOADS)


@dataclass(slots=True)
class Surroundings:
    """What becomes of models, for the kubelet that is played."""

    wrong: set[str] = field(default_factory=set)
    """Recipes whose server answers otherwise."""

    def optimize(self, job: Mapping[str, Any]) -> TerminationMessage:
        uri = job["model"]["uri"]
        if uri.endswith("/bad/"):
            return TerminationMessage(outcome="Failed", reason="UnsafeModel", message="The file holds code")
        if uri.endswith("/wrong/"):
            self.wrong.add(f"artifacts/{job['recipeKey']}")
        made = make_result(job["recipeKey"])
        digest = job["model"].get("digest")
        return made.model_copy(update={"source": made.source.model_copy(update={"digest": digest})}) if digest else made

    def verify(self, order: Mapping[str, Any]) -> TerminationMessage:
        return make_verification(passed=order["artifact"]["path"] not in self.wrong)

    def look(self, _order: Mapping[str, Any]) -> TerminationMessage:
        return make_look(OTHER_BYTES)
