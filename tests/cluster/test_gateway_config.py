"""What the gateway's programs are told."""

from pathlib import Path

import pytest
from pilotcluster import gateway, programs
from pilotcluster.console import ClusterError
from pilotcluster.kind import Kind
from pilotcluster.paths import Layout

LAYOUT = Layout(name="x", folder=Path("/state/x"))


def test_down_knows_the_programs_by_the_state_folder_on_their_command_lines():
    folder = LAYOUT.folder / "gateway"
    contour = programs.contour(
        Path("/c/contour"), config=folder / "contour.yaml", kubeconfig=LAYOUT.kubeconfig, address="172.30.0.2"
    )
    envoy = programs.envoy(LAYOUT, Path("/c/envoy"), bootstrap=folder / "envoy.json")
    for command in (contour, envoy):
        assert Path(command[0]).name in gateway.PROGRAMS
        assert "/state/x/" in " ".join(command)


def test_routes_come_from_the_gateway_s_own_namespace_alone():
    space, kind, public = gateway.make_gateway("shop")
    assert space["metadata"]["name"] == public["metadata"]["namespace"] == "shop"
    assert public["spec"]["gatewayClassName"] == kind["metadata"]["name"]
    (listener,) = public["spec"]["listeners"]
    assert listener["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    assert gateway.make_contour_config("shop") == {"gateway": {"gatewayRef": {"namespace": "shop", "name": "public"}}}


def test_kind_says_what_to_do_instead():
    with pytest.raises(ClusterError, match="install a gateway of your choice for namespace shop"):
        Kind(engine="docker").gateway(LAYOUT, "shop")


def test_a_kind_that_discovery_does_not_name_yet_is_waited_for():
    def crd(group, plural, *versions):
        served = [{"name": version, "served": version != "v0"} for version in versions]
        return {"spec": {"group": group, "names": {"plural": plural}, "versions": served}}

    crds = [
        crd(gateway.GROUP, "gateways", "v0", "v1"),
        crd(gateway.CONTOUR_GROUP, "httpproxies", "v1"),
        crd(gateway.CONTOUR_GROUP, "extensionservices", "v1alpha1"),
        crd("example.org", "others", "v1"),
    ]
    answers = {
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {"items": crds},
        f"/apis/{gateway.GROUP}/v1": {"resources": [{"name": "gateways"}, {"name": "gateways/status"}]},
        f"/apis/{gateway.CONTOUR_GROUP}/v1": {"resources": [{"name": "tlscertificatedelegations"}]},
    }
    assert gateway.list_unserved(lambda _, path: answers.get(path)) == [
        "httpproxies.projectcontour.io/v1",
        "extensionservices.projectcontour.io/v1alpha1",
    ]
