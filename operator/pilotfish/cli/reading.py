"""The commands that look: get, status, events. They need a person's right to read, and change nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.cli import events_view, status_view
from pilotfish.cli.completion import complete_names
from pilotfish.cli.listing import as_list
from pilotfish.cli.output import How, Output, as_document
from pilotfish.cli.render import draw
from pilotfish.cli.session import Place, Session, run, run_with
from pilotfish.cli.terminal import Context, Kubeconfig, Name, Namespace, err, out, say
from pilotfish.cli.view import make_view
from pilotfish.core import Body

if TYPE_CHECKING:
    from pilotfish.adapters.kube import KubeCluster

WATCH_SECONDS = 1.0

AnyName = Annotated[
    str | None,
    typer.Argument(help="The ModelDeployment; all of them when left out.", autocompletion=complete_names),
]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date.")]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Conditions, revisions and pods as well.")]
Look = Callable[[], Awaitable[RenderableType]]


def add_to(app: typer.Typer) -> None:
    """Make them commands."""
    for command in (get, status, events):
        app.command()(command)


def get(
    name: AnyName = None,
    *,
    watch: Watch = False,
    everywhere: Everywhere = False,
    output: How = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List all ModelDeployments, or show one: its rollout with the numbers that decide, revisions, Jobs and pods."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    if watch and output is not Output.TABLE:
        raise typer.BadParameter("a document is printed once; leave --watch out", param_hint="--output")
    if name is not None and everywhere:
        raise typer.BadParameter("a name is one of a namespace; leave --all-namespaces out", param_hint="NAME")
    if name is None:
        run_with(place, lambda cluster, found: _list(cluster, None if everywhere else found, output, watch=watch))
    else:
        run(place, name, lambda session: _get(session, output, watch=watch))


def status(
    name: Name,
    *,
    verbose: Verbose = False,
    output: How = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Say how a ModelDeployment stands: what serves, what is on its way, what it waits for, and what comes next."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    told = status_view.make_status(run(place, name, Session.look))
    if output is Output.TABLE:
        say(status_view.as_text(told, datetime.now(tz=UTC), verbose=verbose))
    else:
        typer.echo(as_document(told, output))


def events(
    name: Name,
    *,
    output: How = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the events of a ModelDeployment and of all that it made, the oldest first."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    told = run(place, name, _events)
    if output is not Output.TABLE:
        typer.echo(as_document([event.to_wire() for event in told], output))
    elif told:
        say(events_view.as_table(told, datetime.now(tz=UTC)))
    else:
        say(f"{name}: no events; the API server forgets them after an hour")


async def _events(session: Session) -> tuple[events_view.Told, ...]:
    observed = await session.look()
    found = await session.cluster.list(
        api_version="events.k8s.io/v1", kind="Event", namespace=session.namespace, labels={}
    )
    return events_view.make_events(observed, found)


async def _get(session: Session, output: Output, *, watch: bool) -> None:
    if output is not Output.TABLE:
        typer.echo(as_document(_as_stored(await session.read()), output))
        return

    async def look() -> RenderableType:
        return draw(make_view(await session.look(), datetime.now(tz=UTC)))

    if watch:
        await _watch(look)
    out.print(await look(), soft_wrap=False)


async def _list(cluster: "KubeCluster", namespace: str | None, output: Output, *, watch: bool) -> None:
    async def read() -> tuple[Body, ...]:
        return await cluster.list(api_version=API_VERSION, kind=KIND, namespace=namespace, labels={})

    async def look() -> RenderableType:
        return _table(await read(), namespaces=namespace is None)

    if watch:
        await _watch(look)
    found = await read()
    if output is not Output.TABLE:
        items = [_as_stored(body) for body in found]
        typer.echo(as_document({"apiVersion": "v1", "kind": "List", "items": items}, output))
    elif not found:
        where = "" if namespace is None else f' in namespace "{namespace}"'
        err.print(f"no ModelDeployment{where}", markup=False)
    else:
        # Where a person looks a line is a line; a program gets all of it.
        how: Any = {"soft_wrap": False, "no_wrap": True, "overflow": "ellipsis"} if out.is_terminal else {}
        out.print(_table(found, namespaces=namespace is None), **how)


def _table(bodies: tuple[Body, ...], *, namespaces: bool) -> Text:
    return Text(as_list(bodies, datetime.now(tz=UTC), namespaces=namespaces), no_wrap=True, overflow="ellipsis")


async def _watch(look: Look) -> NoReturn:
    """Until somebody interrupts it."""
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            live.update(await look(), refresh=True)
            await asyncio.sleep(WATCH_SECONDS)


def _as_stored(body: Body) -> dict[str, Any]:
    """The object without the book-keeping of who wrote which field, as kubectl prints it."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    first = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata}
    return {**first, **{key: value for key, value in body.items() if key not in first}}
