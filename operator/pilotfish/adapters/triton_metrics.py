"""What a pod's own metrics say of its model: Triton's `nv_inference_*`, and the shadow's comparisons.

Read straight from the pod, so that a rollout needs no monitoring system. Must not judge anything.
"""

import math
from collections.abc import Iterable
from datetime import datetime

from pilotfish.adapters.bounded_http import BoundedHttp, host_of
from pilotfish.adapters.prometheus_text import Line, read_lines
from pilotfish.core.health.samples import CANCELED, Sample, ShadowCounters
from pilotfish.ports import Clock, Unmeasured
from pilotfish.resources.triton_flags import TritonPorts

VERSION = "1"
"""Of the model: a repository of ours has this one."""
REASONS = ("REJECTED", CANCELED, "BACKEND")
OTHER = "OTHER"
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
MOST_BUCKETS = 64
SECONDS = 2.0
AT_ONCE = 32

_TRITON = "nv_inference_"
_FAILURE = "nv_inference_request_failure"
_SUMMARY = "nv_inference_request_summary_us"
_BUCKET = "nv_inference_first_response_histogram_ms_bucket"
_SHADOW = "pilotfish_shadow_"
_LARGEST = float(1 << 63)
_OK = 200


class TritonMetrics:
    """ports.Metrics over HTTP."""

    def __init__(self, *, clock: Clock, port: int | None = None) -> None:
        self._clock = clock
        self._port = TritonPorts().metrics if port is None else port
        self._http = BoundedHttp(seconds=SECONDS, at_once=AT_ONCE)

    async def sample(self, *, address: str, model: str) -> Sample:
        """Counters of a pod's model now. Raises Unmeasured."""
        return parse_sample(await self._text(address), model=model, at=self._clock.now())

    async def shadow(self, *, address: str) -> ShadowCounters:
        """Counters of a shadow pod now. Raises Unmeasured."""
        return parse_shadow(await self._text(address), at=self._clock.now())

    async def close(self) -> None:
        """Close what was opened."""
        await self._http.close()

    async def _text(self, address: str) -> str:
        status, body = await self._http.ask(f"http://{host_of(address)}:{self._port}/metrics")
        if status != _OK:
            raise Unmeasured(f"it answers HTTP {status}")
        return body.decode(errors="replace")


def parse_sample(text: str, *, model: str, at: datetime) -> Sample:
    """One model's counters, summed over the GPUs that run it.

    Raises:
        Unmeasured: the text is no metrics, or lacks a counter of this model, as it does before the model is loaded. A
            counter that is missing is never taken for zero: no failures and no time at all would pass every check.
    """
    own = [
        line
        for line in read_lines(text, prefix=_TRITON)
        if line.labels.get("model") == model and line.labels.get("version") == VERSION
    ]

    def total(name: str) -> int:
        return _total(own, name)

    return Sample(
        at=at,
        success=total("nv_inference_request_success"),
        failures=_failures(own),
        inferences=total("nv_inference_count"),
        executions=total("nv_inference_exec_count"),
        request_us=total("nv_inference_request_duration_us"),
        queue_us=total("nv_inference_queue_duration_us"),
        compute_us=sum(total(f"nv_inference_compute_{part}_duration_us") for part in ("input", "infer", "output")),
        buckets=_buckets(own),
        quantiles=_quantiles(own),
    )


def parse_shadow(text: str, *, at: datetime) -> ShadowCounters:
    """A shadow's counters. Raises Unmeasured when one is missing or the text is no metrics."""
    lines = list(read_lines(text, prefix=_SHADOW))
    return ShadowCounters(
        at=at,
        compared=_total(lines, f"{_SHADOW}compared_total"),
        agreed=_total(lines, f"{_SHADOW}agreed_total"),
        failed=_total(lines, f"{_SHADOW}failed_total"),
    )


def _failures(lines: Iterable[Line]) -> dict[str, int]:
    """By reason; a server older than the reasons gives none."""
    found = [line for line in lines if line.name == _FAILURE]
    by_reason = {reason: [line for line in found if _reason(line) == reason] for reason in {*map(_reason, found)}}
    return {reason: _total(own, _FAILURE) for reason, own in sorted(by_reason.items())} or {OTHER: _total((), _FAILURE)}


def _reason(line: Line) -> str:
    reason = line.labels.get("reason")
    return reason if reason in REASONS else OTHER


def _total(lines: Iterable[Line], name: str) -> int:
    values = [line.value for line in lines if line.name == name]
    if not values:
        raise Unmeasured(f"its metrics lack {name} of the model")
    if not all(0 <= value < _LARGEST for value in values):
        raise Unmeasured(f"its metric {name} is no count")
    return sum(int(value) for value in values)


def _quantiles(lines: Iterable[Line]) -> dict[float, float]:
    """Milliseconds by quantile, of the slowest GPU; the server says NaN where the last minute had no request."""
    found: dict[float, float] = {}
    for line in lines:
        quantile = _number(line.labels.get("quantile"))
        if line.name == _SUMMARY and quantile in QUANTILES and 0 <= line.value < math.inf:
            found[quantile] = max(line.value / 1000, found.get(quantile, 0.0))
    return dict(sorted(found.items()))


def _buckets(lines: Iterable[Line]) -> tuple[tuple[float, int], ...]:
    """Requests up to each bound, summed over GPUs; nothing where it is no cumulative histogram."""
    found: dict[float, int] = {}
    for line in lines:
        bound = _number(line.labels.get("le"))
        if line.name == _BUCKET and not math.isnan(bound) and 0 <= line.value < _LARGEST:
            found[bound] = found.get(bound, 0) + int(line.value)
    buckets = tuple(sorted(found.items()))
    counts = [count for _, count in buckets]
    whole = bool(buckets) and buckets[-1][0] == math.inf and len(buckets) <= MOST_BUCKETS
    return buckets if whole and counts == sorted(counts) else ()


def _number(text: str | None) -> float:
    try:
        return math.nan if text is None else float(text)
    except ValueError:
        return math.nan
