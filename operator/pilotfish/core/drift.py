"""Whether an object that stands is the one that is wanted. Equal means that nothing is written.

Two questions, both must be answered with yes: was exactly this object applied last (the hash of the whole wanted
object, kept in an annotation), and does every field that it names still hold (somebody may have edited it by hand)?
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish import names
from pilotfish.core.objects import Body, annotation_of, is_deleting, name_of
from pilotfish.core.observed import Observed
from pilotfish.core.plan import Apply
from pilotfish.resources.units import parse_quantity

# What tells the entries of Kubernetes' associative lists apart, most specific first.
_MERGE_KEYS = ("mountPath", "uid", "topologyKey", "name")


def apply_if_needed(observed: Observed, body: Body, *, exact: bool = False, whole: bool = False) -> Apply | None:
    """The Apply that makes the object as wanted; None when it is so, or when it is on its way out.

    With `exact` the lists that it names hold nothing else. With `whole` the fields of its spec that it names are equal.
    """
    wanted = _stamped(body)
    found = observed.child(body["kind"], name_of(body))
    if found is None:
        return Apply(body=wanted)
    if is_deleting(found):
        return None
    if _is_current(found, wanted, exact=exact) and not (whole and _differs(found.get("spec"), wanted["spec"])):
        return None
    return Apply(body=wanted, uid=found["metadata"]["uid"])


def create_if_missing(observed: Observed, body: Body) -> Apply | None:
    """The Apply of an object that is written once and never again."""
    return Apply(body=body) if observed.child(body["kind"], name_of(body)) is None else None


def holds(found: Any, wanted: Any, *, exact: bool = False) -> bool:
    """Whether everything that `wanted` says is so in `found`, which may say more (defaults, other managers' fields).

    With `exact` it may say more about an item of a list, but hold no item more.
    """
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            key in found and holds(found[key], wanted[key], exact=exact) for key in wanted
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(found, list | tuple)
            and not (exact and len(found) != len(wanted))
            and _list_holds(found, wanted, exact=exact)
        )
    return bool(found == wanted) or _same_quantity(found, wanted)


def _stamped(body: Body) -> dict[str, Any]:
    annotations = {**body["metadata"].get("annotations", {}), names.APPLIED_HASH: names.short_hash(body)}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _is_current(found: Body, wanted: Body, *, exact: bool) -> bool:
    applied = annotation_of(found, names.APPLIED_HASH)
    same = holds(found, wanted) and (not exact or holds(found.get("spec"), wanted.get("spec"), exact=True))
    return applied == annotation_of(wanted, names.APPLIED_HASH) and same


def _differs(found: Any, wanted: Mapping[str, Any]) -> bool:
    """Where every word more means something: an empty selector matches all."""
    return not isinstance(found, Mapping) or any(found.get(key) != value for key, value in wanted.items())


def _list_holds(found: Sequence[Any], wanted: Sequence[Any], *, exact: bool) -> bool:
    key = next((k for k in _MERGE_KEYS if wanted and all(isinstance(w, Mapping) and k in w for w in wanted)), None)
    if key is None:
        return len(found) == len(wanted) and all(holds(f, w, exact=exact) for f, w in zip(found, wanted, strict=True))
    by_key = {f[key]: f for f in found if isinstance(f, Mapping) and key in f}
    return all(w[key] in by_key and holds(by_key[w[key]], w, exact=exact) for w in wanted)


def _same_quantity(found: Any, wanted: Any) -> bool:
    """The API server writes `0.5` as `500m`."""
    if not (isinstance(found, str) and isinstance(wanted, str)):
        return False
    amount = parse_quantity(wanted)
    return amount is not None and amount == parse_quantity(found)
