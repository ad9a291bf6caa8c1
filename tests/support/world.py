"""A world in memory: one ModelDeployment, the operator's passes, its neighbours, a clock, and what must always hold.

The operator steps through the same rules as the real executor: look before creating, applies, deletes, one status, events.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from pilotfish import names
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core import CHILD_KINDS, POD_KIND, Observed, Plan, Policy, observe, plan
from pilotfish.core.health.wanted import wanted_measurements
from pilotfish.core.objects import name_of, ref_of
from support.builders import NOW, OWNER, POLICY, make_model_deployment
from support.fake_cluster import Effect, FakeCluster
from support.neighbours import LABELS, Neighbours, Surroundings, is_ready
from support.status_check import check_status
from support.traffic import Traffic

MAX_LOOKS = 3


class Crash(BaseException):
    """The operator's process ends here."""


@dataclass(slots=True)
class World:
    """All of it. `story` tells in words what happened, with revisions named A, B, … in the order of their appearance."""

    around: Surroundings = field(default_factory=Surroundings)
    policy: Policy = POLICY
    moment: datetime = NOW
    cluster: FakeCluster = field(init=False)
    neighbours: Neighbours = field(init=False)
    traffic: Traffic = field(init=False)
    story: list[str] = field(default_factory=list)
    due: datetime | None = None
    always_available: bool = False
    """Once somebody serves, somebody serves for ever: on in stories where nothing outside hurts the stable pods."""
    _letters: dict[str, str] = field(default_factory=dict)
    _served: bool = False
    _told: int = 0

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(now=lambda: self.moment)
        self.neighbours = Neighbours(cluster=self.cluster, around=self.around, now=lambda: self.moment)
        self.traffic = Traffic(behaviour=self.neighbours.behaviour_of)

    # The user

    def submit(self, spec: dict[str, Any]) -> None:
        """Apply the user's object."""
        if self.cluster.look("ModelDeployment", OWNER.name) is None:
            self.cluster.create_now(make_model_deployment(spec))
        else:
            self.cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=spec))
        self._tell("user", f"asks for {spec['model']['uri']}")

    @property
    def body(self) -> dict[str, Any]:
        """The ModelDeployment as stored."""
        found = self.cluster.look("ModelDeployment", OWNER.name)
        assert found is not None
        return found

    @property
    def status(self) -> dict[str, Any]:
        """Its status."""
        return dict(self.body["status"])

    def condition(self, kind: str) -> dict[str, Any] | None:
        """One condition."""
        return next((c for c in self.status["conditions"] if c["type"] == kind), None)

    def said(self, kind: str) -> tuple[str, str] | None:
        """Status and reason of a condition."""
        found = self.condition(kind)
        return None if found is None else (found["status"], found["reason"])

    def observed_spec(self) -> ModelDeploymentSpec:
        """The spec as the operator reads it."""
        return ModelDeploymentSpec.model_validate(self.body["spec"])

    # The operator

    def observed(self) -> Observed:
        """What a pass sees."""
        objects = [body for _, kind in (*CHILD_KINDS, POD_KIND) for body in self.cluster.find(kind, LABELS)]
        return self._measured(observe(self.body, objects))

    def _measured(self, observed: Observed) -> Observed:
        """With what was measured, where it is wanted."""
        if not wanted_measurements(observed).counts:
            return observed
        serving = [pod for pod in self.cluster.find("Pod", names.pod_selector(OWNER.name)) if is_ready(pod)]
        return replace(observed, health=self.traffic.look(serving, self.moment))

    def next_plan(self) -> Plan:
        """What a pass would do now."""
        observed = self.observed()
        for _ in range(MAX_LOOKS):
            made = plan(observed, self.policy, self.moment)
            refs = [ref_of(apply.body) for apply in made.applies if apply.uid is None]
            found = [body for ref in refs if (body := self.cluster.look(ref.kind, ref.name)) is not None]
            if not found:
                return made
            observed = self._measured(observe(self.body, (*observed.children, *observed.pods, *found)))
        raise AssertionError("planning does not see what stands in its way")

    def reconcile(self) -> None:
        """One pass."""
        if self.cluster.look("ModelDeployment", OWNER.name) is None:
            return
        made = self.next_plan()
        self.execute(made)
        self.due = None if made.requeue_after is None else self.moment + made.requeue_after

    def execute(self, made: Plan) -> None:
        """The writes of a pass, in their order."""
        for apply in made.applies:
            meta = apply.body["metadata"]
            self._check_switch(apply.body)
            self.cluster.apply_now({**apply.body, "metadata": {**meta, **({"uid": apply.uid} if apply.uid else {})}})
        for ref in made.deletes:
            self.cluster.delete_now(ref)
        if made.status is not None:
            check_status(made.status)
            self.cluster.write_status_now(made.status)
            self._tell_status()
        for event in made.events:
            self.cluster.emit_now(event)

    # Time

    def step(self, actor: Callable[[], None]) -> bool:
        """Let one of them act; whether anything changed."""
        before = self.cluster.changes
        actor()
        self._tell_effects()
        self.check()
        return self.cluster.changes != before

    def actors(self) -> list[Callable[[], None]]:
        """The operator and its neighbours."""
        return [self.reconcile, *self.neighbours.steps()]

    def settle(self, *, rng: random.Random | None = None, wait: bool = True, rounds: int = 200) -> None:
        """Let everybody act, in order or at random, until nothing changes any more and no pass is due."""
        for _ in range(rounds):
            actors = self.actors()
            if rng is not None:
                actors = [rng.choice(actors) for _ in range(len(actors) * 2)]
            changed = [self.step(actor) for actor in actors]
            if rng is not None:  # chance may have left somebody out
                changed += [self.step(actor) for actor in self.actors()]
            if any(changed):
                continue
            if not wait or self.due is None:
                return
            self.pass_time(max(self.due - self.moment, timedelta(seconds=1)))
        raise AssertionError(f"nothing comes to rest in {rounds} rounds:\n" + "\n".join(self.story[-20:]))

    def pass_time(self, by: timedelta) -> None:
        """Move the clock; requests go on meanwhile."""
        self.moment += by
        self.traffic.flow(by, self.reached())

    # What must always hold

    def check(self) -> None:
        """At most one Job per recipe; once available, always available, if the story says so."""
        running: dict[str, str] = {}
        for job in self.cluster.find("Job", LABELS):
            ended = any(c["status"] == "True" for c in job.get("status", {}).get("conditions", ()))
            recipe = job["metadata"]["labels"].get(names.RECIPE_LABEL, name_of(job))
            assert ended or recipe not in running, f"two Jobs run for recipe {recipe}"
            if not ended:
                running[recipe] = name_of(job)
        if self.always_available:
            endpoints = self.endpoints()
            assert endpoints or not self._served, "traffic goes nowhere although somebody served before"
            self._served = self._served or bool(endpoints)

    def reached(self) -> list[dict[str, Any]]:
        """Ready pods behind the traffic Service."""
        service = self.cluster.look("Service", OWNER.name)
        if service is None or "selector" not in service["spec"]:
            return []
        return [pod for pod in self.cluster.find("Pod", service["spec"]["selector"]) if is_ready(pod)]

    def endpoints(self) -> list[str]:
        """Their names."""
        return [name_of(pod) for pod in self.reached()]

    def _check_switch(self, body: Any) -> None:
        """Traffic may move only to a revision that is ready with all its pods."""
        if body["kind"] != "Service" or body["metadata"]["name"] != OWNER.name:
            return
        found = self.cluster.look("Service", OWNER.name)
        selector = body["spec"]["selector"]
        if found is not None and found["spec"].get("selector") == selector:
            return
        deployment = self.cluster.look("Deployment", names.revision_name(OWNER.name, selector[names.REVISION_LABEL]))
        assert deployment is not None, "traffic moves to a revision without pods"
        stable = self.status.get("stableRevision", {}).get("hash") if "status" in self.body else None
        if selector[names.REVISION_LABEL] == stable:
            return  # restored after somebody else's hand, wherever its pods stand
        ready = [p for p in self.cluster.find("Pod", selector) if is_ready(p)]
        assert len(ready) >= deployment["spec"]["replicas"], "traffic moves to a revision that is not ready"

    # The story

    def letter(self, text: str) -> str:
        """The text with revision hashes replaced by letters."""
        for revision, letter in self._letters.items():
            text = text.replace(revision, letter)
        return text

    def _tell(self, who: str, what: str) -> None:
        seconds = int((self.moment - NOW).total_seconds())
        self.story.append(self.letter(f"{seconds:>4}s {who:<8} {what}"))

    def _tell_effects(self) -> None:
        new, self._told = self.cluster.effects[self._told :], len(self.cluster.effects)
        for effect in new:
            self._name_revisions(effect)
            if effect.verb in {"apply", "delete"}:
                self._tell(
                    "operator", f"{'applies' if effect.verb == 'apply' else 'deletes'} {effect.kind} {effect.name}"
                )

    def _name_revisions(self, effect: Effect) -> None:
        found = self.cluster.look(effect.kind, effect.name)
        revision = found["metadata"].get("labels", {}).get(names.REVISION_LABEL) if found else None
        if revision and revision not in self._letters:
            self._letters[revision] = chr(ord("A") + len(self._letters))

    def _tell_status(self) -> None:
        self._tell_effects()
        ready = self.condition("Ready")
        assert ready is not None
        self._tell("status", f"{self.status['phase']}: {ready['message']}")
