"""The CustomResourceDefinition as one whole object, made from the contract's models.

Pure: hack/crd.py writes it to files. `python -m pilotfish.api.crd` prints it as JSON, which kubectl takes as well.
"""

import json
import sys
from typing import Any

from pilotfish.api.base import GROUP, KIND, PLURAL, VERSION
from pilotfish.api.markers import Rule, full_match
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.status import ModelDeploymentStatus
from pilotfish.api.structural import Node, Unavailable, find_unavailable, make_structural, make_tree

SHORT_NAME = "mdep"
CATEGORIES = ("all", "ai")
MAX_NAME = 40
UNSEEN = {"observedGeneration": -1}
"""The status before the operator wrote one: what waits with kstatus (Helm, Flux) would take none at all for done."""

_DNS_LABEL = full_match(r"[a-z]([-a-z0-9]*[a-z0-9])?", "")
NAME_RULES = (
    Rule(
        cel=f"self.metadata.name.size() <= {MAX_NAME}",
        message=f"metadata.name: use at most {MAX_NAME} characters: the names of pods and Jobs are made from it",
        holds=lambda manifest: len(manifest["metadata"]["name"]) <= MAX_NAME,
    ),
    Rule(
        cel=_DNS_LABEL.cel.replace("self", "self.metadata.name"),
        message="metadata.name: use lower-case letters, digits and '-', a letter first: a Service gets the same name",
        holds=lambda manifest: _DNS_LABEL.holds is not None and _DNS_LABEL.holds(manifest["metadata"]["name"]),
    ),
)


def make_crd() -> dict[str, Any]:
    """The whole CustomResourceDefinition as a dict, the same for every call."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": list(CATEGORIES),
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": printer_columns(),
                    "schema": {"openAPIV3Schema": _make_root_schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.serving.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                }
            ],
        },
    }


def unavailable_fields() -> tuple[Unavailable, ...]:
    """Everything of the schema that this version refuses, in the order of the schema."""
    return tuple(find_unavailable(make_tree(ModelDeploymentSpec), "spec"))


def printer_columns() -> list[dict[str, Any]]:
    """The columns of `kubectl get`; those with priority 1 appear with `-o wide`."""
    ready = '.status.conditions[?(@.type=="Ready")]'
    return [
        _column("Ready", f"{ready}.status", "The spec as asked is fully served."),
        _column("Available", '.status.conditions[?(@.type=="Available")].status', "Some revision serves."),
        _column("Phase", ".status.phase", "What is going on."),
        _column("Variant", ".status.variant", "What serves."),
        _column("Step", ".status.step", "Step of the rollout and its share of requests."),
        _column("Replicas", ".status.readyReplicas", "Ready pods of the stable revision.", kind="integer"),
        _column("Age", ".metadata.creationTimestamp", "Time since the object was made.", kind="date"),
        _column("Speedup", ".status.optimization.speedup", "Baseline latency over the winner's.", priority=1),
        _column("Error", ".status.optimization.maxAbsError", "Largest absolute difference.", priority=1),
        _column("Stable", ".status.stableRevision.hash", "The revision that gets the traffic.", priority=1),
        _column("Candidate", ".status.candidateRevision.hash", "The revision on its way.", priority=1),
        _column("Endpoint", ".status.endpoints.http", "Where requests go.", priority=1),
        _column("Message", f"{ready}.message", "Why, and what to do next.", priority=1),
    ]


def _column(name: str, path: str, description: str, *, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return {**column, "priority": priority} if priority else column


def _make_root_schema() -> Node:
    return {
        "description": f"{KIND} says which trained model to serve: it is optimized, proven equal to the original, "
        "served with NVIDIA Triton and changed without a failed request.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Version of the API: {GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"Kind of the object: {KIND}."},
            "metadata": {"type": "object"},
            "spec": make_structural(make_tree(ModelDeploymentSpec), "spec"),
            "status": {**make_structural(make_tree(ModelDeploymentStatus), "status"), "default": UNSEEN},
        },
        "x-kubernetes-validations": [rule.to_wire() for rule in NAME_RULES],
    }


if __name__ == "__main__":
    json.dump(make_crd(), sys.stdout, ensure_ascii=False, indent=2)
