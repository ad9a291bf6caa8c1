"""Names that the shell completes: of the ModelDeployments that the command line so far can see.

Never says a word and never takes long: whoever presses a key in a shell waits.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import typer

SECONDS = 5.0


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names in the namespace of the command line; none where the cluster cannot be asked."""
    said: dict[str, Any] = context.params
    try:
        return [name for name in asyncio.run(_names(said)) if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - whatever it is, the next command says it; here it would garble a prompt
        return []


async def _names(said: dict[str, Any]) -> list[str]:
    from pilotfish.api.base import API_VERSION, KIND  # noqa: PLC0415 - a shell waits for this
    from pilotfish.cli import session  # noqa: PLC0415

    # Whoever only completes is told what stands on the line, not what the environment says.
    kubeconfig = said.get("kubeconfig") or os.environ.get("KUBECONFIG")
    place = session.Place(
        namespace=said.get("namespace"),
        kubeconfig=None if kubeconfig is None else Path(kubeconfig),
        context=said.get("context"),
    )
    async with asyncio.timeout(SECONDS), session.open_cluster(place) as (cluster, namespace):
        found = await cluster.list(api_version=API_VERSION, kind=KIND, namespace=namespace, labels={})
    return [str(body["metadata"]["name"]) for body in found]
