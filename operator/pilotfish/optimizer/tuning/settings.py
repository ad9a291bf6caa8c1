"""Points of the search: one combination of serving settings, and which others may be tried from it. Pure."""

from dataclasses import dataclass, field, replace

from pilotfish.api.model_config import ServingConfig
from pilotfish.api.tuning import Accelerator, Tunable, TunedServing

_DELAYS_US = (0, 500, 2000, 5000)
_GPU_INSTANCES = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point. Sizes in samples, the delay in microseconds, threads per instance."""

    max_batch: int = 8
    preferred: tuple[int, ...] = ()
    delay_us: int = 2000
    instances: int = 1
    threads: int = 1
    accelerator: Accelerator | None = None

    def __str__(self) -> str:
        """The point in a line."""
        threads = f"{self.instances} x {self.threads} thread{'s' if self.threads > 1 else ''}"
        batch = f"batch {self.max_batch}" + (
            f" (rather {', '.join(map(str, self.preferred))})" if self.preferred else ""
        )
        more = f", {self.accelerator.value}" if self.accelerator else ""
        return f"{threads}, {batch}, delay {self.delay_us / 1000:g} ms{more}"

    def config(self, *, gpu: bool, inter_op_threads: int = 0) -> ServingConfig:
        """As config.pbtxt has it, without a warm-up: the bench has its own."""
        return ServingConfig(
            max_batch_size=self.max_batch,
            preferred_batch_sizes=self.preferred,
            max_queue_delay_us=self.delay_us,
            instances=self.instances,
            gpu=gpu,
            intra_op_threads=self.threads,
            inter_op_threads=inter_op_threads,
            warmup=False,
            accelerator=self.accelerator,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be tried. `start` is what serves without tuning; what is not `free` keeps its value in there.

    Threads that are neither free nor `fixed_threads` follow the CPU limit, shared by the instances. Batches go up to
    `largest_batch`, for which the answers were compared, and never below the start's: clients may send so many samples.
    """

    start: Setting
    free: frozenset[Tunable]
    cores: int
    largest_batch: int
    batched: bool = True
    gpu: bool = False
    fixed_threads: bool = False
    accelerators: tuple[Accelerator, ...] = field(default=())

    def line(self, what: Tunable | None, at: Setting) -> tuple[Setting, ...]:
        """All values of one setting, smallest first, the others as in `at`. `what` None: the accelerators."""
        found = _LINES[what](self, at) if what in self.free or what is None else ()
        return tuple(dict.fromkeys(found))

    def around(self, what: Tunable | None, at: Setting) -> tuple[tuple[Setting, ...], ...]:
        """The values above `at` and those below it, each from the nearest on."""
        line = self.line(what, at)
        if at not in line:
            return (line,)
        index = line.index(at)
        return line[index + 1 :], line[:index][::-1]

    def spread_out(self, at: Setting) -> Setting:
        """As many instances as there are cores, or as may be."""
        return (self.line(Tunable.INSTANCES, at) or (at,))[-1]

    def without_wait(self, at: Setting) -> Setting:
        """No request waits for others."""
        return (self.line(Tunable.MAX_QUEUE_DELAY, at) or (at,))[0]

    def simplicity(self, setting: Setting) -> tuple[int, ...]:
        """Smaller is simpler: what differs least from the start, then what needs least."""
        start = self.start
        pairs = (
            (setting.instances, start.instances),
            (setting.threads, self._threads(setting.instances)),
            (setting.max_batch, start.max_batch),
            (setting.preferred, start.preferred),
            (setting.delay_us, start.delay_us),
            (setting.accelerator, start.accelerator),
        )
        changed = sum(mine != theirs for mine, theirs in pairs)
        return changed, setting.instances, setting.max_batch, len(setting.preferred), setting.delay_us, setting.threads

    def result(self, setting: Setting) -> TunedServing:
        """What is recorded of a winner: the free settings alone."""
        found = {
            Tunable.MAX_BATCH_SIZE: ("max_batch_size", setting.max_batch),
            Tunable.PREFERRED_SIZES: ("preferred_sizes", setting.preferred),
            Tunable.MAX_QUEUE_DELAY: ("max_queue_delay_microseconds", setting.delay_us),
            Tunable.INSTANCES: ("instances", setting.instances),
            Tunable.THREADS: ("intra_op_threads", setting.threads),
        }
        batching = {Tunable.MAX_BATCH_SIZE, Tunable.PREFERRED_SIZES, Tunable.MAX_QUEUE_DELAY}
        kept = [what for what in found if what in self.free and (self.batched or what not in batching)]
        return TunedServing(
            **{found[what][0]: found[what][1] for what in kept}, accelerator=setting.accelerator, cores=self.cores
        )

    def _threads(self, instances: int) -> int:
        return self.start.threads if self.fixed_threads else max(1, self.cores // instances)

    def _instances(self, at: Setting) -> list[Setting]:
        counts = _GPU_INSTANCES if self.gpu else _ladder(self.cores)
        made = [replace(at, instances=n, threads=self._threads(n)) for n in counts]
        fits = [one for one in made if self.gpu or one.instances * one.threads <= self.cores]
        # Where only the threads differ from those that the instances would get, the point itself stands in the line.
        return [at if one.instances == at.instances else one for one in fits]

    def _thread_counts(self, at: Setting) -> list[Setting]:
        return [] if self.gpu else [replace(at, threads=n) for n in _ladder(max(1, self.cores // at.instances))]

    def _batches(self, at: Setting) -> list[Setting]:
        if not self.batched or self.start.max_batch <= 1:
            return []
        sizes = [self.start.max_batch]
        while sizes[-1] * 2 <= self.largest_batch:
            sizes.append(sizes[-1] * 2)
        return [replace(at, max_batch=n, preferred=tuple(p for p in at.preferred if p <= n)) for n in sizes]

    def _delays(self, at: Setting) -> list[Setting]:
        if not self.batched or at.max_batch <= 1:
            return []
        return [
            replace(at, delay_us=n, preferred=at.preferred if n else self.start.preferred)
            for n in sorted({*_DELAYS_US, self.start.delay_us})
        ]

    def _preferred(self, at: Setting) -> list[Setting]:
        """Sizes that end the waiting: they mean something only where requests wait."""
        if not self.batched or at.max_batch <= 2 or at.delay_us == 0:  # noqa: PLR2004 - no size between 1 and all
            return []
        half = at.max_batch // 2
        return [replace(at, preferred=sizes) for sizes in ((), (half,), (half, at.max_batch))]

    def _accelerators(self, at: Setting) -> list[Setting]:
        return [replace(at, accelerator=one) for one in (None, *self.accelerators)]


_LINES = {
    Tunable.INSTANCES: Space._instances,  # noqa: SLF001 - its own
    Tunable.THREADS: Space._thread_counts,  # noqa: SLF001
    Tunable.MAX_BATCH_SIZE: Space._batches,  # noqa: SLF001
    Tunable.MAX_QUEUE_DELAY: Space._delays,  # noqa: SLF001
    Tunable.PREFERRED_SIZES: Space._preferred,  # noqa: SLF001
    None: Space._accelerators,  # noqa: SLF001
}


def _ladder(top: int) -> list[int]:
    """1, 2, 4 … and `top` itself."""
    steps = [1]
    while steps[-1] * 2 <= top:
        steps.append(steps[-1] * 2)
    return sorted({*steps, top})
