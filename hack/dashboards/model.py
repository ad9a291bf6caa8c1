"""One ModelDeployment: what its clients get, where the time goes, stable beside canary, what its pods use."""

from dashboards.canary import make_comparison, make_rollout
from dashboards.panels import Board, Mark, Query, Row, Unit, make_graph, make_number, make_variable
from dashboards.queries import (
    OBJECT,
    REVISION,
    SERVED,
    SUMMARY,
    error_share,
    mean_of,
    of_containers,
    of_object,
    rate,
)

EACH = f"{{{{{REVISION}}}}}"
ERRORS = {0.01: "orange", 0.05: "red"}
QUANTILES = ("0.5", "0.95", "0.99")
GPU = "{{pod}} {{gpu_uuid}}"


def make_model() -> Board:
    """Rollouts are marked in every graph."""
    return Board(
        uid="pilotfish-model",
        title="Pilotfish / Model",
        description="One ModelDeployment: requests, errors, latency, queue, batches, rollout and resources.",
        variables=[
            make_variable("namespace", "Namespace", "label_values(pilotfish_info, namespace)"),
            make_variable("name", "ModelDeployment", 'label_values(pilotfish_info{namespace="$namespace"}, name)'),
        ],
        rows=[_now(), _requests(), make_comparison(), make_rollout(), _pods(), _artifact()],
        marks=_marks(),
    )


def _marks() -> list[Mark]:
    stable = f'max by (revision, variant) (pilotfish_revision_info{{{OBJECT}, role="stable"}})'
    before = stable.replace("})", "} offset $__interval)")
    phase = of_object("pilotfish_phase", 'phase="Aborted"')
    return [
        Mark(
            name="Rollout began",
            expr=f"{of_object('pilotfish_rollout_started_timestamp_seconds')} * 1000",
            text="A new revision was asked for",
            colour="blue",
            value_is_time=True,
        ),
        Mark(
            name="Step reached",
            expr=f"{of_object('pilotfish_rollout_progressed_timestamp_seconds')} * 1000",
            text="The rollout reached a stage, a step or its share",
            colour="orange",
            value_is_time=True,
        ),
        Mark(
            name="Promoted",
            expr=f"{stable} unless {before}",
            text="Revision {{revision}} ({{variant}}) is stable",
            colour="green",
        ),
        Mark(
            name="Aborted",
            expr=f"{phase} unless {phase.replace('})', '} offset $__interval)')}",
            text="The new revision was given up, the stable one serves",
            colour="red",
        ),
    ]


def _now() -> Row:
    info = f"max by (variant, revision) (pilotfish_info{{{OBJECT}}})"
    wanted = of_object("pilotfish_replicas", 'role="stable"', 'state="desired"')
    ready = of_object("pilotfish_replicas", 'role="stable"', 'state="ready"')
    return Row(
        "Now",
        [
            make_number(
                "Phase",
                "What the operator is about.",
                Query(of_object("pilotfish_phase", by="phase"), "{{phase}}"),
                words=True,
            ),
            make_number(
                "Serves",
                "Variant and hash of the stable revision.",
                Query(info, "{{variant}} {{revision}}"),
                words=True,
            ),
            make_number(
                "Pods missing",
                "Pods that the stable revision should have and that are not ready.",
                Query(f"{wanted} - {ready}"),
                colours={1.0: "red"},
            ),
            make_number(
                "Requests",
                "Answered requests.",
                Query(f"sum({rate('nv_inference_request_success')})"),
                unit=Unit.REQUESTS,
            ),
            make_number(
                "Errors",
                "Share of requests that failed.",
                Query(error_share(by="model")),
                unit=Unit.SHARE,
                colours=ERRORS,
            ),
            make_number(
                "Mean latency",
                "Time in the server, queue included.",
                Query(mean_of("nv_inference_request_duration_us", by="model")),
                unit=Unit.SECONDS,
            ),
            make_number(
                "Speed-up",
                "Latency of the original over that of what serves, as the optimizer measured it.",
                Query(of_object("pilotfish_artifact_speedup_ratio", 'role="stable"')),
                unit=Unit.TIMES,
            ),
            make_number(
                "Largest error",
                "Largest absolute difference between its answers and the original's, on the golden set.",
                Query(of_object("pilotfish_artifact_max_abs_error", 'role="stable"')),
            ),
        ],
    )


def _requests() -> Row:
    batch = f"{rate('nv_inference_count')} / {rate('nv_inference_exec_count')}"
    parts = {"queue": "queue", "compute_input": "input", "compute_infer": "model", "compute_output": "output"}
    times = [Query(mean_of(f"nv_inference_{part}_duration_us", by="model"), name) for part, name in parts.items()]
    late = [
        Query(f'max by (quantile) ({SUMMARY}{{{SERVED}, quantile="{share}"}}) / 1e6', f"p{float(share) * 100:g}")
        for share in QUANTILES
    ]
    return Row(
        "Requests",
        [
            make_graph(
                "Requests",
                "Answered requests by revision.",
                Query(rate("nv_inference_request_success"), EACH),
                unit=Unit.REQUESTS,
                stacked=True,
            ),
            make_graph(
                "Failures",
                "Failed requests by Triton's reason; CANCELED are those that clients gave up.",
                Query(rate("nv_inference_request_failure", by="reason"), "{{reason}}"),
                unit=Unit.REQUESTS,
            ),
            make_graph(
                "Mean latency",
                "Time in the server by revision, queue included.",
                Query(mean_of("nv_inference_request_duration_us"), EACH),
                unit=Unit.SECONDS,
            ),
            make_graph(
                "Quantiles",
                "Triton's own, of the last minute or so; the worst pod counts, as those of pods do not add up.",
                *late,
                unit=Unit.SECONDS,
            ),
            make_graph(
                "Where the time goes", "Means of the parts of a request.", *times, unit=Unit.SECONDS, stacked=True
            ),
            make_graph(
                "Batch size",
                "Inputs in one execution of the model: what dynamic batching gains.",
                Query(batch, EACH),
                unit=Unit.NUMBER,
            ),
            make_graph(
                "Time in the queue",
                "Mean wait for a free instance; from 50 ms on more pods or a smaller delay of batching help.",
                Query(mean_of("nv_inference_queue_duration_us"), EACH),
                unit=Unit.SECONDS,
                limits={0.05: "red"},
                span=12,
            ),
            make_graph(
                "Waiting requests",
                "In the servers' queues, by pod.",
                Query(f"sum by (pod) (nv_inference_pending_request_count{{{SERVED}}})", "{{pod}}"),
                unit=Unit.NUMBER,
                span=12,
            ),
        ],
    )


def _gpu(metric: str) -> str:
    """GPUs have no model: the label of the pod says whose they are."""
    return f'max by (pod, gpu_uuid) ({metric}{{namespace="$namespace", pilotfish_dev_name="$name"}})'


def _pods() -> Row:
    return Row(
        "Pods",
        [
            make_graph(
                "Pods",
                "By role, wanted and ready.",
                Query(of_object("pilotfish_replicas", by="role, state"), "{{role}} {{state}}"),
                unit=Unit.NUMBER,
            ),
            make_graph(
                "CPU",
                "Cores of each Triton container (cAdvisor).",
                Query(of_containers("container_cpu_usage_seconds_total", rated=True), "{{pod}}"),
                unit=Unit.CORES,
            ),
            make_graph(
                "Memory",
                "Working set of each Triton container (cAdvisor).",
                Query(of_containers("container_memory_working_set_bytes"), "{{pod}}"),
                unit=Unit.BYTES,
            ),
            make_graph(
                "GPU utilization",
                "Of each GPU that its pods see, by Triton.",
                Query(_gpu("nv_gpu_utilization"), GPU),
                unit=Unit.SHARE,
            ),
            make_graph(
                "GPU memory",
                "Used of all, of each GPU that its pods see.",
                Query(f"{_gpu('nv_gpu_memory_used_bytes')} / {_gpu('nv_gpu_memory_total_bytes')}", GPU),
                unit=Unit.SHARE,
                limits={0.95: "red"},
            ),
            make_graph(
                "GPU power",
                "Of each GPU that its pods see.",
                Query(_gpu("nv_gpu_power_usage"), GPU),
                unit=Unit.WATTS,
            ),
        ],
    )


def _artifact() -> Row:
    return Row(
        "Artifact",
        [
            make_graph(
                "Speed-up by role",
                "Latency of the original over that of the artifact.",
                Query(of_object("pilotfish_artifact_speedup_ratio", by="role"), "{{role}}"),
                unit=Unit.TIMES,
                span=6,
            ),
            make_graph(
                "Largest error by role",
                "Absolute difference to the original's answers on the golden set.",
                Query(of_object("pilotfish_artifact_max_abs_error", by="role"), "{{role}}"),
                unit=Unit.NUMBER,
                span=6,
            ),
            make_graph(
                "Size by role",
                "Bytes of the artifact.",
                Query(of_object("pilotfish_artifact_bytes", by="role"), "{{role}}"),
                unit=Unit.BYTES,
                span=6,
            ),
            make_graph(
                "Optimization under way",
                "How far it is, by stage.",
                Query(of_object("pilotfish_optimization_progress_ratio", by="stage"), "{{stage}}"),
                unit=Unit.SHARE,
                span=6,
            ),
        ],
    )
