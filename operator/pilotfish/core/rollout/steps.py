"""The steps of a canary as they are carried out."""

from dataclasses import dataclass
from datetime import timedelta

from pilotfish import names
from pilotfish.api.base import parse_duration
from pilotfish.api.rollout import FOREVER, RolloutSpec, Step, Strategy

DEFAULT_STEPS = (Step(weight=10, hold="2m"), Step(weight=50, hold="5m"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedStep:
    """One step. `hold` None: until promoted. `hash` is that of all steps together."""

    index: int
    count: int
    weight: int
    hold: timedelta | None
    hash: str

    @property
    def title(self) -> str:
        """`step 2/4`."""
        return f"step {self.index + 1}/{self.count}"


def resolve_steps(spec: RolloutSpec) -> tuple[ResolvedStep, ...]:
    """All steps; none but for a canary."""
    if spec.strategy is not Strategy.CANARY:
        return ()
    steps = spec.steps or DEFAULT_STEPS
    key = names.short_hash([step.to_wire() for step in steps])
    return tuple(
        ResolvedStep(index=index, count=len(steps), weight=step.weight, hold=_hold(step), hash=key)
        for index, step in enumerate(steps)
    )


def _hold(step: Step) -> timedelta | None:
    if step.hold == FOREVER:
        return None
    return parse_duration(step.hold) if step.hold else timedelta()
