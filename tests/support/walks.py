"""Random walks through the small world: everything that users, models, neighbours and the operator's death may do.

The laws of support.laws hold in every state. A walk ends with a good model asked for in a world that lets it run, and
then that model is served.
"""

import random
from datetime import timedelta
from typing import Any

from pilotfish import names
from support.builders import OWNER
from support.fake_cluster import Effect
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
from support.traffic import ERRING, SLUGGISH
from support.world import Crash, World

MODELS = {
    "v1": None,
    "v2": None,
    "v3": None,
    "flaky": FLAKY,
    "big": OUT_OF_MEMORY,
    "silent": SILENT,
    "slow": SLOW,
    "odd": UNLOADABLE,
    "damaged": DAMAGED,
    "wrong": WRONG,
    "unasked": UNASKED,
    "erring": ERRING,
    "sluggish": SLUGGISH,
    "missing": "SourceNotFound",
}
GOOD = ("v1", "v2", "v3")
_WEIGHTS = [6, 6, 6, 1, 1, 1, 2, 3, 1, 2, 1, 4, 4, 1]
"""How often each of MODELS is asked for: those that reach the traffic more often than those that fail in their Job."""
GPUS = 12
_STEPS = ([], [{"weight": 50}], [{"weight": 20, "hold": "1m"}, {"weight": 60}], [{"weight": 30, "hold": "Forever"}])
_WINDOW = {"schedule": "*/10 * * * *", "duration": "3m"}


class Walk:
    """One walk. `rng` decides everything. `autoscaled`: somebody writes the number of pods all the time."""

    def __init__(self, seed: int, *, autoscaled: bool = False) -> None:
        self.autoscaled = autoscaled
        self.rng = random.Random(seed)
        rng = self.rng
        around = Surroundings(
            gpus=rng.choice([1, 2, 3, 4, GPUS, GPUS, GPUS, GPUS]),
            models={uri(version): behaviour for version, behaviour in MODELS.items() if behaviour},
            load=timedelta(seconds=rng.choice([0, 0, 40])),
            grace=timedelta(seconds=rng.choice([0, 0, 30])),
        )
        self.world = World(around=around, lawful=True, sees_room=rng.random() < 0.5)
        self.world.traffic.rate = rng.choice([0.0, 5.0, 20.0, 20.0])
        self.actions = 0

    @property
    def checked(self) -> int:
        """States that were checked so far."""
        return self.world.laws.checked

    def told(self, *, lines: int = 60) -> str:
        """The end of its story."""
        return "\n".join(self.world.story[-lines:])

    def run(self, *, edits: int = 12) -> None:
        """The whole walk with its ending; AssertionError where a law is broken."""
        self.world.submit(self._spec("v1"))
        self.world.go_on(timedelta(minutes=self.rng.choice([0, 5])))
        for _ in range(edits):
            self._edit()
            if self.rng.random() < 0.6:
                self.world.go_on(timedelta(seconds=self.rng.choice([0, 30, 90, 300])))
            for _ in range(self.rng.choice([0, 10, 30, 90])):
                self._step()
        self._end()

    # What the user does

    def _edit(self) -> None:
        chance = self.rng.random()
        known = "status" in self.world.body if self.world.cluster.look("ModelDeployment", OWNER.name) else False
        if known and chance < 0.2:
            self._act()
        elif known and chance < 0.3:
            replicas = self.rng.choice([1, 2, 3])
            self.world.edit(f"asks for {replicas} pods", replicas=replicas, minAvailable=self.rng.randint(0, replicas))
        elif known and chance < 0.4:
            self.world.pause(self.rng.random() < 0.5)
        else:
            (version,) = self.rng.choices(list(MODELS), _WEIGHTS)
            self.world.submit(self._spec(version))

    def _spec(self, version: str) -> dict[str, Any]:
        rng = self.rng
        replicas = rng.choice([1, 1, 2, 3])
        more = {"autoscaling": {"maxReplicas": 3}} if self.autoscaled else {}
        spec = make_wanted(version, replicas=replicas, minAvailable=rng.randint(0, replicas), **more)
        return {
            **spec,
            "paused": rng.random() < 0.05,
            "revisionHistoryLimit": rng.choice([0, 2, 5]),
            "rollout": self._rollout(),
        }

    def _rollout(self) -> dict[str, Any]:
        rng = self.rng
        strategy = rng.choice(["Canary", "Canary", "Canary", "BlueGreen", "BlueGreen", "Replace"])
        rollout: dict[str, Any] = {"strategy": strategy, "progressDeadline": rng.choice(["2m", "10m"])}
        if strategy == "Canary":
            rollout["steps"] = rng.choice(_STEPS)
        if strategy != "Replace":
            rollout["capacity"] = rng.choice(["Auto", "Auto", "Auto", "Surge", "Swap", "Recreate"])
        if rng.random() < 0.4:
            checks = {"errorRate": {"max": "0.01"}, "meanLatency": {"maxRegression": "0.5"}}
            no_data = {"onNoData": rng.choice(["Hold", "Abort", "Pass"]), "noDataDeadline": "3m"}
            rollout["analysis"] = {"checks": checks, "failureLimit": rng.choice([1, 2]), **no_data}
        if rng.random() < 0.3:
            rollout["bake"] = rng.choice(["30s", "2m"])
        if rng.random() < 0.15:
            rollout["maintenanceWindows"] = [_WINDOW]
        return rollout

    def _act(self) -> None:
        verb = self.rng.choice(["promote", "promote", "promoteFull", "abort", "retry", "undo"])
        more = {}
        if verb == "undo":
            known = [
                r["metadata"]["labels"][names.REVISION_LABEL] for r in self.world.cluster.find("ControllerRevision")
            ]
            more["toRevision"] = self.rng.choice([*known, "gone2345"])
        self.actions += 1
        self.world.act(verb, str(self.actions), **more)

    # What happens

    def _step(self) -> None:
        rng, world = self.rng, self.world
        if rng.random() < 0.15:
            world.pass_time(timedelta(seconds=rng.choice([1, 10, 10, 20, 20, 60, 700])))
        if rng.random() < 0.05:
            self._happen()
        if self.autoscaled and rng.random() < 0.1:
            replicas = rng.choice([1, 2, 3])
            world.edit(f"(the autoscaler) asks for {replicas} pods", replicas=replicas)
        if rng.random() < 0.1:
            world.cluster.fault = self._crash_once(rng.choice(["before", "after"]))
        try:
            world.step(rng.choice(world.actors()))
        except Crash:
            world.restart()
        finally:
            world.cluster.fault = None

    def _happen(self) -> None:
        rng, world = self.rng, self.world
        around = world.around
        pods = [pod for pod in world.cluster.find("Pod", {names.COMPONENT_LABEL: "triton"}) if is_ready(pod)]
        match rng.choice(["gpus", "quota", "requests", "kill", "errs", "errs"]):
            case "gpus":
                gpus = rng.choice([1, 2, 3, 4, GPUS, GPUS])
                world.happens(f"{gpus} GPUs", lambda: setattr(around, "gpus", gpus), hurts=False)
            case "quota":
                full = not around.quota_exceeded and rng.random() < 0.5
                world.happens(f"quota full: {full}", lambda: setattr(around, "quota_exceeded", full), hurts=False)
            case "requests":
                rate = rng.choice([0.0, 5.0, 20.0])
                world.happens(f"{rate:g} requests/s", lambda: setattr(world.traffic, "rate", rate), hurts=False)
            case "errs":
                version = rng.choice(GOOD)
                errs = rng.random() < 0.5
                change = {uri(version): ERRING if errs else "good"}
                world.happens(f"{version} errs: {errs}", lambda: around.models.update(change), hurts=False)
            case "kill" if pods:
                pod = rng.choice(pods)
                world.happens("a server dies", lambda: world.neighbours.kill(pod))

    def _crash_once(self, when: str) -> Any:
        def fault(moment: str, _: Effect) -> None:
            if moment == when:
                self.world.cluster.fault = None
                raise Crash

        return fault

    # The end

    def _end(self) -> None:
        rng, world = self.rng, self.world
        around = world.around
        around.gpus, around.quota_exceeded = GPUS, False
        around.models.update(dict.fromkeys(map(uri, GOOD), "good"))
        world.traffic.rate = 20.0
        spec = self._spec(rng.choice(GOOD))
        rollout = {key: value for key, value in spec["rollout"].items() if key != "maintenanceWindows"}
        if rollout.get("steps"):
            rollout["steps"] = [{"weight": 50}]
        world.submit({**spec, "paused": False, "rollout": rollout})
        world.settle(rng=rng)
        if world.said("Ready") == ("True", "Undone"):
            self._finally("undo", toRevision=names.revision_hash(world.observed_spec()))
        if "Failed" in {e["result"] for e in world.status.get("history", ())}:
            self._finally("retry")
        self._check_ending(spec)

    def _finally(self, verb: str, **more: str) -> None:
        self.world.act(verb, "last " + verb, **more)
        self.world.settle(rng=self.rng)

    def _check_ending(self, spec: dict[str, Any]) -> None:
        world, replicas = self.world, spec["serving"]["replicas"]
        assert world.said("Ready") == ("True", "Serving"), world.condition("Ready")
        assert len(world.endpoints()) == replicas
        assert world.next_plan().is_empty
        assert world.neighbours.free_gpus() == GPUS - replicas, "nobody else holds a GPU"
        revision = names.revision_hash(world.observed_spec())
        assert [d["metadata"]["name"] for d in world.cluster.find("Deployment")] == [f"digits-{revision}"]
        assert len(world.cluster.find("ControllerRevision")) <= 1 + spec["revisionHistoryLimit"]
