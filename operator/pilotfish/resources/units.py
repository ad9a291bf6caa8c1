"""Durations and quantities as Kubernetes writes them. Pure."""

import math
import re
from decimal import Decimal, InvalidOperation

from pilotfish.api.base import parse_duration

_SUFFIXES = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate(("k", "M", "G", "T", "P"), start=1)},
    **{letter: Decimal(1024) ** power for power, letter in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi"), start=1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")


def whole_seconds(text: str, *, least: int = 1) -> int:
    """A duration in whole seconds, rounded up, never under `least`."""
    return max(least, math.ceil(parse_duration(text).total_seconds()))


def parse_quantity(text: str) -> Decimal | None:
    """`500m` as 0.5, `1Ki` as 1024; None for anything else."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2] or ""]
    except InvalidOperation:
        return None


def whole_cores(cpu: str) -> int:
    """A CPU quantity as a number of threads: rounded up, at least one."""
    return max(1, math.ceil(parse_quantity(cpu) or 1))
