"""From a good spec A to some B and back, with everybody at work, and what must hold on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.spec import ModelDeploymentSpec
from support.builders import OWNER, make_model_deployment
from support.fuzz.admission import RefusedError, admit, as_stored
from support.fuzz.endings import children, pods, promise
from support.fuzz.leaves import Leaf, with_at
from support.fuzz.values import Kind, Value
from support.gateway_world import GatewayWorld
from support.neighbours import Surroundings
from support.world import World

GPUS = 512
_A_WHILE = timedelta(minutes=30)
_MOVES = ("rollout.", "serving.gateway.")
"""Fields that say how a revision comes: only where one comes with them do they do anything."""


def make_edit(base: Mapping[str, Any], leaf: Leaf, value: Value) -> dict[str, Any]:
    """The base with that value; with another model too where the field is about how one arrives."""
    made = with_at(base, leaf.path, value.value)
    for path, told in value.also.items():
        made = with_at(made, path, told)
    moves = leaf.path.startswith(_MOVES) and value.kind is not Kind.EQUAL
    return with_at(made, "model.uri", "s3://models/digits/v2/") if moves else made


@dataclass(slots=True)
class Rounds:
    """One object that starts at A. `A` and `B` are specs as the API server stores them."""

    base: Mapping[str, Any]
    world: World = field(init=False)
    a: dict[str, Any] = field(init=False)
    start: dict[str, Any] = field(init=False)
    told: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        make = GatewayWorld if "gateway" in self.base.get("serving", {}) else World
        self.world = make(around=Surroundings(gpus=GPUS), lawful=True, always_available=True)
        self.world.traffic.rate = 20.0
        self.a = admit(self.base)
        self.world.cluster.create_now(make_model_deployment(self.a))
        self.rest()
        self.start, self.told = children(self.world), promise(self.world)
        assert self.told["conditions"]["Ready"] == ("True", "Serving"), self.world.condition("Ready")

    def edit(self, edited: Mapping[str, Any], kind: Kind) -> bool:
        """To B; whether the API server takes it. What it refuses is stored all the same: an older CRD may have let it in."""
        before = pods(self.world)
        try:
            b, refused = admit(edited, old=self.a), False
        except RefusedError:
            b, refused = as_stored(edited), True
        self._store(b)
        self.rest()
        if refused:
            self._a_serves_or_b_does()
        else:
            self._is_at_rest()
        if not refused and (kind is Kind.EQUAL or _hash(b) == _hash(self.a)):
            stay, went = pods(self.world), before - pods(self.world)
            fewer = b["serving"]["replicas"] < self.a["serving"]["replicas"]
            assert not went or (fewer and stay < before), f"{len(went)} pods were restarted"
        return not refused

    def back(self) -> None:
        """To A again, and all is as it was."""
        self._store(self.a)
        self.rest()
        told = promise(self.world)
        assert told == self.told, f"{told} after the way back, {self.told} before: {self.world.condition('Ready')}"
        found = children(self.world)
        different = [name for name in {*found, *self.start} if found.get(name) != self.start.get(name)]
        assert not different, f"after the way back differ {sorted(different)}"

    def rest(self) -> None:
        """As long as any rollout of the bases takes; what holds for a week, or looks again every hour, is left at it."""
        readable = _hash(self.spec) is not None
        self.world.lawful = self.world.laws.all = readable
        self.world.go_on(_A_WHILE)

    @property
    def spec(self) -> dict[str, Any]:
        """As it is stored."""
        return dict(self.world.body["spec"])

    def _store(self, spec: dict[str, Any]) -> None:
        # Who asks for a gap, or for no pods, gets it, on the way there and on the way back.
        asked = (self.spec, spec)
        self.world.laws.always_available = not any(map(_may_stop, asked))
        self.world.laws._served = False
        self.world.cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=spec))

    def _is_at_rest(self) -> None:
        status, reason = self.world.said("Ready") or ("", "")
        # The model that is played takes images.
        misfit = reason == "SignatureUnservable" and self.spec["serving"].get("predict", {}).get("input") == "Text"
        assert status == "True" or reason in _MAY_WAIT or misfit, self.world.condition("Ready")

    def _a_serves_or_b_does(self) -> None:
        """Nothing worse than a condition comes of what nobody should have stored."""
        world = self.world
        status, reason = world.said("Ready") or ("", "")
        if status == "True":
            return
        assert reason in set(Reason), world.condition("Ready")
        if not _may_stop(self.spec):
            serving = {pod["metadata"]["labels"][names.REVISION_LABEL] for pod in world.reached()}
            stable, candidate = self.told["stable"], (world.status.get("candidateRevision") or {}).get("hash")
            shared = reason in _MAY_WAIT and serving <= {stable, candidate}
            assert stable in serving or reason == "Baking", f"{serving} serve, A was {stable}"
            assert serving == {stable} or shared, f"{serving} serve, A was {stable}"


_MAY_WAIT = frozenset(
    {
        "Baking",
        "Canarying",
        "Holding",
        "Paused",
        "AnalysisFailed",
        "AnalysisError",
        "NoData",
        "WaitingForData",
        "WaitingForWindow",
        "AbortedByUser",
    }
)
"""Why what was asked for is not served although all is well: somebody must say go, or said stop, or the numbers do."""


def _may_stop(spec: Mapping[str, Any]) -> bool:
    rollout, serving = spec.get("rollout") or {}, spec.get("serving") or {}
    if not isinstance(rollout, Mapping) or not isinstance(serving, Mapping):
        return False
    gap = rollout.get("strategy") == "Replace" or rollout.get("capacity") == "Recreate"
    return gap or serving.get("replicas") == 0


def _hash(spec: Mapping[str, Any]) -> str | None:
    """The revision that a spec asks for; None where nobody can read it."""
    try:
        return names.revision_hash(ModelDeploymentSpec.model_validate(spec))
    except ValueError:
        return None
