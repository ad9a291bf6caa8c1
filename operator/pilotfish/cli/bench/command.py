"""`pilotfish bench NAME`: a sweep over concurrency against one's own endpoint."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pilotfish.api.base import parse_duration
from pilotfish.api.report import ModelSignature
from pilotfish.cli.bench import perf_analyzer
from pilotfish.cli.bench.figures import Level, saturation_of, warnings_about
from pilotfish.cli.bench.load import measure
from pilotfish.cli.bench.payload import Blob, batch_of, blobs_of, make_blobs
from pilotfish.cli.bench.wires import (
    Address,
    OpenWire,
    grpc_wire,
    http_wire,
    open_http,
    parse_address,
    signature_over_grpc,
    signature_over_http,
)
from pilotfish.cli.output import TextOutput
from pilotfish.cli.port_forward import NoAnswer, open_port
from pilotfish.cli.predict import HTTP_PORT, Asked, find_served
from pilotfish.cli.session import Place, run
from pilotfish.cli.tensors import BadInput, make_request
from pilotfish.cli.terminal import Context, Kubeconfig, Name, Namespace, err, fail, out

MAX_SECONDS = 600.0
"""Of one level."""
MAX_CONCURRENCY = 256
MAX_FORWARDS = 32
"""Connections through the API server: it is not ours alone."""
MAX_LEVELS = 16


class Engine(StrEnum):
    """Who makes the load."""

    AUTO = "auto"
    BUILTIN = "builtin"
    PERF_ANALYZER = "perf_analyzer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom the load goes to."""

    model: str
    where: str
    signature: ModelSignature
    make_wire: Callable[[Sequence[Blob]], OpenWire]
    address: Address | None = None
    """None: through a port-forward."""
    asked: Asked | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What was asked for."""

    concurrencies: tuple[int, ...]
    seconds: float
    max_requests: int


def bench(
    name: Name,
    *,
    url: Annotated[
        str | None, typer.Option(help="http://HOST:PORT or grpc://HOST:PORT. Default: a port-forward to one pod.")
    ] = None,
    concurrency: Annotated[str, typer.Option(help="Requests in flight, one level after the other.")] = "1,2,4,8",
    duration: Annotated[str, typer.Option(help="How long each level takes, such as 10s; at most 10m.")] = "10s",
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Samples of each request.")] = 1,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", help="A file as for predict, or -. Default: made-up numbers.")
    ] = None,
    max_requests: Annotated[int, typer.Option(min=1, max=10_000_000, help="Of each level, at most.")] = 100_000,
    engine: Annotated[Engine, typer.Option(help="auto takes perf_analyzer where it is on the PATH.")] = Engine.AUTO,
    revision: Annotated[
        str | None, typer.Option(help="Hash of a revision that has pods. Default: the stable one.")
    ] = None,
    output: Annotated[TextOutput, typer.Option("--output", "-o", help="How to print it.")] = TextOutput.TEXT,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Put load on your own endpoint: throughput and latency percentiles by concurrency.

    With --url no cluster is needed, and NAME is the model's name at the server. Exit code 1 when requests failed.
    """
    if url is not None and revision is not None:
        raise typer.BadParameter("--revision needs a pod; leave --url out")
    if input_file is not None and batch_size > 1:
        raise typer.BadParameter("--input says the batch itself; leave --batch-size out")
    address = _address(url)
    sweep = _sweep(concurrency, duration, max_requests, forwards=address is None)
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    try:
        target = _target(name, address, place, revision)
        blobs = _blobs(target.signature, input_file, batch_size)
        program = _choose(engine, target, own_input=input_file is not None)
        levels = _carry_out(target, sweep, blobs, program)
    except (NoAnswer, BadInput) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    _tell(target, levels, "perf_analyzer" if program else "builtin", output)
    if any(level.errors for level in levels):
        raise typer.Exit(1)


def _target(name: str, address: Address | None, place: Place, revision: str | None) -> Target:
    if address is None:
        return _behind_forward(run(place, name, lambda session: find_served(session, revision)), place)
    where = f"{address.scheme}://{address.host}:{address.port}{address.path}"
    if address.is_grpc:
        signature = signature_over_grpc(address, name)
        return Target(
            model=name, where=where, signature=signature, make_wire=partial(grpc_wire, address, name), address=address
        )
    opener = open_http(address)
    with opener() as port:
        signature = signature_over_http(port, name, prefix=address.path)
    make_wire = partial(http_wire, opener, name, prefix=address.path)
    return Target(model=name, where=where, signature=signature, make_wire=make_wire, address=address)


def _behind_forward(asked: Asked, place: Place) -> Target:
    forward = partial(
        open_port,
        namespace=asked.namespace,
        pod=asked.pod,
        port=HTTP_PORT,
        kubeconfig=place.kubeconfig,
        context=place.context,
    )
    return Target(
        model=asked.model,
        where=f"pod {asked.pod}",
        signature=asked.record.signature,
        make_wire=partial(http_wire, forward, asked.model),
        asked=asked,
    )


def _blobs(signature: ModelSignature, input_file: Path | None, batch_size: int) -> tuple[Blob, ...]:
    if input_file is None:
        return make_blobs(signature, batch_size=batch_size)
    text = sys.stdin.read() if str(input_file) == "-" else input_file.read_text(encoding="utf-8")
    return blobs_of(make_request(text, signature)["inputs"])


def _choose(engine: Engine, target: Target, *, own_input: bool) -> str | None:
    """The path of perf_analyzer where it makes the load."""
    if engine is Engine.BUILTIN:
        return None
    found = perf_analyzer.find()
    reason = None
    if found is None:
        reason = "perf_analyzer is not on the PATH; install it (pip install perf-analyzer), or take --engine builtin"
    elif target.address is None:
        reason = "perf_analyzer cannot go through a port-forward; give --url"
    elif own_input or target.address.path or target.address.is_encrypted:
        reason = "perf_analyzer is called without --input, paths and TLS here; take --engine builtin"
    if reason is not None and engine is Engine.PERF_ANALYZER:
        raise NoAnswer(reason)
    return found if reason is None else None


def _carry_out(target: Target, sweep: Sweep, blobs: tuple[Blob, ...], program: str | None) -> list[Level]:
    """All levels, with a bar on the error stream; an interrupt keeps those that are done."""
    levels: list[Level] = []
    batch_size = batch_of(blobs, target.signature)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as progress:
        task = progress.add_task("", total=sweep.seconds * len(sweep.concurrencies))

        def measure_one(concurrency: int, on_tick: Callable[[float, int], None]) -> Level:
            if program is not None and target.address is not None:
                return perf_analyzer.measure(
                    program,
                    model=target.model,
                    address=target.address,
                    signature=target.signature,
                    concurrency=concurrency,
                    seconds=sweep.seconds,
                    batch_size=batch_size,
                )
            return measure(
                target.make_wire(blobs),
                concurrency=concurrency,
                seconds=sweep.seconds,
                max_requests=sweep.max_requests,
                batch_size=batch_size,
                on_tick=on_tick,
            )

        for index, concurrency in enumerate(sweep.concurrencies):
            before = index * sweep.seconds

            def on_tick(seconds: float, requests: int, before: float = before, concurrency: int = concurrency) -> None:
                said = f"concurrency {concurrency}: {requests / max(seconds, 1e-9):.0f} requests/s"
                progress.update(task, completed=before + seconds, description=said)

            progress.update(task, completed=before, description=f"concurrency {concurrency}")
            try:
                levels.append(measure_one(concurrency, on_tick))
            except KeyboardInterrupt:
                err.print(f"interrupted at concurrency {concurrency}", markup=False)
                break
    return levels


def _tell(target: Target, levels: list[Level], engine: str, output: TextOutput) -> None:
    batch_size = levels[0].batch_size if levels else 1
    told = warnings_about(levels, through_forward=target.address is None)
    if output is TextOutput.JSON:
        served = target.asked.record if target.asked is not None else None
        wire = {
            "model": target.model,
            "endpoint": target.where,
            "engine": engine,
            "batchSize": batch_size,
            **({"revision": served.revision, "variant": served.artifact.variant} if served is not None else {}),
            "levels": [level.to_wire() for level in levels],
            "warnings": list(told),
        }
        typer.echo(json.dumps(wire, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("concurrency", "samples/s", "mean ms", "p50", "p90", "p95", "p99", "requests", "errors"):
        table.add_column(title, justify="right")
    for level in levels:
        latency = [
            f"{level.latency[n]:.2f}" if n in level.latency else "-" for n in ("mean", "p50", "p90", "p95", "p99")
        ]
        counts = (str(level.requests), str(level.errors))
        table.add_row(str(level.concurrency), f"{level.throughput:.1f}", *latency, *counts)
    out.print(f"{target.model} at {target.where}, batch size {batch_size}, load by {engine}\n", markup=False)
    out.print(table)
    if (enough := saturation_of(levels)) is not None:
        out.print(f"\nmore than {enough} requests in flight bring no more throughput", markup=False)
    for warning in told:
        err.print(f"warning: {warning}", markup=False)


def _address(url: str | None) -> Address | None:
    try:
        return None if url is None else parse_address(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error


def _sweep(concurrency: str, duration: str, max_requests: int, *, forwards: bool) -> Sweep:
    most = MAX_FORWARDS if forwards else MAX_CONCURRENCY
    try:
        levels = tuple(dict.fromkeys(int(part) for part in concurrency.split(",")))
        seconds = parse_duration(duration).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(f"{error}; write --concurrency 1,2,4 --duration 10s") from error
    if not 0 < len(levels) <= MAX_LEVELS or not all(1 <= level <= most for level in levels):
        told = f"write up to {MAX_LEVELS} numbers between 1 and {most}"
        raise typer.BadParameter(f"{told}{' (through a port-forward)' if forwards else ''}", param_hint="--concurrency")
    if not 0 < seconds <= MAX_SECONDS:
        raise typer.BadParameter("write a time between 1s and 10m", param_hint="--duration")
    return Sweep(concurrencies=levels, seconds=seconds, max_requests=max_requests)
