"""S13, S12: API keys and bearer tokens checked by Envoy before a real Triton. No code of ours is in the way of requests.

The filters are what gateways make of their policies: `apiKeyAuth` and `jwt` of Envoy Gateway's SecurityPolicy.
"""

import contextlib
import http.client
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import grpc
import jwt
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tritonclient.grpc import service_pb2, service_pb2_grpc

from support.envoy import MOST_BYTES, Envoy, api_key_filter, jwt_filter
from support.repository import expected, linear_onnx, make_config, write_model
from support.triton import TritonServer

pytestmark = pytest.mark.triton

ISSUER, AUDIENCE = "https://issuer.example.org", "models"
KEY = "key-of-the-shop"
INFER = "/v2/models/linear/versions/1/infer"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}).encode()
ANSWER = expected(np.array([[1, 2, 3, 4]], np.float32))
PATHS = (
    ("POST", INFER),
    ("GET", "/v2"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/linear/config"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/systemsharedmemory/region/a/register"),
    ("GET", "/v2/logging"),
    ("POST", "/invocations"),
    ("GET", "/ping"),
    ("POST", "//v2/models/linear/versions/1/infer"),
    ("POST", "/v2/x/../models/linear/versions/1/infer"),
    ("POST", "/V2/models/linear/versions/1/infer"),
)


class Capture(BaseHTTPRequestHandler):
    """Keeps the headers that come through."""

    seen: ClassVar[list[dict[str, str]]] = []

    def do_GET(self):
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        return


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """Triton, and what keeps headers."""
    folder = tmp_path_factory.mktemp("behind")
    repository = write_model(folder / "models", "linear", make_config("linear"), linear_onnx())
    with (
        TritonServer(repository=repository, scratch=folder / "server") as server,
        ThreadingHTTPServer(("127.0.0.1", 0), Capture) as capture,
    ):
        threading.Thread(target=capture.serve_forever, daemon=True).start()
        yield server.wait_ready("linear"), capture.server_address[1]
        capture.shutdown()


@pytest.fixture(scope="module")
def signer():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module", params=["key", "token"])
def gate(request, behind, signer, tmp_path_factory):
    """An Envoy that asks for one or the other, and the headers that it lets in."""
    server, capture = behind
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(signer.public_key()))
    jwks = {"keys": [{**public, "kid": "1", "alg": "ES256"}]}
    checks = {"key": api_key_filter({"shop": KEY}), "token": jwt_filter(issuer=ISSUER, audience=AUDIENCE, keys=jwks)}
    admitted = {"key": {"x-api-key": KEY}, "token": bearer(signer)}[request.param]
    envoy = Envoy(
        scratch=tmp_path_factory.mktemp(f"envoy-{request.param}"),
        check=checks[request.param],
        http=server.ports.http,
        grpc=server.ports.grpc,
        capture=capture,
    )
    with envoy:
        yield envoy, admitted


def bearer(signer, *, algorithm="ES256", **changes):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": int(time.time()) + 600, **changes}
    return {"authorization": f"Bearer {jwt.encode(claims, signer, algorithm=algorithm, headers={'kid': '1'})}"}


def ask(envoy, method, path, body=b"", headers=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=30)) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def infer(envoy, headers):
    with grpc.insecure_channel(envoy.address) as channel:
        message = service_pb2.ModelInferRequest(model_name="linear", model_version="1")
        message.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        message.raw_input_contents.append(np.array([1, 2, 3, 4], np.float32).tobytes())
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(message, timeout=30, metadata=tuple(headers.items()))
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(1, 3)


def wrong_words(signer):
    stranger = ec.generate_private_key(ec.SECP256R1())
    return {
        "nothing": {},
        "an empty key": {"x-api-key": ""},
        "another key": {"x-api-key": "guess"},
        "the key as a token": {"authorization": f"Bearer {KEY}"},
        "another scheme": {"authorization": f"Basic {KEY}"},
        "signed by somebody else": bearer(stranger),
        "for somebody else": bearer(signer, aud="others"),
        "of another issuer": bearer(signer, iss="https://elsewhere.example.org"),
        "expired": bearer(signer, exp=int(time.time()) - 600),
        "not signed": bearer("", algorithm="none"),
    }


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_s13_no_path_is_open_without_the_word(gate, method, path):
    envoy, _ = gate
    assert ask(envoy, method, path, BODY)[0] == 401


def test_s13_grpc_is_closed_without_the_word(gate):
    envoy, _ = gate
    with pytest.raises(grpc.RpcError) as caught:
        infer(envoy, {})
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_s13_no_other_word_opens(gate, signer):
    envoy, admitted = gate
    for what, headers in wrong_words(signer).items():
        assert ask(envoy, "POST", INFER, BODY, headers)[0] in {401, 403}, what
        with pytest.raises(grpc.RpcError):
            infer(envoy, headers)
    query = f"{INFER}?x-api-key={KEY}&access_key={KEY}"
    assert ask(envoy, "POST", query, BODY)[0] == 401
    assert ask(envoy, "POST", INFER, BODY, admitted)[0] == 200


def test_s13_with_the_word_http_and_grpc_answer(gate):
    envoy, admitted = gate
    status, body = ask(envoy, "POST", INFER, BODY, admitted)
    assert status == 200
    np.testing.assert_allclose(json.loads(body)["outputs"][0]["data"], ANSWER[0], rtol=1e-5)
    np.testing.assert_allclose(infer(envoy, admitted), ANSWER, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v2/repository/index"), ("GET", "/v2/logging"), ("GET", "/v2/systemsharedmemory/status")],
)
def test_s13_what_no_client_needs_stays_closed_with_the_word(gate, method, path):
    envoy, admitted = gate
    assert ask(envoy, method, path, b"{}", admitted)[0] == 403


def test_s13_an_encoded_slash_is_refused(gate):
    envoy, admitted = gate
    assert ask(envoy, "GET", "/v2/models/..%2f..%2fetc%2fpasswd/config", b"", admitted)[0] == 400


def test_s17_the_word_does_not_reach_triton(gate):
    envoy, admitted = gate
    Capture.seen.clear()
    assert ask(envoy, "GET", "/capture", b"", admitted)[0] == 200
    assert not {"x-api-key", "authorization"} & set(Capture.seen[-1])


def test_s12_the_gateway_bounds_bodies(gate):
    envoy, admitted = gate
    with contextlib.suppress(OSError):  # it may hang up while the rest is sent
        assert ask(envoy, "POST", INFER, b" " * (MOST_BYTES + 1), admitted)[0] == 413
    assert ask(envoy, "POST", INFER, BODY, admitted)[0] == 200
