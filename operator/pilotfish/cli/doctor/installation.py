"""Checks of what an administrator installs: API server, CRD, operator, its Lease, and the user's rights. Pure."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pilotfish.api.base import API_VERSION, GROUP, KIND, PLURAL, VERSION
from pilotfish.api.crd import make_crd
from pilotfish.cli.doctor.facts import Diagnosis, Facts, Place, Unread, Verdict
from pilotfish.cli.words import age_of
from pilotfish.core.objects import Body, condition_is_true, label_of, name_of

FLOOR = (1, 31)
"""The oldest Kubernetes that is supported; the chart's kubeVersion says the same."""
CLOCK_SLACK = 5.0
"""Seconds that a Lease may be older than its duration before it counts as given up: clocks of two machines."""
INSTALL = (
    "install the operator: helm install pilotfish charts/pilotfish --namespace pilotfish-system --create-namespace"
)


def check_server(facts: Facts) -> Iterator[Diagnosis]:
    """The API server answers and is new enough."""
    server = facts.server
    if isinstance(server, Unread):
        yield _failed("api-server", f"the API server cannot be asked: {server.why}", "check the kubeconfig and network")
        return
    told = str(server.get("gitVersion", "?"))
    numbers = re.match(r"v?(\d+)\.(\d+)", told)
    floor = ".".join(map(str, FLOOR))
    if numbers is None:
        yield _warning("api-server", f"reachable; its version {told!r} is not understood")
    elif (int(numbers[1]), int(numbers[2])) < FLOOR:
        yield _failed("api-server", f"Kubernetes {told} is older than {floor}", f"upgrade the cluster to {floor}")
    else:
        yield _ok("api-server", f"reachable, Kubernetes {told} (at least {floor} is needed)")


def check_crd(facts: Facts) -> Iterator[Diagnosis]:
    """The CustomResourceDefinition stands, serves this version, and says what this program says."""
    crd = facts.crd
    if isinstance(crd, Unread):
        served = isinstance(facts.groups, frozenset) and GROUP in facts.groups
        if served:
            yield _warning("crd", f"{KIND} is served; its definition may not be compared: {crd.why}")
        else:
            yield _failed("crd", f"the API group {GROUP} is not served", INSTALL)
        return
    if crd is None:
        yield _failed("crd", f"the cluster knows no {KIND}", INSTALL)
        return
    stored = tuple((crd.get("status") or {}).get("storedVersions") or ())
    if not condition_is_true(crd, "Established"):
        yield _failed("crd", f"{name_of(crd)} is there, but not established", "kubectl describe crd " + name_of(crd))
    elif VERSION not in stored:
        yield _failed("crd", f"stored in {', '.join(stored) or 'no version'}, not in {VERSION}", _crd_todo(facts))
    elif (difference := find_difference(make_crd()["spec"], crd["spec"], "spec")) is not None:
        yield _warning(
            "crd", f"stored in {VERSION}, but not the one of {facts.version}: {difference}", _crd_todo(facts)
        )
    else:
        yield _ok("crd", f"{API_VERSION} is stored and is the one of {facts.version}")


def find_difference(ours: Any, theirs: Any, path: str) -> str | None:
    """The first place where a stored definition says something else; what the server adds by itself is no difference.

    path: where both stand, for the sentence.
    """
    return next(_differences(ours, theirs, path), None)


def _differences(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        yield from (f"{path}.{key} is missing" for key in ours if key not in theirs and not _is_empty(ours[key]))
        if path.endswith(".properties"):
            yield from (f"{path}.{key} is unknown here" for key in theirs if key not in ours)
        for key in ours:
            if key in theirs:
                yield from _differences(ours[key], theirs[key], f"{path}.{key}")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path} differs"


def check_operator(facts: Facts) -> Iterator[Diagnosis]:
    """Its Deployment is available and of this program's version."""
    if isinstance(facts.operators, Unread):
        yield _warning(
            "operator", f"its Deployment may not be read: {facts.operators.why}", "name it: --operator-namespace"
        )
        return
    if not facts.operators:
        yield _failed("operator", "no Deployment of the operator was found", INSTALL)
    for deployment in facts.operators:
        yield _judge_operator(deployment, facts.version)


def check_lease(facts: Facts) -> Iterator[Diagnosis]:
    """One replica holds the Lease and renews it."""
    for place, lease in facts.leases.items():
        if isinstance(lease, Unread):
            yield _warning("lease", f"Lease {place} may not be read: {lease.why}")
        elif lease is None:
            yield _failed("lease", f"Lease {place} does not exist: no replica works", _logs_todo(place))
        else:
            yield _judge_lease(place, lease, facts.now)


def check_rights(facts: Facts) -> Iterator[Diagnosis]:
    """What the user needs for the commands of this program."""
    if isinstance(facts.rights, Unread):
        yield _warning("rights", f"the API server does not say what you may do: {facts.rights.why}")
        return
    where = f"in namespace {facts.user_namespace}"
    lacking = [right for right in facts.rights if not right.allowed]
    for right in lacking:
        todo = "ask for the role edit of the namespace; the chart's rbac.aggregate adds ModelDeployments to it"
        told = f"you may not {right.name} {where}, which {right.wanted_for} needs"
        yield _failed("rights", told, todo) if right.is_needed else _warning("rights", told, todo)
    if facts.rights and not lacking:
        yield _ok("rights", f"you may do all that the commands need {where}")


def _judge_operator(deployment: Body, version: str) -> Diagnosis:
    place = _place_of(deployment)
    status, wanted = deployment.get("status") or {}, int(deployment["spec"].get("replicas", 1))
    available = int(status.get("availableReplicas") or 0)
    theirs = version_of(deployment)
    if wanted == 0:
        todo = f"kubectl scale deployment {place.name} --namespace {place.namespace} --replicas 1"
        return _failed("operator", f"Deployment {place} is scaled to 0", todo)
    if available == 0:
        return _failed("operator", f"Deployment {place} has no available replica", _logs_todo(place))
    said = f"Deployment {place} has {available} of {wanted} replicas available, version {theirs}"
    if theirs != version:
        todo = f"use the program of the same version: pip install 'pilotfish[cli]=={theirs}'"
        return _warning("operator", f"{said}; this program is {version}", todo)
    return _ok("operator", said) if available >= wanted else _warning("operator", said, _logs_todo(place))


def version_of(deployment: Body) -> str:
    """The operator's version: its label, or its image's tag."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    tag = str(containers[0].get("image", "")).rpartition("/")[2].partition("@")[0].partition(":")[2]
    return label_of(deployment, "app.kubernetes.io/version") or tag or "unknown"


def _judge_lease(place: Place, lease: Body, now: datetime) -> Diagnosis:
    spec = lease.get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        return _failed("lease", f"nobody holds Lease {place}: no replica works", _logs_todo(place))
    age = (now - datetime.fromisoformat(str(renewed))).total_seconds()
    if age > float(spec.get("leaseDurationSeconds") or 0) + CLOCK_SLACK:
        told = f"{holder} holds Lease {place}, but has not renewed it for {age_of(str(renewed), now)}"
        return _failed("lease", told, _logs_todo(place))
    return _ok("lease", f"{holder} holds Lease {place}, renewed {age_of(str(renewed), now)} ago")


def _place_of(body: Body) -> Place:
    return Place(str(body["metadata"].get("namespace", "")), name_of(body))


def _logs_todo(place: Place) -> str:
    return f"kubectl --namespace {place.namespace} describe pods, and logs of deployment {place.name}"


def _crd_todo(facts: Facts) -> str:
    todo = f"bring CRD and program to one version: helm upgrade with crds.enabled=true, or pilotfish {facts.version}"
    return f"{todo}; crds/{GROUP}_{PLURAL}.yaml is this version's"


def _is_empty(value: Any) -> bool:
    """What the API server leaves out when it stores a definition."""
    return value is None or value is False or value in ("", 0) or (isinstance(value, list | dict) and not value)


def _ok(check: str, message: str) -> Diagnosis:
    return Diagnosis(check=check, verdict=Verdict.OK, message=message)


def _warning(check: str, message: str, todo: str = "") -> Diagnosis:
    return Diagnosis(check=check, verdict=Verdict.WARNING, message=message, todo=todo)


def _failed(check: str, message: str, todo: str = "") -> Diagnosis:
    return Diagnosis(check=check, verdict=Verdict.FAILED, message=message, todo=todo)
