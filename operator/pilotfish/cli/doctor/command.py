"""`pilotfish doctor`: look, judge, tell. Exit code 1 when a check failed; a warning is none."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from enum import StrEnum
from importlib.metadata import version as distribution_version
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.doctor import installation, surroundings
from pilotfish.cli.doctor.facts import Diagnosis, Facts, Unread, Verdict
from pilotfish.cli.output import TextOutput
from pilotfish.cli.session import Place, run_with
from pilotfish.cli.terminal import Context, Kubeconfig, Namespace, out, seconds_of

if TYPE_CHECKING:
    from pilotfish.adapters.kube import KubeCluster

PAUSE_SECONDS = 2.0
"""Between two looks."""

Check = Callable[[Facts], Iterator[Diagnosis]]
CHECKS: dict[str, Check] = {
    "api-server": installation.check_server,
    "crd": installation.check_crd,
    "operator": installation.check_operator,
    "lease": installation.check_lease,
    "rights": installation.check_rights,
    "storage": surroundings.check_storage,
    "gpus": surroundings.check_gpus,
    "runtime-class": surroundings.check_runtime_class,
    "gateway-api": surroundings.check_gateways,
    "prometheus": surroundings.check_monitoring,
    "models": surroundings.check_models,
}
"""By name, in the order in which one thing builds on another."""
_MARKS = {
    Verdict.OK: ("✔", "green"),
    Verdict.WARNING: ("!", "yellow"),
    Verdict.FAILED: ("✘", "bold red"),
}


class CheckName(StrEnum):
    """A check that may be left out."""

    CRD = "crd"
    OPERATOR = "operator"
    LEASE = "lease"
    RIGHTS = "rights"
    STORAGE = "storage"
    GPUS = "gpus"
    RUNTIME_CLASS = "runtime-class"
    GATEWAY_API = "gateway-api"
    PROMETHEUS = "prometheus"
    MODELS = "models"


def doctor(
    *,
    skip: Annotated[
        list[CheckName] | None, typer.Option("--skip", help="Leave this check out; may be given several times.")
    ] = None,
    wait: Annotated[
        str, typer.Option(help="Look again until nothing fails, for at most this long, such as 90s.")
    ] = "0s",
    output: Annotated[TextOutput, typer.Option("--output", "-o", help="How to print it.")] = TextOutput.TEXT,
    operator_namespace: Annotated[
        str | None, typer.Option(help="Where the operator runs. Default: found by its labels.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Check the cluster, the installation and the models: what is wrong, and what to do next.

    With --namespace only the ModelDeployments of that namespace are looked at. In a pod without a kubeconfig, the pod's
    service account asks.
    """
    from pilotfish.cli.doctor.reading import read_facts  # noqa: PLC0415 - loads the cluster's client

    seconds = seconds_of(wait, option="--wait")

    async def look(cluster: "KubeCluster", own: str) -> Facts:
        def read() -> Awaitable[Facts]:
            return read_facts(
                cluster,
                version=distribution_version("pilotfish"),
                user_namespace=own,
                namespace=namespace,
                operator_namespace=operator_namespace,
            )

        return await look_until_well(read, seconds=seconds, skip=skip or ())

    facts = run_with(Place(namespace=namespace, kubeconfig=kubeconfig, context=context), look)
    told = diagnose(facts, skip=skip or ())
    if output is TextOutput.JSON:
        typer.echo(json.dumps(as_wire(told), indent=2, ensure_ascii=False))
    else:
        _show(told)
    if worst(told) is Verdict.FAILED:
        raise typer.Exit(1)


async def look_until_well(
    read: Callable[[], Awaitable[Facts]], *, seconds: float, skip: Iterable[str] = (), pause: float = PAUSE_SECONDS
) -> Facts:
    """The first facts in which no check fails, or the last ones when the time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        facts = await read()
        if worst(diagnose(facts, skip=skip)) is not Verdict.FAILED or loop.time() + pause > deadline:
            return facts
        await asyncio.sleep(pause)


def diagnose(facts: Facts, *, skip: Iterable[str] = ()) -> tuple[Diagnosis, ...]:
    """All findings in the order of CHECKS; when the API server cannot be asked, that alone."""
    if isinstance(facts.server, Unread):
        return tuple(installation.check_server(facts))
    return tuple(one for name, check in CHECKS.items() if name not in set(skip) for one in check(facts))


def worst(told: Iterable[Diagnosis]) -> Verdict:
    """The verdict over all of them."""
    order = list(Verdict)
    return max((one.verdict for one in told), key=order.index, default=Verdict.OK)


def as_wire(told: tuple[Diagnosis, ...]) -> dict[str, object]:
    """For machines."""
    return {"verdict": worst(told).value, "checks": [one.to_wire() for one in told]}


def _show(told: tuple[Diagnosis, ...]) -> None:
    width = max(len(one.check) for one in told)
    for one in told:
        mark, style = _MARKS[one.verdict]
        out.print(mark, end=" ", style=style)
        out.print(f"{one.check:<{width}}  {one.message}", markup=False)
        if one.todo:
            out.print(f"  {'':<{width}}  → {one.todo}", markup=False, style="dim")
    counts = {verdict: sum(1 for one in told if one.verdict is verdict) for verdict in Verdict}
    said = f"{counts[Verdict.OK]} ok, {counts[Verdict.WARNING]} warnings, {counts[Verdict.FAILED]} failed"
    out.print(f"\n{said}", markup=False)
