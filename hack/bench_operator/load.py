"""The objects of a run, and the requests that an operator without a fault or a question would send for them."""

import asyncio
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pilotfish.adapters.kinds import path_of
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.core import Plan, observe, plan
from pilotfish.core.objects import Body, condition_is_true, ref_of
from pilotfish.names import FIELD_MANAGER
from pilotfish.settings import OperatorSettings
from support.kube import kube_cluster, make_object
from support.kubelet import Kubelet

NAMESPACE = "bench"
AT_ONCE = 20
PLAY_EVERY = 1.0
SERVED_SECONDS = 1800.0
SETTINGS = {"triton_version": "2.51.0"}


def name_of_number(number: int) -> str:
    """Of an object."""
    return f"model-{number:05d}"


async def load(kubeconfig: Path, count: int, tell: Callable[[int], None]) -> list[Body]:
    """Create so many ModelDeployments; as stored."""
    turns = asyncio.Semaphore(AT_ONCE)
    made: list[Body] = []
    async with kube_cluster(kubeconfig) as cluster:

        async def create(number: int) -> None:
            async with turns:
                made.append(await cluster.apply(make_object(name_of_number(number), NAMESPACE)))
            tell(len(made))

        await asyncio.gather(*(create(number) for number in range(count)))
    return made


async def serve(kubeconfig: Path, count: int, tell: Callable[[int], None]) -> None:
    """Play the kubelet until every object is Ready. Raises TimeoutError."""
    async with kube_cluster(kubeconfig) as cluster, asyncio.timeout(SERVED_SECONDS):
        kubelet, ready = Kubelet(cluster, NAMESPACE), 0
        while ready < count:
            await kubelet.play()
            await asyncio.sleep(PLAY_EVERY)
            found = await cluster.list(api_version=API_VERSION, kind=KIND, namespace=NAMESPACE, labels={})
            ready = sum(condition_is_true(body, "Ready") for body in found)
            tell(ready)


def write_floor(bodies: Iterable[Body], file: Path) -> None:
    """The first pass of each object as requests, one line per object."""
    policy = OperatorSettings(**SETTINGS).policy()
    now = datetime.now(tz=UTC)
    lines = (json.dumps(_requests(plan(observe(body, ()), policy, now))) for body in bodies)
    file.write_text("".join(f"{line}\n" for line in lines))


def _requests(first: Plan) -> list[dict[str, Any]]:
    managed = {"fieldManager": FIELD_MANAGER}
    applies = [
        _request("PATCH", each.body, {**managed, "force": "true"}, type="application/apply-patch+yaml", named=True)
        for each in first.applies
    ]
    status = [_request("PUT", first.status, managed, named=True, subresource="status")] if first.status else []
    return [*applies, *status, *(_request("POST", event, managed) for event in first.events)]


def _request(
    verb: str,
    body: Body,
    query: dict[str, str],
    *,
    type: str = "application/json",  # noqa: A002 - the header's word
    named: bool = False,
    subresource: str | None = None,
) -> dict[str, Any]:
    ref = ref_of(body)
    path = path_of(
        api_version=ref.api_version,
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name if named else None,
        subresource=subresource,
    )
    return {"verb": verb, "path": f"{path}?{urlencode(query)}", "type": type, "body": body}
