"""How far a Job is: who is asked, what status shows, and how rarely it is written."""

from dataclasses import dataclass, replace

import pytest

from pilotfish.api.job_progress import ProgressNote
from pilotfish.core import Observed
from pilotfish.core.job_outcome import is_finished
from pilotfish.core.job_progress import describe_progress, find_asked, make_progress
from pilotfish.core.observed import Heard
from support.specs import make_wanted, uri
from support.world import World


@dataclass
class Told(World):
    """A world whose Job tells its progress."""

    note: ProgressNote | None = None
    job: str | None = None

    def _measured(self, observed: Observed) -> Observed:
        observed = World._measured(self, observed)
        if self.note is None:
            return observed
        going = [job["metadata"]["uid"] for job in observed.of_kind("Job") if not is_finished(job)]
        uid = self.job or next(iter(going), "gone")
        return replace(observed, progress=Heard(job=uid, note=self.note))

    def hear(self, percent: int, stage: str = "benchmark", message: str = "round 3", left: int | None = 130) -> None:
        self.note = ProgressNote(stage=stage, percent=percent, message=message, remaining_seconds=left)
        self.reconcile()

    @property
    def shown(self):
        return (self.status.get("optimization") or {}).get("progress")


def pod_of(world):
    return next(pod for pod in world.cluster.find("Pod") if "optimize" in pod["metadata"]["name"])


def run_pod(world, *, container="optimize", init=False, address="10.1.2.3", **spec):
    def run(body):
        statuses = [{"name": container, "state": {"running": {}}}]
        body["status"] = {"phase": "Pending" if init else "Running", "podIP": address}
        body["status"]["initContainerStatuses" if init else "containerStatuses"] = statuses
        body["spec"] = {**body["spec"], **spec}

    world.cluster.change_now("Pod", pod_of(world)["metadata"]["name"], run)


@pytest.fixture
def world():
    world = Told()
    world.submit(make_wanted("v1", gpus=0))
    world.reconcile()
    world.neighbours.control_jobs()
    return world


class TestWhoIsAsked:
    def test_the_running_pod_of_the_job(self, world):
        run_pod(world)
        asked = find_asked(world.observed())
        (job,) = world.observed().of_kind("Job")
        assert (asked.address, asked.job) == ("10.1.2.3", job["metadata"]["uid"])

    def test_also_while_it_fetches(self, world):
        run_pod(world, container="fetch", init=True)
        assert find_asked(world.observed()).address == "10.1.2.3"

    @pytest.mark.parametrize(
        "state",
        [{"container": "triton"}, {"address": None}, {"hostNetwork": True}],
        ids=["another's", "no ip", "node's"],
    )
    def test_nobody_else(self, world, state):
        run_pod(world, **state)
        assert find_asked(world.observed()) is None

    def test_nobody_before_it_runs_and_after_it_ended(self, world):
        assert find_asked(world.observed()) is None
        world.settle()
        assert find_asked(world.observed()) is None


class TestWhatIsShown:
    def test_in_status_and_in_the_sentence(self, world):
        world.hear(52)
        assert world.shown == {"stage": "benchmark", "percent": 52, "message": "round 3", "remaining": "2m"}
        assert world.condition("Ready")["message"].endswith(
            "optimizes the model: benchmark, 52 %: round 3; about 2m left"
        )
        assert world.status["phase"] == "Optimizing"

    def test_it_is_written_with_every_fifth_point_and_with_every_stage(self, world):
        world.hear(50)
        before = world.cluster.changes
        for percent in (50, 51, 54, 46):
            world.hear(percent, message=f"now {percent}", left=percent)
        assert world.cluster.changes == before, "within five points nothing is written"
        world.hear(55)
        assert (world.cluster.changes, world.shown["percent"]) == (before + 1, 55)
        world.hear(56, stage="package")
        assert (world.cluster.changes, world.shown["stage"]) == (before + 2, "package")

    def test_no_events_for_it(self, world):
        world.hear(10)
        events = len(world.cluster.find("Event"))
        for percent in range(10, 100, 10):
            world.hear(percent)
        assert len(world.cluster.find("Event")) == events

    def test_nothing_is_shown_when_nothing_is_heard(self, world):
        world.hear(50)
        world.note = None
        world.reconcile()
        assert world.shown is None
        assert world.condition("Ready")["message"].endswith("optimizes the model")

    def test_of_another_job_nothing(self, world):
        world.job = "another"
        world.hear(50)
        assert world.shown is None

    def test_it_is_gone_when_the_job_has_ended(self, world):
        world.hear(90)
        world.settle()
        assert world.shown is None
        assert world.status["optimization"]["winner"] == "onnx-fp32"

    def test_beside_the_figures_of_what_serves(self, world):
        world.settle()
        world.submit(make_wanted("v2", gpus=0))
        world.note = None
        world.reconcile()
        world.hear(30)
        assert world.shown["percent"] == 30
        assert world.status["optimization"]["winner"] == "onnx-fp32"

    def test_it_is_gone_when_the_job_has_failed(self, world):
        world.around.models[uri("v1")] = "ModelInvalid"
        world.hear(30)
        world.settle()
        assert world.status["phase"] == "Stalled"
        assert world.shown is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (0, "0s"), (59, "59s"), (89, "89s"), (90, "2m"), (3600, "60m")]
)
def test_the_time_left_is_a_rough_guess(seconds, text):
    note = ProgressNote(stage="load", percent=1, remaining_seconds=seconds)
    shown = make_progress(Heard(job="u", note=note), {"metadata": {"uid": "u"}}, stored=None)
    assert shown.remaining == text


def test_a_sentence_without_what_is_not_known():
    shown = make_progress(
        Heard(job="u", note=ProgressNote(stage="load", percent=1)), {"metadata": {"uid": "u"}}, stored=None
    )
    assert describe_progress(shown) == "load, 1 %"
