"""`pilotfish` and `kubectl pilotfish`: check, preview, look, optimize.

Every command says how it ended by its exit code: 0 well, 1 something to correct, 2 used wrongly.
"""

import asyncio
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, NoReturn

import typer
import yaml
from rich.console import Console
from rich.live import Live

from pilotfish.api.lint import Finding, lint
from pilotfish.cli.manifests import Document, Unreadable, read_documents
from pilotfish.cli.preview import preview
from pilotfish.cli.render import draw
from pilotfish.cli.view import Node, make_view
from pilotfish.core import Body
from pilotfish.ports import Cluster, ClusterError
from pilotfish.settings import OperatorSettings

WATCH_SECONDS = 1.0

app = typer.Typer(help="Serve AI models with Pilotfish.", no_args_is_help=True, add_completion=False)
_out = Console(highlight=False, soft_wrap=True)
_err = Console(stderr=True, highlight=False, soft_wrap=True)

Manifest = Annotated[
    Path, typer.Option("--filename", "-f", help="A file, a folder, or - for standard input.", show_default=False)
]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: that of the kubeconfig's context.")]
Kubeconfig = Annotated[Path | None, typer.Option(envvar="KUBECONFIG", help="Default: ~/.kube/config.")]
Context = Annotated[str | None, typer.Option(help="Context of the kubeconfig.")]


@app.command(name="lint")
def lint_command(filename: Manifest) -> None:
    """Say what the API server would refuse, and the fields that it would silently drop. Needs no cluster."""
    documents = _read(filename)
    wrong = 0
    for document in documents:
        findings = lint(document.body)
        wrong += bool(findings)
        _print_findings(document, findings)
    if wrong:
        raise typer.Exit(1)
    _out.print(f"{len(documents)} ModelDeployment{'s' if len(documents) > 1 else ''}: nothing to correct", markup=False)


@app.command()
def render(filename: Manifest, namespace: Namespace = None) -> None:
    """Print the objects that the operator would make, as YAML. Needs no cluster.

    The optimizer's result is not known: digests and config.pbtxt hold placeholders. Images and defaults come from the
    operator's settings (PILOTFISH_… variables).
    """
    documents = _read(filename)
    policy = OperatorSettings().policy()
    bodies: list[Body] = []
    for document in documents:
        if findings := lint(document.body):
            _print_findings(document, findings)
            raise typer.Exit(1)
        metadata = {**document.body["metadata"], **({"namespace": namespace} if namespace else {})}
        bodies += preview({**document.body, "metadata": metadata}, policy)
    typer.echo(yaml.safe_dump_all([_plain(body) for body in bodies], sort_keys=False, allow_unicode=True), nl=False)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The ModelDeployment.")],
    namespace: Namespace = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it up to date.")] = False,  # noqa: FBT002
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show a ModelDeployment with its revisions, Jobs, Deployments and pods."""
    # Only this command needs the client of the cluster.
    from pilotfish.adapters.connection import NoCluster  # noqa: PLC0415

    try:
        asyncio.run(_get(name, namespace, watch=watch, kubeconfig=kubeconfig, context=context))
    except (NoCluster, ClusterError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def optimize(
    filename: Manifest,
    out: Annotated[Path, typer.Option(help="Folder for the artifact and its report.", show_default=False)],
) -> None:
    """Fetch, optimize and prove the model of one ModelDeployment here, with the code that the Job runs."""
    try:
        from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415 - heavy, and only needed here
        from pilotfish.optimizer.local import run_local  # noqa: PLC0415
    except ImportError as error:
        _fail(f"{error}; install the optimizer with pip install 'pilotfish[optimizer]' (and torch for PyTorch models)")
    try:
        told = run_local(filename, out)
    except OptimizerError as error:
        _fail(str(error))
    _out.print(told.message, markup=False)
    if told.artifact is not None:
        _out.print(f"artifact: {out / told.artifact.path}", markup=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(distribution_version("pilotfish"))


async def _get(name: str, namespace: str | None, *, watch: bool, kubeconfig: Path | None, context: str | None) -> None:
    from pilotfish.adapters.connection import connect, default_namespace  # noqa: PLC0415 - see get
    from pilotfish.adapters.kube import KubeCluster  # noqa: PLC0415

    config = kubeconfig or Path.home() / ".kube" / "config"
    home = namespace or default_namespace(kubeconfig=config, context=context)
    cluster = KubeCluster(await connect(kubeconfig=config, context=context))
    try:
        if not watch:
            _out.print(draw(await _look(cluster, home, name)), soft_wrap=False)
            return
        with Live(console=Console(highlight=False), auto_refresh=False) as live:
            while True:
                live.update(draw(await _look(cluster, home, name)), refresh=True)
                await asyncio.sleep(WATCH_SECONDS)
    finally:
        await cluster.close()


async def _look(cluster: Cluster, namespace: str, name: str) -> Node:
    from pilotfish.adapters.observe import read  # noqa: PLC0415 - see get

    reading = await read(cluster, namespace=namespace, name=name)
    if reading is None:
        _fail(f'ModelDeployment "{name}" does not exist in namespace "{namespace}"')
    return make_view(reading.observed(), datetime.now(tz=UTC))


def _read(path: Path) -> tuple[Document, ...]:
    try:
        return read_documents(path)
    except Unreadable as error:
        _fail(str(error))


def _print_findings(document: Document, findings: tuple[Finding, ...]) -> None:
    name = (document.body.get("metadata") or {}).get("name", "?")
    for finding in findings:
        _err.print(f"{document.source}: {name}: {finding}", markup=False)


def _plain(value: object) -> object:
    """Tuples and mappings as YAML knows them."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value


def _fail(sentence: str) -> NoReturn:
    _err.print(f"error: {sentence}", markup=False)
    raise typer.Exit(1)
