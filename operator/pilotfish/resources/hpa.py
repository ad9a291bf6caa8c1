"""The HorizontalPodAutoscaler of a ModelDeployment.

It scales the ModelDeployment, not a Deployment: both revisions of a rollout follow the one number that it sets.
"""

import math
from typing import Any

from pilotfish import names
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.serving import METRIC_BOUNDS, Autoscaling, AutoscalingMetric, AutoscalingMetricType
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata

QUEUE_TIME_METRIC = "pilotfish_queue_time_milliseconds"
GPU_METRIC = "pilotfish_gpu_utilization_percent"
"""Names under which an adapter serves the figures of a pod (custom.metrics.k8s.io), in the unit of `target`."""

_DEFAULT = AutoscalingMetric(type=AutoscalingMetricType.CPU, target="70")
_POD_METRICS = {
    AutoscalingMetricType.QUEUE_TIME: QUEUE_TIME_METRIC,
    AutoscalingMetricType.GPU_UTILIZATION: GPU_METRIC,
}


def make_hpa(owner: Owner, autoscaling: Autoscaling) -> dict[str, Any]:
    """The whole HorizontalPodAutoscaler, of the metrics that one can ask for."""
    asked = [metric for metric in autoscaling.metrics if metric.type is not AutoscalingMetricType.PROMETHEUS]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": make_metadata(owner, name=names.autoscaler(owner.name), component=Component.TRITON),
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": KIND, "name": owner.name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [_metric(metric) for metric in asked or (_DEFAULT,)],
        },
    }


def _metric(metric: AutoscalingMetric) -> dict[str, Any]:
    if metric.type is AutoscalingMetricType.CPU:
        target: dict[str, Any] = {"type": "Utilization", "averageUtilization": math.ceil(_bounded(metric))}
        return {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    target = {"type": "AverageValue", "averageValue": _quantity(_bounded(metric))}
    return {"type": "Pods", "pods": {"metric": {"name": _POD_METRICS[metric.type]}, "target": target}}


def _bounded(metric: AutoscalingMetric) -> float:
    """The target within the bounds of the API, also of an object that was stored before they held."""
    least, most = METRIC_BOUNDS[metric.type]
    return min(max(float(metric.target), least), most)


def _quantity(number: float) -> str:
    """As the API server writes it, to a thousandth."""
    thousandths = math.ceil(round(number * 1000, 6))
    whole, rest = divmod(thousandths, 1000)
    return f"{thousandths}m" if rest else str(whole)
