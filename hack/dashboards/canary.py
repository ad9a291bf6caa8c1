"""Rows of a model's dashboard about a rollout: stable beside canary, and how far it is."""

from dashboards.panels import Column, Query, Row, Unit, make_graph, make_table
from dashboards.queries import REVISION, SERVED, SUMMARY, by_role, error_share, mean_of, of_object, rate

ROLE = f"{{{{role}}}} {{{{{REVISION}}}}}"


def make_comparison() -> Row:
    """Both revisions in one graph, each by its role."""
    slowest = f'max by ({REVISION}) ({SUMMARY}{{{SERVED}, quantile="0.99"}}) / 1e6'
    infer = mean_of("nv_inference_compute_infer_duration_us", over="nv_inference_exec_count")
    share = f"{rate('nv_inference_request_success')} / on () group_left () sum({rate('nv_inference_request_success')})"
    return Row(
        "Stable against canary",
        [
            make_graph(
                "Share of requests", "Of each role, as its pods counted.", Query(by_role(share), ROLE), unit=Unit.SHARE
            ),
            make_graph(
                "Error share",
                "Failed of all requests.",
                Query(by_role(error_share()), ROLE),
                unit=Unit.SHARE,
                limits={0.05: "red"},
            ),
            make_graph(
                "Mean latency, each",
                "Time in the server, queue included.",
                Query(by_role(mean_of("nv_inference_request_duration_us")), ROLE),
                unit=Unit.SECONDS,
            ),
            make_graph(
                "p99 latency, each",
                "Triton's own quantile; the worst pod.",
                Query(by_role(slowest), ROLE),
                unit=Unit.SECONDS,
            ),
            make_graph(
                "Time in the queue, each",
                "Mean wait for a free instance.",
                Query(by_role(mean_of("nv_inference_queue_duration_us")), ROLE),
                unit=Unit.SECONDS,
            ),
            make_graph(
                "Time of an execution, each",
                "Mean time of the model itself, for a batch.",
                Query(by_role(infer), ROLE),
                unit=Unit.SECONDS,
            ),
        ],
    )


def make_rollout() -> Row:
    """Where the canary is, and what its analysis says."""
    return Row(
        "Rollout",
        [
            make_graph(
                "Weight of the canary",
                "Desired by the step, assigned by replicas or routes, achieved as measured.",
                Query(f"{of_object('pilotfish_canary_weight', by='state')} / 100", "{{state}}"),
                unit=Unit.SHARE,
            ),
            make_graph(
                "Step",
                "Where the canary is, of how many.",
                Query(of_object("pilotfish_rollout_step"), "step"),
                Query(of_object("pilotfish_rollout_steps"), "of"),
                unit=Unit.NUMBER,
            ),
            make_table(
                "Analysis",
                "Last verdicts of the rollout under way.",
                [Column("Now", of_object("pilotfish_analysis_verdict", by="check, verdict, mode"))],
                hidden=["Value", "Now"],
                height=8,
                span=8,
            ),
            make_graph(
                "What the analysis measured",
                "Canary, stable and the bound of each check, as a share or in seconds.",
                Query(of_object("pilotfish_analysis_value", by="check, of"), "{{check}} {{of}}"),
                unit=Unit.NUMBER,
                span=12,
            ),
            make_graph(
                "Requests of the analysis",
                "Requests of the canary in the last window; too few hold the rollout.",
                Query(of_object("pilotfish_analysis_requests"), "requests"),
                unit=Unit.NUMBER,
                span=12,
            ),
        ],
    )
