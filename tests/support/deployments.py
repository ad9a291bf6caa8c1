"""ModelDeployments of one namespace as an end-to-end test sees them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from testbed.client_pod import ClientPod
from testbed.kubectl import Kubectl, wait_for
from testbed.store import pack_cases

from pilotfish.api.base import API_VERSION, KIND

CHILD_KINDS = (
    "jobs,pods,deployments,services,configmaps,controllerrevisions,persistentvolumeclaims,poddisruptionbudgets,"
    "networkpolicies,horizontalpodautoscalers"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployments:
    """Apply, look, wait."""

    kubectl: Kubectl
    namespace: str

    def apply(self, name: str, spec: Mapping[str, Any]) -> int:
        """Apply the whole object; its generation afterwards."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        }
        self.kubectl.apply(body)
        return self.get(name)["metadata"]["generation"]

    def get(self, name: str) -> dict[str, Any]:
        body = self.kubectl.get("modeldeployment", name, namespace=self.namespace)
        assert body is not None, f"{name} is gone"
        return dict(body)

    def names(self) -> tuple[str, ...]:
        bodies = self.kubectl.list("modeldeployments", namespace=self.namespace)
        return tuple(body["metadata"]["name"] for body in bodies)

    def children(self, name: str = "", kinds: str = CHILD_KINDS) -> tuple[str, ...]:
        """`Kind/name` of everything that carries our labels."""
        selector = f"pilotfish.dev/name={name}" if name else "pilotfish.dev/name"
        bodies = self.kubectl.list(kinds, namespace=self.namespace, selector=selector)
        return tuple(sorted(f"{body['kind']}/{body['metadata']['name']}" for body in bodies))

    def optimize_jobs(self, name: str) -> tuple[str, ...]:
        """Jobs that made an artifact; each of them may verify many times."""
        return tuple(job for job in self.children(name, "jobs") if job.endswith("-optimize"))

    def condition(self, name: str, kind: str) -> dict[str, Any] | None:
        """The condition, if it is about the present generation."""
        body = self.get(name)
        for condition in body.get("status", {}).get("conditions", ()):
            if condition["type"] == kind and condition["observedGeneration"] == body["metadata"]["generation"]:
                return condition
        return None

    def wait_condition(self, name: str, kind: str, status: str, *, reason: str = "", seconds: float) -> dict[str, Any]:
        """The condition once it has this status (and reason) for the present generation."""

        def probe() -> dict[str, Any] | None:
            found = self.condition(name, kind)
            hit = found and found["status"] == status and (not reason or found["reason"] == reason)
            return found if hit else None

        return wait_for(f"{name}: {kind}={status} {reason}", probe, seconds=seconds, found=lambda: self.story(name))

    def wait_ready(self, name: str, *, seconds: float = 300) -> dict[str, Any]:
        """The whole object once Ready is True for its generation."""
        self.wait_condition(name, "Ready", "True", seconds=seconds)
        return self.get(name)

    def check_answers(self, name: str, inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
        """A client in the cluster asks over HTTP and gRPC; no request fails and no answer is another one."""
        client = ClientPod(kubectl=self.kubectl, namespace=self.namespace, name=f"client-{name}")
        client.start(service=name, cases=pack_cases(inputs, {"expected": expected}))
        wait_for("answers", lambda: client.totals().get("expected", 0) > 10, seconds=60, found=client.logs)
        totals = client.stop()
        assert (totals.get("failed", 0), totals.get("wrong", 0)) == (0, 0), totals

    def story(self, name: str) -> str:
        """What a person would look at when something does not come."""
        body = self.get(name)
        conditions = [
            f"{c['type']}={c['status']} {c['reason']}: {c['message']}"
            for c in body.get("status", {}).get("conditions", ())
        ]
        events = self.kubectl.run(
            "get",
            "events",
            "-n",
            self.namespace,
            "--sort-by=.lastTimestamp",
            "-o",
            "custom-columns=:.reason,:.involvedObject.name,:.message",
            "--no-headers",
        )
        return json.dumps(
            {"children": self.children(name), "conditions": conditions, "events": events.splitlines()[-12:]}, indent=1
        )
