"""What the controller relies on, asked of the fake and of a real API server alike."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime

import pytest

from pilotfish.api.base import API_VERSION, KIND
from pilotfish.core.objects import ref_of
from pilotfish.ports import ABSENT, Conflict, Invalid, NotFound, ObjectRef
from support.kube import make_object


def make_config_map(namespace, name="c", *, data=None, labels=None, **metadata):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {"l": "1"}, **metadata},
        "data": data or {"a": "1"},
    }


def list_config_maps(cluster, namespace, **labels):
    return cluster.list(api_version="v1", kind="ConfigMap", namespace=namespace, labels=labels)


async def test_what_is_not_there_is_none(cluster, namespace):
    assert await cluster.get(ref_of(make_config_map(namespace))) is None


async def test_apply_creates_and_returns_the_stored_object(cluster, namespace):
    stored = await cluster.apply(make_config_map(namespace))
    assert stored["metadata"]["uid"]
    assert stored["data"] == {"a": "1"}
    assert await cluster.get(ref_of(stored)) == stored


async def test_applying_the_same_again_changes_nothing(cluster, namespace):
    first = await cluster.apply(make_config_map(namespace))
    second = await cluster.apply(make_config_map(namespace))
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_apply_removes_what_it_no_longer_names(cluster, namespace):
    await cluster.apply(make_config_map(namespace, data={"a": "1", "b": "2"}))
    stored = await cluster.apply(make_config_map(namespace, data={"b": "3"}))
    assert stored["data"] == {"b": "3"}


async def test_apply_takes_the_uid_as_a_precondition(cluster, namespace):
    stored = await cluster.apply(make_config_map(namespace))
    uid = stored["metadata"]["uid"]
    changed = await cluster.apply(make_config_map(namespace, data={"a": "2"}, uid=uid))
    assert changed["data"] == {"a": "2"}
    with pytest.raises(Conflict):
        await cluster.apply(make_config_map(namespace, data={"a": "3"}, uid="11111111-0000-0000-0000-000000000000"))


async def test_apply_with_a_uid_does_not_create(cluster, namespace):
    with pytest.raises(Conflict):
        await cluster.apply(make_config_map(namespace, uid="11111111-0000-0000-0000-000000000000"))
    assert await list_config_maps(cluster, namespace, l="1") == ()


async def test_apply_with_the_version_absent_creates_and_nothing_else(cluster, namespace):
    new = make_config_map(namespace, resourceVersion=ABSENT)
    stored = await cluster.apply(new)
    assert stored["data"] == {"a": "1"}
    with pytest.raises(Conflict):
        await cluster.apply(new)
    with pytest.raises(Conflict):
        await cluster.apply(make_config_map(namespace, data={"a": "2"}, resourceVersion=ABSENT))
    assert (await cluster.get(ref_of(stored)))["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
    # It is the same manager's as any other apply: what a later one no longer names goes.
    changed = await cluster.apply(make_config_map(namespace, data={"b": "2"}))
    assert changed["data"] == {"b": "2"}


async def test_apply_takes_the_resource_version_as_a_precondition(cluster, namespace):
    first = await cluster.apply(make_config_map(namespace))
    version = first["metadata"]["resourceVersion"]
    await cluster.apply(make_config_map(namespace, data={"a": "2"}, resourceVersion=version))
    with pytest.raises(Conflict):
        await cluster.apply(make_config_map(namespace, data={"a": "3"}, resourceVersion=version))


async def test_list_picks_by_label_sorts_by_name_and_names_the_kind(cluster, namespace):
    for name in ("b", "a", "c"):
        await cluster.apply(make_config_map(namespace, name))
    await cluster.apply(make_config_map(namespace, "d", labels={"l": "2"}))
    found = await list_config_maps(cluster, namespace, l="1")
    assert [body["metadata"]["name"] for body in found] == ["a", "b", "c"]
    assert {(body["apiVersion"], body["kind"]) for body in found} == {("v1", "ConfigMap")}
    assert await list_config_maps(cluster, namespace, l="3") == ()


async def test_list_over_all_namespaces(cluster, namespace):
    await cluster.apply(make_config_map(namespace, "everywhere", labels={"only": namespace}))
    found = await cluster.list(api_version="v1", kind="ConfigMap", namespace=None, labels={"only": namespace})
    assert [body["metadata"]["name"] for body in found] == ["everywhere"]


async def test_delete_takes_the_uid_as_a_precondition_and_a_missing_object_is_fine(cluster, namespace):
    stored = await cluster.apply(make_config_map(namespace))
    ref = ref_of(stored)
    other = ObjectRef(api_version="v1", kind="ConfigMap", namespace=namespace, name="c", uid="another")
    with pytest.raises(Conflict):
        await cluster.delete(other)
    await cluster.delete(ref)
    await cluster.delete(ref)
    assert await cluster.get(ref) is None


async def test_status_is_replaced_as_a_whole_and_leaves_the_spec_alone(cluster, namespace):
    created = await cluster.apply(make_object("digits", namespace))
    body = {**created, "spec": {"model": {"uri": "s3://other/"}}, "status": {"phase": "Pending", "replicas": 1}}
    await cluster.write_status(body)
    current = await cluster.get(ref_of(created))
    assert current["status"] == {"phase": "Pending", "replicas": 1}
    assert current["spec"]["model"]["uri"] == "s3://models/digits/v1/"
    assert current["metadata"]["generation"] == created["metadata"]["generation"]
    await cluster.write_status({**current, "status": {"phase": "Ready"}})
    assert (await cluster.get(ref_of(created)))["status"] == {"phase": "Ready"}


async def test_an_old_resource_version_refuses_the_status(cluster, namespace):
    created = await cluster.apply(make_object("digits", namespace))
    await cluster.write_status({**created, "status": {"phase": "Pending"}})
    with pytest.raises(Conflict):
        await cluster.write_status({**created, "status": {"phase": "Ready"}})


async def test_the_status_of_an_object_that_is_gone_is_not_found(cluster, namespace):
    created = await cluster.apply(make_object("digits", namespace))
    await cluster.delete(ref_of(created))
    with pytest.raises((NotFound, Conflict)):
        await cluster.write_status({**created, "status": {"phase": "Pending"}})


async def test_applying_the_spec_keeps_the_status_and_raises_the_generation_only_on_change(cluster, namespace):
    created = await cluster.apply(make_object("digits", namespace))
    await cluster.write_status({**created, "status": {"phase": "Pending"}})
    same = await cluster.apply(make_object("digits", namespace))
    assert same["metadata"]["generation"] == 1
    assert same["status"] == {"phase": "Pending"}
    changed = await cluster.apply(make_object("digits", namespace, {"model": {"uri": "s3://models/digits/v2/"}}))
    assert changed["metadata"]["generation"] == 2


async def test_a_person_s_patch_merges_and_null_removes(cluster, namespace):
    ref = ref_of(await cluster.apply(make_object("digits", namespace)))
    action = {"id": "1", "verb": "undo", "toRevision": "bcdfghjk"}
    first = await cluster.patch(ref, {"spec": {"rollout": {"action": action}}}, manager="somebody")
    assert first["spec"]["rollout"]["action"] == action
    assert first["spec"]["model"] == {"uri": "s3://models/digits/v1/"} | first["spec"]["model"]
    action = {"id": "2", "verb": "promote", "toRevision": None}
    second = await cluster.patch(ref, {"spec": {"rollout": {"action": action}}}, manager="somebody")
    assert second["spec"]["rollout"]["action"] == {"id": "2", "verb": "promote"}
    assert second["metadata"]["generation"] == first["metadata"]["generation"] + 1


async def test_patching_what_is_not_there_is_not_found(cluster, namespace):
    ref = ref_of(make_object("digits", namespace))
    with pytest.raises(NotFound):
        await cluster.patch(ref, {"spec": {"paused": True}}, manager="somebody")


async def test_children_go_with_their_owner(cluster, namespace):
    owner = await cluster.apply(make_object("digits", namespace))
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": "digits",
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    child = await cluster.apply(make_config_map(namespace, ownerReferences=[reference]))
    await cluster.delete(ref_of(owner))
    async with asyncio.timeout(60):
        while await cluster.get(ref_of(child)) is not None:  # noqa: ASYNC110 - a garbage collector tells nobody
            await asyncio.sleep(0.1)


def make_event(namespace, uid):
    now = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "digits.abc", "namespace": namespace},
        "eventTime": now,
        "type": "Normal",
        "reason": "Optimized",
        "action": "Reconcile",
        "note": "onnx-fp32 wins",
        "reportingController": "pilotfish.dev/operator",
        "reportingInstance": "test",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "namespace": namespace, "uid": uid},
    }


async def test_an_event_that_comes_again_is_counted_not_added(cluster, namespace):
    uid = (await cluster.apply(make_config_map(namespace)))["metadata"]["uid"]
    for _ in range(3):
        await cluster.emit(make_event(namespace, uid))
    events = await cluster.list(api_version="events.k8s.io/v1", kind="Event", namespace=namespace, labels={})
    assert [(event["note"], event["series"]["count"]) for event in events] == [("onnx-fp32 wins", 3)]


@pytest.mark.parametrize("flavour", [pytest.param("real", marks=pytest.mark.apiserver)], indirect=True)
class TestRealOnly:
    """What the fake need not know."""

    async def test_a_list_in_pages_is_complete(self, cluster, namespace, monkeypatch):
        monkeypatch.setattr("pilotfish.adapters.kube.CHUNK", 2)
        for number in range(5):
            await cluster.apply(make_config_map(namespace, f"c{number}"))
        assert len(await list_config_maps(cluster, namespace, l="1")) == 5

    async def test_it_says_which_kinds_it_knows(self, cluster, namespace):
        await cluster.check_served(api_version=API_VERSION, kind=KIND)
        for api_version, kind in ((API_VERSION, "Strange"), ("strange.dev/v1", KIND)):
            with pytest.raises(NotFound):
                await cluster.check_served(api_version=api_version, kind=kind)

    async def test_a_stream_goes_on_from_a_list(self, cluster, namespace):
        labels = {"l": "1"}
        await cluster.apply(make_config_map(namespace))
        scope = {"api_version": "v1", "kind": "ConfigMap", "namespace": namespace, "labels": labels}
        listed = await cluster.list_at(**scope)
        assert [body["metadata"]["name"] for body in listed.bodies] == ["c"]
        await cluster.apply(make_config_map(namespace, "d"))
        await cluster.apply(make_config_map(namespace, "unlabelled", labels={"l": "2"}))
        await cluster.delete(ref_of(listed.bodies[0]))
        seen = []
        async with asyncio.timeout(60), aclosing(cluster.watch(**scope, version=listed.version)) as stream:
            async for event in stream:
                seen.append((event.type, event.body["metadata"]["name"]))
                if len(seen) == 2:
                    break
        assert seen == [("ADDED", "d"), ("DELETED", "c")]

    async def test_an_impossible_object_is_invalid_with_the_server_s_sentence(self, cluster, namespace):
        with pytest.raises(Invalid, match="Invalid value"):
            await cluster.apply(make_config_map(namespace, "Not_A_Name"))

    async def test_nothing_can_be_made_in_a_namespace_that_does_not_exist(self, cluster, namespace):
        with pytest.raises(NotFound, match="not found"):
            await cluster.apply(make_config_map("does-not-exist"))

    async def test_a_namespace_that_goes_is_not_found(self, cluster, namespace, kubectl):
        blocker = make_config_map(namespace, "blocker", finalizers=["pilotfish.dev/test"])
        await cluster.apply(blocker)
        kubectl.run("delete", "namespace", namespace, "--wait=false")
        with pytest.raises(NotFound, match="terminated"):
            await cluster.apply(make_config_map(namespace, "late"))
        await cluster.apply(make_config_map(namespace, "blocker", finalizers=[]))

    async def test_a_lease_is_made_once_and_replaced_by_version(self, cluster, namespace):
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "l", "namespace": namespace},
            "spec": {"holderIdentity": "a"},
        }
        stored = await cluster.put(lease)
        with pytest.raises(Conflict):
            await cluster.put(lease)
        await cluster.put({**stored, "spec": {"holderIdentity": "b"}})
        with pytest.raises(Conflict):
            await cluster.put({**stored, "spec": {"holderIdentity": "c"}})
