"""Objects that every cluster has from the start: names, storage, and the rights of the programs that give them."""

from typing import Any

from pilotcluster.programs import Endpoints

STORAGE_CLASS = "standard"
PROVISIONER = "pilotfish.dev/folders"


def make_cluster_role(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A role and its binding to the user of the same name."""
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
        },
    ]


def make_binding(name: str, *, role: str, user: str) -> dict[str, Any]:
    """A binding of one user to a role that Kubernetes brings along."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


def rule(groups: list[str], resources: list[str], verbs: list[str]) -> dict[str, Any]:
    """One rule of a role."""
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


def make_rights() -> list[dict[str, Any]]:
    """What DNS, the volumes and the API server's way to the kubelet may do."""
    read = ["get", "list", "watch"]
    return [
        *make_cluster_role(
            "pilotfish:coredns",
            [
                rule([""], ["services", "namespaces", "pods", "endpoints"], read),
                rule(["discovery.k8s.io"], ["endpointslices"], read),
            ],
        ),
        *make_cluster_role(
            "pilotfish:provisioner",
            [
                rule([""], ["persistentvolumes"], [*read, "create", "delete", "update", "patch"]),
                rule([""], ["persistentvolumeclaims", "nodes", "pods"], [*read, "update", "patch"]),
                rule(["storage.k8s.io"], ["storageclasses"], read),
                rule(["", "events.k8s.io"], ["events"], ["create", "update", "patch"]),
            ],
        ),
        make_binding(
            "pilotfish:apiserver-kubelet", role="system:kubelet-api-admin", user="kube-apiserver-kubelet-client"
        ),
        make_binding("pilotfish:kube-proxy", role="system:node-proxier", user="system:kube-proxy"),
    ]


def make_dns(endpoints: Endpoints, *, node: str) -> list[dict[str, Any]]:
    """The DNS Service; its server runs on the node itself, so the endpoints are written by hand."""
    labels = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    protocols = {"dns": "UDP", "dns-tcp": "TCP"}
    ports = [{"name": name, "port": 53, "protocol": protocol} for name, protocol in protocols.items()]
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": endpoints.service_dns, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kube-dns",
                "namespace": "kube-system",
                "labels": {"kubernetes.io/service-name": "kube-dns"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [endpoints.bind], "conditions": {"ready": True}, "nodeName": node}],
            "ports": ports,
        },
    ]


def make_storage_class() -> dict[str, Any]:
    """The default storage class, named as kind names its own."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def make_objects(endpoints: Endpoints, *, node: str) -> list[dict[str, Any]]:
    """All of them, in the order in which they are applied."""
    return [*make_rights(), *make_dns(endpoints, node=node), make_storage_class()]
