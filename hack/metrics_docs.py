"""Write docs/metrics.md from the operator's registry, or with --check say whether it is up to date."""

import sys
from collections.abc import Iterator, Mapping, Sequence

from generated import ROOT, write_or_check
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from pilotfish.optimizer.shadow.counts import Counts
from pilotfish.telemetry import outcomes
from pilotfish.telemetry.gauges import GAUGES
from pilotfish.telemetry.metrics import REGISTRY

FILE = ROOT / "docs" / "metrics.md"
MOST_VALUES = 6
HEAD = ("| metric | type | labels | what it says |", "|---|---|---|---|")

INTRO = """\
# Metrics

<!-- Made by hack/metrics_docs.py from operator/pilotfish/telemetry; change it there. -->

The operator answers `GET /metrics` on its port `http` (8080), each Triton pod on its port `metrics` (8002).

Names of controllers' metrics are those of controller-runtime with the prefix `pilotfish_`. Counters and histograms
never carry the name of an object, and every label value that is known in advance is there with 0 from the start, so
that `rate()` and `increase()` see the first event. Only the replica that holds the Lease has gauges about objects, and
an object that is deleted takes its gauges along; a query over them begins with `max by (namespace, name)`.

An object at rest has about 17 series, one in the middle of a canary about 40. What has not had a pass since the scrape
before is not looked at again, so a scrape of thousands of objects at rest costs the operator a few milliseconds.
"""
OBJECTS = """\
## Each ModelDeployment

Labels of all of them: `namespace` and `name` of the ModelDeployment (a Prometheus that does not honour labels of its
targets calls them `exported_namespace` and `exported_name`; the chart's PodMonitor sets `honorLabels`). Figures that a
status does not have give no sample. `role` is `stable` (has the traffic), `canary` (is on its way), `old` (is leaving).
"""
OUTCOMES = """\
## How rollouts and optimizations end

Counted once the status that says so is stored: neither a pass that is tried again nor a restart counts twice. An
operator that is killed in the instant between the two does not count it.
"""
WORK = "## The operator's own work\n"
SHADOW = """\
## The shadow of a rollout

The pod `<name>-shadow`, on port 8002, while a canary has `spec.rollout.shadow`.
"""
TRITON = """\
## Triton

Triton's own, by `model` (the name of the ModelDeployment) and `version`: `nv_inference_request_success`,
`nv_inference_request_failure`, `nv_inference_count`, `nv_inference_exec_count`, `nv_inference_pending_request_count`,
the sums of microseconds `nv_inference_request_duration_us`, `nv_inference_queue_duration_us` and
`nv_inference_compute_{input,infer,output}_duration_us`, and quantiles `nv_inference_request_summary_us`. With the
chart's PodMonitor for Triton pods, each carries the labels `namespace`, `pod` and `pilotfish_dev_revision`. A mean is a
rate over a rate:

```promql
sum by (namespace, model, pilotfish_dev_revision) (rate(nv_inference_request_duration_us[5m]))
  / sum by (namespace, model, pilotfish_dev_revision) (rate(nv_inference_request_success[5m])) / 1e6
```

Which of the revisions is stable and which is the canary says a join:

```promql
sum by (namespace, model, pilotfish_dev_revision) (rate(nv_inference_request_success[5m]))
  * on (namespace, model, pilotfish_dev_revision) group_left (role)
  max by (namespace, model, pilotfish_dev_revision, role) (label_replace(label_replace(
    pilotfish_revision_info, "model", "$1", "name", "(.+)"), "pilotfish_dev_revision", "$1", "revision", "(.+)"))
```

What a model is asked and answers (`pilotfish_model_*`, sampled requests to `/predict`) is told by the same pods, on the
same page; [Ask a model](inference.md) lists it.
"""


def page() -> str:
    """The whole page, the same bytes for the same registry."""
    rows = {id(collector): list(_rows(collector)) for collector in REGISTRY._collector_to_names}  # noqa: SLF001 - the only list
    ends = [id(value) for value in vars(outcomes).values() if id(value) in rows]
    parts = (
        INTRO,
        _table(OBJECTS, [_row(g.name, "gauge", ", ".join(f"`{label}`" for label in g.labels), g.help) for g in GAUGES]),
        _table(OUTCOMES, [row for key in ends for row in rows[key]]),
        _table(WORK, sorted(row for key, found in rows.items() if key not in ends for row in found)),
        _table(SHADOW, [_row_of(metric, {}) for metric in text_string_to_metric_families(Counts().as_text())]),
        TRITON,
    )
    return "\n".join(parts)


def _rows(collector: Collector) -> Iterator[str]:
    names = tuple(getattr(collector, "_labelnames", ()))
    for metric in collector.collect():
        values = {
            name: sorted({s.labels[name] for s in metric.samples if name in s.labels}, key=str.lower) for name in names
        }
        yield _row_of(metric, values)


def _row_of(metric: Metric, labels: Mapping[str, Sequence[str]]) -> str:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return _row(name, metric.type, "; ".join(_label(*label) for label in labels.items()), metric.documentation)


def _label(name: str, values: Sequence[str]) -> str:
    """The values too, where they are few and known in advance."""
    if not values:
        return f"`{name}`"
    told = values if len(values) <= MOST_VALUES else [*values[:MOST_VALUES], "…"]
    return f"`{name}`: {', '.join(told)}"


def _row(name: str, kind: str, labels: str, said: str) -> str:
    return f"| `{name}` | {kind} | {labels} | {said} |"


def _table(title: str, rows: list[str]) -> str:
    return "\n".join((title, *HEAD, *rows, ""))


def main() -> int:
    """Write or check the file; 1 when the check finds a difference."""
    return write_or_check({FILE: page()}, source="operator/pilotfish/telemetry")


if __name__ == "__main__":
    sys.exit(main())
