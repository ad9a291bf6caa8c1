"""Checks of what models need around them, and of the models themselves. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from pilotfish.cli.doctor.facts import Diagnosis, Facts, Place, Unread, Verdict
from pilotfish.core.objects import Body, annotation_of, condition_is_true, condition_of, name_of

GPU = "nvidia.com/gpu"
GATEWAY_GROUP = "gateway.networking.k8s.io"
MONITORING_GROUP = "monitoring.coreos.com"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
RUNTIME_CLASS = "nvidia"
_CLASS_TODO = "mark a StorageClass as default, or set spec.storage.className or a bucket (spec.storage.kind: Bucket)"


def check_storage(facts: Facts) -> Iterator[Diagnosis]:
    """Claims of artifacts find a StorageClass, and are bound."""
    yield from _pending_claims(facts)
    classes = facts.storage_classes
    if isinstance(classes, Unread):
        yield _say("storage", Verdict.WARNING, f"StorageClasses may not be read: {classes.why}")
        return
    known = {name_of(one) for one in classes}
    default = next((name_of(one) for one in classes if _is_default(one)), None)
    asking = [(_place(model), _claim_class(model)) for model in _models(facts) if _has_claim(model)]
    bad = [(place, named) for place, named in asking if named and named not in known]
    for place, named in bad:
        todo = f"make it, or a new ModelDeployment with one of: {', '.join(sorted(known)) or 'none exists'}"
        yield _say("storage", Verdict.FAILED, f"{place} names StorageClass {named}, which does not exist", todo)
    if default is None:
        told = "no StorageClass is the default: claims without spec.storage.className stay pending"
        yield _say("storage", Verdict.WARNING, told, _CLASS_TODO)
    elif not bad:
        yield _say("storage", Verdict.OK, f"StorageClass {default} is the default")


def check_gpus(facts: Facts) -> Iterator[Diagnosis]:
    """Nodes offer the GPUs that models ask for."""
    if isinstance(facts.nodes, Unread):
        yield _say("gpus", Verdict.WARNING, f"nodes may not be read: {facts.nodes.why}")
        return
    asked: Counter[str] = Counter()
    for model in _models(facts):
        gpus = _at(model, "spec", "serving", "gpus")
        if int(gpus.get("count") or 0):
            asked[str(gpus.get("resource") or GPU)] += 1
    for resource in dict.fromkeys([*asked, GPU]):
        yield _judge_gpus(facts, facts.nodes, resource, models=asked[resource])


def check_runtime_class(facts: Facts) -> Iterator[Diagnosis]:
    """Where GPUs are, containers reach them."""
    if isinstance(facts.nodes, Unread) or not any(_offers(node, GPU) for node in facts.nodes):
        return
    if isinstance(facts.runtime_classes, Unread):
        yield _say("runtime-class", Verdict.WARNING, f"RuntimeClasses may not be read: {facts.runtime_classes.why}")
        return
    there = any(name_of(one) == RUNTIME_CLASS for one in facts.runtime_classes)
    told = f"RuntimeClass {RUNTIME_CLASS} {'exists' if there else 'does not exist'}"
    rest = "Triton pods name none, so the NVIDIA runtime must be the default on nodes with GPUs"
    yield _say("runtime-class", Verdict.OK, f"{told}; {rest}")


def check_gateways(facts: Facts) -> Iterator[Diagnosis]:
    """Gateway API and the Gateways that models name."""
    naming = [model for model in _models(facts) if _gateway_of(model)]
    if not naming:
        yield _say("gateway-api", Verdict.OK, "not needed: no ModelDeployment names a gateway")
        return
    if isinstance(facts.groups, frozenset) and GATEWAY_GROUP not in facts.groups:
        todo = "install the Gateway API's CRDs (v1.1 or newer) and a controller for them"
        told = f"{_place(naming[0])} names a gateway, but the API group {GATEWAY_GROUP} is not served"
        yield _say("gateway-api", Verdict.FAILED, told, todo)
        return
    if not isinstance(facts.operators, Unread) and any(
        setting_of(o, "GATEWAY_API") == "false" for o in facts.operators
    ):
        todo = "helm upgrade with gatewayAPI.enabled=true"
        yield _say("gateway-api", Verdict.FAILED, "models name gateways, but the operator makes no routes", todo)
    missing = [place for place, gateway in facts.gateways.items() if gateway is None]
    for place in missing:
        yield _say("gateway-api", Verdict.FAILED, f"Gateway {place} does not exist", "make it, or name another gateway")
    for place, gateway in facts.gateways.items():
        if isinstance(gateway, Unread):
            yield _say("gateway-api", Verdict.WARNING, f"Gateway {place} may not be read: {gateway.why}")
        elif gateway is not None and not condition_is_true(gateway, "Programmed"):
            todo = f"kubectl --namespace {place.namespace} describe gateway {place.name}"
            yield _say("gateway-api", Verdict.WARNING, f"Gateway {place} is not programmed by its controller", todo)
    if not missing:
        yield _say("gateway-api", Verdict.OK, f"served; {len(naming)} ModelDeployment(s) name a gateway that exists")


def check_monitoring(facts: Facts) -> Iterator[Diagnosis]:
    """Whether the chart's PodMonitors and rules can be used."""
    if isinstance(facts.groups, Unread):
        yield _say("prometheus", Verdict.WARNING, f"API groups may not be read: {facts.groups.why}")
    elif MONITORING_GROUP in facts.groups:
        yield _say("prometheus", Verdict.OK, "the Prometheus operator's CRDs are there")
    else:
        told = "the Prometheus operator's CRDs are not there; the chart's PodMonitors stay off"
        yield _say("prometheus", Verdict.OK, told)


def check_models(facts: Facts) -> Iterator[Diagnosis]:
    """Each ModelDeployment that is not Ready, with its own reason."""
    if isinstance(facts.models, Unread):
        yield _say("models", Verdict.WARNING, f"ModelDeployments may not be read: {facts.models.why}")
        return
    troubled = [told for model in facts.models for told in _judge_model(model)]
    yield from troubled
    good = len(facts.models) - len(troubled)
    where = f"in namespace {facts.namespace}" if facts.namespace else "in all namespaces"
    if not facts.models:
        yield _say("models", Verdict.OK, f"no ModelDeployment {where} yet; pilotfish init writes one")
    elif good:
        yield _say("models", Verdict.OK, f"{good} of {len(facts.models)} ModelDeployment(s) {where} Ready")


def _judge_model(model: Body) -> Iterator[Diagnosis]:
    place, name = _place(model), name_of(model)
    see = f"pilotfish get {name} --namespace {place.namespace}"
    stalled, ready = condition_of(model, "Stalled"), condition_of(model, "Ready")
    seen = int(_at(model, "status").get("observedGeneration") or 0)
    if stalled is not None and stalled.get("status") == "True":
        yield _say("models", Verdict.FAILED, f"{place} is stalled: {_told(stalled)}", see)
    elif seen < int(model["metadata"].get("generation") or 0):
        yield _say("models", Verdict.WARNING, f"the operator has not looked at the newest spec of {place} yet", see)
    elif ready is None or ready.get("status") != "True":
        said = f": {_told(ready)}" if ready is not None else ""
        yield _say("models", Verdict.WARNING, f"{place} is not Ready{said}", see)


def _judge_gpus(facts: Facts, nodes: tuple[Body, ...], resource: str, *, models: int) -> Diagnosis:
    total = sum(_offers(node, resource) for node in nodes)
    if total == 0:
        if models:
            todo = "install the GPU's device plugin, add nodes with GPUs, or set spec.serving.gpus.count: 0"
            told = f"{models} ModelDeployment(s) ask for {resource}, which no node offers"
            return _say("gpus", Verdict.FAILED, told, todo)
        return _say("gpus", Verdict.OK, f"no node offers {resource}; models are served on CPU")
    having = sum(1 for node in nodes if _offers(node, resource))
    said = f"{having} node(s) offer {total} {resource}"
    if isinstance(facts.taken, Unread):
        return _say("gpus", Verdict.WARNING, f"{said}; how many are free may not be read: {facts.taken.why}")
    free = total - facts.taken.get(resource, 0)
    if free <= 0:
        todo = "a new model waits for one; updates need spec.rollout.capacity Swap or Recreate"
        return _say("gpus", Verdict.WARNING, f"{said}, none is free", todo)
    return _say("gpus", Verdict.OK, f"{said}, {free} free")


def _pending_claims(facts: Facts) -> Iterator[Diagnosis]:
    if isinstance(facts.claims, Unread):
        yield _say("storage", Verdict.WARNING, f"claims may not be read: {facts.claims.why}")
        return
    for claim in facts.claims:
        phase = _at(claim, "status").get("phase")
        if phase == "Lost":
            told = f"claim {_place(claim)} has lost its volume"
            yield _say("storage", Verdict.FAILED, told, "bring the volume back, or make a new ModelDeployment")
        # With a class, a claim may well wait for its first pod.
        if phase == "Pending" and not _at(claim, "spec").get("storageClassName"):
            told = (
                f"claim {_place(claim)} is pending: it names no StorageClass, and none was the default when it was made"
            )
            yield _say("storage", Verdict.FAILED, told, _CLASS_TODO)


def _models(facts: Facts) -> tuple[Body, ...]:
    return () if isinstance(facts.models, Unread) else facts.models


def gateways_of(models: tuple[Body, ...]) -> tuple[Place, ...]:
    """The Gateways that these name, each once."""
    named = (Place(_place(model).namespace, _gateway_of(model)) for model in models if _gateway_of(model))
    return tuple(dict.fromkeys(named))


def _gateway_of(model: Body) -> str:
    return str(_at(model, "spec", "serving", "gateway").get("name") or "")


def _has_claim(model: Body) -> bool:
    return str(_at(model, "spec", "storage").get("kind", "PVC")) == "PVC"


def _claim_class(model: Body) -> str:
    return str(_at(model, "spec", "storage").get("className") or "")


def _is_default(storage_class: Body) -> bool:
    return annotation_of(storage_class, DEFAULT_CLASS) == "true"


def _offers(node: Body, resource: str) -> int:
    return int(_at(node, "status", "allocatable").get(resource) or 0)


def setting_of(deployment: Body, name: str) -> str | None:
    """A variable of the operator's container."""
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for variable in container.get("env") or ():
            if variable["name"] == f"PILOTFISH_{name}":
                return str(variable.get("value"))
    return None


def _told(condition: Mapping[str, Any]) -> str:
    return f"{condition.get('reason')}: {condition.get('message')}"


def _place(body: Body) -> Place:
    return Place(str(body["metadata"].get("namespace", "")), name_of(body))


def _at(body: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """An inner mapping, empty where there is none."""
    for key in path:
        body = body.get(key) or {}
    return body


def _say(check: str, verdict: Verdict, message: str, todo: str = "") -> Diagnosis:
    return Diagnosis(check=check, verdict=verdict, message=message, todo=todo)
