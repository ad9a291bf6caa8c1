"""What the cache makes of events, lists and answers in any order: the newest state, and nothing that is gone."""

import pytest

from pilotfish.adapters.cache import OWN_KIND, Cache
from pilotfish.core.objects import ref_of
from pilotfish.ports import ObjectRef

KIND = ("v1", "ConfigMap")
NAMESPACE = "team"


def make_body(name="c", version=5, *, uid=None, kind=KIND, owner="digits", managed_by="pilotfish", **parts):
    labels = {"app.kubernetes.io/managed-by": managed_by, **({"pilotfish.dev/name": owner} if owner else {})}
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "labels": labels,
        "managedFields": [{"manager": "m"}],
    }
    return {"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, **parts}


def make_own(version=1, **parts):
    return make_body("digits", version, uid="own", kind=OWN_KIND, owner=None, **parts)


@pytest.fixture
def touched():
    return []


@pytest.fixture
def cache(touched):
    cache = Cache(scopes=[(KIND, None)], touched=lambda namespace, name: touched.append((namespace, name)))
    cache.listed(cache.mark(KIND, None), [])
    cache.heard(make_own())
    touched.clear()
    return cache


def read(cache):
    return cache.read(namespace=NAMESPACE, name="digits")


def children(cache):
    return {body["metadata"]["name"]: int(body["metadata"]["resourceVersion"]) for body in read(cache).objects}


def stamp(cache):
    return cache.stamp(namespace=NAMESPACE, name="digits")


def test_it_answers_nothing_before_every_kind_was_listed():
    cache = Cache(scopes=[(KIND, None), (("v1", "Service"), None)])
    cache.heard(make_own())
    cache.listed(cache.mark(KIND, None), [make_body()])
    assert read(cache) is None
    cache.not_served(("v1", "Service"), None)
    assert children(cache) == {"c": 5}
    assert read(cache).unserved == {"Service"}


def test_without_scopes_it_answers_nothing_for_ever():
    cache = Cache(scopes=())
    cache.heard(make_own())
    assert read(cache) is None


def test_an_object_that_nobody_told_of_must_be_asked_for(cache):
    assert cache.read(namespace=NAMESPACE, name="other") is None


def test_what_is_read_is_what_came_without_managed_fields(cache):
    cache.heard(make_body(data={"a": "1"}))
    (found,) = read(cache).objects
    assert found["data"] == {"a": "1"}
    assert "managedFields" not in found["metadata"]
    found["data"]["a"] = "changed by a reader"
    assert read(cache).objects[0]["data"] == {"a": "1"}


def test_news_touch_the_object_and_echoes_do_not(cache, touched):
    assert cache.heard(make_body(version=5))
    assert touched == [(NAMESPACE, "digits")]
    before = stamp(cache)
    cache.learned(make_body(version=7))
    assert stamp(cache) != before
    assert len(touched) == 2
    for version in (5, 6, 7):
        assert not cache.heard(make_body(version=version))
    assert len(touched) == 2
    assert children(cache) == {"c": 7}


def test_a_child_of_an_unknown_object_touches_nobody(cache, touched):
    cache.heard(make_body(owner="other"))
    assert touched == []
    cache.heard(make_body("other", 9, uid="o", kind=OWN_KIND, owner=None))
    assert touched == [(NAMESPACE, "other")]
    assert len(cache.read(namespace=NAMESPACE, name="other").objects) == 1


def test_what_is_gone_is_gone_and_a_late_answer_does_not_bring_it_back(cache, touched):
    cache.heard(make_body(version=5))
    assert cache.heard_gone(make_body(version=8))
    assert len(touched) == 2
    cache.learned(make_body(version=6))
    assert children(cache) == {}
    cache.heard(make_body(version=9, uid="another"))
    assert children(cache) == {"c": 9}
    assert not cache.heard_gone(make_body(version=8)), "an object of that name, but another one"
    assert children(cache) == {"c": 9}


def test_the_object_itself_goes(cache, touched):
    cache.heard_gone(make_own(version=9))
    assert read(cache) is None
    assert touched == [(NAMESPACE, "digits")]
    cache.heard(make_body())
    assert len(touched) == 1


def test_a_list_drops_what_it_lacks_but_not_what_is_newer_than_the_question(cache, touched):
    for name in ("kept", "gone", "changed"):
        cache.heard(make_body(name, 5))
    mark = cache.mark(KIND, None)
    cache.learned(make_body("new", 7))
    cache.learned(make_body("changed", 8))
    touched.clear()
    cache.listed(mark, [make_body("kept", 5), make_body("found", 6)])
    assert children(cache) == {"kept": 5, "changed": 8, "new": 7, "found": 6}
    assert len(touched) == 2


def test_a_list_of_one_namespace_says_nothing_of_others(cache):
    cache.heard(make_body())
    cache.listed(cache.mark(KIND, "elsewhere"), [])
    assert children(cache) == {"c": 5}


def test_a_list_that_is_behind_cannot_hide_an_object_for_ever(cache):
    cache.heard(make_body(version=5))
    cache.listed(cache.mark(KIND, None), [])
    assert children(cache) == {}
    cache.listed(cache.mark(KIND, None), [make_body(version=5)])
    assert children(cache) == {"c": 5}


def test_what_we_deleted_counts_as_going_until_the_watch_says_more(cache, touched):
    body = make_body()
    cache.heard(body)
    cache.going(ref_of(make_body(uid="another")))
    assert "deletionTimestamp" not in read(cache).objects[0]["metadata"]
    cache.going(ref_of(body))
    cache.heard(body)
    assert read(cache).objects[0]["metadata"]["deletionTimestamp"]
    assert len(touched) == 2
    cache.going(ObjectRef(api_version="v1", kind="ConfigMap", namespace=NAMESPACE, name="never-seen", uid="x"))


def test_what_no_watch_would_tell_of_is_not_learned(cache):
    """Else nobody would ever take it away again."""
    cache.learned(make_body(managed_by="somebody"))
    assert children(cache) == {}


def test_a_child_that_is_given_to_another_object_leaves_the_first(cache, touched):
    cache.heard(make_body(version=5))
    cache.heard(make_body(version=6, owner="other"))
    assert children(cache) == {}
    cache.heard(make_body(version=7, owner=None))
    cache.heard(make_body(version=8))
    assert children(cache) == {"c": 8}


def test_an_answer_from_an_older_state_is_noticed(cache):
    cache.heard(make_body(version=5))
    assert cache.knows_newer(make_body(version=4))
    assert not cache.knows_newer(make_body(version=5))
    assert not cache.knows_newer(make_body(version=4, uid="another"))


def test_an_object_that_the_server_does_not_have_is_dropped_only_if_it_is_that_one(cache):
    uid = cache.uid(namespace=NAMESPACE, name="digits")
    cache.heard(make_body("digits", 9, uid="own-again", kind=OWN_KIND, owner=None))
    cache.absent(namespace=NAMESPACE, name="digits", uid=uid)
    assert read(cache).body["metadata"]["uid"] == "own-again"
    cache.absent(namespace=NAMESPACE, name="digits", uid="own-again")
    assert read(cache) is None
