"""`pilotfish openapi`: the document of a model's plain-JSON endpoint, for client generators and API portals."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pilotfish.api.openapi import Endpoint, make_openapi
from pilotfish.api.report import ModelSignature, TensorSpec
from pilotfish.api.serving import ServingSpec
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.cli.completion import complete_names
from pilotfish.cli.manifests import Unreadable, read_documents, without_nulls
from pilotfish.cli.session import Place, Session, run
from pilotfish.cli.terminal import Context, Kubeconfig, Namespace, fail
from pilotfish.core.scope import find_stable, read_records, read_status


def openapi(
    name: Annotated[
        str | None, typer.Argument(help="Name of the ModelDeployment.", autocompletion=complete_names)
    ] = None,
    *,
    filename: Annotated[
        Path | None,
        typer.Option("--filename", "-f", help="A manifest whose model says its signature, instead of NAME."),
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Print the OpenAPI document of the endpoint that spec.serving.predict makes.

    With NAME as the stable revision answers, with a file as its spec says.
    """
    if (name is None) == (filename is None):
        raise typer.BadParameter("give a NAME or --filename FILE")
    if filename is not None:
        typer.echo(_of_file(filename, namespace))
        return
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    typer.echo(run(place, str(name), _of_stable))


async def _of_stable(session: Session) -> str:
    observed = await session.look()
    records = read_records(observed)
    stable = find_stable(observed, read_status(observed), records)
    if stable is None:
        fail(f"{session.name} has no revision that serves yet; see pilotfish get {session.name}")
    record = records[stable]
    serving = ServingSpec.model_validate(record.intent.get("serving") or {})
    today = ModelDeploymentSpec.model_validate(observed.body["spec"]).serving
    return _document(
        session.name,
        session.namespace,
        signature=record.signature,
        serving=serving.model_copy(update={"gateway": today.gateway}),
        version=stable,
    )


def _of_file(path: Path, namespace: str | None) -> str:
    try:
        (document,) = read_documents(path)
    except Unreadable as error:
        fail(str(error))
    except ValueError:
        fail(f"{path}: write one ModelDeployment in the file")
    try:
        spec = ModelDeploymentSpec.model_validate(without_nulls(document.body.get("spec")))
    except ValueError:
        fail(f"{path}: the spec is not valid; see pilotfish lint -f {path}")
    said = spec.model.signature
    if said is None or not said.outputs:
        fail(f"{path}: spec.model.signature does not say inputs and outputs; write it, or ask by NAME once it serves")
    metadata = document.body.get("metadata") or {}
    signature = ModelSignature(
        inputs=tuple(TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape) for one in said.inputs),
        outputs=tuple(TensorSpec(name=one.name, dtype=one.dtype, shape=one.shape) for one in said.outputs),
        batched=True,
    )
    return _document(
        str(metadata.get("name", "model")),
        namespace or str(metadata.get("namespace", "default")),
        signature=signature,
        serving=spec.serving,
        version="unreleased",
    )


def _document(name: str, namespace: str, *, signature: ModelSignature, serving: ServingSpec, version: str) -> str:
    if serving.predict is None:
        fail(f"{name} has no plain-JSON endpoint; write spec.serving.predict: {{}}")
    gateway = serving.gateway
    endpoint = Endpoint(
        model=name, namespace=namespace, hosts=gateway.hostnames if gateway else (), gateway=gateway is not None
    )
    try:
        made = make_openapi(endpoint, signature=signature, predict=serving.predict, version=version)
    except ValueError as error:
        fail(str(error))
    return json.dumps(made, indent=2, ensure_ascii=False)
