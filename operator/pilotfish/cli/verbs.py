"""The verbs of a rollout: promote, abort, retry, undo, pause, resume, and its history.

Each writes one small change into the spec and says how to do the same with kubectl and in Git. The operator does the
work; with --wait the command tells what became of it.
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from textwrap import indent
from typing import Annotated

import typer

from pilotfish.cli import requests
from pilotfish.cli.history import as_table, make_history
from pilotfish.cli.output import How, Output, as_document
from pilotfish.cli.requests import Pointless, Request
from pilotfish.cli.session import Place, Session, run
from pilotfish.cli.terminal import Context, Kubeconfig, Name, Namespace, fail, say, seconds_of
from pilotfish.core import Body, Observed
from pilotfish.core.objects import condition_of

POLL_SECONDS = 0.5

Wait = Annotated[bool, typer.Option("--wait", help="Wait until the operator has done it, and say what became of it.")]
Timeout = Annotated[str, typer.Option(help="How long --wait waits, such as 90s or 5m.")]
Ask = Callable[[Observed, str], Request]
"""From what was read and a fresh id to what is asked; raises Pointless."""


def add_to(app: typer.Typer) -> None:
    """Make them commands."""
    for command in (promote, abort, retry, undo, pause, resume, history):
        app.command()(command)


def promote(
    name: Name,
    *,
    full: Annotated[bool, typer.Option("--full", help="Skip all remaining steps.")] = False,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Let the new revision go on: to its next step, or with --full to all of the traffic."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    _carry_out(
        place,
        name,
        lambda observed, fresh: requests.promote(requests.standing_of(observed.body), fresh, full=full),
        wait=seconds_of(timeout, option="--timeout") if wait else None,
    )


def abort(
    name: Name,
    *,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Give the new revision up: all of the traffic goes back to the stable one; the spec stays as it is."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    _carry_out(
        place,
        name,
        lambda observed, fresh: requests.abort(requests.standing_of(observed.body), fresh),
        wait=seconds_of(timeout, option="--timeout") if wait else None,
    )


def retry(
    name: Name,
    *,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Start a revision that failed or was aborted again, from its first step."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    _carry_out(
        place,
        name,
        lambda observed, fresh: requests.retry(requests.standing_of(observed.body), fresh),
        wait=seconds_of(timeout, option="--timeout") if wait else None,
    )


def undo(
    name: Name,
    *,
    to_revision: Annotated[
        str | None, typer.Option(help="Hash of the revision, as history shows it. Default: the one that served before.")
    ] = None,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Serve an earlier revision in place of the one that the spec describes, until the spec changes."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    _carry_out(
        place,
        name,
        lambda observed, fresh: requests.undo(
            requests.standing_of(observed.body), observed, fresh, to_revision=to_revision
        ),
        wait=seconds_of(timeout, option="--timeout") if wait else None,
        children=True,
    )


def pause(
    name: Name,
    *,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Hold everything where it is; what serves goes on serving."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    _carry_out(
        place,
        name,
        lambda observed, _: requests.pause(requests.standing_of(observed.body)),
        wait=seconds_of(timeout, option="--timeout") if wait else None,
    )


def resume(
    name: Name,
    *,
    namespace: Namespace = None,
    wait: Wait = False,
    timeout: Timeout = "5m",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Let what was paused go on; the time in between counts towards nothing."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    _carry_out(
        place,
        name,
        lambda observed, _: requests.resume(requests.standing_of(observed.body)),
        wait=seconds_of(timeout, option="--timeout") if wait else None,
    )


def history(
    name: Name,
    *,
    output: How = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List all revisions, newest first: role, variant, source, how each ended and why, and what was changed for it."""
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    rows = make_history(run(place, name, Session.look))
    if output is Output.TABLE:
        say(as_table(rows, datetime.now(tz=UTC)))
        return
    typer.echo(as_document([row.to_wire() for row in rows], output))


def _carry_out(place: Place, name: str, ask: Ask, *, wait: float | None, children: bool = False) -> None:
    """Ask, write, tell, wait. Most verbs need no more than the object: few rights, and one request in a hurry."""

    async def command(session: Session) -> None:
        observed = await session.look() if children else Observed(body=await session.read())
        try:
            request = ask(observed, requests.make_id(datetime.now(tz=UTC), secrets.token_hex(2)))
        except Pointless as error:
            fail(str(error))
        stored = await session.write(request.patch)
        _tell(session, request, context=place.context)
        if wait is not None:
            await _follow(session, request, generation=stored["metadata"]["generation"], seconds=wait)

    run(place, name, command)


def _tell(session: Session, request: Request, *, context: str | None) -> None:
    kubectl = requests.as_kubectl(request, name=session.name, namespace=session.namespace, context=context)
    say(f"{session.name}: asked for: {request.what}")
    say(f"\nThe same with kubectl:\n  {kubectl}")
    say(f"In Git, where the manifest is kept there:\n{indent(requests.as_yaml(request), '  ')}\n")


async def _follow(session: Session, request: Request, *, generation: int, seconds: float) -> None:
    """Until the operator has seen the request; ends with a failure when it does not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        body = await session.read()
        said = _outcome(body, request, generation)
        if said is not None:
            say(f"{session.name}: {said}")
            return
        if loop.time() >= deadline:
            fail(f"the operator has not looked at {session.name} for {seconds:.0f} s; is it running?")
        await asyncio.sleep(POLL_SECONDS)


def _outcome(body: Body, request: Request, generation: int) -> str | None:
    """What became of it; None while the operator has not seen it."""
    status = body.get("status") or {}
    if request.action_id is None:
        if int(status.get("observedGeneration") or 0) < generation:
            return None
        ready = condition_of(body, "Ready") or {}
        return f"{status.get('phase') or 'Pending'}: {ready.get('message') or request.what}"
    rollout = status.get("rollout") or {}
    if rollout.get("lastActionId") == request.action_id:
        return str(rollout.get("actionMessage") or request.what)
    asked = ((body["spec"].get("rollout") or {}).get("action") or {}).get("id")
    if asked != request.action_id:
        fail(f"another request took its place before the operator saw it: spec.rollout.action is now {asked or 'gone'}")
    return None
