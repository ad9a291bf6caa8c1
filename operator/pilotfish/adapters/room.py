"""What the scheduler could still place: nodes minus the pods on them, and what quotas leave. Live lists, nothing kept.

It counts as the scheduler does. It knows nothing of affinity, volumes and ports: the scheduler has the last word.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from pilotfish.core.objects import Body, condition_is_true, name_of
from pilotfish.core.room import NodeRoom, Room
from pilotfish.ports import Cluster, Forbidden

_FINISHED = {"Succeeded", "Failed"}
_KEEPS_AWAY = {"NoSchedule", "NoExecute"}
_OUR_SCOPES = {"NotBestEffort", "NotTerminating"}
"""Our pods have requests and no deadline: quotas of these scopes count them."""

Amounts = Mapping[str, Decimal]
"""By resource name, in cores and bytes; what is not there is 0."""
_NONE: Amounts = {}
_ZERO = Decimal(0)


async def read_room(
    cluster: Cluster, *, namespace: str, resource: str, tolerations: Sequence[Mapping[str, Any]] = ()
) -> Room | None:
    """What is free for pods of a namespace that ask for `resource`; None where the operator may not look.

    `tolerations`: of such a pod as it is stored, since admission adds some. Raises ClusterError.
    """
    try:
        nodes, pods, quotas = await asyncio.gather(
            cluster.list(api_version="v1", kind="Node", namespace=None, labels={}),
            cluster.list(api_version="v1", kind="Pod", namespace=None, labels={}),
            cluster.list(api_version="v1", kind="ResourceQuota", namespace=namespace, labels={}),
        )
    except Forbidden:
        return None
    return make_room(nodes, pods, quotas, resource=resource, tolerations=tolerations)


def make_room(
    nodes: Iterable[Body],
    pods: Iterable[Body],
    quotas: Iterable[Body],
    *,
    resource: str,
    tolerations: Sequence[Mapping[str, Any]] = (),
) -> Room:
    """The same from what was listed: all nodes, all pods of the cluster, the quotas of one namespace."""
    used: dict[str, Amounts] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod.get("status", {}).get("phase") not in _FINISHED:
            used[node] = _sum(used.get(node, _NONE), {**requests_of(pod), "pods": Decimal(1)})
    rooms = (
        _node_room(node, used.get(name_of(node), _NONE), resource) for node in nodes if _takes_pods(node, tolerations)
    )
    return Room(resource=resource, nodes=tuple(room for room in rooms if room is not None), quota=_left_by(quotas))


def requests_of(pod: Body) -> Amounts:
    """What the scheduler counts for a pod.

    Init containers run one by one before the others, except those that stay (restartPolicy Always): these count beside
    everything after them. Amounts of the pod as a whole replace those of its containers.
    """
    spec = pod["spec"]
    staying, peak = _NONE, _NONE
    for container in spec.get("initContainers") or ():
        running = _sum(staying, _requests(container))
        peak = _most(peak, running)
        if container.get("restartPolicy") == "Always":
            staying = running
    for container in spec["containers"]:
        staying = _sum(staying, _requests(container))
    return _sum({**_most(peak, staying), **_requests(spec)}, _amounts(spec.get("overhead")))


def _takes_pods(node: Body, tolerations: Sequence[Mapping[str, Any]]) -> bool:
    spec = node.get("spec", {})
    taints = spec.get("taints") or ()
    return (
        not spec.get("unschedulable")
        and condition_is_true(node, "Ready")
        and not any(t.get("effect") in _KEEPS_AWAY and not _tolerated(t, tolerations) for t in taints)
    )


def _tolerated(taint: Mapping[str, Any], tolerations: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        toleration.get("effect", taint["effect"]) in {taint["effect"], ""}
        and (toleration.get("key") or taint["key"]) == taint["key"]
        and (toleration.get("operator") == "Exists" or _same_value(toleration, taint))
        for toleration in tolerations
    )


def _same_value(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    same = toleration.get("value", "") == taint.get("value", "")
    return bool(same and toleration.get("operator", "Equal") == "Equal")


def _node_room(node: Body, used: Amounts, resource: str) -> NodeRoom | None:
    """What is left; None when the node takes no further pod at all."""
    left = _sum(_amounts(node.get("status", {}).get("allocatable")), {name: -amount for name, amount in used.items()})
    if left.get("pods", _ZERO) <= 0:
        return None
    return NodeRoom(
        name=name_of(node),
        gpus=int(left.get(resource, _ZERO)),
        cpu=float(left.get("cpu", _ZERO)),
        memory=float(left.get("memory", _ZERO)),
    )


def _left_by(quotas: Iterable[Body]) -> dict[str, float]:
    """The least that any quota leaves of each resource."""
    left: dict[str, float] = {}
    for quota in quotas:
        if not _scopes_of(quota) <= _OUR_SCOPES:
            continue
        status = quota.get("status", {})
        used = _amounts(status.get("used"))
        for name, hard in _amounts(status.get("hard") or quota["spec"].get("hard")).items():
            left[name] = min(left.get(name, float("inf")), float(hard - used.get(name, _ZERO)))
    return dict(sorted(left.items()))


def _scopes_of(quota: Body) -> set[str]:
    """Scopes that limit which pods a quota counts; `?` for one that picks pods by priority or the like."""
    spec = quota["spec"]
    selected = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    named = {str(each["scopeName"]) if each["operator"] == "Exists" else "?" for each in selected}
    return {*(spec.get("scopes") or ()), *named}


def _requests(owner: Mapping[str, Any]) -> Amounts:
    return _amounts((owner.get("resources") or {}).get("requests"))


def _amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    return {name: parse_quantity(quantity) for name, quantity in (quantities or {}).items()}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, _ZERO) + other.get(name, _ZERO) for name in {*one, *other}}


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, _ZERO), other.get(name, _ZERO)) for name in {*one, *other}}
