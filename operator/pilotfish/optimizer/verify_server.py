"""The golden set against the loaded servers, before they get traffic. Reads the store, writes nothing.

A server that answers otherwise than the original is the model's failure. A server that cannot be asked is not.
"""

import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from pilotfish.api.job_input import VerifyInput
from pilotfish.api.report import (
    ErrorFigures,
    FileRecord,
    Outcome,
    TerminationMessage,
    VerificationSummary,
)
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import copy_hashed, folder_digest, list_files
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.package import GOLDEN, GOLDEN_INPUTS, GOLDEN_OUTPUTS
from pilotfish.optimizer.progress import VERIFY_STAGES, Progress
from pilotfish.optimizer.server_tls import ServerTls, check_certificate, read_tls
from pilotfish.optimizer.tensors import Array, sample_count
from pilotfish.optimizer.triton_client import AnswerError, TritonRunner
from pilotfish.optimizer.verify import Bounds, bounds_for, check_answers, judge, measure_error, other_batches
from pilotfish.optimizer.worker import run_all

MOST_SAMPLES = 32
MOST_REQUEST_BYTES = 32 * 1024 * 1024
"""Batches stop growing here: the Job has little memory."""
_POLL_SECONDS = 0.5
_UNLIMITED = 8

Resolve = Callable[[VerifyInput], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Samples and what the original answers to them, one entry per sample first."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """Figures of one pod, by output."""

    figures: tuple[ErrorFigures, ...]
    batches: tuple[int, ...]


def find_addresses(order: VerifyInput) -> tuple[str, ...]:
    """host:port of every pod behind the headless Service; none while it has no pods."""
    try:
        found = socket.getaddrinfo(order.host, order.port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return ()
    hosts = {(family, str(address[0])) for family, _, _, _, address in found}
    ordered = sorted(host for family, host in hosts if family == socket.AF_INET)
    ordered += sorted(f"[{host}]" for family, host in hosts if family == socket.AF_INET6)
    return tuple(f"{host}:{order.port}" for host in ordered)


def verify_servers(
    order: VerifyInput,
    *,
    store: Path,
    run: Path | None = None,
    resolve: Resolve = find_addresses,
    progress: Progress | None = None,
) -> TerminationMessage:
    """Compare the answers of every pod with the original's. `run` holds the files of TLS, where the order asks for it.

    Raises:
        OptimizerError: VerificationFailed with the output, the pod and the figure; VerificationError when a pod cannot
            be asked; ArtifactMissing or ArtifactDigestMismatch when the golden set is not the one that was recorded.
    """
    progress = progress or Progress(VERIFY_STAGES)
    tls = None if order.tls is None or run is None else read_tls(order.tls, run)
    with tempfile.TemporaryDirectory() as scratch:
        with progress.stage("golden", order.artifact.path):
            golden = load_golden(order, store=store, scratch=Path(scratch))
        with progress.stage("wait", f"for {order.pods} pods that say they are ready"):
            addresses = wait_ready(order, resolve=resolve, progress=progress, tls=tls)
        with progress.stage("verify", f"{sample_count(golden.inputs)} samples to each of {len(addresses)} pods"):
            answered = [
                _verify_pod(order, golden, address, place=(number, len(addresses)), progress=progress, tls=tls)
                for number, address in enumerate(addresses, start=1)
            ]
    return _message(order, golden, answered)


def load_golden(order: VerifyInput, *, store: Path, scratch: Path) -> Golden:
    """The first samples of the golden set, from a copy of exactly the bytes that were hashed."""
    source = store / order.artifact.path / GOLDEN
    if not (source / GOLDEN_INPUTS).is_file() or not (source / GOLDEN_OUTPUTS).is_file():
        raise OptimizerError(Reason.ARTIFACT_MISSING, f"the store has no golden set in {order.artifact.path}")
    copied: list[FileRecord] = []
    for path in list_files(source):
        name = path.relative_to(source).as_posix()
        copied.append(copy_hashed(path, scratch / name).model_copy(update={"path": name}))
    found, recorded = folder_digest(tuple(copied)), order.artifact.golden
    if recorded is not None and found != recorded:
        raise OptimizerError(
            Reason.ARTIFACT_DIGEST_MISMATCH,
            f"the golden set in {order.artifact.path} has {found} but {recorded} was recorded; the store was changed",
        )
    golden = Golden(inputs=_first(scratch / GOLDEN_INPUTS), outputs=_first(scratch / GOLDEN_OUTPUTS))
    lacking = [t.name for t in order.signature.inputs if t.name not in golden.inputs]
    lacking += [t.name for t in order.signature.outputs if t.name not in golden.outputs]
    if lacking:
        raise OptimizerError(Reason.ARTIFACT_MISSING, f"the golden set in {order.artifact.path} has no {lacking[0]!r}")
    return golden


def wait_ready(
    order: VerifyInput, *, resolve: Resolve, progress: Progress, tls: ServerTls | None = None
) -> tuple[str, ...]:
    """Addresses of all pods once there are enough and every one says that the model is ready.

    Raises:
        OptimizerError: VerificationError when that takes longer than the order allows, or no certificate can do.
    """
    deadline, told = time.monotonic() + order.wait_seconds, ""
    while True:
        addresses = resolve(order)
        if tls is not None:
            check_certificate(tls, addresses)
        ready = [address for address in addresses if _is_ready(order, address, tls)]
        if len(ready) == len(addresses) >= order.pods:
            return addresses
        said = f"{len(ready)} of {max(len(addresses), order.pods)} pods say that the model is ready"
        if time.monotonic() >= deadline:
            raise OptimizerError(
                Reason.VERIFICATION_ERROR, f"{said} after {order.wait_seconds} s; see kubectl get pods and their logs"
            )
        if said != told:
            progress.step(0.5, said, force=True)
        told = said
        time.sleep(_POLL_SECONDS)


def _is_ready(order: VerifyInput, address: str, tls: ServerTls | None) -> bool:
    with TritonRunner(address, model=order.model, signature=order.signature, who="a pod", tls=tls) as runner:
        return runner.ready()


def _verify_pod(
    order: VerifyInput,
    golden: Golden,
    address: str,
    *,
    place: tuple[int, int],
    progress: Progress,
    tls: ServerTls | None,
) -> _Answered:
    number, total = place
    who = f"pod {number} of {total}"

    def say(done: float, what: str) -> None:
        progress.step((number - 1 + done) / total, f"{who}: {what}", force=True)

    with TritonRunner(address, model=order.model, signature=order.signature, who=who, tls=tls) as runner:
        try:
            return _compare(order, golden, runner, who=who, say=say)
        except AnswerError as error:
            raise _refused(f"{who} answers with an error: {error}") from error


def _compare(
    order: VerifyInput, golden: Golden, runner: TritonRunner, *, who: str, say: Callable[[float, str], None]
) -> _Answered:
    batched = order.signature.batched
    # A batched model without a limit takes its batches as clients make them.
    top = _largest_batch(golden, runner.max_batch_size() or _UNLIMITED) if batched else 1
    sizes = [(1, 0), *other_batches(top)]
    answers: list[dict[str, Array]] = []
    for index, (batch, pad_to) in enumerate(sizes):
        say(index / len(sizes), f"batch {batch}{f' filled up to {pad_to}' if pad_to else ''}")
        answers.append(run_all(runner, golden.inputs, batch=batch, pad_to=pad_to, batched=batched))
        if problem := check_answers(answers[-1], golden.outputs):
            raise _refused(f"{who}{f' in batches of {pad_to or batch}' if index else ''}: {problem}")
    bounds = bounds_for(
        order.artifact.precision, order.tolerance, given=order.samples_given, batching=batched and top > 1
    )
    single, *others = answers
    figures = tuple(
        _judge(name, single, golden, others, bounds=bounds, order=order, who=who) for name in golden.outputs
    )
    return _Answered(figures=figures, batches=tuple(sorted({pad_to or batch for batch, pad_to in sizes})))


def _judge(
    name: str,
    single: dict[str, Array],
    golden: Golden,
    others: list[dict[str, Array]],
    *,
    bounds: Bounds,
    order: VerifyInput,
    who: str,
) -> ErrorFigures:
    figures = measure_error({name: single[name]}, {name: golden.outputs[name]}, others)
    if problem := judge(figures, bounds, said_in=order.tolerance_field):
        raise _refused(f"output {name!r} of {who}: {problem}")
    return figures


def _largest_batch(golden: Golden, allowed: int) -> int:
    sample = sum(int(array[0].nbytes) for array in (*golden.inputs.values(), *golden.outputs.values()))
    return max(1, min(allowed, MOST_REQUEST_BYTES // max(1, sample)))


def _message(order: VerifyInput, golden: Golden, answered: list[_Answered]) -> TerminationMessage:
    figures = [one for pod in answered for one in pod.figures]
    samples, pods = sample_count(golden.inputs), len(answered)
    agreements = [one.top1_agreement for one in figures if one.top1_agreement is not None]
    parity = max(one.batch_parity for one in figures)
    summary = VerificationSummary(
        pods=pods,
        samples=samples,
        batches=answered[0].batches,
        max_abs_error=_figure(max(one.max_abs for one in figures)),
        relative_error=_figure(max(one.max_rel for one in figures)),
        cosine=_figure(min(one.cosine for one in figures)),
        top1_agreement=_figure(min(agreements)) if agreements else None,
        batch_parity=_figure(parity) if len(answered[0].batches) > 1 else None,
    )
    sizes = ", ".join(map(str, summary.batches))
    return TerminationMessage(
        outcome=Outcome.SUCCEEDED,
        reason=Reason.SUCCEEDED,
        message=f"{pods} {'pod answers' if pods == 1 else 'pods answer'} {samples} samples of model {order.model} like "
        f"the original in batches of {sizes}: relative error {summary.relative_error}, cosine {summary.cosine}",
        verification=summary,
    )


def _first(path: Path) -> dict[str, Array]:
    """At most so many of each: a slice may not end behind the last one."""
    with safe_open(path, framework="numpy") as arrays:
        slices = {name: arrays.get_slice(name) for name in arrays.keys()}  # noqa: SIM118 - no mapping
        return {name: found[: min(MOST_SAMPLES, found.get_shape()[0])] for name, found in slices.items()}


def _figure(value: float) -> str:
    return f"{value:.3g}"


def _refused(sentence: str) -> OptimizerError:
    return OptimizerError(Reason.VERIFICATION_FAILED, sentence)
