"""Decisions: what was observed becomes a plan. No I/O, no clock, no randomness."""

from pilotfish.core.objects import Body, ObjectRef
from pilotfish.core.observed import CHILD_KINDS, POD_KIND, Observed, observe
from pilotfish.core.plan import Apply, Plan
from pilotfish.core.planner import plan
from pilotfish.resources.policy import Compute, Images, Policy

__all__ = [
    "CHILD_KINDS",
    "POD_KIND",
    "Apply",
    "Body",
    "Compute",
    "Images",
    "ObjectRef",
    "Observed",
    "Plan",
    "Policy",
    "observe",
    "plan",
]
