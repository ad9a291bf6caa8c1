"""Statistics as metrics of Triton's own endpoint, beside `nv_inference_*`. Runs in Triton's Python backend.

The backend knows counters and gauges; a histogram is counters with the label `le`, as Prometheus stores it.
"""

from typing import Any

from predict_statistics import CONFIDENCES, Statistics

MOST_CLASSES = 100
"""Classes with a series of their own; the others share one."""
OTHER = "other"
_DRIFT_EVERY = 50
"""Samples between two looks at drift, which reads the whole window."""

_FAMILIES = {
    "samples_total": ("COUNTER", "Samples that the statistics are made of"),
    "class_total": ("COUNTER", "Samples by the class that the model found likeliest"),
    "confidence_bucket": ("COUNTER", "Samples whose likeliest class has at most this probability"),
    "confidence_sum": ("COUNTER", "Sum of the likeliest class's probability"),
    "confidence_count": ("COUNTER", "Samples with a finite probability"),
    "values_total": ("COUNTER", "Numbers in a tensor of the model"),
    "not_finite_total": ("COUNTER", "Numbers among them that are NaN or infinite"),
    "least_value": ("GAUGE", "Smallest number in a tensor of the model so far"),
    "most_value": ("GAUGE", "Largest number in a tensor of the model so far"),
    "drift": ("GAUGE", "Population stability index of the last samples against the golden set"),
}


class Gauges:
    """The metrics of one revision."""

    def __init__(self, backend: Any, settings: dict[str, Any]) -> None:
        self._labels = {name: settings[name] for name in ("model", "revision", "variant")}
        self._names = settings["labels"]
        self._families = {
            name: backend.MetricFamily(
                name=f"pilotfish_model_{name}", description=about, kind=getattr(backend.MetricFamily, kind)
            )
            for name, (kind, about) in _FAMILIES.items()
        }
        self._metrics: dict[tuple[str, ...], Any] = {}
        self._counted: dict[tuple[str, ...], float] = {}
        self._drift_at = 0

    def show(self, seen: Statistics) -> None:
        """Bring every metric to these statistics."""
        self._count("samples_total", seen.samples)
        for kind, tensors in (("input", seen.inputs), ("output", seen.outputs)):
            for name, one in tensors.items():
                self._count("values_total", one.values, kind=kind, tensor=name)
                self._count("not_finite_total", one.not_finite, kind=kind, tensor=name)
                if one.least <= one.most:
                    self._set("least_value", one.least, kind=kind, tensor=name)
                    self._set("most_value", one.most, kind=kind, tensor=name)
        if seen.classes:
            self._show_classes(seen)
        if seen.samples - self._drift_at >= _DRIFT_EVERY:
            self._drift_at = seen.samples
            for about, index in seen.drift().items():
                self._set("drift", index, of=about)

    def _show_classes(self, seen: Statistics) -> None:
        rest = 0
        for index, count in seen.classes.items():
            if index < MOST_CLASSES:
                self._count("class_total", count, **{"class": self._names[index] if self._names else str(index)})
            else:
                rest += count
        if rest:
            self._count("class_total", rest, **{"class": OTHER})
        below = 0
        for end, count in zip(CONFIDENCES, seen.confidence_counts, strict=True):
            below += count
            self._count("confidence_bucket", below, le=str(end))
        self._count("confidence_bucket", below, le="+Inf")
        self._count("confidence_count", below)
        self._count("confidence_sum", seen.confidence_sum)

    def _count(self, name: str, value: float, **labels: str) -> None:
        """Each call goes to the server's process and back: what has not changed is passed over."""
        key = (name, *labels.values())
        if value != self._counted.get(key):
            self._metric(name, **labels).increment(value - self._counted.get(key, 0))
            self._counted[key] = value

    def _set(self, name: str, value: float, **labels: str) -> None:
        key = (name, *labels.values())
        if value != self._counted.get(key):
            self._metric(name, **labels).set(value)
            self._counted[key] = value

    def _metric(self, name: str, **labels: str) -> Any:
        key = (name, *labels.values())
        if key not in self._metrics:
            self._metrics[key] = self._families[name].Metric(labels={**self._labels, **labels})
        return self._metrics[key]
