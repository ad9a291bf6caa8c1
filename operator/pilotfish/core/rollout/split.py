"""A share of traffic as numbers of pods: what replicas can give without a gateway. Pure arithmetic on whole numbers.

A Service spreads connections evenly over the ready pods behind it, so the candidate's share is its share of the pods.
"""

from fractions import Fraction

from pilotfish.api.rollout import Capacity

WARN_BEYOND = 10
"""Points between what a step asks for and what the pods give, beyond which a step deserves a warning."""


def split(replicas: int, weight: int, *, surge: int) -> tuple[int, int]:
    """Pods of (stable, candidate) whose share comes closest to `weight` percent.

    In all there are `replicas` pods, or one more where surge > 0. Ties go to the larger candidate, then to fewer pods.
    A weight from 1 to 99 leaves neither side without a pod. One replica without surge cannot be split: (0, 1).
    """
    replicas, weight = max(0, replicas), _percent(weight)
    if replicas == 0 or weight == 0:
        return replicas, 0
    if weight == 100:  # noqa: PLR2004 - percent
        return 0, replicas
    options = [
        (total - candidate, candidate) for total in _totals(replicas, surge) for candidate in _near(total, weight)
    ]
    if not options:
        return 0, replicas
    return min(options, key=lambda option: (_distance(weight, *option), -option[1], sum(option)))


def achievable(replicas: int, surge: int) -> tuple[int, ...]:
    """The percentages from 1 to 99, rounded, that `split` can give; ascending, empty where no split is possible."""
    totals = _totals(replicas, surge)
    shares = (
        (percent, _rounded(candidate, total))
        for percent in range(1, 100)
        for total in totals
        for candidate in _near(total, percent)
    )
    return tuple(sorted({percent for percent, rounded in shares if percent == rounded}))


def off_by(weight: int, stable: int, candidate: int) -> float:
    """Points between `weight` percent and the candidate's share of the pods; no pods are a share of 0."""
    return float(_distance(_percent(weight), max(0, stable), max(0, candidate)))


def split_warning(replicas: int, weight: int, *, surge: int) -> str | None:
    """One sentence where replicas miss a step's weight by more than WARN_BEYOND points; None where they do not."""
    stable, candidate = split(replicas, weight, surge=surge)
    missed = off_by(weight, stable, candidate)
    if missed <= WARN_BEYOND or stable + candidate == 0:
        return None
    pods = "1 replica" if replicas == 1 else f"{replicas} replicas"
    if stable == 0:
        return (
            f"{pods} without room for one more cannot split traffic: a step of {weight} % gives the new revision all "
            "of it; raise spec.serving.replicas or set spec.serving.gateway"
        )
    total = stable + candidate
    return (
        f"A step of {weight} % cannot be met with {pods}: {candidate} of {total} pods take "
        f"{_rounded(candidate, total)} %; raise spec.serving.replicas or set spec.serving.gateway"
    )


def split_beside(replicas: int, weight: int) -> tuple[int, int]:
    """Pods of (stable, candidate) where a whole stable revision stays: at least one candidate, at most as many.

    Of the counts whose share is nearest to `weight` percent the larger; without a gateway a whole stable keeps half.
    """
    replicas, weight = max(0, replicas), _percent(weight)
    if replicas == 0 or weight == 0:
        return replicas, 0
    exact = Fraction(replicas * weight, 100 - weight) if weight < 100 else Fraction(replicas)  # noqa: PLR2004 - percent
    near = {min(replicas, max(1, count)) for count in (int(exact), -int(-exact // 1))}
    return replicas, min(near, key=lambda candidate: (_distance(weight, replicas, candidate), -candidate))


def split_by(mode: Capacity, replicas: int, weight: int) -> tuple[int, int]:
    """Pods of (stable, candidate) for a step: beside a whole stable revision, or of the replicas there are."""
    return split_beside(replicas, weight) if mode is Capacity.SURGE else split(replicas, weight, surge=0)


def achievable_by(mode: Capacity, replicas: int) -> tuple[int, ...]:
    """The percentages, rounded, that a mode can give; ascending."""
    if mode is not Capacity.SURGE:
        return achievable(replicas, 0)[:100]
    shares = {_rounded(candidate, replicas + candidate) for candidate in range(1, min(max(0, replicas), 100) + 1)}
    return tuple(sorted(shares))


def split_warning_by(mode: Capacity, replicas: int, weight: int) -> str | None:
    """One sentence where the pods miss a step's weight by more than WARN_BEYOND points; None where they do not."""
    stable, candidate = split_by(mode, replicas, weight)
    missed = off_by(weight, stable, candidate)
    if missed <= WARN_BEYOND or stable + candidate == 0:
        return None
    pods = "1 replica" if replicas == 1 else f"{replicas} replicas"
    return (
        f"A step of {weight} % cannot be met with {pods}: {candidate} of {stable + candidate} pods take "
        f"{_rounded(candidate, stable + candidate)} %; raise spec.serving.replicas or set spec.serving.gateway"
    )


def _percent(weight: int) -> int:
    return min(100, max(0, weight))


def _totals(replicas: int, surge: int) -> tuple[int, ...]:
    """How many pods there may be in all; fewer than two cannot be split."""
    totals = (replicas, replicas + 1) if surge > 0 and replicas > 0 else (replicas,)
    return tuple(total for total in totals if total > 1)


def _near(total: int, weight: int) -> tuple[int, ...]:
    """Candidates just under and just over the weight, at least one, and at least one short of all."""
    under = total * weight // 100
    over = -(-total * weight // 100)
    return tuple(sorted({min(total - 1, max(1, count)) for count in (under, over)}))


def _distance(weight: int, stable: int, candidate: int) -> Fraction:
    total = stable + candidate
    return abs(Fraction(100 * candidate, total) - weight) if total else Fraction(weight)


def _rounded(candidate: int, total: int) -> int:
    return (200 * candidate + total) // (2 * total)
