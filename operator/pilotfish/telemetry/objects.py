"""Gauges about each ModelDeployment, read at the moment of the scrape from what the last passes left.

A pass only hands over references: the work is done when somebody scrapes, and once per pass at most. An object that is
gone is gone from here. Must not count anything: what happens is counted in `outcomes`.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pilotfish.telemetry.gauges import GAUGES, ObjectGauge
from pilotfish.telemetry.state import ObjectState, Row


class ObjectStates(Collector):
    """The families of GAUGES over all objects. Rows of an object are made again only after it had a pass."""

    def __init__(self, states: Callable[[], Iterable[ObjectState]]) -> None:
        self._states = states
        self._made: dict[tuple[str, str], tuple[ObjectState, tuple[tuple[Row, ...], ...]]] = {}

    def collect(self) -> Iterator[Metric]:
        """Every family, with no sample where nothing is served."""
        families = [GaugeMetricFamily(g.name, g.help, labels=["namespace", "name", *g.labels]) for g in GAUGES]
        before, self._made = self._made, {}
        for state in self._states():
            key = (state.namespace, state.name)
            made = before.get(key)
            if made is None or made[0] is not state:
                made = (state, tuple(_rows(gauge, state) for gauge in GAUGES))
            self._made[key] = made
            for family, rows in zip(families, made[1], strict=True):
                for labels, value in rows:
                    family.add_metric([*key, *labels], value)
        yield from families


def _rows(gauge: ObjectGauge, state: ObjectState) -> tuple[Row, ...]:
    """None where a child holds what we never wrote: one object must not cost all others their metrics."""
    try:
        return tuple(gauge.rows(state))
    except (AttributeError, KeyError, TypeError, ValueError):
        return ()
