"""Objects that the demo and the end-to-end tests put beside the operator. Pure: data in, data out."""

import base64
from collections.abc import Mapping
from typing import Any

IMAGE = "pilotfish/testbed:dev"
STORE_SECRET = "store-credentials"
STORE_PORT = 5000
USER = 65532

Body = dict[str, Any]


def make_namespace(name: str) -> Body:
    """A namespace that enforces the strictest Pod Security level."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def make_store(namespace: str) -> tuple[Body, ...]:
    """A small S3 server with its Service, and the Secret that a ModelDeployment names to read from it."""
    labels = {"app": "store"}
    container = {
        "name": "s3",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["moto_server", "-H", "0.0.0.0", "-p", str(STORE_PORT)],
        # Otherwise moto takes the first label of its own host name for the bucket.
        "env": [{"name": "S3_IGNORE_SUBDOMAIN_BUCKETNAME", "value": "true"}],
        "ports": [{"containerPort": STORE_PORT}],
        "readinessProbe": {"httpGet": {"path": "/moto-api/", "port": STORE_PORT}, "periodSeconds": 1},
        "securityContext": _container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": _pod_security(),
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    meta = {"name": "store", "namespace": namespace}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": labels, "ports": [{"port": STORE_PORT}]},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": STORE_SECRET, "namespace": namespace},
        "stringData": {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": f"http://store.{namespace}.svc:{STORE_PORT}",
        },
    }
    return deployment, service, secret


def make_client(name: str, namespace: str, *, service: str, files: Mapping[str, bytes]) -> tuple[Body, ...]:
    """A pod that asks `service` without a pause and counts what goes wrong; `files` holds client.py and cases.npz."""
    meta = {"name": name, "namespace": namespace, "labels": {"app": name}}
    encoded = {key: base64.b64encode(content).decode() for key, content in files.items()}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "binaryData": encoded}
    container = {
        "name": "client",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "/client/client.py", "--host", service, "--model", service],
        "securityContext": _container_security(),
        "volumeMounts": [{"name": "files", "mountPath": "/client"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 20,
            "securityContext": _pod_security(),
            "containers": [container],
            "volumes": [{"name": "files", "configMap": {"name": name}}],
        },
    }
    return config, pod


def _pod_security() -> Body:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _container_security() -> Body:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
