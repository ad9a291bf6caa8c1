"""The other half of P12: what the small world's admission takes, refuses and fills in is what a real API server does."""

import json

import pytest
from kubernetes import client, config

from pilotfish.api.base import API_VERSION, GROUP, KIND, PLURAL, VERSION
from support.fuzz.admission import RefusedError, admit
from support.fuzz.bases import base_of
from support.fuzz.edits import edits, few
from support.fuzz.leaves import leaves
from support.kube import fresh_namespace

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def objects(api_server, kubectl):
    """Replaces the object of a base, dry; the stored spec, or the sentence of the refusal."""
    with config.new_client_from_config(str(api_server)) as api_client, fresh_namespace(kubectl) as namespace:
        api = client.CustomObjectsApi(api_client)
        where, stored = (GROUP, VERSION, namespace, PLURAL), {}

        def replace(name, base, spec):
            if name not in stored:
                manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": base}
                stored[name] = api.create_namespaced_custom_object(*where, manifest)
                assert stored[name]["spec"] == admit(base)
            try:
                done = api.replace_namespaced_custom_object(*where, name, {**stored[name], "spec": spec}, dry_run="All")
            except client.ApiException as error:
                if error.status != 422:
                    raise
                return json.loads(error.body)["message"]
            return done["spec"]

        yield replace


def verdicts(leaf, objects, *, chosen):
    """Values that the server judges otherwise than the small world."""
    base, made = edits(leaf)
    name = f"{base_of(leaf)[0]}-{leaves().index(leaf)}" if base_of(leaf)[0] == "made" else base_of(leaf)[0]
    for value, edited in chosen(made):
        try:
            ours = admit(edited, old=admit(base))
        except RefusedError as refused:
            ours = str(refused)
        theirs = objects(name, base, edited)
        if (isinstance(ours, str), isinstance(theirs, str)) == (True, True) or ours == theirs:
            continue
        yield f"{value.kind} {str(value.value)[:80]!r}: here {str(ours)[:300]}, there {str(theirs)[:300]}"


def test_the_server_judges_as_the_small_world_does(objects):
    found = {leaf.path: told for leaf in leaves() if (told := list(verdicts(leaf, objects, chosen=few)))}
    assert not found, json.dumps(found, indent=1)


@pytest.mark.soak
def test_the_server_judges_every_value_so(objects):
    found = {leaf.path: told for leaf in leaves() if (told := list(verdicts(leaf, objects, chosen=list)))}
    assert not found, json.dumps(found, indent=1)
