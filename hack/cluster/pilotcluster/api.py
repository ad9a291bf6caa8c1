"""A few calls to the API server as its administrator, with the standard library alone."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilotcluster.console import ClusterError
from pilotcluster.paths import Layout

HTTP_NOT_FOUND = 404
TIMEOUT_SECONDS = 30.0
PLURALS = {"StorageClass": "storageclasses", "GatewayClass": "gatewayclasses"}


class ApiError(ClusterError):
    """The API server refused a call or did not answer it."""


@dataclass(frozen=True, slots=True)
class Api:
    """An API server and the TLS context of its administrator."""

    server: str
    context: ssl.SSLContext

    def call(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Any:
        """One request; the decoded answer, None for 404. Raises ApiError with the server's own message."""
        request = urllib.request.Request(
            self.server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": kind, "Accept": "application/json"},
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context)
        )
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == HTTP_NOT_FOUND and method == "GET":
                return None
            reason = error.read().decode(errors="replace")[:400]
            raise ApiError(f"{method} {path}: {error.code} {reason}") from error
        except OSError as error:
            raise ApiError(f"{method} {self.server}{path}: {error}") from error

    def is_ready(self) -> bool:
        """Whether the server answers and every readiness check passes."""
        try:
            request = urllib.request.Request(self.server + "/readyz")
            handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.context))
            with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_SECONDS):
                return True
        except OSError:
            return False

    def apply(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Server-side apply of whole objects."""
        for item in objects:
            path = object_path(item) + "?fieldManager=pilotfish-cluster&force=true"
            self.call("PATCH", path, item, kind="application/apply-patch+yaml")


def connect(layout: Layout, server: str) -> Api:
    """An Api for the cluster of this layout."""
    context = ssl.create_default_context(cafile=str(layout.certificate("ca")))
    context.load_cert_chain(layout.certificate("admin"), layout.key("admin"))
    return Api(server=server, context=context)


def object_path(item: Mapping[str, Any]) -> str:
    """The request path of one object: /api/v1/namespaces/x/services/y and the like."""
    version, kind, metadata = item["apiVersion"], item["kind"], item["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{root}{space}/{PLURALS.get(kind, kind.lower() + 's')}/{metadata['name']}"
