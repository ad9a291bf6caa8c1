"""The PodDisruptionBudget of the pods that serve."""

from typing import Any

from pilotfish import names
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata


def make_pod_disruption_budget(owner: Owner, *, revision: str, min_available: int) -> dict[str, Any]:
    """The whole PodDisruptionBudget. Pods that are not ready may always be evicted: they protect nobody."""
    metadata = make_metadata(
        owner, name=names.traffic_service(owner.name), component=Component.TRITON, revision=revision
    )
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {
            "minAvailable": min_available,
            "selector": {"matchLabels": names.pod_selector(owner.name, revision)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
