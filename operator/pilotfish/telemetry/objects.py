"""Gauges about each ModelDeployment, read at the moment of the scrape from what the last passes left.

A pass only hands over references: the work is done when somebody scrapes, and once per pass at most, so that thousands
of objects at rest cost a scrape next to nothing. An object that is gone is gone from here. Must not count anything:
what happens is counted in `outcomes`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pilotfish.telemetry.gauges import GAUGES, ObjectGauge
from pilotfish.telemetry.state import ObjectState


class ObjectStates:
    """The families of GAUGES over all objects, as Prometheus text."""

    def __init__(self, states: Callable[[], Iterable[ObjectState]]) -> None:
        self._states = states
        self._heads = tuple(generate_latest(_One(_family(gauge))) for gauge in GAUGES)
        self._made: dict[tuple[str, str], tuple[ObjectState, tuple[bytes, ...]]] = {}

    def page(self) -> bytes:
        """Every family, with no sample where there is no object. Lines are made anew for objects that had a pass."""
        made = {}
        for state in self._states():
            key = (state.namespace, state.name)
            known = self._made.get(key)
            made[key] = known if known is not None and known[0] is state else (state, self._lines(state))
        self._made = made
        by_gauge = zip(*(lines for _, lines in made.values()), strict=True) if made else ((),) * len(GAUGES)
        return b"".join(part for head, lines in zip(self._heads, by_gauge, strict=True) for part in (head, *lines))

    def _lines(self, state: ObjectState) -> tuple[bytes, ...]:
        return tuple(_samples(gauge, state)[len(head) :] for gauge, head in zip(GAUGES, self._heads, strict=True))


@dataclass(frozen=True, slots=True)
class _One(Collector):
    """What the library writes as text."""

    family: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.family


def _family(gauge: ObjectGauge) -> GaugeMetricFamily:
    return GaugeMetricFamily(gauge.name, gauge.help, labels=["namespace", "name", *gauge.labels])


def _samples(gauge: ObjectGauge, state: ObjectState) -> bytes:
    """None where a child holds what we never wrote: one object must not cost all others their metrics."""
    family = _family(gauge)
    try:
        for labels, value in gauge.rows(state):
            family.add_metric([state.namespace, state.name, *labels], value)
        return generate_latest(_One(family))
    except (AttributeError, KeyError, TypeError, ValueError):
        return b""
