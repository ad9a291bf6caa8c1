"""How one request reaches the server: HTTP or gRPC at an address, or HTTP through a port-forward. One wire per thread.

A wire sends the same request each time and only looks whether it was answered well.
"""

import http.client
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pilotfish.api.report import ModelSignature
from pilotfish.cli.bench.payload import Blob, http_body
from pilotfish.cli.port_forward import NoAnswer, PodPort

PATIENCE_SECONDS = 60.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRITON_DATA = "TYPE_"

Ask = Callable[[], None]
"""Sends the request and waits for the answer. Raises NoAnswer."""
OpenWire = Callable[[], AbstractContextManager[Ask]]
OpenPort = Callable[[], AbstractContextManager[PodPort]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where --url points."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def is_grpc(self) -> bool:
        """Over gRPC, else HTTP."""
        return self.scheme.startswith("grpc")

    @property
    def is_encrypted(self) -> bool:
        """Over TLS."""
        return self.scheme.endswith("s")


def parse_address(url: str) -> Address:
    """From http(s)://host[:port][/path] or grpc(s)://host:port; without a scheme it is http. Raises ValueError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https", "grpc", "grpcs"} or not parts.hostname:
        raise ValueError("write http://HOST:PORT or grpc://HOST:PORT")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if port is None:
        raise ValueError(f"write the port: {parts.scheme}://{parts.hostname}:8001")
    return Address(scheme=parts.scheme, host=parts.hostname, port=port, path=parts.path.rstrip("/"))


def open_http(address: Address) -> OpenPort:
    """HTTP straight to the address."""

    @contextmanager
    def opened() -> Iterator[PodPort]:
        kind = http.client.HTTPSConnection if address.is_encrypted else http.client.HTTPConnection
        connection = kind(address.host, address.port, timeout=PATIENCE_SECONDS)
        try:
            yield PodPort(connection)
        finally:
            connection.close()

    return opened


def http_wire(open_port: OpenPort, model: str, blobs: Sequence[Blob], *, prefix: str = "") -> OpenWire:
    """The request over HTTP, on a connection that stays open."""
    body, head = http_body(blobs)
    headers = {"Inference-Header-Content-Length": str(head), "Content-Type": "application/octet-stream"}
    path = f"{prefix}/v2/models/{model}/infer"

    @contextmanager
    def opened() -> Iterator[Ask]:
        with open_port() as port:

            def ask() -> None:
                status, answer = port.exchange("POST", path, body, headers)
                if status != http.HTTPStatus.OK:
                    raise NoAnswer(f"the server answered {status}: {_error_in(answer)}")

            yield ask

    return opened


def grpc_wire(address: Address, model: str, blobs: Sequence[Blob]) -> OpenWire:
    """The request over gRPC, each thread with a channel of its own. Raises NoAnswer without tritonclient."""
    grpc, messages, stubs = _grpc()
    request = messages.ModelInferRequest(model_name=model)
    for blob in blobs:
        request.inputs.add(name=blob.name, datatype=blob.dtype, shape=blob.shape)
        request.raw_input_contents.append(blob.content)

    @contextmanager
    def opened() -> Iterator[Ask]:
        with _channel(grpc, address) as channel:
            infer = stubs.GRPCInferenceServiceStub(channel).ModelInfer

            def ask() -> None:
                try:
                    infer(request, timeout=PATIENCE_SECONDS)
                except grpc.RpcError as error:
                    raise NoAnswer(f"the server answered {error.code().name}: {error.details()}") from error

            yield ask

    return opened


def signature_over_http(port: PodPort, model: str, *, prefix: str = "") -> ModelSignature:
    """What the server itself says of the model. Raises NoAnswer."""
    told = _get(port, f"{prefix}/v2/models/{model}")
    config = _get(port, f"{prefix}/v2/models/{model}/config")
    return _signature(told, batched=int(config.get("max_batch_size") or 0) > 0)


def signature_over_grpc(address: Address, model: str) -> ModelSignature:
    """The same over gRPC. Raises NoAnswer."""
    grpc, messages, stubs = _grpc()
    with _channel(grpc, address) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        try:
            told = stub.ModelMetadata(messages.ModelMetadataRequest(name=model), timeout=PATIENCE_SECONDS)
            config = stub.ModelConfig(messages.ModelConfigRequest(name=model), timeout=PATIENCE_SECONDS).config
        except grpc.RpcError as error:
            raise NoAnswer(f"the server answered {error.code().name}: {error.details()}") from error
    tensors = {
        kind: [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in getattr(told, kind)]
        for kind in ("inputs", "outputs")
    }
    return _signature(tensors, batched=config.max_batch_size > 0)


def _signature(told: Any, *, batched: bool) -> ModelSignature:
    def tensors(kind: str) -> list[dict[str, Any]]:
        cut = 1 if batched else 0
        return [
            {"name": t["name"], "dtype": t["datatype"], "shape": [int(n) for n in t["shape"]][cut:]} for t in told[kind]
        ]

    return ModelSignature.model_validate(
        {"inputs": tensors("inputs"), "outputs": tensors("outputs"), "batched": batched}
    )


def _get(port: PodPort, path: str) -> Any:
    status, answer = port.exchange("GET", path, None, {})
    if status != http.HTTPStatus.OK:
        raise NoAnswer(f"the server answered {status}: {_error_in(answer)}")
    return json.loads(answer)


def _error_in(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")


def _channel(grpc: Any, address: Address) -> Any:
    target = f"{address.host}:{address.port}"
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    if address.is_encrypted:
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(), options=unlimited)
    return grpc.insecure_channel(target, options=unlimited)


def _grpc() -> tuple[Any, Any, Any]:
    try:
        import grpc  # noqa: PLC0415 - only for grpc://
        from tritonclient.grpc import service_pb2, service_pb2_grpc  # noqa: PLC0415
    except ImportError as error:
        raise NoAnswer(f"{error}; gRPC needs pip install 'tritonclient[grpc]'") from error
    return grpc, service_pb2, service_pb2_grpc
