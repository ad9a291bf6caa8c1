"""What the operator counts of its own work. Names mirror controller-runtime's: its dashboards port by prefix.

Counters and histograms never carry an object's name; gauges about objects are in `objects`, ends of rollouts in
`outcomes`.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry(auto_describe=True)
"""The operator's own registry: nothing that a library registers by itself leaks in."""

ProcessCollector(registry=REGISTRY)

RECONCILE_ERRORS_KNOWN = ("ClusterError", "Forbidden", "Invalid", "NotFound", "TimeoutError")
RECONCILE_RESULTS = ("success", "requeue_after", "requeue", "error", "terminal")

RECONCILES = Counter("pilotfish_reconcile", "Passes by how they ended.", ["result"], registry=REGISTRY)
RECONCILE_ERRORS = Counter("pilotfish_reconcile_errors", "Passes that failed, by error.", ["error"], registry=REGISTRY)
RECONCILE_SECONDS = Histogram(
    "pilotfish_reconcile_duration_seconds",
    "Time of one pass.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("pilotfish_queue_depth", "Keys that wait for a worker.", registry=REGISTRY)
QUEUE_ADDS = Counter("pilotfish_queue_adds", "Keys put into the queue.", registry=REGISTRY)
QUEUE_RETRIES = Counter("pilotfish_queue_retries", "Keys put back after a failure.", registry=REGISTRY)
QUEUE_LATENCY = Histogram(
    "pilotfish_queue_latency_seconds",
    "Time a key waits for a worker.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300),
    registry=REGISTRY,
)
QUEUE_LONGEST = Gauge(
    "pilotfish_queue_longest_running_seconds", "Age of the oldest pass that still runs.", registry=REGISTRY
)
ACTIVE_WORKERS = Gauge("pilotfish_active_workers", "Passes that run now.", registry=REGISTRY)
API_REQUESTS = Counter(
    "pilotfish_api_requests", "Requests to the API server.", ["verb", "kind", "code"], registry=REGISTRY
)
SCRAPE_TARGETS = ("pod", "shadow", "prometheus")
SCRAPES = Counter(
    "pilotfish_scrapes", "Measurements of a rollout, by who was asked.", ["target", "result"], registry=REGISTRY
)
SCRAPE_SECONDS = Histogram(
    "pilotfish_scrape_duration_seconds",
    "Time of one measurement.",
    ["target"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
    registry=REGISTRY,
)
LEADER = Gauge("pilotfish_leader", "1 while this replica may write.", registry=REGISTRY)
BUILD_INFO = Gauge("pilotfish_build_info", "The operator's version.", ["version"], registry=REGISTRY)


def count_request(verb: str, kind: str, code: str) -> None:
    """One request to the API server; code is the HTTP status or `error`."""
    API_REQUESTS.labels(verb=verb, kind=kind, code=code).inc()


def count_scrape(target: str, result: str, seconds: float) -> None:
    """One measurement; target is one of SCRAPE_TARGETS, result `success` or `error`."""
    SCRAPES.labels(target=target, result=result).inc()
    SCRAPE_SECONDS.labels(target=target).observe(seconds)


for _result in RECONCILE_RESULTS:
    RECONCILES.labels(result=_result)
for _error in RECONCILE_ERRORS_KNOWN:
    RECONCILE_ERRORS.labels(error=_error)
for _target in SCRAPE_TARGETS:
    SCRAPE_SECONDS.labels(target=_target)
    for _result in ("success", "error"):
        SCRAPES.labels(target=_target, result=_result)
