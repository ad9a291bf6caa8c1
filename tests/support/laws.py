"""What must hold in every state of the small world, whatever happened before: checked after each step of anybody.

The laws know what the operator was asked (the specs since the last rest) and what stands in the cluster. They know
nothing of how the operator decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish import names
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout import ActionVerb, Capacity, Strategy
from pilotfish.api.rollout_status import RolloutStage
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core.failures import ARTIFACT_LOST, RECOVERS
from pilotfish.core.objects import name_of
from pilotfish.core.scope import within_bounds
from support.builders import OWNER
from support.fake_cluster import FakeCluster
from support.neighbours import LABELS, is_ready

CURABLE = frozenset({Reason.PROGRESS_DEADLINE_EXCEEDED, Reason.ROUTES_NOT_CONFIRMED, *RECOVERS, *ARTIFACT_LOST})
"""A change of anything in the spec may cure these: the revision is tried again."""


@dataclass(slots=True)
class Laws:
    """The laws with what they must remember. `checked` counts the states that were looked at."""

    cluster: FakeCluster
    all: bool = True
    """False: only what holds whoever else writes the operator's objects."""
    always_available: bool = False
    """Once somebody serves, somebody serves for ever: on in stories where nothing outside hurts the stable pods."""
    checked: int = 0
    _served: bool = False
    _reached: int = 0
    _floor: int = 0
    _verified: set[str] = field(default_factory=set)
    _had_stable: bool = False
    _failed: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Failed revisions: generation and action id when they failed."""

    # In every state

    def check(self) -> None:
        """All laws about what stands."""
        self.checked += 1
        self._one_job_per_recipe()
        reached = self.reached()
        if self.always_available:
            assert reached or not self._served, "traffic goes nowhere although somebody served before"
            self._served = self._served or bool(reached)
        if self.all:
            self._heed_verifications()
            self._only_verified(reached)
            self._enough(len(reached))
            self._stable_stands()

    def _one_job_per_recipe(self) -> None:
        running: dict[str, str] = {}
        for job in self.cluster.find("Job", LABELS):
            ended = any(c["status"] == "True" for c in job.get("status", {}).get("conditions", ()))
            recipe = job["metadata"]["labels"].get(names.RECIPE_LABEL, name_of(job))
            assert ended or recipe not in running, f"two Jobs run for recipe {recipe}"
            if not ended:
                running[recipe] = name_of(job)

    def _heed_verifications(self) -> None:
        for job in self.cluster.find("Job", {names.COMPONENT_LABEL: names.Component.VERIFY.value}):
            passed = any(c["type"] == "Complete" for c in job.get("status", {}).get("conditions", ()))
            deployment = self._deployment(job["metadata"]["labels"][names.REVISION_LABEL])
            if passed and deployment is not None:
                self._verified.add(deployment["metadata"]["uid"])

    def _only_verified(self, reached: list[dict[str, Any]]) -> None:
        for revision in {pod["metadata"]["labels"][names.REVISION_LABEL] for pod in reached}:
            deployment = self._deployment(revision)
            assert deployment is not None, f"requests reach pods of {revision}, which has no Deployment"
            verified = deployment["metadata"]["uid"] in self._verified
            assert verified, f"requests reach {revision}, whose pods were never verified"

    def _enough(self, ready: int) -> None:
        least = min(self._floor, self._reached)
        assert ready >= least, f"requests reach {ready} pods, {least} were promised"
        self._reached = ready

    def _stable_stands(self) -> None:
        stable = self._status().get("stableRevision")
        assert stable or not self._had_stable, "the stable revision was lost"
        if stable is None:
            return
        self._had_stable = True
        assert self._deployment(stable["hash"]) is not None, "the stable revision has no Deployment"
        assert self.cluster.look("ControllerRevision", stable["name"]) is not None, "the stable revision has no record"

    # Around a pass

    def asked(self, spec: ModelDeploymentSpec) -> None:
        """A pass has read this spec: what it promises holds, unless an earlier one promised less."""
        rollout, serving = spec.rollout, spec.serving
        gap = rollout.strategy is Strategy.REPLACE or rollout.capacity is Capacity.RECREATE
        self._floor = min(self._floor, 0 if gap else min(serving.min_available, serving.replicas))
        self._heed(spec)

    def at_rest(self, spec: ModelDeploymentSpec) -> None:
        """Nothing moves any more: only the present spec's promise counts."""
        self._floor = len(self.reached())
        self.asked(spec)
        shadows = self.cluster.find("Deployment", {names.COMPONENT_LABEL: names.Component.SHADOW.value})
        stage = (self._status().get("rollout") or {}).get("stage")
        assert not shadows or stage == RolloutStage.STEPPING, f"a shadow stands while the rollout is at {stage}"

    def hurt(self) -> None:
        """Something outside takes pods: until the next rest nobody can promise any."""
        self._floor = 0

    def before(self, body: Mapping[str, Any]) -> None:
        """An object is about to be applied."""
        if body["kind"] == "Service" and name_of(body) == OWNER.name:
            self._may_switch(body["spec"]["selector"])
        if body["kind"] == "Deployment" and names.REVISION_LABEL in body["metadata"]["labels"]:
            self._may_grow(body)

    def written(self) -> None:
        """After each write of a pass: were it the last one, so many pods would go on being reached."""
        reached: dict[str, int] = {}
        for pod in self.reached():
            revision = pod["metadata"]["labels"][names.REVISION_LABEL]
            reached[revision] = reached.get(revision, 0) + 1
        left = 0
        for revision, ready in reached.items():
            deployment = self._deployment(revision)
            left += 0 if deployment is None else min(ready, int(deployment["spec"].get("replicas", 1)))
        least = min(self._floor, self._reached)
        assert left >= least, f"a write leaves {left} pods that requests reach, {least} were promised"

    def after(self, before: int) -> None:
        """A pass is over; `before` it all revisions, those that drain included, asked for that many pods."""
        self._remember_failures()
        status, spec = self._status(), self._spec()
        replicas = max(spec.serving.replicas, 0)
        plan = (status.get("rollout") or {}).get("capacity", {}).get("plan") or Capacity.SURGE.value
        most = replicas * (2 if plan == Capacity.SURGE.value else 1)
        asked = self._asked_by_both()
        assert asked <= max(most, before), f"{asked} pods are asked for, {plan} allows {most}"

    def pods_asked(self) -> int:
        """By all Deployments."""
        return sum(int(d["spec"].get("replicas", 1)) for d in self.cluster.find("Deployment", LABELS))

    def _asked_by_both(self) -> int:
        """By the stable revision and the candidate."""
        status = self._status()
        both = {(status.get(role) or {}).get("hash") for role in ("stableRevision", "candidateRevision")}
        found = [self._deployment(revision) for revision in both if revision]
        return sum(int(d["spec"].get("replicas", 1)) for d in found if d is not None)

    def _may_switch(self, selector: Mapping[str, str]) -> None:
        """All of the traffic goes only to the stable revision, or to one that is ready with all its pods."""
        found = self.cluster.look("Service", OWNER.name)
        if found is not None and found["spec"].get("selector") == selector:
            return
        revision = selector.get(names.REVISION_LABEL)
        if revision is None:
            return  # who is behind it is checked afterwards
        stable = self._status().get("stableRevision", {}).get("hash")
        deployment = self._deployment(revision)
        assert deployment is not None, "traffic moves to a revision without pods"
        ready = [pod for pod in self.cluster.find("Pod", selector) if is_ready(pod)]
        if revision == stable:
            assert ready or not self.reached(), "traffic goes back to a revision that has no ready pod"
            return
        assert len(ready) >= deployment["spec"]["replicas"], "traffic moves to a revision that is not ready"

    def _may_grow(self, body: Mapping[str, Any]) -> None:
        """A revision that was given up gets no pod again before a retry, another revision, or a possible cure."""
        revision = body["metadata"]["labels"][names.REVISION_LABEL]
        if revision not in self._failed:
            return
        found = self._deployment(revision)
        had = 0 if found is None else int(found["spec"].get("replicas", 1))
        assert body["spec"]["replicas"] <= had, f"{revision} was given up and gets pods again"

    def _remember_failures(self) -> None:
        status = self._status()
        candidate = (status.get("candidateRevision") or {}).get("hash")
        entries = {e["revision"]: e for e in status.get("history", ()) if e["result"] == "Failed"}
        action = (status.get("rollout") or {}).get("lastActionId")
        for revision in list(self._failed):
            if revision != candidate or revision not in entries:
                del self._failed[revision]
        if candidate in entries and candidate not in self._failed:
            self._failed[candidate] = (names.spec_hash(self._spec()), action)

    def _heed(self, spec: ModelDeploymentSpec) -> None:
        """What the user asks for now may allow a revision that was given up to start again."""
        entries = {e["revision"]: e for e in self._status().get("history", ()) if e["result"] == "Failed"}
        for revision, (asked, action) in list(self._failed.items()):
            again = spec.rollout.action
            retry = again is not None and again.verb is ActionVerb.RETRY and again.id != action
            undo = again is not None and again.verb is ActionVerb.UNDO and again.id != action
            curable = entries.get(revision, {}).get("reason") in CURABLE and names.spec_hash(spec) != asked
            lost = self.cluster.look("ControllerRevision", names.revision_name(OWNER.name, revision)) is None
            if retry or undo or curable or lost or names.revision_hash(spec) != revision:
                del self._failed[revision]

    # What stands

    def reached(self) -> list[dict[str, Any]]:
        """Ready pods behind the traffic Service that answer requests; a shadow passes them on to one of these."""
        service = self.cluster.look("Service", OWNER.name)
        if service is None or "selector" not in service["spec"]:
            return []
        found = self.cluster.find("Pod", service["spec"]["selector"])
        return [pod for pod in found if is_ready(pod) and names.SHADOW_LABEL not in pod["metadata"]["labels"]]

    def _deployment(self, revision: str) -> dict[str, Any] | None:
        return self.cluster.look("Deployment", names.revision_name(OWNER.name, revision))

    def _status(self) -> dict[str, Any]:
        body = self.cluster.look("ModelDeployment", OWNER.name)
        return {} if body is None else dict(body.get("status") or {})

    def _spec(self) -> ModelDeploymentSpec:
        body = self.cluster.look("ModelDeployment", OWNER.name)
        assert body is not None
        return within_bounds(ModelDeploymentSpec.model_validate(body["spec"]))
