"""The pod that notices a renewed certificate, so that nobody needs a right on Secrets.

It sees the files of the Secret as the kubelet renews them, never the key, and tells their digest by its termination
message: once when it starts and again whenever they change. It serves nothing and holds no token.
"""

from typing import Any

from pilotfish import names
from pilotfish.api.access import Tls
from pilotfish.api.job_input import CLIENT_TLS, RUN_MOUNT, SCRATCH_MOUNT, SERVER_TLS, TERMINATION_LOG
from pilotfish.names import Component
from pilotfish.resources.meta import Owner, make_metadata
from pilotfish.resources.pods import container, mount, pod_basics, resources, scratch
from pilotfish.resources.policy import Compute, Policy
from pilotfish.resources.tls import AUTHORITY, CERTIFICATE, tls_mounts, watcher_volumes

WATCH_CONTAINER = "certificate"
_PAUSE = "10"
_COMPUTE = Compute(cpu="10m", memory="32Mi")
# What was told last outlives a container, so that it ends for news alone. Files that are missing count as empty.
WATCH = """\
scratch=$1 message=$2 pause=$3
shift 3
seen() { cat "$@" 2>/dev/null | sha256sum | cut -c1-16; }
trap 'exit 0' TERM
while :; do
  now=$(seen "$@")
  if [ "$now" != "$(cat "$scratch/told" 2>/dev/null)" ]; then
    printf %s "$now" >"$scratch/told" && printf %s "$now" >"$message" && exit 0
  fi
  sleep "$pause" & wait $!
done
"""


def make_certificate_watcher(owner: Owner, tls: Tls, policy: Policy) -> dict[str, Any]:
    """The whole Deployment."""
    metadata = make_metadata(owner, name=names.certificate_watcher(owner.name), component=Component.CERTIFICATE)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": names.certificate_selector(owner.name)},
            "strategy": {"type": "Recreate"},
            "template": {"metadata": {"labels": dict(metadata["labels"])}, "spec": _pod(tls, policy)},
        },
    }


def _pod(tls: Tls, policy: Policy) -> dict[str, Any]:
    files = [f"{RUN_MOUNT}/{SERVER_TLS}/{CERTIFICATE}"]
    files += [f"{RUN_MOUNT}/{CLIENT_TLS}/{AUTHORITY}"] if tls.client_ca else []
    return {
        **pod_basics(policy.images),
        "terminationGracePeriodSeconds": 5,
        "containers": [
            container(
                WATCH_CONTAINER,
                image=policy.images.optimizer,
                images=policy.images,
                body={
                    "command": ["sh", "-c", WATCH, "watch", SCRATCH_MOUNT, TERMINATION_LOG, _PAUSE, *files],
                    "resources": resources(_COMPUTE),
                },
                mounts=[mount("tmp", SCRATCH_MOUNT), *tls_mounts(tls)],
            )
        ],
        "volumes": [scratch("tmp"), *watcher_volumes(tls)],
    }
