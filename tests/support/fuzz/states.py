"""Every state in which an object is not as it was asked for: how it comes there, and what is wrong in the world meanwhile.

Each starts with A served (or with nothing, where the first spec is the bad one) and ends at rest in its state.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pilotfish import names
from pilotfish.api.report import OptimizerReason
from support.builders import OWNER, POLICY, make_model_deployment
from support.fuzz.admission import RefusedError, admit, as_stored
from support.invalid_objects import INVALID, make_manifest
from support.neighbours import (
    DAMAGED,
    FLAKY,
    OUT_OF_MEMORY,
    SILENT,
    SLOW,
    UNASKED,
    UNLOADABLE,
    WRONG,
    Surroundings,
    is_ready,
)
from support.specs import make_wanted, uri
from support.traffic import ERRING
from support.world import World

CANARY = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "1m"}]}
HELD = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}]}
GPUS = 8
BEHAVIOURS = (FLAKY, OUT_OF_MEMORY, SILENT, UNLOADABLE, DAMAGED, SLOW, WRONG, UNASKED)
_WELL = {"Succeeded", "ArtifactReused"}
_LONG = timedelta(minutes=25)
"""Beyond every deadline of the specs here, so that what gives up has given up."""

Change = Callable[[World], object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """One. `bad` is asked for after A; None: the object stays as it is, and `happens` alone makes the state."""

    name: str
    bad: Mapping[str, Any] | None
    first: bool = False
    """Nobody serves yet: the bad one is the first."""
    behaviour: str | None = None
    """Of the model that the bad spec asks for."""
    happens: Change | None = None
    """What goes wrong in the world beside it, before the bad spec is asked for."""
    heal: Change | None = None
    """What ends it in the world. Then nobody need edit anything."""
    keeps_serving: bool = True
    """Whether A serves on."""
    more: Mapping[str, Any] = field(default_factory=dict)

    def world(self) -> World:
        """A world at rest in this state."""
        models = {} if self.behaviour is None else {uri("bad"): self.behaviour}
        world = World(around=Surroundings(gpus=GPUS, models=models), sees_room=True)
        world.traffic.rate = 20.0
        if not self.first:
            world.cluster.create_now(make_model_deployment(_stored({**make_wanted("v1", replicas=2), **self.more})))
            world.settle()
            assert world.said("Ready") == ("True", "Serving")
        if self.happens is not None:
            self.happens(world)
        if self.bad is not None:
            store(world, self.bad)
        world.go_on(_LONG)
        return world


def store(world: World, spec: Mapping[str, Any]) -> None:
    """As the API server stores it, or as an older one did that had not the rule."""
    stored = _stored(spec)
    if world.cluster.look("ModelDeployment", OWNER.name) is None:
        world.cluster.create_now(make_model_deployment(stored))
    else:
        world.cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=stored))


def _stored(spec: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return admit(spec)
    except RefusedError:
        return as_stored(spec)


def all_states() -> tuple[State, ...]:
    """Every one."""
    return (*_models(), *_worlds(), *_quiet_ones(), *_invalid())


def _models() -> Iterator[State]:
    """The model's own fault, found in the Job, at loading, at verification, under traffic."""
    failing = [reason.value for reason in OptimizerReason if reason.value not in _WELL]
    for behaviour in (*BEHAVIOURS, *failing):
        for first in (False, True):
            name = f"{'a first' if first else 'an update'}: {behaviour}"
            yield State(name=name, bad=make_wanted("bad", replicas=2), first=first, behaviour=behaviour)
    for behaviour in (ERRING,):
        bad = {**make_wanted("bad", replicas=2), "rollout": CANARY}
        yield State(name=f"a canary: {behaviour}", bad=bad, behaviour=behaviour)
    for kind, gone in (("Replace", {"strategy": "Replace"}), ("Recreate", {"capacity": "Recreate"})):
        bad = {**make_wanted("bad", replicas=2), "rollout": gone}
        yield State(name=f"{kind} by one that cannot be loaded", bad=bad, behaviour=UNLOADABLE)


def _worlds() -> Iterator[State]:
    """What lies around the pods."""
    good, more = make_wanted("v2", replicas=2), make_wanted("v1", replicas=4)
    credited = {**good, "model": {**good["model"], "credentials": {"secretName": "creds"}}}
    around: dict[str, tuple[Mapping[str, Any], Change, Change]] = {
        "no GPU is left": (good, _around(gpus=2), _around(gpus=GPUS)),
        "too few GPUs for more pods": (more, _around(gpus=3), _around(gpus=GPUS)),
        "the quota is full": (good, _around(quota_exceeded=True), _around(quota_exceeded=False)),
        "no image of the optimizer": (
            good,
            _around(missing_images={POLICY.images.optimizer_torch}),
            _around(missing_images=set()),
        ),
        "no image of Triton": (good, _around(missing_images={POLICY.images.triton}), _around(missing_images=set())),
        "no Secret": (credited, _around(missing_secrets={"creds"}), _around(missing_secrets=set())),
    }
    for name, (bad, happens, heal) in around.items():
        yield State(name=f"an update: {name}", bad=bad, happens=happens, heal=heal)
        if name != "too few GPUs for more pods":
            yield State(name=f"a first: {name}", bad=bad, first=True, happens=happens, heal=heal)
    yield State(name="the servers that serve die", bad=None, happens=_all_die, heal=_live_again, keeps_serving=False)
    for kind, child in (("Job", "optimize"), ("Deployment", ""), ("Service", ""), ("ConfigMap", "")):
        yield State(
            name=f"somebody else's {kind} in the way", bad=good, happens=_stranger(kind, child), heal=_gone(kind)
        )


def _quiet_ones() -> Iterator[State]:
    """Nothing is wrong; it waits because somebody said so."""
    held = {**make_wanted("v2", replicas=2), "rollout": HELD}
    window = [{"schedule": "0 3 1 1 *", "duration": "1h"}]
    yield State(name="served", bad=None)
    yield State(name="paused", bad={**make_wanted("v2", replicas=2), "paused": True})
    yield State(name="a canary that waits for its promotion", bad=held)
    yield State(name="a canary that nobody asks", bad=held, happens=lambda w: setattr(w.traffic, "rate", 0.0))
    yield State(name="no pods", bad=make_wanted("v1", replicas=0), keeps_serving=False)
    yield State(
        name="outside of its window", bad={**make_wanted("v2", replicas=2), "rollout": {"maintenanceWindows": window}}
    )
    undo = {"id": "1", "verb": "undo", "toRevision": "gone2345"}
    yield State(name="undo to nowhere", bad={**make_wanted("v1", replicas=2), "rollout": {"action": undo}})


def _invalid() -> Iterator[State]:
    """What a CRD without this or that rule let in."""
    for case in INVALID:
        if case.server_says is not None and case.name == OWNER.name:
            spec = make_manifest(case.spec)["spec"]
            yield State(name=f"invalid: {case.what}", bad={**spec, "serving": _two(spec.get("serving"))})


def _two(serving: Any) -> Any:
    return {"replicas": 2, "minAvailable": 1, **serving} if isinstance(serving, Mapping) else serving


def _around(**values: Any) -> Change:
    def change(world: World) -> None:
        for name, value in values.items():
            setattr(world.around, name, value)

    return change


def _all_die(world: World) -> None:
    """From now on they cannot load what they served."""
    world.around.models[uri("v1")] = UNLOADABLE
    for pod in world.cluster.find("Pod", {names.COMPONENT_LABEL: "triton"}):
        if is_ready(pod):
            world.neighbours.kill(pod)


def _live_again(world: World) -> None:
    world.around.models.pop(uri("v1"))


def _stranger(kind: str, component: str) -> Change:
    def appear(world: World) -> None:
        asked = admit(make_wanted("v2", replicas=2))
        revision = names.revision_hash(world.observed_spec().model_validate(asked))
        name = names.optimize_job(OWNER.name, revision) if component else names.revision_name(OWNER.name, revision)
        version = {"Job": "batch/v1", "Deployment": "apps/v1"}.get(kind, "v1")
        meta = {"name": name, "namespace": OWNER.namespace}
        world.cluster.create_now({"apiVersion": version, "kind": kind, "metadata": meta, "data": {"mine": "yes"}})

    return appear


def _gone(kind: str) -> Change:
    def go(world: World) -> None:
        (stranger,) = [b for b in world.cluster.find(kind) if b.get("data") == {"mine": "yes"}]
        world.cluster.remove_now(kind, stranger["metadata"]["name"])

    return go
