"""How far answers may differ from the original's: the defaults of each precision, and what the user says instead."""

from dataclasses import dataclass

from pilotfish.api.optimization import Precision
from pilotfish.api.tolerance import Tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a candidate may differ by. None: not looked at."""

    max_rel: float | None
    max_abs: float | None
    cosine: float | None
    top1_agreement: float | None
    batch_parity: float | None


_DEFAULTS: dict[Precision, Bounds] = {
    Precision.FP32: Bounds(max_rel=1e-4, max_abs=None, cosine=0.9999, top1_agreement=None, batch_parity=1e-4),
    Precision.FP16: Bounds(max_rel=1e-2, max_abs=None, cosine=0.9995, top1_agreement=0.995, batch_parity=1e-2),
    Precision.BF16: Bounds(max_rel=2e-2, max_abs=None, cosine=0.999, top1_agreement=0.995, batch_parity=2e-2),
    Precision.INT8: Bounds(max_rel=5e-2, max_abs=None, cosine=0.995, top1_agreement=0.99, batch_parity=1e-2),
}


def bounds_for(precision: Precision, tolerance: Tolerance | None, *, given: bool, batching: bool) -> Bounds:
    """The tolerance for one precision: the defaults, with what the user says in their place.

    A user's maxAbs replaces the default relative bound. Agreement of generated samples says little about the task, so
    the default asks for it only where samples were given; batch parity matters only where requests are batched.
    """
    base = _DEFAULTS[precision]
    said = tolerance or Tolerance()
    top1 = _number(said.top1_agreement)
    return Bounds(
        max_abs=_number(said.max_abs),
        max_rel=base.max_rel if said.max_abs is None else None,
        cosine=_number(said.cosine) if said.cosine is not None else base.cosine,
        top1_agreement=top1 if top1 is not None else (base.top1_agreement if given else None),
        batch_parity=base.batch_parity if batching else None,
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
