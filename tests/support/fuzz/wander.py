"""Random walks over the whole schema: edit after edit of any field, to any value, without waiting; then a good spec."""

import random
from datetime import datetime, timedelta
from typing import Any

from support.builders import OWNER, make_model_deployment
from support.fuzz.admission import RefusedError, admit
from support.fuzz.bases import BASES
from support.fuzz.leaves import get_at, leaves, with_at
from support.fuzz.values import values_of
from support.neighbours import Surroundings
from support.specs import make_wanted
from support.world import World

GPUS = 512
WITHIN = timedelta(seconds=60)
STAYS = timedelta(minutes=10)
_KEPT = ("gateway", "bucket", "encrypted")
"""Their worlds are others: a gateway, and storage that nobody can change."""


class Wander:
    """One walk of one object; `rng` decides everything."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(around=Surroundings(gpus=GPUS), lawful=True)
        self.world.traffic.rate = 20.0
        self.taken = 0
        self.refused = 0
        self._spec: dict[str, Any] = BASES[self._base()]
        self.world.cluster.create_now(make_model_deployment(admit(self._spec)))

    def run(self, *, edits: int = 20) -> None:
        """All edits, each taken or refused; then the end that all walks share."""
        for _ in range(edits):
            self._edit()
            for _ in range(self.rng.choice([0, 1, 3, 10])):
                self.world.step(self.rng.choice(self.world.actors()))
            if self.rng.random() < 0.4:
                self.world.go_on(timedelta(seconds=self.rng.choice([5, 30, 120])))
        self._end()

    def _base(self) -> str:
        return self.rng.choice([name for name in BASES if name not in _KEPT])

    def _edit(self) -> None:
        """One field of the object as it is now; sometimes another object altogether."""
        if self.rng.random() < 0.1:
            self._spec = BASES[self._base()]
        else:
            self._spec = self._changed()
        stored = self.world.body["spec"]
        try:
            # What was claimed stays what it is: the storage of the object goes with every edit.
            spec = admit({**self._spec, "storage": stored["storage"]}, old=stored)
        except RefusedError:
            self.refused += 1
            self._spec = stored
            return
        self.taken += 1
        self.world.cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=spec))

    def _changed(self) -> dict[str, Any]:
        standing = [
            leaf for leaf in leaves() if not leaf.refused and not leaf.path.startswith(("storage.", "serving.gateway"))
        ]
        while True:
            leaf = self.rng.choice(standing)
            if leaf.parent.endswith("[]") and not get_at(self._spec, leaf.parent[:-2]):
                continue
            try:
                value = self.rng.choice(values_of(leaf, get_at(self._spec, leaf.path)))
                made = with_at(self._spec, leaf.path, value.value)
                for path, also in value.also.items():
                    made = with_at(made, path, also)
            except (KeyError, IndexError, TypeError):
                continue  # The way there is not as the schema says: an earlier edit left it so.
            return made

    def _end(self) -> None:
        """P13: within a minute what the last edit asked for is so, and it stays so."""
        storage = self.world.body["spec"]["storage"]
        good = {**make_wanted(self.rng.choice(["v7", "v8"]), replicas=2), "storage": storage}
        self.world.cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=admit(good)))
        begun: datetime = self.world.moment
        self.world.until(self._is_served)
        took = self.world.moment - begun
        assert took <= WITHIN, f"it took {took}"
        self.world.settle()
        before = len(self.world.cluster.effects)
        self.world.go_on(STAYS)
        assert self._is_served(), self.world.condition("Ready")
        written = [effect for effect in self.world.cluster.effects[before:] if effect.kind != "Event"]
        assert not written, f"it is served, and yet was written {written}"

    def _is_served(self) -> bool:
        world = self.world
        seen = world.status.get("observedGeneration") == world.body["metadata"]["generation"]
        return seen and world.said("Ready") == ("True", "Serving") and len(world.reached()) == 2
