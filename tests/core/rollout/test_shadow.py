"""When a shadow stands, what waits for it, and what its counters decide; it never counts as a pod of a revision."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.api.job_input import SHADOW_ENV, ShadowInput
from pilotfish.core.health.samples import ShadowCounters
from pilotfish.core.objects import name_of
from pilotfish.core.rollout.shadow import keep_shadow, shadow_ready, shadow_trouble, unwanted_shadow
from pilotfish.core.scope import make_scope
from support.builders import OWNER, POLICY
from support.specs import make_wanted, uri
from support.traffic import ERRING
from support.world import World

SHADOW = {"sampleRate": "0.1", "minAgreement": "0.99"}
STEPS = [{"weight": 25, "hold": "1m"}, {"weight": 50, "hold": "1m"}]


class Compared(World):
    """A world whose shadow compares ten answers a second; of a hundred so many are equal."""

    agreed = 100
    silent = False
    history: tuple[ShadowCounters, ...] = ()
    began = None

    def _measured(self, observed):
        found = World._measured(self, observed)
        pods = [p for p in self.cluster.find("Pod") if names.SHADOW_LABEL in p["metadata"]["labels"]]
        if not pods or self.silent:
            self.history, self.began = (), None
            return found
        self.began = self.began or self.moment
        seconds = int((self.moment - self.began).total_seconds())
        sample = ShadowCounters(at=self.moment, compared=10 * seconds, agreed=seconds * self.agreed // 10)
        if not self.history or self.history[-1].at < self.moment:
            self.history = (*self.history, sample)
        return replace(found, health=replace(found.health, shadow=self.history))


def wanted(version, *, replicas=3, shadow=SHADOW, **rollout):
    told = {"strategy": "Canary", "steps": STEPS, **rollout, **({"shadow": shadow} if shadow else {})}
    return {**make_wanted(version, replicas=replicas), "rollout": told}


@pytest.fixture
def world():
    made = Compared(lawful=True, always_available=True)
    made.traffic.rate = 20.0
    made.submit(wanted("v1"))
    made.settle()
    made.submit(wanted("v2"))
    return made


def shadows(world):
    return world.cluster.find("Deployment", {names.COMPONENT_LABEL: "shadow"})


def stage(world):
    return (world.status.get("rollout") or {}).get("stage")


def step(world):
    return (world.status.get("rollout") or {}).get("step") or {}


def scope_of(world):
    return make_scope(world.observed(), world.observed_spec(), POLICY, world.moment)


def the_shadow(world):
    (found,) = shadows(world)
    return found


def test_it_comes_with_the_steps_and_goes_with_them(world):
    stood = set()
    world.until(lambda: stage(world) is not None)
    while stage(world) is not None:
        if not any(world.step_all()):
            assert world.wait()
        stood |= {stage(world)} if shadows(world) else set()
    assert stood == {"Stepping"}
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert not shadows(world)


def test_its_pod_is_behind_the_service_with_both_and_with_neither_alone(world):
    world.until(lambda: "readyAt" in step(world))
    (pod,) = world.cluster.find("Pod", {names.SHADOW_LABEL: world.status["candidateRevision"]["hash"]})
    service = world.cluster.look("Service", OWNER.name)
    assert pod in world.cluster.find("Pod", service["spec"]["selector"])
    for role in ("stableRevision", "candidateRevision"):
        alone = names.pod_selector(OWNER.name, world.status[role]["hash"])
        assert pod not in world.cluster.find("Pod", alone)
        deployment = world.cluster.look("Deployment", names.revision_name(OWNER.name, world.status[role]["hash"]))
        assert pod not in world.cluster.find("Pod", deployment["spec"]["selector"]["matchLabels"])
    assert world.status["rollout"]["traffic"]["assigned"] == 20, "one of five: three stable, one new, the shadow"


def cannot_pull_it(world):
    """The candidate's first pods have the image already; the shadow's node does not get it."""
    while not shadows(world):
        next((actor for actor in world.actors() if world.step(actor) and shadows(world)), None)
    world.around.missing_images = {POLICY.images.optimizer}


def test_no_step_counts_before_it_is_ready(world):
    cannot_pull_it(world)
    world.until(lambda: "pull" in world.condition("Ready")["message"].lower())
    assert "readyAt" not in step(world)
    assert stage(world) == "Stepping"
    world.around.missing_images = set()
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_one_that_never_gets_ready_sends_the_candidate_back(world):
    cannot_pull_it(world)
    world.go_on(timedelta(minutes=9))
    assert stage(world) == "Stepping"
    world.go_on(timedelta(minutes=2))
    world.settle()
    message = world.condition("Ready")["message"]
    assert world.said("Ready")[0] == "False"
    assert "the shadow was not ready for 10m" in message
    assert not shadows(world)


def test_other_answers_send_the_candidate_back(world):
    world.agreed = 98
    world.settle()
    assert world.said("Ready") == ("False", "AnalysisFailed")
    assert "Aborted at step 1/2: agreement with the stable revision 98 % < 99 %" in world.condition("Ready")["message"]
    assert not shadows(world)


def test_agreement_at_the_bound_is_enough(world):
    world.agreed = 99
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_silence_holds_the_step_and_then_sends_back(world):
    world.silent = True
    world.until(lambda: "no answers have been compared yet" in world.condition("Ready")["message"])
    assert stage(world) == "Stepping"
    world.settle()
    assert world.said("Ready") == ("False", "NoData")


def test_while_it_is_silent_errors_are_still_judged(world):
    world.around.models[uri("v2")] = ERRING
    world.silent = True
    world.settle()
    assert world.said("Ready") == ("False", "AnalysisFailed")
    assert "error rate" in world.condition("Ready")["message"]


def test_it_goes_when_it_is_not_asked_for_any_more(world):
    world.until(lambda: "readyAt" in step(world))
    world.submit(wanted("v2", shadow=None))
    world.until(lambda: not shadows(world))
    assert stage(world) == "Stepping"
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_another_revision_takes_it_along(world):
    world.until(lambda: "readyAt" in step(world))
    first = name_of(the_shadow(world))
    world.submit(wanted("v3"))
    world.until(lambda: bool(shadows(world)) and name_of(the_shadow(world)) != first)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")
    assert not shadows(world)


def test_paused_it_stays_as_it_is(world):
    world.until(lambda: "readyAt" in step(world))
    world.pause()
    world.go_on(timedelta(minutes=10))
    assert len(shadows(world)) == 1


def test_another_sample_rate_reaches_the_shadow_that_stands(world):
    world.until(lambda: "readyAt" in step(world))
    world.submit(wanted("v2", shadow={"sampleRate": "0.5", "minAgreement": "0.99"}))
    world.until(lambda: told(the_shadow(world)).sample_rate == 0.5)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def told(deployment) -> ShadowInput:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return ShadowInput.model_validate_json(next(e["value"] for e in container["env"] if e["name"] == SHADOW_ENV))


def test_what_it_is_told(world):
    world.until(lambda: bool(shadows(world)))
    order = told(the_shadow(world))
    stable, candidate = (world.status[role]["hash"] for role in ("stableRevision", "candidateRevision"))
    assert order.stable.host == f"digits-{stable}.team.svc"
    assert order.candidate.host == f"digits-{candidate}.team.svc"
    assert (order.model, order.sample_rate, order.precisions, order.tolerance) == ("digits", 0.1, ("FP32",), None)


@pytest.mark.parametrize(
    ("optimization", "verification", "expected"),
    [({"maxAbs": "1"}, None, "1"), ({"maxAbs": "1"}, {"maxAbs": "2"}, "2"), (None, {"maxAbs": "2"}, "2")],
)
def test_the_tolerance_is_that_of_the_verification(world, optimization, verification, expected):
    spec = wanted("v2", **({"verification": {"tolerance": verification}} if verification else {}))
    world.submit({**spec, "optimization": {"tolerance": optimization}} if optimization else spec)
    world.until(lambda: bool(shadows(world)))
    assert told(the_shadow(world)).tolerance.max_abs == expected


def test_somebody_elses_deployment_under_its_name_is_not_touched(world):
    world.until(lambda: stage(world) == "Verifying")
    name = names.shadow(OWNER.name, world.status["candidateRevision"]["hash"])
    labels = {names.NAME_LABEL: OWNER.name}
    foreign = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "team", "labels": labels}, "spec": {"replicas": 0, "selector": {}, "template": {}}}  # fmt: skip
    world.cluster.create_now(foreign)
    scope = scope_of(world)
    assert any(ref.name == name for ref in scope.observed.foreign)
    world.reconcile()
    assert world.said("Ready") == ("True", "NotOwned") or world.said("Stalled") == ("True", "NotOwned")
    assert f'Deployment "{name}" exists and belongs to somebody else' in str(world.status)


def test_outside_of_its_steps_nothing_is_kept_and_nothing_awaited(world):
    scope = scope_of(world)
    assert keep_shadow(scope, scope.rollout) == ()
    assert unwanted_shadow(scope, scope.rollout) == ()
    plain = replace(scope, spec=scope.spec.model_copy(update={"rollout": scope.spec.rollout.model_copy(update={"shadow": None})}))  # fmt: skip
    assert shadow_ready(plain)
    assert not shadow_ready(scope)
    assert shadow_trouble(scope).message == "the shadow starts"
    assert not shadow_trouble(scope).fatal
