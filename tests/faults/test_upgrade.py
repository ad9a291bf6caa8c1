"""P20: objects that an earlier release left behind are taken over by this one, and no pod of theirs moves for it.

The recorded files hold clusters as releases left them, in the middle of updates too; support/fuzz/record_release.py says
how one is added. The new operator comes with other images, another Triton and the new CRD's defaults.
"""

import json
import lzma
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path

import pytest

from pilotfish.resources import Images
from support.builders import OWNER, POLICY
from support.fuzz.admission import as_stored
from support.neighbours import UNLOADABLE, WRONG, Surroundings
from support.specs import uri
from support.world import World

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json.xz"))
NEW = replace(
    POLICY,
    images=Images(
        optimizer="pilotfish/optimizer:9.9.9",
        optimizer_torch="pilotfish/optimizer-torch:9.9.9",
        optimizer_tf="pilotfish/optimizer-tf:9.9.9",
        triton="pilotfish/triton-cpu:9.9.9",
        triton_torch="pilotfish/triton-cpu-torch:9.9.9",
    ),
    triton_version="2.71.0",
    docs_url="https://example.org/reasons",
)


def read(path):
    return json.loads(lzma.decompress(path.read_bytes()))


PICTURES = [
    pytest.param(picture, id=f"{path.name[:7]}-{picture['what']}") for path in RECORDED for picture in read(path)
]


def taken_over(picture):
    """The new operator's world, before its first pass."""
    models = {uri("odd"): UNLOADABLE, uri("wrong"): WRONG, uri("missing"): "SourceNotFound"}
    world = World(around=Surroundings(models=models), policy=NEW, moment=datetime.fromisoformat(picture["moment"]))
    world.traffic.rate = 20.0
    world.traffic.forget(world.moment)
    cluster = world.cluster
    cluster._versions = count(1_000_000)
    cluster._uids = count(1_000_000)
    for body in picture["objects"]:
        key = (body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"])
        cluster._objects[key] = {**body, "spec": as_stored(body["spec"])} if key[0] == "ModelDeployment" else body
    for kind, namespace, name, manager, body in picture["applied"]:
        cluster._applied[(kind, namespace, name), manager] = body
    return world


def templates(world):
    """Pod templates of all that makes pods, Jobs too."""
    makers = (*world.cluster.find("Deployment"), *world.cluster.find("Job"))
    return {f"{b['kind']}/{b['metadata']['name']}": b["spec"]["template"] for b in makers}


def serving_pods(world):
    return {pod["metadata"]["uid"] for pod in world.reached()}


def is_settled(picture):
    body = next(b for b in picture["objects"] if b["kind"] == "ModelDeployment")
    return body.get("status", {}).get("phase") in {"Ready", "Aborted", "Stalled", "Paused"}


def test_there_are_enough():
    for path in RECORDED:
        assert len(read(path)) >= 50, path


@pytest.mark.parametrize("picture", PICTURES)
def test_a_new_operator_changes_no_pod_template(picture):
    """Not at once, and not on the way to wherever the rollout was going."""
    world = taken_over(picture)
    before, reached = templates(world), serving_pods(world)
    world.step(world.reconcile)
    after = templates(world)
    assert {name: after.get(name) for name in before} == before
    assert not {effect.name for effect in world.cluster.effects if effect.kind == "Pod"}
    if not is_settled(picture):
        return
    assert set(after) == set(before), "nothing is begun for an object that was at rest"
    for _ in range(10):
        world.step_all()
    assert serving_pods(world) == reached, "the very pods serve on"
    written = [effect for effect in world.cluster.effects if effect.kind not in {"Event", "ModelDeployment"}]
    assert {effect.kind for effect in written} <= {"Service", "PodDisruptionBudget", "NetworkPolicy"}, written
    assert not [effect for effect in written if effect.verb == "delete"]


@pytest.mark.parametrize("picture", PICTURES[::5])
def test_the_next_update_is_the_new_operator_s(picture):
    """Whatever state it was in: a good spec is served by pods of the new images, and nobody waits for ever."""
    world = taken_over(picture)
    world.around.gpus = 64
    spec = world.body["spec"]
    model = {
        key: value for key, value in {**spec["model"], "uri": uri("v9")}.items() if key not in {"refresh", "digest"}
    }
    world.submit({**spec, "model": model, "rollout": {"strategy": "BlueGreen"}, "paused": False})

    def is_served():
        seen = world.status["observedGeneration"] == world.body["metadata"]["generation"]
        return seen and world.said("Ready") in {("True", "Serving"), ("True", "ScaledToZero")}

    world.step(world.reconcile)
    world.until(is_served)
    revision = world.status["stableRevision"]["name"]
    deployment = world.cluster.look("Deployment", revision)
    images = {c["image"] for c in deployment["spec"]["template"]["spec"]["containers"]}
    assert images == {NEW.images.triton}
    assert world.cluster.look("Service", OWNER.name)["spec"]["selector"]["pilotfish.dev/revision"] in revision
