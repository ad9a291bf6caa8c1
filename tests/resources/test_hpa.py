"""The autoscaler as it is rendered: numbers as the API server writes them, so that nothing is ever written twice."""

import pytest

from pilotfish.api.serving import Autoscaling
from pilotfish.resources.hpa import GPU_METRIC, QUEUE_TIME_METRIC, make_hpa
from support.builders import OWNER


def metrics_of(*asked):
    wanted = [{"type": kind, "target": target} for kind, target in asked]
    autoscaling = Autoscaling.model_validate({"minReplicas": 2, "maxReplicas": 5, "metrics": wanted})
    return make_hpa(OWNER, autoscaling)["spec"]["metrics"]


def test_it_scales_the_model_deployment():
    spec = make_hpa(OWNER, Autoscaling(max_replicas=4))["spec"]
    target = {"apiVersion": "pilotfish.dev/v1alpha1", "kind": "ModelDeployment", "name": OWNER.name}
    assert (spec["scaleTargetRef"], spec["minReplicas"], spec["maxReplicas"]) == (target, 1, 4)


def test_cpu_at_70_percent_is_what_nobody_needs_to_say():
    assert metrics_of() == metrics_of(("CPU", "70"))


@pytest.mark.parametrize(("target", "percent"), [("70", 70), ("70.2", 71), ("1e2", 100), ("0", 1), ("1e9999999", 100)])
def test_cpu_is_a_whole_percentage(target, percent):
    (metric,) = metrics_of(("CPU", target))
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}


@pytest.mark.parametrize(
    ("target", "quantity"),
    [("5", "5"), ("0.5", "500m"), ("2.25", "2250m"), ("1e-9", "1m"), ("1e1", "10"), ("0.1", "100m")],
)
def test_queue_time_is_a_quantity_as_the_api_server_writes_it(target, quantity):
    (metric,) = metrics_of(("QueueTime", target))
    assert metric["pods"]["metric"]["name"] == QUEUE_TIME_METRIC
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": quantity}


def test_the_order_is_the_user_s():
    names = [
        m.get("pods", {}).get("metric", {}).get("name") for m in metrics_of(("GPUUtilization", "80"), ("CPU", "9"))
    ]
    assert names == [GPU_METRIC, None]


def test_a_metric_of_another_version_is_passed_over():
    assert metrics_of(("Prometheus", "5")) == metrics_of()
