"""One pass at a time: what a pass does about the world that it finds."""

from datetime import timedelta

import pytest

from pilotfish import names
from pilotfish.core import Plan, observe, plan
from pilotfish.core.rollout.pods import count_pods
from pilotfish.core.scope import make_scope
from support.builders import NOW, OWNER, POLICY, UID, make_model_deployment
from support.neighbours import DAMAGED, UNLOADABLE
from support.specs import make_wanted, uri
from support.status_check import check_status
from support.world import World

ONE, TWO = make_wanted("v1"), make_wanted("v2")


@pytest.fixture
def served():
    """A world at rest in which v1 serves."""
    world = World()
    world.submit(ONE)
    world.settle()
    return world


def effects_of(world, change):
    """What the operator writes after a change, up to rest."""
    before = len(world.cluster.effects)
    change()
    world.settle()
    return [(e.verb, e.kind) for e in world.cluster.effects[before:] if e.verb in {"apply", "delete"}]


def optimize_jobs(world):
    """The Jobs that make artifacts; those that verify pods come and go with the pods."""
    return world.cluster.find("Job", {names.COMPONENT_LABEL: names.Component.OPTIMIZE.value})


def optimize_effects(world, change=lambda: None):
    """What becomes of those Jobs after a change, up to rest."""
    before = len(world.cluster.effects)
    change()
    world.settle()
    return [e.verb for e in world.cluster.effects[before:] if e.kind == "Job" and e.name.endswith("-optimize")]


def deployment_of(world):
    (found,) = world.cluster.find("Deployment")
    return found["metadata"]["name"]


def edit(world, kind, name, change):
    return lambda: world.cluster.change_now(kind, name, change)


class TestAtRest:
    def test_nothing_is_asked_for(self, served):
        assert served.next_plan().is_empty

    def test_another_operator_version_and_other_settings_write_nothing(self, served):
        images = POLICY.images.__class__(optimizer="new:2", optimizer_torch="new-torch:2", triton="triton:99")
        served.policy = POLICY.__class__(images=images, triton_version="2.71.0")
        assert served.next_plan().is_empty

    def test_what_the_api_server_adds_is_no_difference(self, served):
        def default(body):
            body["spec"]["template"]["spec"]["schedulerName"] = "default-scheduler"
            body["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["httpGet"]["scheme"] = "HTTP"
            body["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"

        assert effects_of(served, edit(served, "Deployment", deployment_of(served), default)) == []

    def test_a_quantity_written_another_way_is_no_difference(self, served):
        def canonical(body):
            container = body["spec"]["template"]["spec"]["containers"][0]
            container["resources"]["limits"]["cpu"] = "1000m"

        assert effects_of(served, edit(served, "Deployment", deployment_of(served), canonical)) == []

    def test_the_clock_alone_changes_nothing(self, served):
        served.pass_time(timedelta(days=30))
        assert served.next_plan().is_empty


class TestOtherHands:
    @pytest.mark.parametrize(
        ("kind", "change"),
        [
            ("Deployment", lambda b: b["spec"].update(replicas=7)),
            ("Deployment", lambda b: b["spec"]["template"]["spec"]["containers"][0].update(image="other:1")),
            ("Deployment", lambda b: b["spec"]["template"]["spec"]["containers"][0]["env"][1].update(value="/")),
            ("Deployment", lambda b: b["spec"]["template"]["spec"]["containers"][0]["args"].append("--log-verbose=9")),
            ("Deployment", lambda b: b["metadata"]["labels"].pop(names.REVISION_LABEL)),
        ],
    )
    def test_an_edited_child_is_restored(self, served, kind, change):
        assert effects_of(served, edit(served, kind, deployment_of(served), change)) == [("apply", kind)]
        assert served.next_plan().is_empty

    def test_the_traffic_goes_back_to_stable(self, served):
        def turn_away(body):
            body["spec"]["selector"] = {"app": "mine"}

        def added_to(body):
            assert body["spec"]["selector"].items() >= names.pod_selector(OWNER.name).items()

        assert effects_of(served, edit(served, "Service", OWNER.name, turn_away)) == [("apply", "Service")]
        added_to(served.cluster.look("Service", OWNER.name))

    @pytest.mark.parametrize("kind", ["Deployment", "ConfigMap", "Service"])
    def test_a_deleted_child_comes_back_as_it_was(self, served, kind):
        name = deployment_of(served)
        before = served.cluster.look(kind, name)
        assert ("apply", kind) in effects_of(served, lambda: served.cluster.remove_now(kind, name))
        after = served.cluster.look(kind, name)
        assert after["metadata"]["annotations"] == before["metadata"]["annotations"]

    def test_a_lost_record_is_made_again_without_moving_the_pods(self, served):
        name = deployment_of(served)
        before = served.cluster.look("Deployment", name)
        assert effects_of(served, lambda: served.cluster.remove_now("ControllerRevision", name)) == [
            ("apply", "ControllerRevision")
        ]
        assert served.cluster.look("Deployment", name)["spec"] == before["spec"]

    def test_a_lost_claim_is_made_again(self, served):
        lose = lambda: served.cluster.remove_now("PersistentVolumeClaim", "digits-store")  # noqa: E731
        assert effects_of(served, lose) == [("apply", "PersistentVolumeClaim")]

    def test_a_claim_that_waits_to_go_is_held_by_no_job_that_has_ended(self, served):
        """Kubernetes keeps it for as long as a pod names it, ended or not."""

        def delete(body):
            body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

        assert served.cluster.find("Job")
        effects = effects_of(served, edit(served, "PersistentVolumeClaim", "digits-store", delete))
        assert set(effects) == {("delete", "Job")}
        assert not served.cluster.find("Job")
        assert served.said("Ready") == ("True", "Serving")


class TestStablePodsThatFail:
    def test_are_told_and_kept(self, served):
        served.around.models[uri("v1")] = UNLOADABLE
        (pod,) = served.cluster.find("Pod", {names.COMPONENT_LABEL: "triton"})
        assert effects_of(served, lambda: served.cluster.remove_now("Pod", pod["metadata"]["name"])) == []
        assert served.said("Ready") == ("False", "ModelLoadFailed")
        assert served.said("Available") == ("False", "ModelLoadFailed")
        assert served.said("Healthy") == ("False", "ModelLoadFailed")
        assert served.said("Stalled") is None
        assert served.status["stableRevision"]
        served.pass_time(timedelta(hours=1))
        served.settle()
        assert served.cluster.find("Deployment")

    def test_a_new_spec_takes_over_from_them(self, served):
        served.around.models[uri("v1")] = UNLOADABLE
        (pod,) = served.cluster.find("Pod", {names.COMPONENT_LABEL: "triton"})
        served.cluster.remove_now("Pod", pod["metadata"]["name"])
        served.settle()
        served.submit(TWO)
        served.settle()
        assert served.said("Ready") == ("True", "Serving")


class TestCountPods:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            ({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}, True),
            ({"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}, False),
            ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 2}, False),
            ({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 0}, False),
            ({}, False),
        ],
    )
    def test_complete_means_all_of_the_present_template(self, served, status, expected):
        served.cluster.change_now("Deployment", deployment_of(served), lambda b: b.update(status=status))
        scope = make_scope(served.observed(), served.observed_spec(), POLICY, NOW)
        assert count_pods(scope, scope.revision).complete is expected


class TestStrangers:
    def make_foreign(self, kind, name, **more):
        versions = {"Service": "v1", "Job": "batch/v1", "PersistentVolumeClaim": "v1", "Deployment": "apps/v1"}
        meta = {"name": name, "namespace": OWNER.namespace, **more}
        return {"apiVersion": versions[kind], "kind": kind, "metadata": meta, "spec": {"mine": True}}

    @pytest.mark.parametrize(
        ("kind", "name"),
        [("PersistentVolumeClaim", "digits-store"), ("Job", "digits-{}-optimize"), ("Deployment", "digits-{}")],
    )
    def test_are_reported_and_left_alone(self, kind, name):
        world = World()
        world.submit(ONE)
        revision = names.revision_hash(world.observed_spec())
        foreign = world.cluster.create_now(self.make_foreign(kind, name.format(revision)))
        world.settle(wait=False)
        assert world.said("Stalled") == ("True", "NotOwned")
        assert kind in world.condition("Ready")["message"]
        assert world.cluster.look(kind, name.format(revision)) == foreign
        world.cluster.remove_now(kind, name.format(revision))
        world.settle()
        assert world.said("Ready") == ("True", "Serving")

    def test_somebody_s_service_of_our_name_keeps_its_selector(self):
        world = World()
        world.submit(ONE)
        foreign = world.cluster.create_now(self.make_foreign("Service", OWNER.name))
        world.settle(wait=False)
        assert world.said("Stalled") == ("True", "NotOwned")
        assert world.cluster.look("Service", OWNER.name) == foreign

    @pytest.mark.parametrize("kind", ["ReplicaSet", "Job", "Deployment"])
    def test_pods_with_our_labels_but_another_owner_do_not_count(self, served, kind):
        """Every name is ours, the uid is not."""
        owner = next(o for o in served.cluster.everything() if o["kind"] == kind)
        labels = names.labels(OWNER.name, names.Component.TRITON, served.status["stableRevision"]["hash"])
        reference = {"kind": kind, "name": owner["metadata"]["name"], "uid": "x", "controller": True}
        before = served.observed()
        metadata = {"name": "p", "namespace": OWNER.namespace, "labels": labels, "ownerReferences": [reference]}
        served.cluster.create_now({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {}})
        assert served.observed() == before

    def test_pods_of_somebody_s_replica_set_under_our_names_do_not_count(self, served):
        """Whoever may make ReplicaSets may name one like a Deployment's, with real pods behind it."""
        (true,) = served.cluster.find("ReplicaSet")
        before = served.observed()
        forged = {**true["metadata"], "name": true["metadata"]["name"] + "0", "uid": "x", "ownerReferences": []}
        served.cluster.create_now({**true, "metadata": forged})
        (pod, *_) = before.pods
        owner = {"kind": "ReplicaSet", "name": forged["name"], "uid": "x", "controller": True}
        served.cluster.create_now({**pod, "metadata": {**pod["metadata"], "name": "p", "ownerReferences": [owner]}})
        assert served.observed() == before

    def test_children_of_an_earlier_object_of_the_same_name_are_not_ours(self, served):
        reborn = {**make_model_deployment(), "metadata": {**make_model_deployment()["metadata"], "uid": "another"}}
        observed = observe(reborn, served.cluster.everything()[1:])
        assert observed.children == ()
        assert {ref.kind for ref in observed.foreign} >= {"Deployment", "Job"}


class TestWhatIsLost:
    def test_a_lost_status_is_found_again(self, served):
        before = served.status
        effects = effects_of(served, edit(served, "ModelDeployment", OWNER.name, lambda b: b.pop("status")))
        assert effects == []
        assert served.status["stableRevision"]["hash"] == before["stableRevision"]["hash"]
        assert served.said("Ready") == ("True", "Serving")

    def test_an_unreadable_status_counts_as_lost(self, served):
        broken = edit(served, "ModelDeployment", OWNER.name, lambda b: b.update(status={"phase": "Dancing"}))
        assert effects_of(served, broken) == []
        assert served.said("Ready") == ("True", "Serving")

    def test_a_result_that_went_with_its_pods_is_made_again(self):
        world = World()
        world.submit(ONE)
        for _ in range(4):
            for actor in (world.reconcile, world.neighbours.control_jobs, world.neighbours.schedule):
                world.step(actor)
            if any("conditions" in j.get("status", {}) for j in world.cluster.find("Job")):
                break
            world.step(world.neighbours.run_pods)
        (job,) = world.cluster.find("Job")
        for pod in world.cluster.find("Pod"):
            world.cluster.remove_now("Pod", pod["metadata"]["name"])
        complete = {"conditions": [{"type": "Complete", "status": "True"}]}
        world.cluster.change_now("Job", job["metadata"]["name"], lambda b: b.update(status=complete))
        world.settle()
        assert world.said("Ready") == ("True", "Serving")
        made = [e.verb for e in world.cluster.effects if e.name == job["metadata"]["name"]]
        assert made == ["apply", "delete", "apply"]

    def test_a_damaged_artifact_is_made_again_once_its_record_is_deleted(self):
        world = World()
        world.around.models[uri("v1")] = DAMAGED
        world.submit(ONE)
        world.settle()
        assert world.said("Stalled") == ("True", "ArtifactDigestMismatch")
        (record,) = world.cluster.find("ControllerRevision")
        name = record["metadata"]["name"]
        assert f'delete ControllerRevision "{name}"' in world.condition("Ready")["message"]
        world.around.models.clear()
        effects = optimize_effects(world, lambda: world.cluster.remove_now("ControllerRevision", name))
        assert effects == ["delete", "apply"]
        assert world.said("Ready") == ("True", "Serving")


class TestTheObjectItself:
    def test_one_on_its_way_out_asks_for_nothing(self):
        body = make_model_deployment()
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert plan(observe(body, []), POLICY, NOW) == Plan()

    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            ({}, "spec.model"),
            ({"model": {}}, "spec.model.uri"),
            ({"model": {"uri": "s3://x"}, "paused": "maybe"}, "spec.paused"),
        ],
    )
    def test_a_spec_that_cannot_be_read_is_said_and_nothing_else(self, spec, field):
        made = plan(observe(make_model_deployment(spec), []), POLICY, NOW)
        assert (made.applies, made.deletes) == ((), ())
        check_status(made.status)
        conditions = {c["type"]: c for c in made.status["status"]["conditions"]}
        assert conditions["Stalled"]["reason"] == "InvalidSpec"
        assert field in conditions["Ready"]["message"]

    def test_an_unreadable_spec_leaves_what_serves_alone_and_recovers(self, served):
        broken = {"model": {}}
        assert effects_of(served, lambda: served.submit({**broken, "model": {"uri": ""}})) == []
        assert served.said("Available") == ("True", "Serving")
        assert served.said("Stalled") == ("True", "InvalidSpec")
        assert effects_of(served, lambda: served.submit(ONE)) == []
        assert served.said("Ready") == ("True", "Serving")

    def test_the_status_write_carries_the_version_that_was_read(self):
        made = plan(observe(make_model_deployment(), []), POLICY, NOW)
        assert made.status["metadata"]["resourceVersion"] == "1"
        assert made.status["metadata"]["uid"] == UID

    def test_paused_from_the_start_makes_nothing(self):
        world = World()
        world.submit({**ONE, "paused": True})
        world.settle()
        assert world.cluster.find("Job") == ()
        assert world.status["phase"] == "Paused"


class TestHistory:
    def test_only_so_many_old_revisions_are_kept(self):
        world = World()
        for version in ("v1", "v2", "v3", "v4", "v5"):
            world.submit({**make_wanted(version), "revisionHistoryLimit": 2})
            world.settle()
            world.pass_time(timedelta(minutes=1))
        assert len(world.cluster.find("ControllerRevision")) == 3
        assert len(optimize_jobs(world)) == 3
        assert len(world.cluster.find("Job")) == 4, "of the Jobs that verified only that of the pods that stand is left"
        assert world.next_plan().is_empty

    def test_no_old_revision_is_kept_if_none_is_wanted(self):
        world = World()
        for version in ("v1", "v2", "v1"):
            world.submit({**make_wanted(version), "revisionHistoryLimit": 0})
            world.settle()
        assert len(world.cluster.find("ControllerRevision")) == 1

    def test_a_failed_revision_keeps_its_record_while_it_is_asked_for(self, served):
        served.around.models[uri("bad")] = UNLOADABLE
        served.submit({**make_wanted("bad"), "revisionHistoryLimit": 0})
        served.settle()
        assert served.said("ArtifactReady") == ("True", "Succeeded")
        assert len(served.cluster.find("ControllerRevision")) == 2
        assert served.next_plan().is_empty

    def test_a_failed_revision_is_tried_again_only_after_another_spec(self, served):
        served.around.models[uri("bad")] = "UnsafeModel"
        bad = make_wanted("bad")
        assert optimize_effects(served, lambda: served.submit(bad)) == ["apply"]
        assert effects_of(served, lambda: served.submit({**bad, "revisionHistoryLimit": 9})) == []
        assert served.status["history"][0]["result"] == "Failed"
        assert optimize_effects(served, lambda: served.submit(ONE)) == []
        served.around.models.clear()
        assert optimize_effects(served, lambda: served.submit(bad)) == ["delete", "apply"]
        assert served.said("Ready") == ("True", "Serving")

    def test_a_stored_reason_that_this_version_does_not_know_still_counts_as_a_failure(self, served):
        served.around.models[uri("bad")] = "UnsafeModel"
        served.submit(make_wanted("bad"))
        served.settle()
        unknown = edit(served, "ModelDeployment", OWNER.name, lambda b: b["status"]["history"][0].update(reason="New"))
        assert effects_of(served, unknown) == []
        assert served.said("Stalled") == ("True", "InternalError")

    def test_a_failed_job_that_somebody_removes_is_not_started_again(self, served):
        served.around.models[uri("bad")] = "UnsafeModel"
        served.submit(make_wanted("bad"))
        served.settle()
        failed = served.status["candidateRevision"]["hash"]
        gone = lambda: served.cluster.remove_now("Job", names.optimize_job(OWNER.name, failed))  # noqa: E731
        assert effects_of(served, gone) == []


class TestOneJobPerRecipe:
    def test_a_serving_change_during_the_job_keeps_the_job(self):
        world = World()
        world.submit(ONE)
        world.step(world.reconcile)
        world.submit(make_wanted("v1", batching={"maxBatchSize": 16}))
        assert optimize_effects(world) == []
        assert len(optimize_jobs(world)) == 1
        assert world.said("Ready") == ("True", "Serving")

    def test_an_artifact_on_record_needs_no_job_even_if_every_job_is_gone(self, served):
        for job in served.cluster.find("Job"):
            served.cluster.remove_now("Job", job["metadata"]["name"])
        bigger = make_wanted("v1", batching={"maxBatchSize": 16})
        assert optimize_effects(served, lambda: served.submit(bigger)) == []
        assert served.said("Ready") == ("True", "Serving")

    def test_corrected_credentials_replace_the_job_that_waits_for_them(self):
        world = World()
        world.around.missing_secrets.add("wrong")
        with_secret = {**ONE["model"], "credentials": {"secretName": "wrong"}}
        world.submit({**ONE, "model": with_secret})
        world.settle()
        assert world.said("Ready") == ("False", "CredentialsMissing")
        assert '"wrong"' in world.condition("Ready")["message"]
        world.submit({**ONE, "model": {**with_secret, "credentials": {"secretName": "right"}}})
        world.settle()
        assert world.said("Ready") == ("True", "Serving")


class TestFirstDeployment:
    def test_without_a_gpu_it_waits_for_as_long_as_it_takes(self):
        world = World()
        world.around.gpus = 0
        world.submit(ONE)
        world.settle()
        world.pass_time(timedelta(hours=3))
        world.settle()
        assert world.said("Ready") == ("False", "InsufficientGPU")
        assert world.said("Available") == ("False", "NotServing")
        assert world.said("Reconciling") == ("True", "InsufficientGPU")
        assert "1 nvidia.com/gpu" in world.condition("Ready")["message"]
        world.around.gpus = 1
        world.settle()
        assert world.said("Ready") == ("True", "Serving")

    @pytest.mark.parametrize(
        ("image", "where"), [("pilotfish/optimizer-torch:0.1.0", "Job"), ("pilotfish/triton-cpu:0.1.0", "Deployment")]
    )
    def test_an_image_that_comes_late_is_waited_for(self, image, where):
        world = World()
        world.around.missing_images.add(image)
        world.submit(ONE)
        world.settle()
        assert world.said("Ready") == ("False", "ImagePullFailed")
        assert image in world.condition("Ready")["message"]
        assert where in world.condition("Ready")["message"]
        world.around.missing_images.clear()
        world.settle()
        assert world.said("Ready") == ("True", "Serving")

    @pytest.mark.parametrize("image", ["pilotfish/optimizer-torch:0.1.0", "pilotfish/triton-cpu:0.1.0"])
    def test_a_corrected_image_setting_reaches_what_has_never_run(self, image):
        world = World()
        world.around.missing_images.add(image)
        world.submit(ONE)
        world.settle()
        assert world.said("Ready") == ("False", "ImagePullFailed")
        images = POLICY.images.__class__(optimizer="right:1", optimizer_torch="right-torch:1", triton="right-triton:1")
        world.policy = POLICY.__class__(images=images, triton_version="2.51.0")
        world.settle()
        assert world.said("Ready") == ("True", "Serving")
        assert len(optimize_jobs(world)) == 1

    def test_a_quota_is_said_and_recovers(self):
        world = World()
        world.submit(ONE)
        while not world.cluster.find("Deployment"):
            for actor in world.actors():
                if world.cluster.find("Deployment"):
                    break
                world.step(actor)
        world.around.quota_exceeded = True
        world.settle()
        assert world.said("Ready") == ("False", "QuotaExceeded")
        world.around.quota_exceeded = False
        world.settle()
        assert world.said("Ready") == ("True", "Serving")

    def test_a_job_without_pods_is_said_after_a_minute(self):
        world = World()
        world.around.quota_exceeded = True
        world.submit(ONE)
        world.settle()
        assert world.said("Ready") == ("False", "PodsNotCreated")
        world.around.quota_exceeded = False
        world.settle()
        assert world.said("Ready") == ("True", "Serving")

    def test_a_model_that_cannot_be_loaded_gives_its_gpu_back_and_a_corrected_spec_recovers(self):
        world = World()
        world.around.models[uri("v1")] = UNLOADABLE
        world.submit(ONE)
        world.settle()
        assert world.said("Stalled") == ("True", "ModelLoadFailed")
        assert world.status["phase"] == "Stalled"
        assert world.neighbours.free_gpus() == 8
        world.submit(TWO)
        world.settle()
        assert world.said("Ready") == ("True", "Serving")

    def test_a_wrong_storage_class_is_corrected_without_a_hand(self):
        world = World()
        world.around.gpus = 0
        world.submit({**ONE, "optimization": {"gpus": {"count": 1}}, "storage": {"className": "wrong"}})
        world.settle()
        world.submit({**ONE, "optimization": {"gpus": {"count": 1}}, "storage": {"className": "right"}})
        world.around.gpus = 1
        world.step(world.reconcile)
        world.settle()
        (claim,) = world.cluster.find("PersistentVolumeClaim")
        assert claim["spec"]["storageClassName"] == "right"

    def test_zero_replicas_are_what_was_asked_for(self):
        world = World()
        world.submit(make_wanted("v1", replicas=0))
        world.settle()
        assert world.said("Ready") == ("True", "ScaledToZero")
        assert world.said("Available") == ("False", "ScaledToZero")
        world.submit(ONE)
        world.settle()
        assert world.said("Available") == ("True", "Serving")


class TestDisruptionBudget:
    @pytest.mark.parametrize(
        ("replicas", "least", "expected"), [(1, 1, None), (2, 1, 1), (3, 2, 2), (2, 0, None), (2, 2, None)]
    )
    def test_exists_where_it_lets_a_pod_go(self, replicas, least, expected):
        world = World()
        world.submit(make_wanted("v1", replicas=replicas, minAvailable=least))
        world.settle()
        found = world.cluster.look("PodDisruptionBudget", OWNER.name)
        assert (None if found is None else found["spec"]["minAvailable"]) == expected


class TestStatus:
    def test_says_what_serves(self, served):
        status = served.status
        assert status["variant"] == "onnx-fp32 2.1x"
        assert status["endpoints"] == {"http": "http://digits.team.svc:8000", "grpc": "digits.team.svc:8001"}
        assert status["optimization"]["speedup"] == "2.1"
        assert [c["variant"] for c in status["optimization"]["candidates"]] == ["onnx-fp32", "torchscript-fp32"]
        assert status["source"]["digest"].startswith("sha256:")
        assert (status["replicas"], status["readyReplicas"]) == (1, 1)
        effective = status["effective"]
        assert (effective["image"], effective["maxBatchSize"]) == ("pilotfish/triton-cpu:0.1.0", 8)
        assert set(effective["origins"].values()) == {"Default"}

    def test_transition_times_stay_while_the_status_stays(self, served):
        before = served.condition("Available")["lastTransitionTime"]
        served.pass_time(timedelta(hours=1))
        served.submit(TWO)
        served.settle()
        assert served.condition("Available")["lastTransitionTime"] == before
        assert served.condition("Available")["observedGeneration"] == 2

    def test_events_tell_changes_once(self, served):
        told = [(e["reason"], e["note"]) for e in served.cluster.find("Event")]
        assert len(told) == len(set(told))
        assert {"Optimizing", "Succeeded", "Serving"} <= {reason for reason, _ in told}
        assert all("series" not in e for e in served.cluster.find("Event"))

    def test_a_failure_links_to_the_docs(self):
        world = World()
        world.policy = POLICY.__class__(images=POLICY.images, triton_version="2.51.0", docs_url="https://docs/reasons")
        world.around.models[uri("v1")] = "SourceNotFound"
        world.submit(ONE)
        world.settle()
        assert world.condition("Ready")["message"].endswith("; see https://docs/reasons#sourcenotfound")
