"""The small world with a gateway in front: requests go by the weights that the gateway has taken over."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from pilotfish import names
from pilotfish.api.job_input import PREDICT_CONFIG
from pilotfish.core import Observed, Plan, Policy, observe
from pilotfish.core.observed import watched_kinds
from support.builders import OWNER, POLICY
from support.neighbours import LABELS, is_ready
from support.world import World

CONDITIONS = ("Accepted", "ResolvedRefs")


@dataclass(slots=True)
class GatewayWorld(World):
    """`answers`: whether the gateway takes over what routes say. `weights`: by route kind, what is in force."""

    policy: Policy = field(default_factory=lambda: replace(POLICY, gateway_api=True))
    answers: bool = True
    weights: dict[str, dict[str, int]] = field(default_factory=dict)
    predicting: dict[str, int] = field(default_factory=dict)
    """Weights in force for POST /predict as plain JSON; empty where that is a path like any other."""
    unserved: frozenset[str] = frozenset()
    gap: bool = False
    """Whether the rollout was allowed to leave nobody serving for a while."""
    heard: list[str] = field(default_factory=list)
    """Reasons of the condition Ready, one after the other."""

    def observed(self, *found: dict[str, Any]) -> Observed:
        """What a pass sees, routes too."""
        kinds = (kind for _, kind in watched_kinds(gateway_api=True) if kind not in self.unserved)
        objects = [body for kind in kinds for body in self.cluster.find(kind, LABELS)]
        return self._measured(observe(self.body, [*objects, *found], unserved=self.unserved))

    def execute(self, made: Plan) -> None:
        """The writes of a pass; what it says of Ready is kept."""
        World.execute(self, made)
        said = self.said("Ready")
        if said is not None and said[1] not in self.heard[-1:]:
            self.heard.append(said[1])

    def actors(self) -> list[Callable[[], None]]:
        """Everybody and the gateway."""
        return [*World.actors(self), self.take_over]

    def take_over(self) -> None:
        """The gateway reads one route that it has not accepted yet."""
        for kind in ("HTTPRoute", "GRPCRoute"):
            found = self.cluster.find(kind, LABELS)
            if not found:
                self.weights.pop(kind, None)
            for route in found:
                if self.answers and _accepted(route) != route["metadata"]["generation"]:
                    self._accept(kind, route)
                    return

    def _accept(self, kind: str, route: dict[str, Any]) -> None:
        *special, rule = route["spec"]["rules"]
        in_force = self._resolve(kind, rule)
        self.weights[kind] = in_force
        said = ", ".join(f"{revision} {w} %" for revision, w in in_force.items())
        if kind == "HTTPRoute":
            self.predicting = self._resolve(kind, *special) if special else {}
            shares = ", ".join(f"{revision} {w}" for revision, w in self.predicting.items())
            said += f"; /predict: {shares}" if special else ""
            self._check_predict(in_force)
        self._tell("gateway", f"{kind}: {said}")
        generation = route["metadata"]["generation"]
        said = [
            {"type": name, "status": "True", "observedGeneration": generation, "reason": name, "message": ""}
            for name in CONDITIONS
        ]
        parents = [{"parentRef": parent, "conditions": said} for parent in route["spec"]["parentRefs"]]
        self.cluster.change_now(kind, route["metadata"]["name"], lambda body: body.update(status={"parents": parents}))

    def _resolve(self, kind: str, rule: dict[str, Any]) -> dict[str, int]:
        found = {}
        for backend in rule["backendRefs"]:
            service = self.cluster.look("Service", backend["name"])
            assert service is not None, f"{kind} names Service {backend['name']}, which does not exist"
            found[service["spec"]["selector"][names.REVISION_LABEL]] = backend["weight"]
        return found

    def _check_predict(self, in_force: dict[str, int]) -> None:
        """Plain JSON goes to all who have requests and the model for it, by their weights, and to nobody else."""
        asked = {revision: weight for revision, weight in self.predicting.items() if weight}
        able = {revision: weight for revision, weight in in_force.items() if weight and self._predicts(revision)}
        assert asked == able, f"/predict goes to {asked}, of {in_force} those can answer it: {able}"

    def _predicts(self, revision: str) -> bool:
        config = self.cluster.look("ConfigMap", names.revision_name(OWNER.name, revision))
        return config is not None and PREDICT_CONFIG in config["data"]

    def step(self, actor: Callable[[], None]) -> bool:
        """Let one of them act; no weight may be in force for pods that are not ready or were not verified."""
        changed = World.step(self, actor)
        self.laws._heed_verifications()
        for kind, in_force in self.weights.items():
            for revision, weight in in_force.items():
                if weight and not self.gap:
                    assert self._ready(revision), f"{kind} gives {revision} {weight} %, no pod of it is ready"
                    deployment = self.cluster.look("Deployment", names.revision_name(OWNER.name, revision))
                    assert deployment is not None
                    assert deployment["metadata"]["uid"] in self.laws._verified, f"{revision} was never verified"
        return changed

    def pass_time(self, by: timedelta) -> None:
        """Move the clock; requests go on by the weights of the HTTPRoute."""
        self.moment += by
        in_force = self.weights.get("HTTPRoute", {})
        for revision, weight in in_force.items():
            pods = self._ready(revision)
            requests = self.traffic.rate * by.total_seconds() * weight / (sum(in_force.values()) or 1)
            for pod in pods:
                self.traffic._answer(pod, int(requests / len(pods)))

    def reached(self) -> list[dict[str, Any]]:
        """Ready pods that get requests through the gateway."""
        in_force = self.weights.get("HTTPRoute", {})
        return [pod for revision, weight in in_force.items() if weight for pod in self._ready(revision)]

    def _ready(self, revision: str) -> list[dict[str, Any]]:
        return [pod for pod in self.cluster.find("Pod", names.pod_selector(OWNER.name, revision)) if is_ready(pod)]


def _accepted(route: dict[str, Any]) -> int:
    parents = route.get("status", {}).get("parents") or ()
    return min((c["observedGeneration"] for parent in parents for c in parent["conditions"]), default=0)
