"""Certificates in the small world: pods start with one that is known, and a renewed one rolls them over."""

from datetime import timedelta

import pytest

from pilotfish import names
from support.builders import OWNER
from support.neighbours import Surroundings
from support.world import World

TLS = {"secretName": "digits-tls", "clientCA": "digits-clients"}
FIRST, SECOND = "1" * 16, "2" * 16
WATCHER = f"{OWNER.name}-certificate"


def spec(version="v1", *, tls=TLS, **rollout):
    access = {} if tls is None else {"access": {"tls": tls}}
    return {
        "model": {"uri": f"s3://models/digits/{version}/"},
        "serving": {"replicas": 2, "protocols": ["GRPC"], **access},
        **({"rollout": rollout} if rollout else {}),
    }


@pytest.fixture
def world():
    return World(around=Surroundings(certificate=FIRST), lawful=True, always_available=True)


def stamped(world):
    """Digest in the pod template of every Triton Deployment."""
    found = world.cluster.find("Deployment", {names.COMPONENT_LABEL: "triton"})
    return [body["spec"]["template"]["metadata"].get("annotations", {}).get(names.CERTIFICATE) for body in found]


def replica_sets(world):
    return {body["metadata"]["name"] for body in world.cluster.find("ReplicaSet") if WATCHER not in str(body)}


def serve(world, wanted):
    world.submit(wanted)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_pods_start_with_a_certificate_that_is_known(world):
    serve(world, spec())
    assert stamped(world) == [FIRST]
    assert len(replica_sets(world)) == 1, "no pod was started twice"
    assert world.status["replicas"] == world.status["readyReplicas"] == 2


def test_a_renewed_certificate_replaces_the_pods_and_somebody_serves_all_the_time(world):
    serve(world, spec())
    before = replica_sets(world)
    world.happens("renews the certificate", lambda: setattr(world.around, "certificate", SECOND), hurts=False)
    world.settle()
    assert stamped(world) == [SECOND]
    assert not before & replica_sets(world)
    assert world.said("Ready") == ("True", "Serving")


def test_what_was_known_stays_when_the_watcher_is_away(world):
    serve(world, spec())
    before = replica_sets(world)
    world.cluster.remove_now("Deployment", WATCHER)
    world.settle()
    assert (stamped(world), replica_sets(world)) == ([FIRST], before)


def test_a_secret_that_is_missing_is_named_before_any_pod_starts(world):
    world.always_available = False
    world.around.missing_secrets.add("digits-tls")
    world.submit(spec())
    world.settle()
    assert stamped(world) == []
    status, reason = world.said("Ready")
    assert (status, reason) == ("False", "CredentialsMissing")
    assert 'Secret "digits-clients" and Secret "digits-tls"' in world.condition("Ready")["message"]
    world.happens("the Secret is made", world.around.missing_secrets.clear)
    world.due = world.moment + timedelta(seconds=1)
    world.settle()
    assert world.said("Ready") == ("True", "Serving")


def test_another_secret_is_another_revision_and_does_not_touch_the_one_that_serves(world):
    serve(world, spec())
    old = stamped(world)
    world.around.certificate = SECOND
    world.submit(spec(tls={"secretName": "other-tls"}))
    world.until(lambda: len(stamped(world)) > 1)
    assert sorted(stamped(world)) == sorted([*old, SECOND])
    world.settle()
    assert stamped(world) == [SECOND]


def test_without_a_certificate_nobody_watches(world):
    serve(world, spec())
    assert world.cluster.look("Deployment", WATCHER) is not None
    serve(world, spec(tls=None))
    assert world.cluster.look("Deployment", WATCHER) is None
    assert stamped(world) == [None]


def test_an_earlier_revision_gets_the_certificate_of_today(world):
    serve(world, spec("v1"))
    serve(world, spec("v2"))
    world.around.certificate = SECOND
    serve(world, spec("v1"))
    assert stamped(world) == [SECOND]
