"""One step of moving pods between two revisions, like a rolling update over two Deployments. Pure.

Capacity goes up before weight goes up, weight goes down before capacity goes down: this module moves pods only as far
as the weights of now allow, the weights are somebody else's.

What waits for what, and how each wait ends:
- a side that grows waits for room (`most_total`): room comes when the other side shrinks;
- a ready stable pod waits for a ready candidate pod (`least_ready`): the candidate's deadline ends that by going back;
- a ready candidate pod that goes waits for a ready stable pod, never for the candidate: `overdue` ends that;
- a pod that is not ready waits for nobody.
"""

from dataclasses import dataclass

from pilotfish.api.rollout import Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Pods as they are. `asked`: replicas of the Deployment; `total`: its pods that stay; `leaving`: its other pods.

    A pod that leaves holds its place until it is gone. Counts below 0 are taken as 0.
    """

    stable_asked: int
    stable_ready: int
    stable_total: int
    candidate_asked: int
    candidate_ready: int
    candidate_total: int
    stable_leaving: int = 0
    candidate_leaving: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to, and what may not be broken on the way."""

    stable: int
    candidate: int
    most_total: int
    """Pods of both that may exist at once, leaving ones included."""
    least_ready: int
    """Ready pods of both that our own moves must leave; never more than the target has."""
    stable_needed: int = 0
    """Ready stable pods that the present weight of stable needs, by `needed_for`."""
    candidate_needed: int = 0
    """The same of the candidate; counts only while it shrinks."""
    apart: bool = False
    """The candidate starts only when no stable pod exists any more."""
    overdue: bool = False
    """Stable pods found no place for too long: the candidate gives one up even below least_ready."""


def make_target(
    mode: Capacity,
    *,
    stable: int,
    candidate: int,
    replicas: int,
    surge: int,
    stable_needed: int = 0,
    candidate_needed: int = 0,
    overdue: bool = False,
) -> Target:
    """What a mode allows and promises: Surge keeps all replicas, Swap all but one, Recreate none.

    `surge`: pods beside the replicas that Surge may have; ignored otherwise.
    """
    promised = promised_ready(mode, replicas)
    return Target(
        stable=stable,
        candidate=candidate,
        most_total=replicas + (max(0, surge) if mode is Capacity.SURGE else 0),
        least_ready=promised,
        stable_needed=min(stable_needed, promised),
        candidate_needed=min(candidate_needed, promised),
        apart=mode is Capacity.RECREATE,
        overdue=overdue,
    )


def promised_ready(mode: Capacity, replicas: int) -> int:
    """Ready pods that a mode keeps all the way: Surge all, Swap all but one, Recreate none."""
    if mode is Capacity.RECREATE:
        return 0
    return max(0, replicas - (1 if mode is Capacity.SWAP else 0))


def needed_for(weight: int, promised: int) -> int:
    """Ready pods that a share of `weight` percent needs of the ready pods promised for 100, rounded up."""
    return -(-min(100, max(0, weight)) * max(0, promised) // 100)


def most_weight(ready: int, promised: int) -> int:
    """The largest share in percent that `ready` pods may get: no pod gets more than its part, none without a pod."""
    return min(100, 100 * max(0, ready) // max(1, promised))


def next_scale(now: Scale, target: Target) -> tuple[int, int]:
    """Replicas to ask for next of (stable, candidate).

    The same again when nothing may move until pods come, get ready or go. Stable grows first.
    """
    stable = _Side.of(now.stable_asked, now.stable_ready, now.stable_total, now.stable_leaving, target.stable)
    candidate = _Side.of(
        now.candidate_asked, now.candidate_ready, now.candidate_total, now.candidate_leaving, target.candidate
    )
    room = max(0, target.most_total - stable.pods - candidate.pods)
    grown = stable.grow(room)
    blocked = target.apart and stable.pods > 0
    raised = candidate.grow(0 if blocked else max(0, room - (grown - stable.asked)))
    least = min(target.least_ready, stable.target + candidate.target)
    if candidate.target < candidate.asked:
        raised = _shrink_candidate(candidate, stable, target, least)
    if stable.target < stable.asked:
        grown = _shrink_stable(stable, candidate, target, least - min(candidate.ready, raised), room)
    return grown, raised


@dataclass(frozen=True, slots=True)
class _Side:
    """One revision. `ready` pods that will stay ready, `pods` with those that were asked for and those that leave."""

    asked: int
    ready: int
    pods: int
    target: int
    settled: bool
    """Nothing is on its way out."""

    @classmethod
    def of(cls, asked: int, ready: int, total: int, leaving: int, target: int) -> "_Side":
        asked, ready, total, leaving, target = (max(0, n) for n in (asked, ready, total, leaving, target))
        return cls(asked, min(asked, ready), max(asked, total) + leaving, target, total <= asked and leaving == 0)

    def grow(self, room: int) -> int:
        return self.asked + min(max(0, self.target - self.asked), room)


def _shrink_candidate(candidate: _Side, stable: _Side, target: Target, least: int) -> int:
    """Going back: what is not ready goes at once, what is ready as stable pods take over."""
    keep = max(target.candidate_needed, least - stable.ready)
    lower = max(candidate.target, min(candidate.ready, keep))
    stuck = lower == candidate.asked and candidate.settled and stable.settled
    return lower - 1 if stuck and target.overdue else lower


def _shrink_stable(stable: _Side, candidate: _Side, target: Target, keep: int, room: int) -> int:
    """Going forward: pods beyond those to keep go. A ReplicaSet takes those that are not ready first."""
    keep = max(stable.target, keep, target.stable_needed)
    if keep < stable.asked:
        return keep
    # Stable has fewer ready pods than it should: the candidate may be the cure, and takes a broken pod's place, one at
    # a time and each only when all before it came up.
    broken = stable.ready < stable.asked
    wanted = candidate.asked < candidate.target and room == 0
    healthy = candidate.ready == candidate.asked
    return stable.asked - (1 if broken and wanted and healthy and stable.settled and candidate.settled else 0)
