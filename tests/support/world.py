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
from pilotfish.core import Observed, Plan, Policy, observe, plan
from pilotfish.core.health.wanted import wanted_measurements
from pilotfish.core.objects import name_of, ref_of
from pilotfish.core.observed import watched_kinds
from pilotfish.core.room import NodeRoom, Room
from support.builders import NOW, OWNER, POLICY, make_model_deployment
from support.fake_cluster import Effect, FakeCluster
from support.laws import Laws
from support.neighbours import LABELS, Neighbours, Surroundings, is_ready
from support.status_check import check_status
from support.traffic import Traffic

MAX_LOOKS = 3
LONG = timedelta(hours=1)


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
    sees_room: bool = False
    """Whether the operator may look at nodes and quotas."""
    lawful: bool = False
    """Whether all laws are checked: on where nobody but the operator and its neighbours writes its objects."""
    always_available: bool = False
    """Once somebody serves, somebody serves for ever: on in stories where nothing outside hurts the stable pods."""
    laws: Laws = field(init=False)
    _letters: dict[str, str] = field(default_factory=dict)
    _told: int = 0
    _heard: str = ""
    _reached: str = ""

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(now=lambda: self.moment)
        self.neighbours = Neighbours(cluster=self.cluster, around=self.around, now=lambda: self.moment)
        self.traffic = Traffic(behaviour=self.neighbours.behaviour_of)
        self.laws = Laws(cluster=self.cluster, all=self.lawful, always_available=self.always_available)

    # The user

    def submit(self, spec: dict[str, Any]) -> None:
        """Apply the user's object."""
        if self.cluster.look("ModelDeployment", OWNER.name) is None:
            self.cluster.create_now(make_model_deployment(spec))
        else:
            self.cluster.change_now("ModelDeployment", OWNER.name, lambda body: body.update(spec=spec))
        self._tell("user", f"asks for {spec['model']['uri']}{_in_words(spec)}")

    def act(self, verb: str, number: str = "1", **more: str) -> None:
        """Apply spec.rollout.action."""
        action = {"id": number, "verb": verb, **more}
        self._edit(lambda spec: spec.setdefault("rollout", {}).update(action=action))
        self._tell("user", f"asks to {verb}{''.join(f' {value}' for value in more.values())}")

    def edit(self, what: str, **serving: Any) -> None:
        """Change fields of spec.serving."""
        self._edit(lambda spec: spec["serving"].update(serving))
        self._tell("user", what)

    def pause(self, paused: bool = True) -> None:
        """Set spec.paused."""
        self._edit(lambda spec: spec.update(paused=paused))
        self._tell("user", "pauses" if paused else "resumes")

    def _edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        self.cluster.change_now("ModelDeployment", OWNER.name, lambda body: change(body["spec"]))

    # The rest of the world

    def happens(self, what: str, change: Callable[[], object], *, hurts: bool = True) -> None:
        """Something outside changes; it hurts when it may take pods."""
        self._tell("world", what)
        change()
        if hurts:
            self.laws.hurt()

    def restart(self) -> None:
        """The operator starts again and remembers nothing."""
        self._tell("operator", "starts again")
        self.traffic.forget(self.moment)

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

    def observed(self, *found: dict[str, Any]) -> Observed:
        """What a pass sees, with what it found under the names of children."""
        objects = [body for _, kind in watched_kinds(gateway_api=False) for body in self.cluster.find(kind, LABELS)]
        return self._measured(observe(self.body, [*objects, *found]))

    def _measured(self, observed: Observed) -> Observed:
        """With what was measured, where it is wanted."""
        wanted = wanted_measurements(observed)
        if wanted.counts:
            serving = [pod for pod in self.cluster.find("Pod", names.pod_selector(OWNER.name)) if is_ready(pod)]
            observed = replace(observed, health=self.traffic.look(serving, self.moment))
        if wanted.room is not None and self.sees_room:
            observed = replace(observed, room=self._room(wanted.room))
        return observed

    def _room(self, resource: str) -> Room:
        """What the scheduler could still place, and the quota."""
        free = max(0, self.neighbours.free_gpus())
        quota = {f"requests.{resource}": 0.0} if self.around.quota_exceeded else {}
        return Room(resource=resource, nodes=(NodeRoom(name="node", gpus=free),), quota=quota)

    def next_plan(self) -> Plan:
        """What a pass would do now."""
        observed = self.observed()
        for _ in range(MAX_LOOKS):
            made = plan(observed, self.policy, self.moment)
            refs = [ref_of(apply.body) for apply in made.applies if apply.uid is None]
            found = [body for ref in refs if (body := self.cluster.look(ref.kind, ref.name)) is not None]
            if not found:
                return made
            observed = self.observed(*found)
        raise AssertionError("planning does not see what stands in its way")

    def reconcile(self) -> None:
        """One pass."""
        if self.cluster.look("ModelDeployment", OWNER.name) is None:
            return
        if self.lawful:
            self.laws.asked(self.observed_spec())
        made, asked, before = self.next_plan(), self.laws.pods_asked(), self.cluster.changes
        self.execute(made)
        self.due = None if made.requeue_after is None else self.moment + made.requeue_after
        if self.lawful:
            self.laws.after(asked)
            if self.cluster.changes == before:
                self._check_quiet()

    def _check_write(self) -> None:
        if self.lawful:
            self.laws.written()

    def _check_quiet(self) -> None:
        """A pass that had nothing to do has told when there will be something: until then nobody need look again."""
        until = LONG if self.due is None else self.due - self.moment - timedelta(seconds=1)
        observed = self.observed()
        for later in (timedelta(0), until):
            if later < timedelta(0):
                continue
            made = plan(observed, self.policy, self.moment + later)
            told_only = self.observed_spec().paused and not made.applies and not made.deletes
            assert made.is_empty or told_only, f"{later.total_seconds():g} s after a pass without writes: {made}"

    def execute(self, made: Plan) -> None:
        """The writes of a pass, in their order."""
        for apply in made.applies:
            meta = apply.body["metadata"]
            if self.lawful:
                self.laws.before(apply.body)
            self.cluster.apply_now({**apply.body, "metadata": {**meta, **({"uid": apply.uid} if apply.uid else {})}})
            self._check_write()
        for ref in made.deletes:
            self.cluster.delete_now(ref)
            self._check_write()
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
        self._tell_traffic()
        self.laws.check()
        return self.cluster.changes != before

    def step_all(self) -> list[bool]:
        """Let each of them act once, in order; whether anything changed."""
        return [self.step(actor) for actor in self.actors()]

    def actors(self) -> list[Callable[[], None]]:
        """The operator and its neighbours."""
        return [self.reconcile, *self.neighbours.steps()]

    def settle(self, *, rng: random.Random | None = None, wait: bool = True, rounds: int = 600) -> None:
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
            if not wait or not self.wait():
                self._rest()
                return
        raise AssertionError(f"nothing comes to rest in {rounds} rounds:\n" + "\n".join(self.story[-20:]))

    def until(self, there: Callable[[], bool], *, rounds: int = 400) -> None:
        """Let everybody act in order until it is so."""
        for _ in range(rounds):
            if there():
                return
            if not any(self.step_all()):
                assert self.wait(), "nothing moves any more:\n" + "\n".join(self.story[-20:])
        raise AssertionError(f"it does not come to that in {rounds} rounds:\n" + "\n".join(self.story[-20:]))

    def go_on(self, by: timedelta) -> None:
        """Let everybody act, in order, for that long."""
        end = self.moment + by
        for _ in range(1000):
            if any(self.step_all()):
                continue
            if not self.wait(before=end):
                self.pass_time(end - self.moment)
                return
        raise AssertionError("nothing comes to rest:\n" + "\n".join(self.story[-20:]))

    def wait(self, *, before: datetime | None = None) -> bool:
        """Until a pass or somebody else is due; False where nobody is, or not before that moment."""
        due = min((moment for moment in (self.due, self.neighbours.due()) if moment is not None), default=None)
        if due is None or (before is not None and due >= before):
            return False
        self.pass_time(max(due - self.moment, timedelta(seconds=1)))
        return True

    def pass_time(self, by: timedelta) -> None:
        """Move the clock; requests go on meanwhile."""
        self.moment += by
        self.traffic.flow(by, self.reached())

    def _rest(self) -> None:
        if self.lawful and self.cluster.look("ModelDeployment", OWNER.name) is not None:
            self.laws.at_rest(self.observed_spec())

    def reached(self) -> list[dict[str, Any]]:
        """Ready pods behind the traffic Service."""
        return self.laws.reached()

    def endpoints(self) -> list[str]:
        """Their names."""
        return [name_of(pod) for pod in self.reached()]

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
        for effect in new:
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
        """The status in a line, unless it is the one that was told last."""
        self._tell_effects()
        ready = self.condition("Ready")
        assert ready is not None
        step = f" {self.status['step']}" if "step" in self.status else ""
        said = f"{self.status['phase']}{step}: {ready['message']}"
        for about in (self._told_analysis(), self._told_capacity()):
            said += f" [{about}]" if about else ""
        if said != self._heard:
            self._tell("status", said)
        self._heard = said

    def _told_analysis(self) -> str:
        """Verdict and share as they stand."""
        rollout = self.status.get("rollout", {})
        verdict, share = rollout.get("analysis", {}).get("verdict"), rollout.get("traffic", {}).get("achieved")
        return ", ".join(([verdict] if verdict else []) + ([f"{share} % measured"] if share else []))

    def _told_capacity(self) -> str:
        capacity = self.status.get("rollout", {}).get("capacity", {})
        return "" if capacity.get("plan") in {None, "Surge"} else f"{capacity['plan']}: {capacity['message']}"

    def _tell_traffic(self) -> None:
        """Who the requests reach, when that has changed."""
        letters = [self.letter(pod["metadata"]["labels"][names.REVISION_LABEL]) for pod in self.reached()]
        reached = " ".join(sorted(letters)) or "nobody"
        if reached != self._reached and (self._reached or letters):
            self._tell("traffic", f"reaches {reached}")
            self._reached = reached


def _in_words(spec: dict[str, Any]) -> str:
    """What of a spec a story names beside the model."""
    serving, rollout = spec.get("serving", {}), spec.get("rollout", {})
    said = [f"{serving['replicas']} pods"] if serving.get("replicas", 1) != 1 else []
    said += [str(rollout[key]) for key in ("strategy", "capacity") if key in rollout]
    return f" ({', '.join(said)})" if said else ""
