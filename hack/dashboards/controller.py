"""The operator itself: does it lead, keep up, get answers."""

from dashboards.panels import Board, Query, Row, Unit, make_graph, make_number, make_variable
from dashboards.queries import WINDOW, quantile

OURS = 'job=~"$job"'
LATE = {0.5: "p50", 0.95: "p95", 0.99: "p99"}


def make_controller() -> Board:
    """Of one or several replicas."""
    return Board(
        uid="pilotfish-operator",
        title="Pilotfish / Operator",
        description="The operator's own work: passes, queue, requests to the API server, leadership and memory.",
        variables=[make_variable("job", "Job", "label_values(pilotfish_build_info, job)", every=True)],
        rows=[_now(), _passes(), _queue(), _outside(), _process()],
    )


def _rate(metric: str, by: str, *matchers: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{', '.join([OURS, *matchers])}}}{WINDOW}))"


def _quantiles(metric: str) -> list[Query]:
    return [Query(quantile(share, metric, OURS), name) for share, name in LATE.items()]


def _failing() -> str:
    failed = f'sum(rate(pilotfish_reconcile_total{{{OURS}, result=~"error|terminal"}}{WINDOW}))'
    return f"{failed} / sum(rate(pilotfish_reconcile_total{{{OURS}}}{WINDOW}))"


def _now() -> Row:
    return Row(
        "Now",
        [
            make_number(
                "Leader",
                "Replicas that hold the Lease: one, and none for a moment while another takes over.",
                Query(f"sum(pilotfish_leader{{{OURS}}})"),
                colours={0.0: "red", 1.0: "green", 2.0: "red"},
                span=4,
            ),
            make_number(
                "Replicas", "Replicas that are scraped.", Query(f"count(pilotfish_build_info{{{OURS}}})"), span=4
            ),
            make_number(
                "Version",
                "Two of them: an upgrade is under way.",
                Query(f"count by (version) (pilotfish_build_info{{{OURS}}})", "{{version}}"),
                words=True,
                span=4,
            ),
            make_number(
                "Failing passes",
                "Share of passes that ended with an error; from 10 % on ReconcileErrorsHigh fires.",
                Query(_failing()),
                unit=Unit.SHARE,
                colours={0.01: "orange", 0.1: "red"},
                span=4,
            ),
            make_number(
                "Waiting",
                "Objects that wait for a worker.",
                Query(f"sum(pilotfish_queue_depth{{{OURS}}})"),
                colours={20.0: "orange", 100.0: "red"},
                span=4,
            ),
            make_number(
                "Up since",
                "Time since the youngest replica started.",
                Query(f"time() - max(process_start_time_seconds{{{OURS}}})"),
                unit=Unit.SECONDS,
                span=4,
            ),
        ],
    )


def _passes() -> Row:
    return Row(
        "Passes",
        [
            make_graph(
                "Passes",
                "By how they ended: requeue_after looks again later, error tries again, terminal waits for a change.",
                Query(_rate("pilotfish_reconcile_total", "result"), "{{result}}"),
                unit=Unit.PER_SECOND,
                stacked=True,
            ),
            make_graph(
                "Time of a pass",
                "From the first read to the last write.",
                *_quantiles("pilotfish_reconcile_duration_seconds"),
                unit=Unit.SECONDS,
            ),
            make_graph(
                "Errors",
                "Passes that failed, by error. Conflict and timeout pass; Forbidden is missing rights.",
                Query(_rate("pilotfish_reconcile_errors_total", "error"), "{{error}}"),
                unit=Unit.PER_SECOND,
            ),
        ],
    )


def _queue() -> Row:
    return Row(
        "Queue",
        [
            make_graph(
                "Depth and workers",
                "Objects that wait, and passes that run now.",
                Query(f"sum(pilotfish_queue_depth{{{OURS}}})", "waiting"),
                Query(f"sum(pilotfish_active_workers{{{OURS}}})", "running"),
                unit=Unit.NUMBER,
            ),
            make_graph(
                "Wait for a worker",
                "Long waits: too much to do for one replica, or an API server that is slow.",
                *_quantiles("pilotfish_queue_latency_seconds"),
                unit=Unit.SECONDS,
            ),
            make_graph(
                "Put in and put back",
                "Retries follow failures; the longest pass that still runs is a hang when it grows and grows.",
                Query(f"sum(rate(pilotfish_queue_adds_total{{{OURS}}}{WINDOW}))", "added"),
                Query(f"sum(rate(pilotfish_queue_retries_total{{{OURS}}}{WINDOW}))", "retried"),
                Query(f"max(pilotfish_queue_longest_running_seconds{{{OURS}}})", "longest pass, seconds"),
                unit=Unit.NUMBER,
            ),
        ],
    )


def _outside() -> Row:
    requests = "pilotfish_api_requests_total"
    return Row(
        "What it asks",
        [
            make_graph(
                "API requests",
                "To the API server, by verb.",
                Query(_rate(requests, "verb"), "{{verb}}"),
                unit=Unit.REQUESTS,
                stacked=True,
                span=6,
            ),
            make_graph(
                "API answers",
                "By code. 409 is a write that somebody else was faster with; 403 is missing rights; 429 is too much.",
                Query(_rate(requests, "code"), "{{code}}"),
                unit=Unit.REQUESTS,
                span=6,
            ),
            make_graph(
                "Measurements of rollouts",
                "Pods and Prometheus that analyses ask.",
                Query(_rate("pilotfish_scrapes_total", "target, result"), "{{target}} {{result}}"),
                unit=Unit.PER_SECOND,
                span=6,
            ),
            make_graph(
                "Time of a measurement",
                "95 of 100 are faster.",
                Query(quantile(0.95, "pilotfish_scrape_duration_seconds", OURS, by="target"), "{{target}}"),
                unit=Unit.SECONDS,
                span=6,
            ),
        ],
    )


def _process() -> Row:
    return Row(
        "Process",
        [
            make_graph(
                "Memory",
                "Resident, of each replica.",
                Query(f"process_resident_memory_bytes{{{OURS}}}", "{{instance}}"),
                unit=Unit.BYTES,
            ),
            make_graph(
                "CPU",
                "Cores, of each replica.",
                Query(f"rate(process_cpu_seconds_total{{{OURS}}}{WINDOW})", "{{instance}}"),
                unit=Unit.CORES,
            ),
            make_graph(
                "Open files",
                "Connections included.",
                Query(f"process_open_fds{{{OURS}}}", "{{instance}}"),
                unit=Unit.NUMBER,
            ),
        ],
    )
