"""What NetworkPolicies mean, for tests where nobody enforces them: who may connect to whom.

By the words of networking.k8s.io/v1 for ingress: a pod that no policy selects takes everything; else what any rule of
any policy that selects it lets in. `from` and `ports` that are missing or empty let in all. The node's kubelet always
may. Egress is not looked at: ours name Ingress alone, and a policy that names more is refused here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who connects: a pod by its namespace and labels, or an address outside the cluster."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def caller(pod: Body) -> Caller:
    """A pod as a caller."""
    return Caller(namespace=pod["metadata"]["namespace"], labels=pod["metadata"].get("labels", {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All policies and all namespaces (as objects) of a cluster."""

    policies: tuple[Body, ...]
    namespaces: tuple[Body, ...]

    def allows(self, source: Caller, target: Body, port: int, *, protocol: str = "TCP") -> bool:
        """Whether `source` gets through to the port of the pod `target`."""
        chosen = [policy for policy in self.policies if _selects_pod(policy, target)]
        if not chosen:
            return True
        return any(
            self._peers_match(rule, source, policy["metadata"]["namespace"])
            and _ports_match(rule, target, port, protocol)
            for policy in chosen
            for rule in policy["spec"].get("ingress") or ()
        )

    def _peers_match(self, rule: Body, source: Caller, home: str) -> bool:
        peers = rule.get("from") or ()
        return not peers or any(self._peer_matches(peer, source, home) for peer in peers)

    def _peer_matches(self, peer: Body, source: Caller, home: str) -> bool:
        if "ipBlock" in peer:
            assert set(peer) == {"ipBlock"}, peer
            return bool(source.address) and _in_block(source.address, peer["ipBlock"])
        if not source.namespace:
            return False
        if "namespaceSelector" not in peer:
            at_home = source.namespace == home
        else:
            at_home = selects(peer["namespaceSelector"], self._labels_of(source.namespace))
        return at_home and ("podSelector" not in peer or selects(peer["podSelector"], source.labels))

    def _labels_of(self, namespace: str) -> Mapping[str, str]:
        found = next(body for body in self.namespaces if body["metadata"]["name"] == namespace)
        labels: Mapping[str, str] = found["metadata"].get("labels", {})
        return labels


def selects(selector: Body, labels: Mapping[str, str]) -> bool:
    """A LabelSelector; the empty one selects everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions") or ())


def _holds(expression: Body, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case other:
            raise AssertionError(f"no operator of a LabelSelector: {other}")


def _selects_pod(policy: Body, pod: Body) -> bool:
    spec, meta = policy["spec"], pod["metadata"]
    assert spec["policyTypes"] == ["Ingress"], spec
    same = policy["metadata"]["namespace"] == meta["namespace"]
    return same and selects(spec["podSelector"], meta.get("labels", {}))


def _ports_match(rule: Body, target: Body, port: int, protocol: str) -> bool:
    ports: Iterable[Body] = rule.get("ports") or ()
    return not ports or any(
        entry.get("protocol", "TCP") == protocol and _port_matches(entry, target, port) for entry in ports
    )


def _port_matches(entry: Body, target: Body, port: int) -> bool:
    wanted = entry.get("port")
    if isinstance(wanted, str):
        named = [p for c in target["spec"]["containers"] for p in c.get("ports") or () if p.get("name") == wanted]
        return any(p["containerPort"] == port for p in named)
    return wanted is None or wanted <= port <= entry.get("endPort", wanted)


def _in_block(address: str, block: Body) -> bool:
    found = ip_address(address)
    if found not in ip_network(block["cidr"]):
        return False
    return not any(found in ip_network(hole) for hole in block.get("except") or ())
