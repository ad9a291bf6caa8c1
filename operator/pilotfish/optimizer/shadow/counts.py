"""What the shadow tells the operator: numbers, and nothing of what is in a request."""

from dataclasses import dataclass

_HELP = {
    "requests": "Requests that were passed on to the stable revision.",
    "compared": "Requests that both revisions answered and whose answers were compared.",
    "agreed": "Of these: answers that were equal within the tolerance.",
    "failed": "Requests that only the stable revision answered.",
    "dropped": "Requests that were chosen and not compared: too busy, too large, or an answer that cannot be read.",
}


@dataclass(slots=True, kw_only=True)
class Counts:
    """Since the process began."""

    requests: int = 0
    compared: int = 0
    agreed: int = 0
    failed: int = 0
    dropped: int = 0

    def as_text(self) -> str:
        """Prometheus text."""
        lines = []
        for name, told in _HELP.items():
            metric = f"pilotfish_shadow_{name}_total"
            lines += [f"# HELP {metric} {told}", f"# TYPE {metric} counter", f"{metric} {getattr(self, name)}"]
        return "\n".join(lines) + "\n"
