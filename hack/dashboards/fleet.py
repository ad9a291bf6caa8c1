"""All ModelDeployments at one look: what is not as asked, what moves, what serves."""

from collections.abc import Sequence

from dashboards.panels import Board, Column, Query, Row, Unit, make_graph, make_number, make_table, make_variable
from dashboards.queries import UNCANCELLED, fleet_rate, of_fleet

ONE = "{{namespace}}/{{name}}"
MOVING = "Optimizing|Starting|Verifying|Canarying|Baking"
RED_FROM_ONE = {1.0: "red"}
MODEL_URL = (
    "/d/pilotfish-model?var-datasource=${datasource}&var-namespace=${__data.fields.namespace}&var-name=${__value.raw}"
)
_FAILED = fleet_rate("nv_inference_request_failure", UNCANCELLED)
_ANSWERED = fleet_rate("nv_inference_request_success")
_ERRORS = f"{_FAILED} / ({_FAILED} + {_ANSWERED})"
_MEAN = f"{fleet_rate('nv_inference_request_duration_us')} / {_ANSWERED} / 1e6"


def make_fleet(alerts: Sequence[str]) -> Board:
    """`alerts`: names of the chart's alerts."""
    return Board(
        uid="pilotfish-fleet",
        title="Pilotfish / Fleet",
        description="Every ModelDeployment: phase, pods, variant, speed-up, traffic, rollouts and alerts.",
        variables=[make_variable("namespace", "Namespace", "label_values(pilotfish_info, namespace)", every=True)],
        rows=[_now(alerts), _objects(), _traffic(), _rollouts()],
    )


def _now(alerts: Sequence[str]) -> Row:
    aborted = of_fleet("pilotfish_phase", 'phase="Aborted"')
    moving = of_fleet("pilotfish_phase", f'phase=~"{MOVING}"')
    firing = f'ALERTS{{alertstate="firing", alertname=~"{"|".join(alerts)}"}}'
    return Row(
        "Now",
        [
            make_number(
                "Models", "ModelDeployments in the chosen namespaces.", Query(f"count({of_fleet('pilotfish_info')})")
            ),
            make_number(
                "Not ready",
                "ModelDeployments that do not serve what their spec asks for, rollouts under way included.",
                Query(f"count({of_fleet('pilotfish_ready')} == 0) or vector(0)"),
                colours={1.0: "orange"},
            ),
            make_number(
                "Unavailable",
                "ModelDeployments of which no revision serves.",
                Query(f"count({of_fleet('pilotfish_available')} == 0) or vector(0)"),
                colours=RED_FROM_ONE,
            ),
            make_number(
                "On their way",
                "Rollouts under way.",
                Query(f"count({moving}) or vector(0)"),
            ),
            make_number(
                "Aborted",
                "The new revision failed and the old one serves, until the spec changes or the rollout is retried.",
                Query(f"count({aborted}) or vector(0)"),
                colours=RED_FROM_ONE,
            ),
            make_number(
                "Alerts",
                "Alerts of this chart that fire.",
                Query(f"count({firing}) or vector(0)"),
                colours=RED_FROM_ONE,
            ),
            make_number(
                "Requests",
                "Requests that were answered, by all models.",
                Query(f"sum({_ANSWERED})"),
                unit=Unit.REQUESTS,
            ),
            make_number(
                "Errors",
                "Share of all requests that failed, without those that clients gave up.",
                Query(f"sum({_FAILED}) / (sum({_FAILED}) + sum({_ANSWERED}))"),
                unit=Unit.SHARE,
                colours={0.01: "orange", 0.05: "red"},
            ),
            make_table(
                "Alerts that fire",
                "Each has a runbook, linked in its annotations.",
                [Column("Firing", firing)],
                hidden=["Value", "Firing", "__name__", "alertstate", "job", "instance", "pod", "container", "endpoint"],
                height=6,
            ),
        ],
    )


def _objects() -> Row:
    return Row(
        "Models",
        [
            make_table(
                "Every model",
                "Its phase, what it serves with, how much faster that is than the original, and its traffic.",
                [
                    Column("Ready", of_fleet("pilotfish_ready")),
                    Column("Info", of_fleet("pilotfish_info", by="phase, strategy, format, variant, revision")),
                    Column("Pods ready", of_fleet("pilotfish_replicas", 'role="stable"', 'state="ready"')),
                    Column("Pods wanted", of_fleet("pilotfish_replicas", 'role="stable"', 'state="desired"')),
                    Column("Speed-up", of_fleet("pilotfish_artifact_speedup_ratio", 'role="stable"'), Unit.TIMES),
                    Column("Requests", _ANSWERED, Unit.REQUESTS),
                    Column("Errors", _ERRORS, Unit.SHARE, {0.01: "orange", 0.05: "red"}),
                    Column("Mean latency", _MEAN, Unit.SECONDS),
                ],
                hidden=["Value #B", "Info"],
                links={"name": MODEL_URL},
            )
        ],
    )


def _traffic() -> Row:
    return Row(
        "Traffic",
        [
            make_graph(
                "Requests", "Requests answered, by model.", Query(_ANSWERED, ONE), unit=Unit.REQUESTS, stacked=True
            ),
            make_graph(
                "Errors",
                "Share of a model's requests that failed; from 5 % on ModelErrorRateHigh fires.",
                Query(_ERRORS, ONE),
                unit=Unit.SHARE,
                limits={0.05: "red"},
            ),
            make_graph("Mean latency", "Time in the server, queue included.", Query(_MEAN, ONE), unit=Unit.SECONDS),
        ],
    )


def _rollouts() -> Row:
    ended, failed = "pilotfish_rollouts_total", "pilotfish_optimization_failures_total"
    took = "pilotfish_optimization_duration_seconds"
    mean = f"sum by (format) (increase({took}_sum[$__range])) / sum by (format) (increase({took}_count[$__range]))"
    return Row(
        "Rollouts and optimizations",
        [
            make_graph(
                "Phases",
                "How many ModelDeployments are in which phase.",
                Query(f"count by (phase) ({of_fleet('pilotfish_phase', by='phase')})", "{{phase}}"),
                unit=Unit.NUMBER,
                stacked=True,
                span=6,
            ),
            make_graph(
                "Rollouts that ended",
                "By how they ended, over the chosen time; of all namespaces.",
                Query(f"sum by (outcome) (increase({ended}[$__range]))", "{{outcome}}"),
                unit=Unit.NUMBER,
                span=6,
            ),
            make_graph(
                "Optimizations that failed",
                "By reason, over the chosen time; docs/reasons.md says what to do. Of all namespaces.",
                Query(f"sum by (reason) (increase({failed}[$__range])) > 0", "{{reason}}"),
                unit=Unit.NUMBER,
                span=6,
            ),
            make_graph(
                "Time of an optimization",
                "Mean over the chosen time, by the format of the artifact; of all namespaces.",
                Query(mean, "{{format}}"),
                unit=Unit.SECONDS,
                span=6,
            ),
        ],
    )
