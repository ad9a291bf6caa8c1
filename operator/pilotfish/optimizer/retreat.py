"""When INT8 static is refused: its worst layers back to float, as few of them as the tolerance needs."""

import shutil
from collections.abc import Callable
from dataclasses import replace

from pilotfish.api.report import Verdict, one_line
from pilotfish.optimizer.candidates import MIXED, STATIC, Workshop, keep_in_float
from pilotfish.optimizer.compress.layers import retreat_order
from pilotfish.optimizer.model import Candidate, FailedCandidate
from pilotfish.optimizer.prove import Proof, Prover

ATTEMPTS = 6


def retreat(shop: Workshop, proofs: list[Proof], prover: Prover, *, say: Callable[[str], None]) -> list[Proof]:
    """The proof of onnx-int8-mixed where INT8 static is refused for its figures, else nothing.

    Bisects over the layers, the worst first, at most `ATTEMPTS` times: the accepted file with the fewest
    layers in float, or the last one that was tried with the reason why none is offered.
    """
    static = next((p for p in proofs if p.variant == STATIC and p.verdict is Verdict.REFUSED and p.error), None)
    if static is None or not isinstance(static.built, Candidate):
        return []
    order = retreat_order(static.built.file, static.built.layers)
    total = len(order)
    low, high, tried = 0, total, 0
    best: Proof | None = None
    last: Proof | None = None
    while high - low > 1 and tried < ATTEMPTS:
        middle, tried = (low + high) // 2, tried + 1
        say(f"{MIXED}: {middle} of {total} layers in float")
        proof = _attempt(shop, static.built, order[:middle], prover)
        if proof.verdict is Verdict.ACCEPTED:
            _drop(best)
            best, high = proof, middle
        else:
            low = middle
            if last is None or proof.error is not None:  # figures say more than a file that was not made
                _drop(last)
                last = proof
    if best is not None:
        _drop(last)
        return [best]
    return [_hopeless(static, last, tried=tried, total=total)]


def _attempt(shop: Workshop, static: Candidate, kept: tuple[str, ...], prover: Prover) -> Proof:
    try:
        return prover.prove_one(keep_in_float(shop, static, kept))
    except Exception as error:  # noqa: BLE001 - quantizers fail in every way; the reason goes into the report
        reason = one_line(f"with {len(kept)} layers in float: {error}", limit=300)
        failed = FailedCandidate(variant=MIXED, format=static.format, precision=static.precision, reason=reason)
        return Proof(built=failed, verdict=Verdict.FAILED, reason=reason)


def _hopeless(static: Proof, last: Proof | None, *, tried: int, total: int) -> Proof:
    if last is None:
        only = "its only quantized layer is what hurts" if total == 1 else "its layers could not be told apart"
        reason = f"{only}: {static.reason}"
        failed = FailedCandidate(
            variant=MIXED, format=static.built.format, precision=static.built.precision, reason=reason, refused=True
        )
        return Proof(built=failed, verdict=Verdict.REFUSED, reason=reason)
    kept = sum(one.kept for one in last.built.layers) if isinstance(last.built, Candidate) else 0
    attempts = f"{tried} attempt{'s' if tried > 1 else ''}"
    where = f"even with {kept} of {total} layers in float, after {attempts}: " if kept else ""
    return replace(last, reason=one_line(f"{where}{last.reason}", limit=300))


def _drop(proof: Proof | None) -> None:
    """Let go of an attempt that something better has replaced."""
    if proof is None:
        return
    if proof.worker is not None:
        proof.worker.close()
    if isinstance(proof.built, Candidate):
        shutil.rmtree(proof.built.folder, ignore_errors=True)
