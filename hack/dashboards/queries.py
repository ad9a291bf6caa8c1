"""PromQL that several panels share. `REVISION` is the label that the chart's PodMonitor puts on what Triton counts."""

WINDOW = "[$__rate_interval]"
REVISION = "pilotfish_dev_revision"
OBJECT = 'namespace="$namespace", name="$name"'
"""Series of the operator about the chosen ModelDeployment."""
SERVED = 'namespace="$namespace", model="$name"'
"""Series of its Triton pods."""
FLEET = 'namespace=~"$namespace"'
"""Series of the operator about every ModelDeployment."""
SUMMARY = "nv_inference_request_summary_us"
UNCANCELLED = 'reason!="CANCELED"'
"""What a client gave up is no error of the model."""

_NAMED = f'label_replace(pilotfish_revision_info{{{OBJECT}}}, "{REVISION}", "$1", "revision", "(.+)")'
_ROLES = f"max by ({REVISION}, role) ({_NAMED})"


def rate(metric: str, *matchers: str, by: str = REVISION) -> str:
    """Per second, of the chosen model's pods together."""
    return f"sum by ({by}) (rate({metric}{{{', '.join([SERVED, *matchers])}}}{WINDOW}))"


def fleet_rate(metric: str, *matchers: str) -> str:
    """Per second, of each model; its name is in `name`."""
    ours = 'pilotfish_dev_name!=""'  # other servers in these namespaces do not have it
    series = f"rate({metric}{{{', '.join([FLEET, ours, *matchers])}}}{WINDOW})"
    return f'sum by (namespace, name) (label_replace({series}, "name", "$1", "model", "(.+)"))'


def mean_of(metric: str, *, over: str = "nv_inference_request_success", by: str = REVISION) -> str:
    """Seconds that a request took on average, from Triton's sums of microseconds."""
    return f"{rate(metric, by=by)} / {rate(over, by=by)} / 1e6"


def error_share(*, by: str = REVISION) -> str:
    """Failed requests of all, 0 to 1."""
    failed = rate("nv_inference_request_failure", UNCANCELLED, by=by)
    return f"{failed} / ({failed} + {rate('nv_inference_request_success', by=by)})"


def by_role(expr: str) -> str:
    """The same with the label `role`: stable or canary; a revision that is neither drops out."""
    return f"({expr}) * on ({REVISION}) group_left (role) {_ROLES}"


def of_object(metric: str, *matchers: str, by: str = "") -> str:
    """A gauge about the chosen ModelDeployment, whichever replica of the operator tells it."""
    labels = f" by ({by})" if by else ""
    return f"max{labels} ({metric}{{{', '.join([OBJECT, *matchers])}}})"


def of_fleet(metric: str, *matchers: str, by: str = "") -> str:
    """A gauge about every chosen ModelDeployment."""
    labels = ", ".join(["namespace", "name", *([by] if by else [])])
    return f"max by ({labels}) ({metric}{{{', '.join([FLEET, *matchers])}}})"


def of_containers(metric: str, *, rated: bool = False) -> str:
    """Figures of the Triton containers from cAdvisor, which knows a pod by its name alone."""
    series = f'{metric}{{namespace="$namespace", pod=~"$name-[a-z0-9]{{8}}-.+", container="triton"}}'
    return f"sum by (pod) ({f'rate({series}{WINDOW})' if rated else series})"


def quantile(share: float, metric: str, *matchers: str, by: str = "") -> str:
    """Of a histogram's buckets."""
    labels = ", ".join(["le", *([by] if by else [])])
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{', '.join(matchers)}}}{WINDOW})))"
