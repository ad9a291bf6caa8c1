"""Routes of the Gateway API and the Services that they name, as rendered."""

import kubernetes_validate
import pytest
import yaml

from pilotfish.api.serving import Protocol
from pilotfish.resources import make_grpc_route, make_http_route, make_route_service
from support.builders import OWNER, make_spec

METADATA = """
namespace: team
labels:
  app.kubernetes.io/managed-by: pilotfish
  app.kubernetes.io/name: triton
  app.kubernetes.io/instance: digits
  pilotfish.dev/name: digits
  pilotfish.dev/component: triton
ownerReferences:
- {apiVersion: pilotfish.dev/v1alpha1, kind: ModelDeployment, name: digits, uid: 11111111-2222-3333-4444-555555555555,
   controller: true, blockOwnerDeletion: true}
"""
HTTP_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
spec:
  parentRefs:
  - {group: gateway.networking.k8s.io, kind: Gateway, name: public}
  hostnames: [digits.example.org]
  rules:
  - backendRefs:
    - {group: "", kind: Service, name: digits-new-route, port: 8000, weight: 10}
    - {group: "", kind: Service, name: digits-old-route, port: 8000, weight: 90}
"""
BOTH = (Protocol.GRPC, Protocol.HTTP)


def gateway(**fields):
    return make_spec(
        {"model": {"uri": "s3://m/x"}, "serving": {"gateway": {"name": "public", **fields}}}
    ).serving.gateway


def test_an_http_route_is_whole_and_names_only_our_services():
    route = make_http_route(OWNER, gateway=gateway(hostnames=["digits.example.org"]), weights={"old": 90, "new": 10})
    metadata = {"name": "digits-http", **yaml.safe_load(METADATA)}
    assert route == {**yaml.safe_load(HTTP_ROUTE), "metadata": metadata}


def test_plain_json_has_a_path_of_its_own_before_all_others():
    weights = {"old": 90, "new": 10}
    plain = make_http_route(OWNER, gateway=gateway(), weights=weights)
    route = make_http_route(OWNER, gateway=gateway(), weights=weights, predict={"old", "new"})

    first, second = route["spec"]["rules"]
    assert [second] == plain["spec"]["rules"]
    assert first["backendRefs"] == second["backendRefs"]
    assert first["matches"] == [{"path": {"type": "Exact", "value": "/predict"}, "method": "POST"}]
    assert first["filters"] == [
        {
            "type": "URLRewrite",
            "urlRewrite": {
                "path": {"type": "ReplaceFullPath", "replaceFullPath": "/v2/models/digits-predict/generate"}
            },
        }
    ]


@pytest.mark.parametrize(
    ("weights", "predict", "expected"),
    [
        ({"old": 90, "new": 10}, {"new"}, {"digits-new-route": 10}),
        ({"old": 90, "new": 10}, {"old"}, {"digits-old-route": 90}),
        ({"old": 100, "new": 0}, {"old", "new"}, {"digits-new-route": 0, "digits-old-route": 100}),
        ({"old": 100, "new": 0}, {"new"}, None),
        ({"old": 90, "new": 10}, {"older"}, None),
        ({"old": 90, "new": 10}, (), None),
    ],
)
def test_plain_json_goes_to_those_that_offer_it_while_one_of_them_has_requests(weights, predict, expected):
    *special, rule = make_http_route(OWNER, gateway=gateway(), weights=weights, predict=predict)["spec"]["rules"]
    assert [rule] == make_http_route(OWNER, gateway=gateway(), weights=weights)["spec"]["rules"]
    shared = [{backend["name"]: backend["weight"] for backend in one["backendRefs"]} for one in special]
    assert shared == ([] if expected is None else [expected])


def test_the_order_of_the_weights_does_not_matter():
    one, other = ({"old": 90, "new": 10}, {"new": 10, "old": 90})
    assert make_grpc_route(OWNER, gateway=gateway(), weights=one) == make_grpc_route(
        OWNER, gateway=gateway(), weights=other
    )


@pytest.mark.parametrize(
    ("fields", "http", "grpc"),
    [
        ({}, (None, None), (None, None)),
        ({"hostnames": ["a.b"]}, (None, ["a.b"]), (None, ["a.b"])),
        ({"hostnames": ["a.b"], "grpc": {"hostnames": ["c.d"]}}, (None, ["a.b"]), (None, ["c.d"])),
        (
            {"hostnames": ["a.b"], "sectionName": "web", "grpc": {"sectionName": "rpc"}},
            ("web", ["a.b"]),
            ("rpc", ["a.b"]),
        ),
        ({"sectionName": "web"}, ("web", None), ("web", None)),
        (
            {"hostnames": ["a.b"], "sectionName": "web", "grpc": {"hostnames": ["c.d"]}},
            ("web", ["a.b"]),
            ("web", ["c.d"]),
        ),
    ],
)
def test_grpc_comes_in_where_http_does_unless_it_says_otherwise(fields, http, grpc):
    for make, (section, hosts) in ((make_http_route, http), (make_grpc_route, grpc)):
        spec = make(OWNER, gateway=gateway(**fields), weights={"old": 1})["spec"]
        (parent,) = spec["parentRefs"]
        assert (parent.get("sectionName"), spec.get("hostnames")) == (section, hosts)


def test_each_route_takes_the_port_of_its_protocol():
    made = [make(OWNER, gateway=gateway(), weights={"old": 1}) for make in (make_http_route, make_grpc_route)]
    backends = [route["spec"]["rules"][0]["backendRefs"][0] for route in made]
    assert [(route["kind"], backend["port"]) for route, backend in zip(made, backends, strict=True)] == [
        ("HTTPRoute", 8000),
        ("GRPCRoute", 8001),
    ]


def test_the_service_of_a_revision_selects_that_revision_and_speaks_http2_on_grpc():
    service = make_route_service(OWNER, revision="old", protocols=BOTH)
    kubernetes_validate.validate(service, "1.36", strict=True)
    assert service["metadata"]["name"] == "digits-old-route"
    assert service["spec"] == {
        "type": "ClusterIP",
        "selector": {
            "pilotfish.dev/name": "digits",
            "pilotfish.dev/component": "triton",
            "pilotfish.dev/revision": "old",
        },
        "ports": [
            {"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"},
            {
                "name": "grpc",
                "port": 8001,
                "targetPort": "grpc",
                "protocol": "TCP",
                "appProtocol": "kubernetes.io/h2c",
            },
        ],
    }


@pytest.mark.parametrize(("protocols", "ports"), [((Protocol.HTTP,), ["http"]), ((Protocol.GRPC,), ["grpc"])])
def test_only_protocols_that_are_offered_have_a_port(protocols, ports):
    service = make_route_service(OWNER, revision="old", protocols=protocols)
    assert [port["name"] for port in service["spec"]["ports"]] == ports
