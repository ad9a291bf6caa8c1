"""`spec.rollout`: how a new revision takes over."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from pilotfish.api.base import IS_DNS_NAME, ApiModel, Duration, Fraction, Share, between, is_between, parse_duration
from pilotfish.api.markers import DocumentedEnum, Rule, distinct, full_match, marked
from pilotfish.api.tolerance import ServedTolerance


def _cron_field(value: str, *alone: str) -> str:
    """What one field of a cron expression may hold: values, ranges, lists and steps of them, or one of `alone`."""
    item = "|".join((rf"(\*|({value})(-({value}))?)(/[1-9][0-9]?)?", *alone))
    return f"({item})(,({item}))*"


_WEEKDAY = "[0-7]|SUN|MON|TUE|WED|THU|FRI|SAT"
_CRON = " ".join(
    (
        _cron_field("[0-5]?[0-9]"),
        _cron_field("[01]?[0-9]|2[0-3]"),
        _cron_field("0?[1-9]|[12][0-9]|3[01]", "LW?"),
        _cron_field("0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"),
        _cron_field(_WEEKDAY, "[0-7]L", rf"({_WEEKDAY})#[1-5]"),
    )
)


FOREVER = "Forever"
"""A hold that ends with a promotion."""


class Strategy(DocumentedEnum):
    """How traffic moves to a new revision."""

    CANARY = "Canary", "step by step, judged by analysis"
    BLUE_GREEN = "BlueGreen", "the new revision starts beside the old one and gets all traffic once it is verified"
    REPLACE = "Replace", "the old revision stops first; requests fail meanwhile"


class Capacity(DocumentedEnum):
    """Where the room for a new revision comes from."""

    AUTO = "Auto", "Surge where there is room, else Swap, else Recreate; never below serving.minAvailable"
    SURGE = "Surge", "the new revision needs room beside the old one"
    SWAP = "Swap", "pod by pod, an old one gives its GPU to a new one"
    RECREATE = "Recreate", "all old pods stop before new ones start"


class CheckMode(DocumentedEnum):
    """What a failed check does."""

    ENFORCE = "Enforce", "it counts towards failureLimit"
    OBSERVE = "Observe", "it is reported only"


class OnNoData(DocumentedEnum):
    """What too few requests mean."""

    HOLD = "Hold", "wait until noDataDeadline"
    ABORT = "Abort", "go back to the stable revision"
    PASS = "Pass", "count the measurement as good"


class ActionVerb(DocumentedEnum):
    """A request to the rollout."""

    PROMOTE = "promote", "go on to the next step"
    PROMOTE_FULL = "promoteFull", "skip all remaining steps"
    ABORT = "abort", "go back to the stable revision"
    RETRY = "retry", "start a failed revision again"
    UNDO = "undo", "go back to the revision named in toRevision"


def _is_hold(text: str) -> str:
    """The text, if it can be waited for. Raises ValueError."""
    if text != FOREVER:
        parse_duration(text)
    return text


class Step(ApiModel):
    """One step of a canary."""

    weight: int = Field(ge=1, le=99)
    """Percent of requests that the new revision gets, 1 to 99. Example: `10`."""
    hold: Annotated[str, AfterValidator(_is_hold)] | None = Field(
        default=None,
        max_length=32,
        json_schema_extra=marked(
            full_match(
                r"Forever|([0-9]+(\.[0-9]+)?(ms|s|m|h))+",
                "write a duration such as 2m, or Forever to wait for a promotion",
            ),
            is_between("0s", "168h"),
        ),
    )
    """How long to stay once the share is reached: a duration up to 168h, or `Forever` until promoted. Left out: until
    every check was good once. Example: `2m`."""


class Check(ApiModel):
    """Bounds of one figure, absolute, against the stable revision, or both."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="has(self.max) || has(self.maxRegression)",
                message="set max (absolute) or maxRegression (against the stable revision)",
                holds=lambda check: "max" in check or "maxRegression" in check,
            )
        )
    )

    max: Fraction | None = None
    """Largest value. Example: `"0.01"`."""
    max_regression: Fraction | None = None
    """Largest growth against the stable revision as a share. Example: `"0.2"` for 20 %."""
    mode: CheckMode = CheckMode.ENFORCE
    """What a failure does."""


class TimeCheck(Check):
    """Bounds of a time."""

    max: Duration | None = Field(default=None, json_schema_extra=between("0s", "1h"))
    """Longest time, at most 1h. Example: `50ms`."""


class TailLatencyCheck(TimeCheck):
    """Bounds of a quantile of latency."""

    quantile: Share = "0.99"
    """Which quantile, 0 to 1. Example: `"0.99"`."""


class RestartCheck(ApiModel):
    """Bounds of a count."""

    max: int = Field(default=0, ge=0, le=1000)
    """Largest number."""
    mode: CheckMode = CheckMode.ENFORCE
    """What a failure does."""


class PrometheusCheck(Check):
    """Bounds of the result of a query."""

    name: str = Field(min_length=1, max_length=63, json_schema_extra=marked(IS_DNS_NAME))
    """Name of the check in status. Example: `gpu-memory`."""
    query: str = Field(min_length=1, max_length=4096)
    """PromQL that returns one number. `${revision}` in it stands for the revision's hash; maxRegression needs it, to
    ask about the stable revision as well. Example: `max(gpu_memory_used_ratio)`."""


class AnalysisChecks(ApiModel):
    """What is judged."""

    error_rate: Check | None = None
    """Failed requests as a share of all. Example: `{max: "0.01"}`."""
    mean_latency: TimeCheck | None = None
    """Mean time of a request. Example: `{maxRegression: "0.2"}`."""
    tail_latency: TailLatencyCheck | None = None
    """A quantile of the time of a request. Example: `{quantile: "0.99", max: 50ms}`."""
    queue_time: TimeCheck | None = None
    """Mean time that a request waits for the model. Example: `{max: 5ms}`."""
    compute_time: TimeCheck | None = None
    """Mean time of one execution of the model; compared with the stable revision only where both run batches of about
    the same size. Example: `{maxRegression: "0.2"}`."""
    pod_restarts: RestartCheck = RestartCheck()
    """Restarts of the new revision's pods since the step began."""
    prometheus: tuple[PrometheusCheck, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=marked(distinct("give every check a name of its own", key="name"), map_by=["name"]),
    )
    """Queries of one's own. Example: `[{name: gpu-memory, query: "max(gpu_memory_used_ratio)", max: "0.9"}]`."""


class Analysis(ApiModel):
    """Verdicts on metrics."""

    interval: Duration = Field(default="15s", json_schema_extra=between("5s", "1h"))
    """Time between measurements, 5s to 1h."""
    window: Duration = Field(default="1m", json_schema_extra=between("10s", "24h"))
    """Time that one measurement looks back, 10s to 24h."""
    min_requests: int = Field(default=100, ge=0, le=1_000_000)
    """Fewer requests than this are no data."""
    on_no_data: OnNoData = OnNoData.HOLD
    """What too few requests mean."""
    no_data_deadline: Duration = Field(default="30m", json_schema_extra=between("1m", "168h"))
    """How long Hold waits before the rollout is aborted, 1m to 168h."""
    failure_limit: int = Field(default=1, ge=1, le=100)
    """Failed measurements of one check that abort the rollout."""
    error_limit: int = Field(default=4, ge=0, le=100)
    """Measurements in a row that may go wrong (pods or Prometheus do not answer); one more aborts the rollout."""
    checks: AnalysisChecks = AnalysisChecks(error_rate=Check(max="0.01"))
    """What is judged; what is named here replaces the default. Example: `{errorRate: {max: "0.01"}}`."""


class RolloutVerification(ApiModel):
    """The golden set against the loaded server before any traffic."""

    tolerance: ServedTolerance | None = None
    """How far answers may differ; that of spec.optimization when left out. Example: `{top1Agreement: "0.995"}`."""


class Shadow(ApiModel):
    """Live comparison of answers."""

    sample_rate: Share = "0.05"
    """Share of requests that both revisions answer, 0 to 1. Example: `"0.05"`."""
    min_agreement: Share = "0.99"
    """Smallest share of equal answers, 0 to 1. Example: `"0.99"`."""


class Action(ApiModel):
    """A request to the rollout, carried out once per id."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="has(self.toRevision) == (self.verb == 'undo')",
                message="set toRevision with verb undo, and only there",
                holds=lambda action: ("toRevision" in action) == (action.get("verb") == "undo"),
                field_path=".toRevision",
            )
        )
    )

    id: str = Field(min_length=1, max_length=64)
    """Chosen by the user; a new id is a new request. Example: `2026-11-22-1`."""
    verb: ActionVerb
    """What to do."""
    to_revision: str | None = Field(default=None, min_length=1, max_length=63)
    """Hash of the revision to go back to. Example: `7c9fd2b4`."""


class MaintenanceWindow(ApiModel):
    """When rollouts may begin."""

    schedule: str = Field(
        max_length=128,
        json_schema_extra=marked(
            full_match(f"(?i:{_CRON})", 'write the five fields of a cron expression such as "0 2 * * 6"')
        ),
    )
    """Cron expression of the start: minute, hour, day, month, weekday. Example: `0 2 * * 6`."""
    duration: Duration = Field(json_schema_extra=between("1m", "168h"))
    """Length of the window, 1m to 168h. Example: `4h`."""
    time_zone: str = Field(
        default="UTC",
        max_length=64,
        json_schema_extra=marked(full_match(r"[A-Za-z0-9_+/-]+", "write an IANA time zone such as Europe/Berlin")),
    )
    """IANA name of the time zone. Example: `Europe/Berlin`."""


class RolloutSpec(ApiModel):
    """How a new revision takes over."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="!has(self.steps) || self.steps.size() == 0 || self.strategy == 'Canary'",
                message="steps are those of a canary: set strategy: Canary, or remove them",
                holds=lambda rollout: not rollout.get("steps") or rollout["strategy"] == "Canary",
                field_path=".steps",
            ),
            Rule(
                # The API server tries the rule on the block's default, which is empty, before it fills in the rest.
                cel="!has(self.capacity) || self.strategy != 'Replace' || self.capacity in ['Auto', 'Recreate']",
                message="Replace stops the old revision first: remove capacity, or set another strategy",
                holds=lambda rollout: rollout["strategy"] != "Replace" or rollout["capacity"] in {"Auto", "Recreate"},
                field_path=".capacity",
            ),
            Rule(
                cel="!has(self.shadow) || self.strategy == 'Canary'",
                message="shadow compares answers at the steps of a canary: set strategy: Canary, or remove shadow",
                holds=lambda rollout: "shadow" not in rollout or rollout["strategy"] == "Canary",
                field_path=".shadow",
            ),
        )
    )

    strategy: Strategy = Strategy.BLUE_GREEN
    """How traffic moves to a new revision."""
    capacity: Capacity = Capacity.AUTO
    """Where the room for a new revision comes from."""
    steps: tuple[Step, ...] = Field(
        default=(),
        max_length=32,
        json_schema_extra=marked(
            Rule(
                cel="self.map(s, s.weight).isSorted() && self.all(x, self.exists_one(y, y.weight == x.weight))",
                message="write the steps' weights in ascending order, each once and below 100",
                holds=lambda steps: [s["weight"] for s in steps] == sorted({s["weight"] for s in steps}),
            ),
        ),
    )
    """Steps of a canary, weights ascending; 10 for 2m and 50 for 5m when left out.
    Example: `[{weight: 10, hold: 2m}, {weight: 50, hold: 5m}]`."""
    verification: RolloutVerification | None = None
    """The golden set against the loaded server before any traffic."""
    analysis: Analysis | None = None
    """Verdicts on metrics. A Canary that leaves it out is judged by the defaults.
    Example: `{checks: {errorRate: {max: "0.01"}}}`."""
    shadow: Shadow | None = None
    """Live comparison of answers at the steps of a canary: a sample of the requests is answered by both revisions.
    Example: `{sampleRate: "0.05"}`."""
    bake: Duration | None = Field(default=None, json_schema_extra=between("0s", "168h"))
    """How long the old revision's pods are kept after the switch, so that going back is instant. Example: `5m`."""
    progress_deadline: Duration = Field(default="10m", json_schema_extra=between("10s", "24h"))
    """A revision that is not ready after this long has failed; the old one keeps serving. 10s to 24h.

    So has one whose weights the gateway did not confirm for as long.
    """
    maintenance_windows: tuple[MaintenanceWindow, ...] = Field(default=(), max_length=16)
    """When traffic may move to a new revision; a step that runs may finish outside, the next one waits.
    Example: `[{schedule: "0 2 * * 6", duration: 4h}]`."""
    action: Action | None = None
    """A request to the rollout. Example: `{id: "2026-11-22-1", verb: promote}`."""
