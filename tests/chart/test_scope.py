"""How far an install reaches: objects of the cluster, and the network of the operator's own pod."""

import ipaddress

import pytest
import yaml

from pilotfish.api.job_progress import PROGRESS_PORT
from pilotfish.names import FIELD_MANAGER, MANAGED_BY
from pilotfish.resources.triton_flags import TritonPorts
from support.helm import CHART, NAMESPACE, one, render, values_of

NAMESPACED = values_of("namespaced")
METADATA = ("169.254.169.254", "169.254.170.2", "fe80::a9fe:a9fe", "fd00:ec2::254")
CLOSED = ("--set", "networkPolicy.enabled=true")


def test_an_install_for_named_namespaces_can_do_without_any_object_of_the_cluster():
    homes = {(body["kind"], body["metadata"].get("namespace")) for body in render(*NAMESPACED)}
    assert {namespace for _, namespace in homes} == {NAMESPACE, "team-a"}
    assert {kind for kind, namespace in homes if namespace == "team-a"} == {"Role", "RoleBinding"}


def addresses(rule):
    """What the ipBlocks of an egress rule open."""
    for peer in rule["to"]:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            yield ipaddress.ip_network(block["cidr"]), [ipaddress.ip_network(e) for e in block.get("except", ())]


def reaches(rule, address):
    ip = ipaddress.ip_address(address)
    return any(ip in block and not any(ip in other for other in out) for block, out in addresses(rule))


def ports(rule):
    return {(port["protocol"], port["port"]) for port in rule["ports"]}


class TestNetworkPolicy:
    def test_it_is_off_unless_asked_for(self):
        assert not [body for body in render() if body["kind"] == "NetworkPolicy"]

    def test_it_selects_the_operator_and_opens_its_one_port(self):
        bodies = render(*CLOSED)
        spec = one(bodies, "NetworkPolicy")["spec"]
        pod = one(bodies, "Deployment")["spec"]["template"]
        assert spec["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
        (rule,) = spec["ingress"]
        assert rule == {"ports": [{"port": "http", "protocol": "TCP"}]}
        (container,) = pod["spec"]["containers"]
        assert [port["name"] for port in container["ports"]] == ["http"]

    def test_it_leads_to_the_api_server_and_to_the_ports_of_our_pods(self):
        api, pods = one(render(*CLOSED), "NetworkPolicy")["spec"]["egress"]
        assert ports(api) == {("TCP", 443), ("TCP", 6443)}
        assert ports(pods) == {("TCP", TritonPorts().metrics), ("TCP", PROGRESS_PORT)}
        (peer,) = pods["to"]
        assert peer["podSelector"]["matchLabels"] == {MANAGED_BY: FIELD_MANAGER}

    @pytest.mark.parametrize("url", ["", "http://prometheus.monitoring:9090", "https://prometheus.example.org/x"])
    def test_no_rule_leads_to_a_cloud_s_metadata(self, url):
        rules = one(render(*CLOSED, "--set", f"prometheus.url={url}"), "NetworkPolicy")["spec"]["egress"]
        assert len(rules) == (4 if url else 2)
        assert not [(rule, address) for rule in rules for address in METADATA if reaches(rule, address)]
        assert all(rule["to"] and rule["ports"] for rule in rules), "a rule without peers would open everything"

    @pytest.mark.parametrize(
        ("url", "port"),
        [("http://p:9090", 9090), ("http://p", 80), ("https://p/x", 443), ("https://p:9091/x:1/", 9091)],
    )
    def test_prometheus_is_reached_at_the_port_of_its_url(self, url, port):
        *_, prometheus, dns = one(render(*CLOSED, "--set", f"prometheus.url={url}"), "NetworkPolicy")["spec"]["egress"]
        assert ports(prometheus) == {("TCP", port)}
        assert ports(dns) == {("TCP", 53), ("UDP", 53)}

    def test_everything_can_be_named(self):
        values = yaml.safe_load((CHART / "ci" / "all-values.yaml").read_text())["networkPolicy"]
        spec = one(render(*values_of("all")), "NetworkPolicy")["spec"]
        api, pods, prometheus, _ = spec["egress"]
        assert spec["ingress"][0]["from"] == values["metricsFrom"]
        assert api["to"] == [{"ipBlock": {"cidr": cidr}} for cidr in values["apiServer"]["cidrs"]]
        assert prometheus["to"] == values["prometheusAt"]
        assert pods["to"][0]["namespaceSelector"]["matchExpressions"][0]["values"] == ["team-a", "team-b"]
