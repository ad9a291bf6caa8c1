"""`pilotfish` and `kubectl pilotfish`: check, preview, look, steer a rollout, optimize.

Every command says how it ended by its exit code: 0 well, 1 something to correct, 2 used wrongly, 3 no such
ModelDeployment.
"""

from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pilotfish.api.lint import Finding
from pilotfish.cli import artifacts, reading, verbs
from pilotfish.cli.advice import advise
from pilotfish.cli.bench.command import bench
from pilotfish.cli.check import check
from pilotfish.cli.doctor.command import doctor
from pilotfish.cli.init.command import init
from pilotfish.cli.manifests import Document, Unreadable, read_documents
from pilotfish.cli.openapi import openapi
from pilotfish.cli.predict import predict
from pilotfish.cli.preview import preview
from pilotfish.cli.provenance_view import provenance
from pilotfish.cli.report import report
from pilotfish.cli.terminal import Namespace, err, fail, out
from pilotfish.core import Body
from pilotfish.settings import OperatorSettings

app = typer.Typer(help="Serve AI models with Pilotfish.", no_args_is_help=True)

Manifest = Annotated[
    Path, typer.Option("--filename", "-f", help="A file, a folder, or - for standard input.", show_default=False)
]


@app.command(name="lint")
def lint_command(filename: Manifest) -> None:
    """Say what the API server would refuse, and the fields that it would silently drop. Needs no cluster.

    What would be taken but does something else than one might think is a warning and no failure.
    """
    documents = _read(filename)
    wrong = 0
    for document in documents:
        findings = check(document.body)
        wrong += bool(findings)
        _print_findings(document, findings)
        for warning in () if findings else advise(document.body):
            err.print(f"{document.source}: {_name(document)}: warning: {warning}", markup=False)
    if wrong:
        raise typer.Exit(1)
    out.print(f"{len(documents)} ModelDeployment{'s' if len(documents) > 1 else ''}: nothing to correct", markup=False)


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
        if findings := check(document.body):
            _print_findings(document, findings)
            raise typer.Exit(1)
        metadata = {**document.body["metadata"], **({"namespace": namespace} if namespace else {})}
        bodies += preview({**document.body, "metadata": metadata}, policy)
    typer.echo(yaml.safe_dump_all([_plain(body) for body in bodies], sort_keys=False, allow_unicode=True), nl=False)


reading.add_to(app)
verbs.add_to(app)
app.add_typer(artifacts.app, name="artifacts")
app.command()(report)
app.command()(predict)
app.command()(openapi)
app.command()(provenance)
app.command()(doctor)
app.command()(bench)
app.command()(init)


@app.command()
def optimize(
    filename: Manifest,
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder for the artifact and its report.", show_default=False)
    ],
    triton: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of a Triton's gRPC API with explicit model control: tune serving settings there."),
    ] = None,
    public_keys: Annotated[
        Path | None,
        typer.Option(help="Folder of public keys, in the place of the Secret of spec.model.verification."),
    ] = None,
) -> None:
    """Fetch, optimize and prove the model of one ModelDeployment here, with the code that the Job runs."""
    try:
        from pilotfish.optimizer.errors import OptimizerError  # noqa: PLC0415 - heavy, and only needed here
        from pilotfish.optimizer.local import run_local  # noqa: PLC0415
    except ImportError as error:
        fail(f"{error}; install the optimizer with pip install 'pilotfish[optimizer]' (and torch for PyTorch models)")
    try:
        told = run_local(filename, out_folder, triton=triton, public_keys=public_keys)
    except OptimizerError as error:
        fail(str(error))
    out.print(told.message, markup=False)
    if told.artifact is not None:
        folder = out_folder / told.artifact.path
        out.print(f"artifact: {folder}\nreport: {folder / 'report.html'}", markup=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(distribution_version("pilotfish"))


def _read(path: Path) -> tuple[Document, ...]:
    try:
        return read_documents(path)
    except Unreadable as error:
        fail(str(error))


def _print_findings(document: Document, findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        err.print(f"{document.source}: {_name(document)}: {finding}", markup=False)


def _name(document: Document) -> str:
    return str((document.body.get("metadata") or {}).get("name", "?"))


def _plain(value: object) -> object:
    """Tuples and mappings as YAML knows them."""
    if isinstance(value, dict):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value
