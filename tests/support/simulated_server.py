"""A Triton that is a formula: what a model costs on so many cores, and how requests queue for it.

Closed loop: `concurrency` clients, each with one request under way. The clock stands still but for what loading and
measuring take.
"""

import random
from dataclasses import dataclass, field

from pilotfish.optimizer.tuning.figures import Round
from pilotfish.optimizer.tuning.search import PointError
from pilotfish.optimizer.tuning.settings import Setting

LOAD_SECONDS = 2.0
ROUND_SECONDS = 0.5


@dataclass
class Simulated:
    """One call takes `overhead_ms` on one thread and `sample_ms` per sample, of which `parallel` is shared by threads."""

    cores: int = 4
    overhead_ms: float = 1.0
    sample_ms: float = 4.0
    parallel: float = 0.5
    seed: int = 1
    noise: float = 0.01
    disturbed: float = 0.0
    """Share of the rounds that somebody else's work makes slower, and that say so."""
    breaks: dict = field(default_factory=dict)
    """What a setting must be (by field) so that it does not load."""
    now: float = 0.0
    opened: list[Setting] = field(default_factory=list)
    rounds: int = 0

    def __post_init__(self):
        self._random = random.Random(self.seed)

    def clock(self) -> float:
        return self.now

    def open(self, setting: Setting) -> None:
        self.now += LOAD_SECONDS
        if self.breaks and all(getattr(setting, key) == value for key, value in self.breaks.items()):
            raise PointError("not enough memory")
        self.opened.append(setting)

    def measure(self, concurrency: int) -> Round:
        self.now += ROUND_SECONDS
        self.rounds += 1
        latency_ms, throughput = self.figures(self.opened[-1], concurrency)
        contended = self._random.random() < self.disturbed
        factor = self._random.gauss(1, self.noise) * (3 if contended else 1)
        return Round(
            requests=int(throughput * ROUND_SECONDS) + 1,
            throughput=throughput / factor,
            p50_ms=latency_ms * factor,
            p95_ms=latency_ms * factor * 1.1,
            p99_ms=latency_ms * factor * 1.2,
            contended=contended,
        )

    def figures(self, s: Setting, concurrency: int) -> tuple[float, float]:
        """Median latency in milliseconds and inferences per second, without noise."""
        batch = min(s.max_batch, max(1, concurrency // s.instances))
        full = batch >= s.max_batch or batch in s.preferred
        wait = 0 if full else s.delay_us / 1000
        crowd = max(1.0, s.instances * s.threads / self.cores)
        busy = (self.overhead_ms + self.sample_ms * batch * ((1 - self.parallel) + self.parallel / s.threads)) * crowd
        running = min(s.instances, max(1, concurrency // batch))
        throughput = 1000 * running * batch / (busy + wait)
        return max(busy + wait, 1000 * concurrency / throughput), throughput
