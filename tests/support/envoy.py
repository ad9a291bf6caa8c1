"""A real Envoy before a real Triton on this machine's loopback, with the filters that gateways make of their policies."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.apiserver import REPOSITORY
from support.triton import free_port

_TYPES = "type.googleapis.com/envoy.extensions"
MOST_BYTES = 4 * 1024 * 1024


def program() -> Path:
    """The binary of the local cluster's gateway, fetched once."""
    sys.path.insert(0, str(REPOSITORY / "hack" / "cluster"))
    from pilotcluster import tools  # type: ignore[import-not-found]

    found: Path = tools.envoy_program()
    return found


def api_key_filter(keys: dict[str, str]) -> dict[str, Any]:
    """Client name to key; the key comes in the header x-api-key and goes no further."""
    return _filter(
        "http.api_key_auth.v3.ApiKeyAuth",
        "envoy.filters.http.api_key_auth",
        credentials=[{"client": client, "key": key} for client, key in keys.items()],
        key_sources=[{"header": "x-api-key"}],
        forwarding={"hide_credentials": True},
    )


def jwt_filter(*, issuer: str, audience: str, keys: dict[str, Any]) -> dict[str, Any]:
    """Bearer tokens of one issuer for one audience, by its public keys (a JWKS); they go no further."""
    provider = {"issuer": issuer, "audiences": [audience], "local_jwks": {"inline_string": json.dumps(keys)}}
    return _filter(
        "http.jwt_authn.v3.JwtAuthentication",
        "envoy.filters.http.jwt_authn",
        providers={"users": {**provider, "forward": False}},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "users"}}],
    )


@dataclass(slots=True, kw_only=True)
class Envoy:
    """Requests with gRPC's content type go to `grpc`, /capture to `capture`, all others to `http` (ports)."""

    scratch: Path
    check: dict[str, Any]
    http: int
    grpc: int
    capture: int
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        config = self.scratch / "envoy.json"
        config.write_text(json.dumps(self._config()))
        command = [str(program()), "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        with (self.scratch / "envoy.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._answers():
            said = (self.scratch / "envoy.log").read_text()[-2000:]
            assert self.process.poll() is None, f"envoy ended: {said}"
            assert time.monotonic() < deadline, f"envoy does not answer: {said}"
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _config(self) -> dict[str, Any]:
        is_grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
        routes = [
            {"match": {"path": "/capture"}, "route": {"cluster": "capture"}},
            {"match": {"prefix": "/", "headers": [is_grpc]}, "route": {"cluster": "grpc"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "http"}},
        ]
        manager = {
            "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "models",
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "route_config": {"virtual_hosts": [{"name": "models", "domains": ["*"], "routes": routes}]},
            "http_filters": [
                self.check,
                _filter("http.buffer.v3.Buffer", "envoy.filters.http.buffer", max_request_bytes=MOST_BYTES),
                _filter("http.router.v3.Router", "envoy.filters.http.router"),
            ],
        }
        listener = {
            "address": _address(self.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }
        clusters = [
            _cluster("http", self.http),
            _cluster("grpc", self.grpc, h2=True),
            _cluster("capture", self.capture),
        ]
        return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _filter(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.filters.{kind}", **settings}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int, *, h2: bool = False) -> dict[str, Any]:
    protocol = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}} if h2 else {"http_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            f"{_TYPES[len('type.googleapis.com/') :]}.upstreams.http.v3.HttpProtocolOptions": protocol
        },
    }
