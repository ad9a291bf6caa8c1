"""What Prometheus would see of whole rollouts: the operator's own process, a real API server, played pods."""

import pytest

from pilotfish.api.report import TerminationMessage
from pilotfish.core.objects import ref_of
from support.builders import make_result, make_verification
from support.kube import make_object
from support.kubelet import playing_kubelet
from support.operator_process import running_operator
from support.polling import until
from support.rules import metric_names, rendered_rules
from support.scrape import read_scrape

pytestmark = [pytest.mark.apiserver, pytest.mark.slow]

CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 50, "hold": "Forever"}],
    # What no pod has to be asked for: the played ones do not answer.
    "analysis": {"interval": "5s", "window": "10s", "checks": {"podRestarts": {"max": 0}}},
}


class World:
    """One ModelDeployment, and what the operator tells of it."""

    def __init__(self, cluster, namespace, operator):
        self.cluster, self.namespace, self.operator = cluster, namespace, operator
        self.seen = set()
        self.who = {"namespace": namespace, "name": "digits"}

    async def ask_for(self, uri, **rollout):
        spec = {"model": {"uri": uri}, "serving": {"replicas": 2}, "rollout": {**CANARY, **rollout}}
        await self.cluster.apply(make_object("digits", self.namespace, spec))

    def scrape(self):
        scrape = read_scrape(self.operator.get("/metrics"))
        self.seen |= scrape.names
        return scrape

    async def until_phase(self, phase, **more):
        """The first scrape with that phase, and with those samples."""

        async def shows():
            scrape = self.scrape()
            wanted = {"phase": (phase, 1.0), **more}
            found = {metric: scrape.of(f"pilotfish_{metric}", **self.who) for metric in wanted}
            return scrape if all(found[m].get(key) == value for m, (key, value) in wanted.items()) else None

        return await until(f"phase {phase} with {more}", shows, seconds=90)

    def outcomes(self):
        """Rollouts that ended, without those of which there were none."""
        return {key: value for key, value in self.scrape().of("pilotfish_rollouts_total").items() if value}


def optimize(job):
    if job["model"]["uri"].endswith("/unsafe/"):
        return TerminationMessage(outcome="Failed", reason="UnsafeModel", message="The file holds code")
    return make_result(job["recipeKey"])


async def test_a_canary_its_promotion_its_abort_and_its_end(cluster, account, namespace):
    async with playing_kubelet(cluster, namespace, result=optimize) as kubelet:
        with running_operator(account, resync=1) as operator:
            world = World(cluster, namespace, operator)
            begins_with_zeros(world.scrape())
            await world.ask_for("s3://models/v1/")
            await first_revision_serves(world, kubelet)
            await world.ask_for("s3://models/v2/")
            await canary_has_half(world, kubelet)
            await world.ask_for("s3://models/v2/", action={"id": "1", "verb": "promoteFull"})
            await canary_has_become_stable(world, kubelet)
            kubelet.verify = lambda _: make_verification(passed=False)
            await world.ask_for("s3://models/v3/")
            await world.until_phase("Aborted")
            assert world.outcomes() == {"promoted": 2.0, "aborted": 1.0}
            asked = {name for rule in rendered_rules() for name in metric_names(rule["expr"])}
            own = {name for name in asked if not name.startswith(("nv_", "pilotfish_model_"))}
            assert own - world.seen == {"pilotfish_source_check_failed"}, "only spec.model.refresh makes the latter"
            operator.kill()

        with running_operator(account, resync=1, identity="operator-1") as operator:
            world = World(cluster, namespace, operator)
            await world.until_phase("Aborted", condition=("VerificationFailed False Ready", 1.0))
            await world.ask_for("s3://models/unsafe/")
            await world.until_phase("Aborted", condition=("UnsafeModel False ArtifactReady", 1.0))
            assert world.outcomes() == {}, "what the operator before it counted is not counted again"
            failures = world.scrape().of("pilotfish_optimization_failures_total")
            assert {reason: count for reason, count in failures.items() if count} == {"UnsafeModel": 1.0}

            kubelet.verify = lambda _: make_verification()
            await world.ask_for("s3://models/v1/")
            await world.until_phase("Canarying", rollout_step=("", 1.0))
            await world.ask_for("s3://models/v1/", action={"id": "2", "verb": "promoteFull"})
            await world.until_phase("Ready")
            assert world.outcomes() == {"rolled_back": 1.0}

            await cluster.delete(ref_of(await cluster.get(ref_of(make_object("digits", namespace)))))
            await until("its gauges are gone", lambda: is_forgotten(world))
            assert world.outcomes() == {"rolled_back": 1.0}


def begins_with_zeros(scrape):
    assert set(scrape.of("pilotfish_rollouts_total").values()) == {0.0}
    assert set(scrape.of("pilotfish_optimization_failures_total").values()) == {0.0}


async def first_revision_serves(world, kubelet):
    scrape = await world.until_phase("Ready", replicas=("stable ready", 2.0))
    (first,) = kubelet.jobs_run
    assert scrape.of("pilotfish_info", **world.who) == {f"ONNX Ready {first} Canary onnx-fp32": 1.0}
    assert scrape.of("pilotfish_replicas", **world.who) == {"stable desired": 2.0, "stable ready": 2.0}
    assert scrape.one("pilotfish_rollout_step", **world.who) == 0
    assert scrape.one("pilotfish_ready", **world.who) == 1
    assert scrape.of("pilotfish_canary_weight", **world.who) == {}
    assert scrape.of("pilotfish_artifact_speedup_ratio", **world.who)["stable"] > 1
    assert 0 <= scrape.of("pilotfish_artifact_max_abs_error", **world.who)["stable"] < 1
    assert scrape.one("pilotfish_optimization_duration_seconds_count", format="ONNX") == 1
    assert world.outcomes() == {"promoted": 1.0}


async def canary_has_half(world, kubelet):
    scrape = await world.until_phase(
        "Canarying",
        rollout_step=("", 1.0),
        canary_weight=("assigned", 50.0),
        analysis_verdict=("podRestarts Enforce Pass", 1.0),
    )
    first, second = kubelet.jobs_run
    assert set(scrape.of("pilotfish_revision_info", **world.who)) == {
        f"ONNX FP32 {first} stable onnx-fp32",
        f"ONNX FP32 {second} canary onnx-fp32",
    }
    assert scrape.one("pilotfish_rollout_steps", **world.who) == 1
    assert scrape.of("pilotfish_canary_weight", **world.who)["desired"] == 50
    assert scrape.of("pilotfish_replicas", **world.who)["canary ready"] >= 1
    assert scrape.one("pilotfish_rollout_hold_seconds", **world.who) == float("inf")
    assert scrape.of("pilotfish_analysis_value", **world.who)["podRestarts canary"] == 0


async def canary_has_become_stable(world, kubelet):
    scrape = await world.until_phase("Ready", replicas=("stable ready", 2.0))
    _, second = kubelet.jobs_run
    assert scrape.of("pilotfish_info", **world.who) == {f"ONNX Ready {second} Canary onnx-fp32": 1.0}
    for gone in ("canary_weight", "analysis_verdict", "rollout_started_timestamp_seconds"):
        assert scrape.of(f"pilotfish_{gone}", **world.who) == {}
    assert world.outcomes() == {"promoted": 2.0}
    assert scrape.one("pilotfish_rollout_duration_seconds_count", outcome="promoted") == 2


async def is_forgotten(world):
    return all(("name", "digits") not in labels for _, labels in world.scrape().samples)
