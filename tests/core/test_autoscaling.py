"""The operator beside an autoscaler: it makes it, obeys it, and lets nothing that it writes start anything anew."""

from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core.scope import within_bounds
from support.builders import OWNER
from support.neighbours import SLOW, Surroundings
from support.specs import make_wanted, uri
from support.world import World

KIND = "HorizontalPodAutoscaler"
BOUNDS = {"minReplicas": 2, "maxReplicas": 4}


@pytest.fixture
def world():
    """A world in which v1 serves under an autoscaler."""
    world = World(around=Surroundings(gpus=8), lawful=True)
    world.submit(make_wanted("v1", autoscaling=BOUNDS))
    world.settle()
    return world


def autoscaler_of(world):
    return world.cluster.look(KIND, OWNER.name)


def pods_of(world):
    return len(world.endpoints())


class TestTheAutoscaler:
    def test_stands_beside_what_serves(self, world):
        spec = autoscaler_of(world)["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 4)
        assert world.next_plan().is_empty

    def test_waits_for_somebody_to_scale(self):
        world = World()
        world.around.gpus = 0
        world.submit(make_wanted("v1", autoscaling=BOUNDS))
        world.settle()
        assert autoscaler_of(world) is None

    def test_follows_the_spec(self, world):
        world.edit("asks for more", autoscaling={"maxReplicas": 6})
        world.settle()
        assert autoscaler_of(world)["spec"]["maxReplicas"] == 6

    def test_goes_with_the_wish(self, world):
        world.submit(make_wanted("v1", replicas=3))
        world.settle()
        assert autoscaler_of(world) is None
        assert pods_of(world) == 3

    def test_is_put_right_when_somebody_edits_it(self, world):
        world.cluster.change_now(KIND, OWNER.name, lambda body: body["spec"].update(maxReplicas=90))
        world.settle()
        assert autoscaler_of(world)["spec"]["maxReplicas"] == 4

    def test_of_somebody_else_is_told_and_left_alone(self):
        world = World()
        theirs = {"apiVersion": "autoscaling/v2", "kind": KIND, "spec": {"maxReplicas": 9}}
        labels = {names.NAME_LABEL: OWNER.name}
        world.cluster.create_now(
            {**theirs, "metadata": {"name": OWNER.name, "namespace": OWNER.namespace, "labels": labels}}
        )
        world.submit(make_wanted("v1", autoscaling=BOUNDS))
        world.settle(wait=False)
        assert world.said("Ready") == ("False", "NotOwned")
        assert autoscaler_of(world)["spec"] == {"maxReplicas": 9}
        world.submit(make_wanted("v1"))
        world.settle()
        assert world.said("Ready") == ("True", "Serving")
        assert autoscaler_of(world)["spec"] == {"maxReplicas": 9}


class TestWhatItWrites:
    def test_the_fewest_hold_from_the_start(self, world):
        assert pods_of(world) == 2

    @pytest.mark.parametrize(("written", "kept"), [(0, 0), (1, 2), (3, 3), (9, 4)])
    def test_is_obeyed_within_the_bounds(self, written, kept):
        spec = ModelDeploymentSpec.model_validate(make_wanted("v1", replicas=written, autoscaling=BOUNDS))
        assert within_bounds(spec).serving.replicas == kept

    def test_makes_no_revision(self, world):
        before = world.status["stableRevision"]
        for replicas in (4, 3, 2):
            world.edit(f"(the autoscaler) asks for {replicas}", replicas=replicas)
            world.settle()
            assert pods_of(world) == replicas
        assert world.status["stableRevision"] == before
        assert len(world.cluster.find("ControllerRevision")) == 1

    def test_moves_nothing_while_paused(self, world):
        world.pause()
        world.settle()
        world.edit("(the autoscaler) asks for 4", replicas=4)
        world.settle()
        assert pods_of(world) == 2
        world.pause(False)
        world.settle()
        assert pods_of(world) == 4

    def test_moves_the_budget_along(self, world):
        world.edit("promises 3", minAvailable=3)
        world.settle()
        assert world.cluster.look("PodDisruptionBudget", OWNER.name) is None, "it would let no pod go"
        world.edit("(the autoscaler) asks for 4", replicas=4)
        world.settle()
        assert world.cluster.look("PodDisruptionBudget", OWNER.name)["spec"]["minAvailable"] == 3

    def test_starts_nothing_that_was_given_up(self, world):
        """Another number of pods is nobody's cure; another deadline may be."""
        world.around.models[uri("v2")] = SLOW
        spec = make_wanted("v2", autoscaling=BOUNDS)
        world.submit({**spec, "rollout": {"progressDeadline": "1m"}})
        world.settle()
        world.pass_time(timedelta(minutes=2))
        world.settle()
        assert world.said("Ready") == ("False", "ProgressDeadlineExceeded")
        failed = world.status["candidateRevision"]["hash"]
        for replicas in (3, 4, 2):
            world.edit(f"(the autoscaler) asks for {replicas}", replicas=replicas)
            world.settle()
            assert world.said("Ready") == ("False", "ProgressDeadlineExceeded")
            assert pods_of(world) == replicas
            assert world.cluster.look("Deployment", names.revision_name(OWNER.name, failed)) is None
        world.submit({**spec, "rollout": {"progressDeadline": "2h"}})
        world.go_on(timedelta(seconds=5))
        assert world.cluster.look("Deployment", names.revision_name(OWNER.name, failed)) is not None


class TestScaleSubresource:
    def test_the_selector_picks_the_pods_of_both_revisions_and_no_other(self, world):
        selector = world.status["selector"]
        assert selector == "pilotfish.dev/component=triton,pilotfish.dev/name=digits,pilotfish.dev/revision"
        shadow = names.shadow_labels(OWNER.name, "xxxxxxxx")
        assert names.REVISION_LABEL not in shadow

    def test_replicas_are_counted_over_both_revisions(self, world):
        world.traffic.rate = 20.0
        spec = make_wanted("v2", autoscaling=BOUNDS)
        world.submit({**spec, "rollout": {"strategy": "Canary", "steps": [{"weight": 50, "hold": "Forever"}]}})
        world.until(lambda: world.said("Ready") == ("False", "Holding"))
        assert world.status["replicas"] == 4
