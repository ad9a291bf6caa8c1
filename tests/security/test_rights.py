"""What the operator may do: exactly what the chart says, all of it used, none of it a way up (S20 to S22, S25, S27, S28)."""

import asyncio
import itertools
import json

import pytest
import yaml

from pilotfish.adapters.kinds import CLUSTER_SCOPED, PLURALS
from pilotfish.core.observed import watched_kinds
from support.helm import NAMESPACE, render
from support.kube import CRD, fresh_namespace, kube_cluster
from support.operator_process import install_rights

PLURAL_OF = {kind: (version.rpartition("/")[0], plural) for (version, kind), plural in PLURALS.items()}
# Who names an owner with blockOwnerDeletion must have it where OwnerReferencesPermissionEnforcement is on (OpenShift).
ASKED_BY_ADMISSION = {("pilotfish.dev", "modeldeployments/finalizers", "update")}
LEASE = ("coordination.k8s.io", "leases")
# What Kubernetes itself gives to whoever has a name: asking what one may do, and who one is.
BASIC = {
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
    ("authentication.k8s.io", "selfsubjectreviews", "create"),
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
WAYS_UP = {
    *itertools.product(
        ["rbac.authorization.k8s.io"],
        ["roles", "clusterroles", "rolebindings", "clusterrolebindings"],
        ["escalate", "bind", "create", "patch", "update"],
    ),
    *itertools.product([""], ["users", "groups", "serviceaccounts"], ["impersonate"]),
    ("authentication.k8s.io", "userextras/scopes", "impersonate"),
    ("certificates.k8s.io", "signers", "sign"),
    ("certificates.k8s.io", "signers", "approve"),
    ("pilotfish.dev", "modeldeployments", "trust"),
    ("pilotfish.dev", "modeldeployments", "patch"),
    ("", "serviceaccounts/token", "create"),
    ("", "pods/exec", "create"),
    ("", "pods/attach", "create"),
    ("", "pods/portforward", "create"),
    ("", "pods/ephemeralcontainers", "patch"),
    ("", "nodes/proxy", "get"),
    ("*", "*", "*"),
}
AT_ONCE = 16
PATHS = ("/metrics", "/logs", "/debug/pprof/", "/configz", "/flagz")


def granted(values):
    """{(group, resource, verb)} of the operator's own roles."""
    roles = [body for body in render(*values) if body["kind"] in {"ClusterRole", "Role"}]
    return {
        right
        for role in roles
        if role["metadata"]["name"] in {"pilotfish", "pilotfish-lease"}
        for rule in role["rules"]
        for right in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


def used(trace):
    """{(group, resource, verb)} of what was asked. An apply that makes an object needs the right to create as well."""
    found = set()
    for exchange in trace.exchanges:
        about = exchange.about
        if about.kind not in PLURAL_OF:
            continue
        group, plural = PLURAL_OF[about.kind]
        resource = "/".join(part for part in (plural, about.subresource) if part)
        reads = "watch" if about.watch else "get" if about.name else "list"
        verb = {"GET": reads, "PATCH": "patch", "PUT": "update", "POST": "create", "DELETE": "delete"}[about.verb]
        found.add((group, resource, verb))
        if about.verb == "PATCH" and exchange.code == 201:
            found.add((group, resource, "create"))
    return found


def property_names(node, path="spec"):
    for name, child in (node.get("properties") or {}).items():
        yield f"{path}.{name}", name
        yield from property_names(child, f"{path}.{name}")
    if "items" in node:
        yield from property_names(node["items"], f"{path}[]")


def test_s20_no_reference_names_another_namespace():
    """The one field with namespaces in it lets pods of others in; it leads nowhere."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = {path for path, name in property_names(schema["properties"]["spec"]) if "namespace" in name.lower()}
    assert found == {"spec.serving.access.fromNamespaces"}


def test_s21_it_writes_nothing_that_belongs_to_the_cluster():
    made = {PLURALS[kind] for kind in watched_kinds(gateway_api=True)} - {"pods", "replicasets"}
    written = {
        resource
        for group, resource, verb in granted(("--set", "gatewayAPI.enabled=true"))
        if verb in {"create", "patch", "update", "delete"}
    }
    assert written == made | {"events", "leases", "modeldeployments/status", "modeldeployments/finalizers"}
    assert not written & {PLURALS[kind] for kind in CLUSTER_SCOPED}


@pytest.mark.apiserver
class TestMatrix:
    """`auth can-i` for every resource that the API server serves, asked with the operator's own token."""

    @pytest.fixture(scope="class")
    def answers(self, kubectl, tmp_path_factory):
        account = install_rights(kubectl, tmp_path_factory.mktemp("account"))
        with fresh_namespace(kubectl) as namespace:
            yield asyncio.run(ask_everything(kubectl, account, namespace))

    def test_s27_the_api_server_grants_what_the_chart_says_and_nothing_else(self, answers):
        allowed, asked = answers
        assert len(asked) > 500, "the matrix is not the whole of it"
        # Its Lease it may touch by name, in its own namespace.
        expected = {right for right in granted(()) if right[:2] != LEASE} | BASIC
        assert allowed == expected

    def test_s22_there_is_no_verb_on_secrets(self, answers):
        allowed, asked = answers
        assert {verb for group, resource, verb in asked if resource == "secrets"} == set(VERBS)
        assert not {right for right in allowed if right[1].startswith("secrets")}

    def test_s25_s27_no_way_up_is_open(self, answers):
        allowed, asked = answers
        assert asked >= WAYS_UP
        assert not allowed & WAYS_UP


async def ask_everything(kubectl, account, namespace):
    """({allowed}, {asked}) over all served resources and subresources, in a namespace that is not the operator's."""
    async with kube_cluster(kubectl.kubeconfig) as admin:
        resources = await served(admin)
    questions = {
        *((group, resource, verb) for (group, resource) in resources for verb in VERBS),
        *WAYS_UP,
        *granted(()),
    }
    async with kube_cluster(account) as operator:
        turns = asyncio.Semaphore(AT_ONCE)

        async def may(**attributes):
            body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": attributes}
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            async with turns:
                told = await operator._request("POST", "SelfSubjectAccessReview", path, body=body)
            return told["status"]["allowed"]

        async def may_do(question):
            group, resource, verb = question
            plural, _, subresource = resource.partition("/")
            what = {"group": group, "resource": plural, "subresource": subresource, "verb": verb}
            return await may(resourceAttributes={**what, "namespace": namespace})

        for path in PATHS:
            assert not await may(nonResourceAttributes={"path": path, "verb": "get"}), path
        ordered = sorted(questions)
        answers = await asyncio.gather(*map(may_do, ordered))
    return {question for question, answer in zip(ordered, answers, strict=True) if answer}, questions


async def served(admin):
    """{(group, resource or resource/subresource)} by discovery."""
    groups = await admin._request("GET", "APIGroupList", "/apis")
    paths = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups["groups"])]
    lists = await asyncio.gather(*(admin._request("GET", "APIResourceList", path) for path in paths))
    return {
        (one.get("group", found["groupVersion"].rpartition("/")[0]), one["name"])
        for found in lists
        for one in found["resources"]
    }


@pytest.mark.apiserver
class TestLife:
    """A whole life with nothing but these rights: made, updated, sent back, blocked by strangers, taken apart, deleted."""

    def test_s27_every_verb_is_used_and_none_is_missing(self, life):
        asked, may = used(life.trace), granted(life.values)
        assert not [exchange for exchange in life.trace.exchanges if exchange.code in {401, 403}]
        assert asked <= may
        assert may - asked == ASKED_BY_ADMISSION, "drop what is not used"

    def test_s27_a_namespaced_operator_asks_for_its_namespaces_alone(self, life):
        if not life.namespaced:
            assert {e.about.namespace for e in life.trace.exchanges if e.about.kind == "Node"} == {""}
            return
        spaces = {e.about.namespace for e in life.trace.exchanges if e.about.kind in PLURAL_OF}
        assert spaces == {life.namespace, NAMESPACE}
        assert {e.about.kind for e in life.trace.exchanges if e.about.namespace == NAMESPACE} == {"Lease"}

    def test_s28_nothing_holds_an_object(self, life):
        """No finalizer on anything, so nothing outlives the operator: the life ended with two deletions."""
        metadata = [body["metadata"] for body in life.left if body]
        assert not [name for name in metadata if "pilotfish" in json.dumps(name.get("finalizers", ()))]
        assert [e for e in life.trace.events if e.type == "DELETED" and e.kind == "ModelDeployment"]

    def test_s29_strangers_under_our_names_are_told_of_and_left_alone(self, life):
        assert set(life.strangers) == {"PersistentVolumeClaim", "ConfigMap", "Service", "NetworkPolicy"}
