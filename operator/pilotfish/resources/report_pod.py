"""A short-lived pod that prints one file of a claim. Made by the command line for its user, never by the operator.

It carries none of our labels: no Service, budget or Deployment of ours may take it for one of its pods.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilotfish import names
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.api.job_input import STORE_MOUNT
from pilotfish.resources.meta import Owner
from pilotfish.resources.pods import claim_volume, container, mount, pod_basics, resources
from pilotfish.resources.policy import Compute, Images

CONTAINER = "report"
SECONDS = 120
_COMPUTE = Compute(cpu="100m", memory="64Mi")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportIntent:
    """Which file, and what the pods of its revision need to run where its claim is."""

    path: str
    """Relative to the store."""
    template: Mapping[str, Any]
    """Spec of the revision's Triton pods, with an init container that can read the store."""
    suffix: str
    """Makes the pod's name its own."""


def make_report_pod(owner: Owner, intent: ReportIntent) -> dict[str, Any]:
    """The whole Pod. It ends by itself; it goes with the ModelDeployment should nobody delete it."""
    template = intent.template
    first = (template.get("initContainers") or template["containers"])[0]
    images = Images(
        optimizer=first["image"],
        optimizer_torch=first["image"],
        triton=first["image"],
        pull_policy=first.get("imagePullPolicy", "IfNotPresent"),
        pull_secrets=tuple(secret["name"] for secret in template.get("imagePullSecrets") or ()),
    )
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {names.NAME_LABEL: owner.name}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{names.stem(owner.name)}-report-{intent.suffix}",
            "namespace": owner.namespace,
            "labels": {names.APP_NAME: "report", names.MANAGED_BY: "pilotfish-cli"},
            "ownerReferences": [{"apiVersion": API_VERSION, "kind": KIND, "name": owner.name, "uid": owner.uid}],
        },
        "spec": {
            **pod_basics(images),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": SECONDS,
            "terminationGracePeriodSeconds": 1,
            # A claim that one node alone may mount is where the model's other pods are.
            "affinity": {
                "podAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]
                }
            },
            **{key: template[key] for key in ("nodeSelector", "tolerations") if template.get(key)},
            "containers": [
                container(
                    CONTAINER,
                    image=images.optimizer,
                    images=images,
                    body={"command": ["cat", f"{STORE_MOUNT}/{intent.path}"], "resources": resources(_COMPUTE)},
                    mounts=[mount("store", STORE_MOUNT, read_only=True)],
                )
            ],
            "volumes": [claim_volume("store", names.store_claim(owner.name), read_only=True)],
        },
    }
