"""`pilotfish artifacts list|prune`: what the cluster knows of a ModelDeployment's artifacts, and what lies in a store.

The store is a bucket or the folder of a mounted claim; reading it needs the optimizer's packages and, for a bucket, the
usual variables of its client (AWS_ACCESS_KEY_ID, …). Nothing is removed without --no-dry-run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pilotfish import names
from pilotfish.api.base import parse_duration
from pilotfish.cli.completion import complete_names
from pilotfish.cli.session import Place, Session, run
from pilotfish.cli.terminal import Context, Kubeconfig, Namespace, fail, say
from pilotfish.cli.words import age_of
from pilotfish.core import Body, Observed
from pilotfish.core.objects import label_of

if TYPE_CHECKING:
    from pilotfish.optimizer.store.cleaning import Removal
    from pilotfish.optimizer.store.listing import Row
    from pilotfish.optimizer.store.shelf import Shelf

app = typer.Typer(help="Artifacts: list them, and remove those that nobody uses.", no_args_is_help=True)

_DIGEST_LENGTH = len("sha256:") + 12
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024
_NO_MOUNT = Path("/nonexistent")


class Output(StrEnum):
    """How a list is printed."""

    TABLE = "table"
    JSON = "json"


Store = Annotated[str, typer.Option("--store", help="s3://…, gs://…, az://…, or the folder of a mounted claim.")]
Printed = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]


@app.command(name="list")
def list_command(
    name: Annotated[
        str | None, typer.Argument(help="A ModelDeployment: what the cluster knows.", autocompletion=complete_names)
    ] = None,
    *,
    store: Annotated[str | None, typer.Option("--store", help="A store instead: what lies there.")] = None,
    output: Printed = Output.TABLE,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """List the artifacts of a ModelDeployment, or with --store all that lie in a bucket or a claim's folder."""
    if (name is None) == (store is None):
        raise typer.BadParameter("give the name of a ModelDeployment, or --store with a bucket or folder")
    if store is not None:
        _print_rows(_rows(store), output)
        return
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    known = known_artifacts(run(place, str(name), Session.look))
    if output is Output.JSON:
        typer.echo(json.dumps(known, indent=2, ensure_ascii=False))
    else:
        say(_table(_KNOWN_TITLES, (_known_cells(one) for one in known)))


@app.command()
def prune(
    store: Store,
    *,
    older_than: Annotated[str, typer.Option(help="What was written later stays, such as 24h.")] = "24h",
    gone: Annotated[
        list[str] | None,
        typer.Option(help="NAMESPACE/NAME of a ModelDeployment that exists no more: what it used may go. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would go, and remove nothing.")] = True,
    output: Printed = Output.TABLE,
) -> None:
    """Remove from a bucket or a claim's folder what no revision refers to. Says what would go, unless --no-dry-run."""
    age = _age(older_than)
    removals = _prune(store, older_than=age, gone=gone or [], dry_run=dry_run)
    if output is Output.JSON:
        wire = {
            "store": store,
            "dryRun": dry_run,
            "bytes": sum(one.bytes for one in removals),
            "removals": [{"path": one.path, "bytes": one.bytes, "why": one.why} for one in removals],
        }
        typer.echo(json.dumps(wire, indent=2, ensure_ascii=False))
        return
    if removals:
        say(_table(("PATH", "SIZE", "WHY"), ((one.path, size_of(one.bytes), one.why) for one in removals)))
    say(_sentence(removals, store, older_than=older_than, dry_run=dry_run))


def known_artifacts(observed: Observed) -> tuple[dict[str, Any], ...]:
    """What the records of a ModelDeployment say, newest first. Pure."""
    status: Mapping[str, Any] = observed.body.get("status") or {}
    roles = {
        str(status[field]["hash"]): role
        for role, field in (("stable", "stableRevision"), ("candidate", "candidateRevision"))
        if status.get(field)
    }
    records = sorted(
        observed.of_kind("ControllerRevision"), key=lambda body: int(body.get("revision", 0)), reverse=True
    )
    return tuple(_known(body, roles, _where(observed)) for body in records)


def open_store(store: str) -> "Shelf":
    """The store, with the keys of this shell's environment. Raises ImportError, OptimizerError."""
    from pilotfish.optimizer.credentials import read_credentials  # noqa: PLC0415 - heavy, and only needed here
    from pilotfish.optimizer.store.shelf import open_shelf  # noqa: PLC0415

    return open_shelf(store, read_credentials(_NO_MOUNT))


def size_of(amount: float) -> str:
    """Bytes in the largest unit of which there is one: `12.3 MiB`."""
    unit = 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{amount:.0f} B"


_KNOWN_TITLES = ("REVISION", "ROLE", "VARIANT", "SIZE", "ARTIFACT", "SOURCE", "WHERE")
_TITLES = ("PATH", "STATE", "VARIANT", "SIZE", "SOURCE", "CHANGED", "USED BY")


def _known(body: Body, roles: Mapping[str, str], where: str) -> dict[str, Any]:
    revision = label_of(body, names.REVISION_LABEL) or "?"
    data: Mapping[str, Any] = body.get("data") or {}
    artifact: Mapping[str, Any] = data.get("artifact") or {}
    wire = {
        "revision": revision,
        "role": roles.get(revision, "kept"),
        "variant": artifact.get("variant"),
        "bytes": artifact.get("bytes"),
        "artifactDigest": artifact.get("digest"),
        "sourceDigest": (data.get("source") or {}).get("digest"),
        "where": f"{where}/{artifact.get('path', '?')}",
    }
    return {key: value for key, value in wire.items() if value is not None}


def _where(observed: Observed) -> str:
    bucket = ((observed.body.get("spec") or {}).get("storage") or {}).get("bucket") or {}
    return str(bucket.get("uri") or f"pvc://{names.store_claim(observed.name)}").rstrip("/")


def _known_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        one["revision"],
        one["role"],
        one.get("variant", "-"),
        size_of(one["bytes"]) if "bytes" in one else "-",
        one.get("artifactDigest", "-")[:_DIGEST_LENGTH],
        one.get("sourceDigest", "-")[:_DIGEST_LENGTH],
        one["where"],
    )


def _print_rows(rows: Sequence["Row"], output: Output) -> None:
    if output is Output.JSON:
        typer.echo(json.dumps([row.to_wire() for row in rows], indent=2, ensure_ascii=False))
        return
    now = datetime.now(tz=UTC)
    say(_table(_TITLES, (_cells(row.to_wire(), now) for row in rows)))
    say(f"{len(rows)} artifact{'' if len(rows) == 1 else 's'}, {size_of(sum(row.bytes for row in rows))}")


def _cells(wire: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    return (
        wire["path"],
        wire["state"],
        wire.get("variant", "-"),
        size_of(wire["bytes"]),
        wire.get("sourceDigest", "-")[:_DIGEST_LENGTH],
        f"{age_of(wire['changed'], now)} ago" if "changed" in wire else "-",
        ", ".join(wire["usedBy"]) or "nobody",
    )


def _rows(store: str) -> tuple["Row", ...]:
    shelf = _open(store)
    from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415 - see _open
    from pilotfish.optimizer.store.listing import list_artifacts  # noqa: PLC0415

    try:
        return list_artifacts(shelf)
    except OptimizerError as error:
        fail(str(error))


def _prune(store: str, *, older_than: timedelta, gone: Sequence[str], dry_run: bool) -> tuple["Removal", ...]:
    shelf = _open(store)
    from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415 - see _open
    from pilotfish.optimizer.store.cleaning import find_unused, remove  # noqa: PLC0415
    from pilotfish.optimizer.store.references import LOOKS, read_all  # noqa: PLC0415

    try:
        if not read_all(shelf):
            fail(
                f"nothing in {store} says what is in use: it is no store, or no Job of this version has used it; "
                "nothing was removed"
            )
        forgotten = [file for name in gone for file in _references_of(shelf, name)]
        found = find_unused(shelf, older_than=older_than, now=datetime.now(tz=UTC), gone=forgotten)
        if dry_run:
            return found
        for file in forgotten:
            shelf.remove(file)
        for name in gone:
            shelf.remove_folder(f"{LOOKS}/{name}")
        return remove(shelf, found)
    except OptimizerError as error:
        fail(str(error))


def _references_of(shelf: "Shelf", name: str) -> tuple[str, ...]:
    from pilotfish.optimizer.store.references import files_of  # noqa: PLC0415 - see _open

    parts = name.split("/")
    if len(parts) != 2 or not all(parts) or ".." in parts:  # noqa: PLR2004
        raise typer.BadParameter(f"{name!r} is not of the form NAMESPACE/NAME", param_hint="--gone")
    files = files_of(shelf, name)
    if not files:
        fail(f"{name} refers to nothing in {shelf.uri}; see pilotfish artifacts list --store {shelf.uri}")
    return files


def _open(store: str) -> "Shelf":
    """The store, or the end of the command; its clients are heavy and needed here alone."""
    try:
        from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415
    except ImportError as error:
        fail(f"{error}; install the optimizer with pip install 'pilotfish[optimizer]'")
    if "://" not in store and not Path(store).is_dir():
        fail(f"{store} is no folder; give the place where the claim is mounted, or s3://, gs:// or az://")
    try:
        return open_store(store)
    except OptimizerError as error:
        fail(str(error))
    except ImportError as error:
        fail(f"{error}; install the optimizer with pip install 'pilotfish[optimizer]'")


def _sentence(removals: Sequence["Removal"], store: str, *, older_than: str, dry_run: bool) -> str:
    if not removals:
        return f"nothing in {store} that is older than {older_than} is unused"
    what = f"{len(removals)} thing{'' if len(removals) == 1 else 's'}, {size_of(sum(one.bytes for one in removals))}"
    if dry_run:
        return f"would remove {what}; nothing was removed, add --no-dry-run to remove them"
    return f"removed {what}"


def _age(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--older-than") from error


def _table(titles: tuple[str, ...], cells: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
