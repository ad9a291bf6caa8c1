"""The cluster behind `ports.Cluster`: plain bodies over `kubernetes.aio` as transport.

Typed models are not used: they drop fields that they do not know. One request is one try; the queue decides about the
next one. Must not decide anything about a ModelDeployment.
"""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient

from pilotfish.adapters.answers import Gone, read_answer
from pilotfish.adapters.clock import ServerClock
from pilotfish.adapters.connection import authorization_of
from pilotfish.adapters.kinds import path_of
from pilotfish.core.objects import ref_of
from pilotfish.names import FIELD_MANAGER
from pilotfish.ports import Body, ClusterError, Conflict, NotFound, ObjectRef

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
WATCH_SECONDS = 300
"""After so long the server ends a stream, and the next one begins where it ended."""
WATCH_SILENCE = 70
"""Seconds without a word after which a stream counts as broken: the server sends a bookmark every minute."""
CHUNK = 500

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"
_MANAGED = {"fieldManager": FIELD_MANAGER}
_WATCH_TIMEOUT = aiohttp.ClientTimeout(total=WATCH_SECONDS + 30, sock_connect=10, sock_read=WATCH_SILENCE)
_ERROR = 400
Bodies = list[dict[str, Any]]


OnRequest = Callable[[str, str, str], None]
"""Hears of every request: verb, kind, HTTP status or `error`."""


def _uncounted(_verb: str, _kind: str, _code: str) -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete list as of one version."""

    bodies: tuple[Body, ...]
    version: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """type: ADDED, MODIFIED, DELETED or BOOKMARK; the last one's body has nothing but a version."""

    type: str
    body: Body


class KubeCluster:
    """A Kubernetes API server, and the store of the Lease."""

    def __init__(
        self, client: ApiClient, *, on_request: OnRequest = _uncounted, clock: ServerClock | None = None
    ) -> None:
        self._client = client
        self._on_request = on_request
        self._clock = clock or ServerClock()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    def now(self) -> datetime:
        """The API server's time, as far as its answers told it; UTC, aware."""
        return self._clock.now()

    async def ask(self, path: str, *, body: Body | None = None) -> dict[str, Any]:
        """What stands at a path, for kinds that the operator does not know; with a body, the answer to a review."""
        kind = path.rpartition("/")[2]
        return await self._request("GET" if body is None else "POST", kind, path, body=body)

    async def get(self, ref: ObjectRef) -> Body | None:
        """The object, or None."""
        try:
            return await self._request("GET", ref.kind, _path(ref))
        except NotFound:
            return None

    async def list(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> tuple[Body, ...]:
        """All objects of a kind with these labels, sorted by namespace and name. namespace None: all namespaces."""
        listed = await self.list_at(api_version=api_version, kind=kind, namespace=namespace, labels=labels)
        return tuple(sorted(listed.bodies, key=_namespace_and_name))

    async def list_at(self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]) -> Listed:
        """The same in any order, with the version from which a watch goes on."""
        path = path_of(api_version=api_version, kind=kind, namespace=namespace)
        try:
            items, version = await self._pages(kind, path, _selector(labels), limit=CHUNK)
        except Gone:
            items, version = await self._pages(kind, path, _selector(labels), limit=0)
        bodies = ({**item, "apiVersion": api_version, "kind": kind} for item in items)
        return Listed(bodies=tuple(bodies), version=version)

    async def watch(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str], version: str
    ) -> AsyncGenerator[WatchEvent, None]:
        """What happens after that version, until the server ends the stream. Bookmarks are among it.

        Raises Gone when the version is too old, ClusterError when nothing comes for WATCH_SILENCE seconds.
        """
        path = path_of(api_version=api_version, kind=kind, namespace=namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            "labelSelector": _selector(labels),
        }
        code = "error"
        try:
            response = await self._open(
                "GET", path, query=query, headers={"Accept": _JSON}, timeout=_WATCH_TIMEOUT, body=None
            )
            code = str(response.status)
            with closing(response.response) as stream:
                if response.status >= 300:  # noqa: PLR2004 - the boundary of success in HTTP
                    read_answer(response.status, await response.read(), response.headers)
                async for line in stream.content:
                    yield _event(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ClusterError(f"the stream of {kind}s broke: {type(error).__name__}: {error}") from error
        finally:
            self._on_request("WATCH", kind, code)

    async def check_served(self, *, api_version: str, kind: str) -> None:
        """Raises NotFound when the API server does not know this kind (yet), ClusterError when it cannot be asked."""
        group = await self._request("GET", "APIResourceList", f"/apis/{api_version}")
        if kind not in {resource.get("kind") for resource in group.get("resources") or ()}:
            raise NotFound(f"the API server knows no {kind} of {api_version}")

    async def apply(self, body: Body) -> Body:
        """Server-side apply with the operator's field manager, forced; uid and resourceVersion are preconditions.

        An apply that creates does not look at a resourceVersion, one that changes does: so the version ABSENT lets it
        create and nothing else, in one request and without a race.
        """
        query = {**_MANAGED, "force": "true"}
        path = _path(ref_of(body))
        return await self._request("PATCH", body["kind"], path, query=query, body=body, content_type=_APPLY)

    async def patch(self, ref: ObjectRef, patch: Mapping[str, Any], *, manager: str) -> Body:
        """Merge a few fields into an object in the name of a person; null removes one. The operator itself applies."""
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        return await self._request("PATCH", ref.kind, _path(ref), query=query, body=patch, content_type=_MERGE)

    async def delete(self, ref: ObjectRef) -> None:
        """Delete with background propagation; the uid is a precondition. A missing object is fine."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if ref.uid is not None:
            options["preconditions"] = {"uid": ref.uid}
        try:
            await self._request("DELETE", ref.kind, _path(ref), body=options)
        except NotFound:
            return

    async def write_status(self, body: Body) -> Body:
        """Replace the status of a ModelDeployment; metadata.resourceVersion is a precondition (Conflict)."""
        path = _path(ref_of(body), subresource="status")
        return await self._request("PUT", body["kind"], path, query=_MANAGED, body=body)

    async def put(self, body: Body) -> Body:
        """Create when the body has no metadata.resourceVersion, else replace that version. Conflict when too late."""
        ref = ref_of(body)
        if "resourceVersion" in body["metadata"]:
            return await self._request("PUT", ref.kind, _path(ref), query=_MANAGED, body=body)
        path = path_of(api_version=ref.api_version, kind=ref.kind, namespace=ref.namespace)
        return await self._request("POST", ref.kind, path, query=_MANAGED, body=body)

    async def emit(self, event: Body) -> None:
        """Create an events.k8s.io/v1 Event; if one of that name exists, count it once more in its series."""
        try:
            await self.put(event)
        except Conflict:
            ref = ref_of(event)
            stored = await self.get(ref)
            if stored is not None:
                count = int((stored.get("series") or {}).get("count", 1)) + 1
                series = {"count": count, "lastObservedTime": event["eventTime"]}
                patch = {"series": series}
                await self._request("PATCH", ref.kind, _path(ref), query=_MANAGED, body=patch, content_type=_MERGE)

    async def _pages(self, kind: str, path: str, selector: str, *, limit: int) -> tuple[Bodies, str]:
        items: Bodies = []
        token = ""
        while True:
            query = {"labelSelector": selector, "limit": str(limit) if limit else "", "continue": token}
            page = await self._request("GET", kind, path, query={key: value for key, value in query.items() if value})
            items += [_without_managers(item) for item in page.get("items") or ()]
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return items, str(metadata.get("resourceVersion") or "")

    async def create(self, body: Body, *, manager: str) -> Body:
        """Create an object in the name of a person; Conflict when there is one of that name."""
        ref = ref_of(body)
        path = path_of(api_version=ref.api_version, kind=ref.kind, namespace=ref.namespace)
        query = {"fieldManager": manager, "fieldValidation": "Strict"}
        return await self._request("POST", ref.kind, path, query=query, body=body)

    async def log(self, ref: ObjectRef, *, container: str, limit: int) -> bytes:
        """What a container of a pod has written, at most `limit` bytes."""
        query = {"container": container, "limitBytes": str(limit)}
        status, text, headers = await self._exchange("GET", ref.kind, _path(ref, subresource="log"), query=query)
        if status >= 300:  # noqa: PLR2004 - the boundary of success in HTTP
            read_answer(status, text, headers)
        return text

    async def _request(
        self,
        verb: str,
        kind: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        return read_answer(
            *await self._exchange(verb, kind, path, query=query, body=body, content_type=content_type, accept=_JSON)
        )

    async def _exchange(
        self,
        verb: str,
        kind: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
        content_type: str = _JSON,
        accept: str = "*/*",
    ) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Accept": accept, "Content-Type": content_type}
        code = "error"
        try:
            sent = self._clock.monotonic()
            response = await self._open(verb, path, query=query, headers=headers, timeout=REQUEST_TIMEOUT, body=body)
            text = await response.read()
            code = str(response.status)
            if response.status < 400:  # noqa: PLR2004 - an error may come from whoever stands in between
                self._clock.hear(response.headers.get("Date"), sent=sent)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"cannot reach the API server: {type(error).__name__}: {error}") from error
        finally:
            self._on_request(verb, kind, code)
        return response.status, text, response.headers

    async def _open(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - of the connection, for aiohttp
        body: Body | None,
    ) -> Any:
        """The answer, its body unread."""
        configuration = self._client.configuration
        headers = {**headers, **self._client.default_headers}
        authorization = await authorization_of(configuration)
        if authorization is not None:
            headers["Authorization"] = authorization
        return await self._client.rest_client.request(
            verb,
            configuration.host + path + (f"?{urlencode(query)}" if query else ""),
            headers=headers,
            body=body,
            _request_timeout=timeout,
        )


def _without_managers(item: dict[str, Any]) -> dict[str, Any]:
    """Nobody reads managedFields; a list of thousands must not hold them to its end."""
    item["metadata"].pop("managedFields", None)
    return item


def _selector(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _event(line: bytes) -> WatchEvent:
    """One line of a stream. An error in it raises by its class, as a bad answer would."""
    told = json.loads(line)
    body = told["object"]
    if told["type"] == "ERROR":
        read_answer(max(int(body.get("code") or 0), _ERROR), json.dumps(body).encode(), {})
    return WatchEvent(type=told["type"], body=body)


def _path(ref: ObjectRef, *, subresource: str | None = None) -> str:
    return path_of(
        api_version=ref.api_version,
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name,
        subresource=subresource,
    )


def _namespace_and_name(body: Body) -> tuple[str, str]:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
