"""plan(): one pass from what was observed to what to do."""

from datetime import datetime

from pilotfish.core.objects import is_deleting
from pilotfish.core.observed import Observed
from pilotfish.core.plan import Plan
from pilotfish.resources.policy import Policy


def plan(observed: Observed, policy: Policy, now: datetime) -> Plan:
    """What brings the world to the spec, pure and total: the same arguments give the same plan. `now` is aware UTC."""
    if is_deleting(observed.body):
        return Plan()
    raise NotImplementedError
