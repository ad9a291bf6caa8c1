"""A renewed certificate reaches the pods by a rolling restart: Triton reads it at its start alone.

The watcher's pod tells the digest of what the Secret holds now; it stands as an annotation in the pod template of every
revision that mounts that Secret. Another digest is another template, and the Deployment replaces its pods one by one.
"""

import re

from pilotfish import names
from pilotfish.api.access import Tls
from pilotfish.core.drift import apply_if_needed
from pilotfish.core.failures import Finding
from pilotfish.core.objects import Body, annotation_of, is_deleting, label_of
from pilotfish.core.plan import Apply
from pilotfish.core.pod_checks import find_in_pods
from pilotfish.core.scope import Scope
from pilotfish.resources.certificate import make_certificate_watcher
from pilotfish.resources.revision import RevisionRecord
from pilotfish.resources.verify_job import tls_of

_DIGEST = re.compile("[0-9a-f]{16}")


def keep_certificate(scope: Scope) -> tuple[Apply, ...]:
    """The watcher, where the spec names a certificate; nothing when it is as it should be."""
    tls = scope.spec.serving.access.tls
    if tls is None:
        return ()
    apply = apply_if_needed(scope.observed, make_certificate_watcher(scope.owner, tls, scope.policy))
    return () if apply is None else (apply,)


def unwanted_certificate(scope: Scope) -> tuple[Body, ...]:
    """A watcher of what the spec no longer names."""
    found = scope.observed.child("Deployment", names.certificate_watcher(scope.owner.name))
    return () if found is None or scope.spec.serving.access.tls is not None else (found,)


def certificate_of(scope: Scope, record: RevisionRecord) -> str | None:
    """The digest that the revision's pods start with: what is in the Secret, else what they started with so far."""
    tls = tls_of(record)
    if tls is None:
        return None
    told = _told(scope, tls) if tls == scope.spec.serving.access.tls else None
    return told or _stamped(scope, record)


def wants_certificate(scope: Scope, record: RevisionRecord) -> bool:
    """Whether its pods would start before anybody knows their certificate, and roll over once it is known."""
    tls = tls_of(record)
    return tls is not None and tls == scope.spec.serving.access.tls and certificate_of(scope, record) is None


def certificate_trouble(scope: Scope) -> Finding | None:
    """What keeps the watcher's pod from looking."""
    name = names.certificate_watcher(scope.owner.name)
    return find_in_pods(_watchers(scope), of=f'Deployment "{name}"', now=scope.now)


def _told(scope: Scope, tls: Tls) -> str | None:
    """The newest word of a watcher that has this very Secret."""
    said = []
    for pod in _watchers(scope):
        secrets = {v["secret"]["secretName"] for v in pod["spec"].get("volumes", ()) if "secret" in v}
        if secrets != {tls.secret_name, *([tls.client_ca] if tls.client_ca else [])}:
            continue
        for status in pod.get("status", {}).get("containerStatuses") or ():
            ends = (status.get(state, {}).get("terminated") or {} for state in ("lastState", "state"))
            said += [(str(end.get("finishedAt")), str(end["message"])) for end in ends if end.get("message")]
    return next((word for _, word in sorted(said, reverse=True) if _DIGEST.fullmatch(word)), None)


def _watchers(scope: Scope) -> list[Body]:
    found = (pod for pod in scope.observed.pods if not is_deleting(pod))
    return [pod for pod in found if label_of(pod, names.COMPONENT_LABEL) == names.Component.CERTIFICATE]


def _stamped(scope: Scope, record: RevisionRecord) -> str | None:
    found = scope.observed.child("Deployment", names.revision_name(scope.owner.name, record.revision))
    return None if found is None else annotation_of(found["spec"]["template"], names.CERTIFICATE)
