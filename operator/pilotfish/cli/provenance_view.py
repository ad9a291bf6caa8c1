"""`pilotfish provenance`: where what serves comes from, link by link."""

import json
from typing import Annotated, cast

import typer
from rich.console import Console

from pilotfish.api.report import Manifest
from pilotfish.cli.output import TextOutput
from pilotfish.cli.provenance import Artifact, Chain, Optimizer, ServingPod, Source, make_chains, with_manifest
from pilotfish.cli.render import draw
from pilotfish.cli.report_source import PodReader, Unreadable, known_of, read_manifest, store_of
from pilotfish.cli.session import Place, Session, run
from pilotfish.cli.terminal import Context, Kubeconfig, Name, Namespace, fail, out
from pilotfish.cli.tree import Health, Node
from pilotfish.core import Observed
from pilotfish.ports import ClusterError

_WIDE = 1000


def provenance(
    name: Name,
    *,
    revision: Annotated[
        str | None, typer.Option(help="Hash of a revision, as history shows it. Default: all that have pods or a role.")
    ] = None,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Read the artifact's manifest too; a pod that you may make does it.")
    ] = False,
    output: Annotated[TextOutput, typer.Option("--output", "-o", help="How to print it.")] = TextOutput.TEXT,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Show where what serves comes from: source, optimizer and recipe, artifact, revision, pods.

    Every link is read from live objects and compared with the next; exit code 1 when two of them disagree.
    """
    place = Place(namespace=namespace, kubeconfig=kubeconfig, context=context)
    observed, chains = run(place, name, lambda session: _ask(session, revision=revision, manifest=manifest))
    if output is TextOutput.JSON:
        whole = {"name": observed.name, "namespace": observed.namespace, "uid": observed.uid}
        typer.echo(json.dumps({**whole, "revisions": [chain.to_wire() for chain in chains]}, indent=2))
    else:
        # Digests in full: outside of a terminal a line is as long as it needs to be.
        Console(highlight=False, width=None if out.is_terminal else _WIDE).print(draw(_tree(observed, chains)))
    if broken := [sentence for chain in chains for sentence in chain.broken]:
        fail("; ".join(broken))


async def _ask(session: Session, *, revision: str | None, manifest: bool) -> tuple[Observed, tuple[Chain, ...]]:
    observed = await session.look()
    try:
        known = known_of(observed, revision=revision)
        chains = make_chains(observed, place=store_of(observed, known), revision=revision)
        if manifest:
            chains = tuple([await _with_manifest(session, observed, chain) for chain in chains])
    except Unreadable as error:
        fail(str(error))
    except ClusterError as error:
        fail(f"the pod that reads the manifest: {error}")
    if not chains:
        fail(f"{observed.name} has no artifact yet: {known.said}")
    return observed, chains


async def _with_manifest(session: Session, observed: Observed, chain: Chain) -> Chain:
    known = known_of(observed, revision=chain.revision)
    found: Manifest = await read_manifest(session, cast("PodReader", session.cluster), known)
    return with_manifest(chain, found)


def _tree(observed: Observed, chains: tuple[Chain, ...]) -> Node:
    return Node(title=f"ModelDeployment/{observed.name}", children=tuple(_chain(chain) for chain in chains))


def _chain(chain: Chain) -> Node:
    return Node(
        title=f"revision {chain.revision}",
        state=f"{chain.role}, number {chain.number}",
        health=Health.BAD if chain.broken else Health.GOOD,
        detail=", ".join(filter(None, (chain.created, chain.cause))),
        children=(
            _source(chain.source),
            _optimizer(chain.optimizer),
            _artifact(chain.artifact),
            *(_pod(pod) for pod in chain.pods),
            *(Node(title="broken", health=Health.BAD, detail=sentence) for sentence in chain.broken),
        ),
    )


def _source(source: Source) -> Node:
    return Node(
        title="source",
        detail=source.uri,
        children=_facts(
            digest=f"{source.digest or 'not recorded'}{' (pinned)' if source.pinned else ''}",
            format=source.format,
            bytes=source.bytes,
            signed_by=source.signed_by,
        ),
    )


def _optimizer(made: Optimizer) -> Node:
    recipe = json.dumps(made.recipe, sort_keys=True) if made.recipe else "defaults"
    packages = ", ".join(f"{name} {version}" for name, version in sorted((made.packages or {}).items()))
    return Node(
        title="optimizer",
        detail=" ".join(filter(None, (made.image or "image not recorded", made.version))),
        children=_facts(
            image_id=made.image_id, job=made.job, recipe=f"{made.recipe_key}: {recipe}", packages=packages or None
        ),
    )


def _artifact(artifact: Artifact) -> Node:
    return Node(
        title="artifact",
        detail=f"{artifact.variant} ({artifact.format}, {artifact.precision})",
        children=(
            *_facts(digest=artifact.digest, golden_set=artifact.golden, place=artifact.place),
            *(Node(title=path, detail=digest) for path, digest in sorted((artifact.files or {}).items())),
        ),
    )


def _pod(pod: ServingPod) -> Node:
    return Node(
        title=f"Pod/{pod.name}",
        state="Ready" if pod.ready else "not ready",
        health=Health.GOOD if pod.ready else Health.BUSY,
        detail=pod.node or "",
        children=_facts(
            installed=pod.installed or f"not checked yet, told {pod.told}", image=pod.image, image_id=pod.image_id
        ),
    )


def _facts(**said: str | int | None) -> tuple[Node, ...]:
    return tuple(
        Node(title=name.replace("_", " "), detail=str(value)) for name, value in said.items() if value is not None
    )
