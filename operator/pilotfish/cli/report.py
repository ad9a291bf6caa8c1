"""`pilotfish report`: what the optimizer found, tried and refused, of a ModelDeployment or of a file."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console, RenderableType

from pilotfish.api.report import Report
from pilotfish.cli.completion import complete_names
from pilotfish.cli.output import TextOutput
from pilotfish.cli.report_source import Known, PodReader, Unreadable, known_of, plain_wire, read_file, read_store
from pilotfish.cli.report_view import show_report, show_summary
from pilotfish.cli.session import Place, Session, run
from pilotfish.cli.terminal import Context, Kubeconfig, Namespace, err, fail, out, say
from pilotfish.ports import ClusterError

WIDE = 200


def report(
    name: Annotated[
        str | None, typer.Argument(help="The ModelDeployment.", show_default=False, autocompletion=complete_names)
    ] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="A report.json or an artifact's folder, instead of a NAME.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Hash of a revision, as history shows it. Default: the newest artifact.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write it as one page into this file.")] = None,
    browse: Annotated[bool, typer.Option("--open", help="Show the page in the browser.")] = False,
    output: Annotated[TextOutput, typer.Option("--output", "-o", help="How to print it.")] = TextOutput.TEXT,
    summary: Annotated[bool, typer.Option("--summary", help="Only what status holds; makes no pod.")] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show what the optimizer found: all candidates with their figures, why one won, and why others were refused.

    Of a ModelDeployment, the report lies in its store: a pod that you are allowed to make reads it and is deleted.
    Without that right, the summary in status is shown.
    """
    if (name is None) == (file is None):
        raise typer.BadParameter("give either the NAME of a ModelDeployment or --file")
    if file is not None:
        try:
            _show(read_file(file), html=html, browse=browse, output=output)
        except Unreadable as error:
            fail(str(error))
        return
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    known, found = run(place, str(name), lambda session: _ask(session, revision=revision, only_summary=summary))
    if isinstance(found, Report):
        _show(found, html=html, browse=browse, output=output)
        return
    _show_known(known, output=output)
    if found is not None:
        fail(str(found))
    if html is not None or browse:
        fail("the page needs the whole report: leave --summary out")


async def _ask(
    session: Session, *, revision: str | None, only_summary: bool
) -> tuple[Known, Report | Unreadable | None]:
    try:
        known = known_of(await session.look(), revision=revision)
    except Unreadable as error:
        fail(str(error))
    if only_summary:
        return known, None
    try:
        return known, await read_store(session, cast("PodReader", session.cluster), known)
    except Unreadable as error:
        return known, error
    except ClusterError as error:
        return known, Unreadable(f"the pod that reads the report: {error}")


def _show(found: Report, *, html: Path | None, browse: bool, output: TextOutput) -> None:
    if html is not None or browse:
        target = html or Path(tempfile.mkdtemp(prefix="pilotfish-")) / "report.html"
        _write_page(found, target)
        err.print(f"written: {target}", markup=False)
        if browse:
            typer.launch(str(target))
        if output is TextOutput.TEXT:
            return
    if output is TextOutput.JSON:
        typer.echo(found.to_json(indent=2))
        return
    _draw(show_report(found))


def _write_page(found: Report, target: Path) -> None:
    try:
        from pilotfish.optimizer.report.page import render_page  # noqa: PLC0415 - only needed here
    except ImportError as error:
        fail(f"{error}; the page needs pip install 'pilotfish[cli]'")
    try:
        target.write_text(render_page(found), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        fail(f"{target}: {error.strerror or error}")


def _show_known(known: Known, *, output: TextOutput) -> None:
    if output is TextOutput.JSON:
        typer.echo(json.dumps(plain_wire(known), indent=2, ensure_ascii=False))
    elif known.summary is not None:
        _draw(show_summary(known.summary))
    else:
        say(f"{known.name}: no summary in status: {known.said}")


def _draw(parts: Iterable[RenderableType]) -> None:
    """On a terminal as wide as it is; elsewhere so wide that nothing is cut."""
    width = None if out.is_terminal else WIDE
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    for index, part in enumerate(parts):
        if index:
            console.print()
        console.print(part)
