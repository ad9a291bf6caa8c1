"""A connection for the length of one command. The cluster's client is loaded here and nowhere before.

Decides nothing about a ModelDeployment.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import typer

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.cli.terminal import NOT_FOUND, fail
from pilotfish.core import Observed
from pilotfish.core.objects import Body, ObjectRef
from pilotfish.ports import Cluster, ClusterError

if TYPE_CHECKING:
    from pilotfish.adapters.kube import KubeCluster

FIELD_MANAGER = "pilotfish-cli"
"""Owner of what a person writes with these commands; never the operator's."""

T = TypeVar("T")


class Editable(Cluster, Protocol):
    """A cluster in which a person may change their own object."""

    async def patch(self, ref: ObjectRef, patch: Mapping[str, Any], *, manager: str) -> Body:
        """Merge the patch into the object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the command looks, as the user said it."""

    namespace: str | None = None
    kubeconfig: Path | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open connection and the one ModelDeployment that the command is about."""

    cluster: Editable
    namespace: str
    name: str

    @property
    def ref(self) -> ObjectRef:
        """The ModelDeployment."""
        return ObjectRef(api_version=API_VERSION, kind=KIND, namespace=self.namespace, name=self.name)

    async def look(self) -> Observed:
        """The object with everything that carries its label; ends the command when there is no such object."""
        from pilotfish.adapters.observe import read  # noqa: PLC0415 - see open_cluster

        reading = await read(self.cluster, namespace=self.namespace, name=self.name)
        if reading is None:
            self._fail_missing()
        return reading.observed()

    async def read(self) -> Body:
        """The object alone; ends the command when there is none."""
        body = await self.cluster.get(self.ref)
        if body is None:
            self._fail_missing()
        return body

    async def write(self, patch: Mapping[str, Any]) -> Body:
        """Merge the patch into the object, in the name of the person who runs the command."""
        return await self.cluster.patch(self.ref, patch, manager=FIELD_MANAGER)

    def _fail_missing(self) -> NoReturn:
        fail(f'ModelDeployment "{self.name}" does not exist in namespace "{self.namespace}"', code=NOT_FOUND)


@asynccontextmanager
async def open_cluster(place: Place) -> AsyncIterator[tuple["KubeCluster", str]]:
    """The cluster and the namespace. Raises adapters.connection.NoCluster.

    Without a kubeconfig, named or at its usual place, a pod takes its own service account.
    """
    # Commands without a cluster must start fast and run where no client is installed.
    from pilotfish.adapters.connection import connect, default_namespace, pod_namespace  # noqa: PLC0415
    from pilotfish.adapters.kube import KubeCluster  # noqa: PLC0415

    home = Path.home() / ".kube" / "config"
    in_pod = None if place.kubeconfig or place.context or home.exists() else pod_namespace()
    config = None if in_pod else place.kubeconfig or home
    namespace = place.namespace or in_pod or default_namespace(kubeconfig=config or home, context=place.context)
    cluster = KubeCluster(await connect(kubeconfig=config, context=place.context))
    try:
        yield cluster, namespace
    finally:
        await cluster.close()


def run(place: Place, name: str, command: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    """The command with an open session; what goes wrong on the way to the cluster is one sentence and exit code 1."""

    async def in_session(cluster: "KubeCluster", namespace: str) -> T:
        return await command(Session(cluster=cluster, namespace=namespace, name=name))

    return run_with(place, in_session)


def run_with(place: Place, command: Callable[["KubeCluster", str], Coroutine[Any, Any, T]]) -> T:
    """The same for a command about no single object: it gets the cluster and the namespace."""
    from pilotfish.adapters.connection import NoCluster  # noqa: PLC0415 - see open_cluster

    async def connected() -> T:
        async with open_cluster(place) as (cluster, namespace):
            return await command(cluster, namespace)

    try:
        return asyncio.run(connected())
    except (NoCluster, ClusterError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
