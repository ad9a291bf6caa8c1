"""A page of metrics as a table."""

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """Samples by name and labels."""

    samples: dict[tuple[str, Labels], float]

    def of(self, metric: str, **labels: str) -> dict[str, float]:
        """Samples that carry these labels, by their other labels: `ready` or `ready stable`, sorted by label name."""
        wanted = set(labels.items())
        return {
            " ".join(value for _, value in sorted(told - wanted)): number
            for (name, told), number in self.samples.items()
            if name == metric and wanted <= told
        }

    def one(self, metric: str, **labels: str) -> float | None:
        """The only one that carries these labels; None when there is none."""
        found = self.of(metric, **labels)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)

    @property
    def names(self) -> set[str]:
        """Names of all samples."""
        return {name for name, _ in self.samples}


def read_scrape(text: str) -> Scrape:
    """Prometheus text. Without its types: of those the parser makes names that nobody wrote."""
    plain = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    families = text_string_to_metric_families(plain)
    return Scrape({(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples})
