"""The chart's ValidatingAdmissionPolicies on a real API server: who is allowed, who is refused, and what they are told."""

import json
import re
import secrets
from copy import deepcopy
from types import SimpleNamespace

import pytest
import pytest_asyncio
import yaml

from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.core.objects import ref_of
from pilotfish.resources.job import JobIntent, make_job
from pilotfish.resources.meta import Owner
from pilotfish.resources.services import make_service
from support.apiserver import REPOSITORY, running_api_server
from support.builders import POLICY
from support.helm import NAMESPACE, render
from support.kube import CRD, fresh_namespace, kube_cluster, make_object
from support.polling import until
from support.users import acting_as, make_role_binding, refusal

RECORDED = REPOSITORY / "tests" / "resources" / "recorded"
OLDER_IMAGES = ["old.example.org/optimizer", "pilotfish/triton-cpu", "pilotfish/triton-cpu-torch"]
OPERATOR = f"system:serviceaccount:{NAMESPACE}:pilotfish"
TRAINED = {
    "model": {"uri": "s3://models/team/v1/"},
    "optimization": {"distill": {"teacher": {"uri": "s3://models/team/t"}, "data": {"uri": "s3://models/team/d.npz"}}},
}


def with_fields(spec, **fields):
    """The spec with fields by dotted path, dots written as __; None removes one."""
    changed = deepcopy(spec)
    for path, value in fields.items():
        *parents, last = path.split("__")
        node = changed
        for name in parents:
            node = node.setdefault(name, {})
        node.pop(last, None) if value is None else node.__setitem__(last, value)
    return changed


def policies(*values):
    """Whatever of the chart belongs to admission."""
    kinds = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ConfigMap"}
    return [b for b in render(*values) if b["kind"] in kinds or b["metadata"]["name"] == "pilotfish-trust"]


def expressions(body):
    """All CEL of a policy."""
    spec = body["spec"]
    parts = [*spec.get("matchConditions", ()), *spec.get("variables", ()), *spec["validations"]]
    return "\n".join(part["expression"] for part in parts)


def schema_paths(node, path):
    """(path, schema) of every property below."""
    for name, child in (node.get("properties") or {}).items():
        yield f"{path}.{name}", child
        yield from schema_paths(child, f"{path}.{name}")
    if "items" in node:
        yield from schema_paths(node["items"], f"{path}[]")


class TestCoverage:
    """Nobody forgets a policy when a field is added."""

    @pytest.fixture(scope="class")
    def paths(self):
        schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return dict(schema_paths(schema["properties"]["spec"], "spec"))

    @pytest.fixture(scope="class")
    def by_name(self):
        bodies = policies("--set", "admission.sources.enabled=true")
        return {b["metadata"]["name"]: b for b in bodies if b["kind"] == "ValidatingAdmissionPolicy"}

    def test_every_field_that_says_where_something_lies_is_judged(self, by_name, paths):
        judged = {
            path.replace("?", "")
            for path in re.findall(
                r"(?<!\w)object\.(\?spec[?.\w]+)\.orValue", expressions(by_name["pilotfish-sources"])
            )
        }
        assert judged == {path for path in paths if path.rpartition(".")[2] in {"uri", "url", "address"}}

    def test_every_field_that_says_how_far_something_is_trusted_is_judged(self, by_name, paths):
        trusted = {path for path in paths if path.endswith(".trust")}
        assert trusted == {"spec.model.trust", "spec.optimization.distill.teacher.trust"}
        assert all(f"'{path.removesuffix('.trust')}'" in expressions(by_name["pilotfish-trust"]) for path in trusted)

    def test_each_message_says_what_to_do(self, by_name):
        for body in by_name.values():
            for rule in body["spec"]["validations"]:
                assert rule["message"]
                assert "\n" not in rule["message"]
        assert "have an administrator" in expressions_of_messages(by_name["pilotfish-trust"])
        assert "have an administrator" in expressions_of_messages(by_name["pilotfish-sources"])
        assert "admission.operator.images" in expressions_of_messages(by_name["pilotfish-operator"])

    def test_each_is_off_when_its_value_says_so(self):
        off = [f"admission.{name}.enabled=false" for name in ("trust", "operator", "sources")]
        assert policies("--set", ",".join(off)) == []

    def test_named_namespaces_bound_what_is_judged(self):
        bodies = policies("--set", "watchNamespaces={team-a},admission.sources.enabled=true")
        for body in bodies:
            if body["kind"].endswith("Binding") and body["metadata"]["name"] != "pilotfish-operator":
                (term,) = body["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
                assert term == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a"]}


def expressions_of_messages(body):
    return "\n".join(rule.get("messageExpression", "") for rule in body["spec"]["validations"])


@pytest.fixture(scope="module")
def api_server():
    """One of its own: policies hold in a whole cluster, and other suites write what these refuse."""
    with running_api_server() as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def teams(kubectl, tmp_path_factory):
    """Two namespaces with policies and people: an editor, one who may trust, an admin of the namespace."""
    if not kubectl.run("get", "namespace", NAMESPACE, "--ignore-not-found"):
        kubectl.run("create", "namespace", NAMESPACE)
    with fresh_namespace(kubectl) as one, fresh_namespace(kubectl) as other:
        sources = {
            "everywhere": ["hf://our-org/", "oci://registry.example.org/team/digits"],
            "namespaces": {one: ["s3://models/team", "pvc://models/", "https://host.example.org/a.onnx"]},
        }
        values = {
            "watchNamespaces": [one, other],
            "admission": {"sources": {"enabled": True, **sources}, "operator": {"images": OLDER_IMAGES}},
        }
        file = tmp_path_factory.mktemp("values") / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        roles = [b for b in render() if b["metadata"]["name"] in {"pilotfish-edit", "pilotfish-view"}]
        bodies = [*roles, *policies("--values", str(file))]
        bindings = [
            make_role_binding(namespace, user, role)
            for namespace in (one, other)
            for user, role in (
                ("ed", "pilotfish-edit"),
                ("trudy", "pilotfish-edit"),
                ("trudy", "pilotfish-trust"),
                ("ada", "admin"),
            )
        ]
        kubectl.apply(*bodies, *bindings)
        try:
            yield SimpleNamespace(one=one, other=other)
        finally:
            for body in bodies:
                where = ("-n", body["metadata"]["namespace"]) if "namespace" in body["metadata"] else ()
                kubectl.run(
                    "delete", body["kind"], body["metadata"]["name"], *where, "--wait=false", "--ignore-not-found"
                )


@pytest_asyncio.fixture
async def people(api_server, teams):
    """ed, trudy, ada, root and the operator, once every policy is in force."""
    async with (
        kube_cluster(api_server) as root,
        acting_as(api_server, "ed") as ed,
        acting_as(api_server, "trudy") as trudy,
        acting_as(api_server, "ada") as ada,
        acting_as(api_server, OPERATOR) as operator,
    ):
        people = SimpleNamespace(root=root, ed=ed, trudy=trudy, ada=ada, operator=operator)
        await until("the policies are in force", lambda: in_force(people, teams))
        yield people


async def in_force(people, teams):
    """Policies and roles reach the API server's own caches a moment after they were stored."""

    # One wrong thing each: of several policies that refuse, the API server names any one. A name of its own each time: what
    # was taken before a policy was in force may be kept afterwards.
    def probe(**wrong):
        return make_object(f"probe-{secrets.token_hex(4)}", teams.one, with_fields(TRAINED, **wrong))

    source = await refusal(people.ed, probe(model__uri="s3://elsewhere/"))
    trust = await refusal(people.ed, probe(model__trust="Executable"))
    may = await refusal(people.ada, probe(model__trust="Executable"))
    ran = await refusal(
        people.root, {**make_service_body(teams.one), "metadata": {"name": "p", "namespace": teams.one}}
    )
    return "s3://elsewhere/ is not allowed" in source and "may not ask for that" in trust and may == ran == ""


async def is_taken(cluster, body):
    return await refusal(cluster, body) == ""


def make_service_body(namespace):
    owner = Owner(name="digits", namespace=namespace, uid="u")
    body = make_service(
        owner, stable="r", pointed="r", protocols=ModelDeploymentSpec.model_validate(TRAINED).serving.protocols
    )
    return {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "ownerReferences"}}


@pytest.mark.apiserver
class TestTrust:
    async def test_only_who_has_the_verb_may_ask_for_code(self, people, teams):
        wanted = make_object("code", teams.one, with_fields(TRAINED, model__trust="Executable"))
        told = await refusal(people.ed, wanted)
        assert "spec.model says trust: Executable" in told
        assert f"ed may not ask for that in namespace {teams.one}: leave trust out" in told
        assert "bind the ClusterRole pilotfish-trust" in told
        assert await refusal(people.trudy, wanted) == ""

    async def test_a_teacher_is_code_as_well(self, people, teams):
        spec = with_fields(TRAINED, optimization__distill__teacher__trust="Executable")
        assert "spec.optimization.distill.teacher says trust" in await refusal(
            people.ed, make_object("t", teams.one, spec)
        )
        assert await refusal(people.trudy, make_object("t", teams.one, spec)) == ""

    async def test_the_admin_of_a_namespace_may_and_data_needs_no_right(self, people, teams):
        assert (
            await refusal(people.ada, make_object("ada", teams.one, with_fields(TRAINED, model__trust="Executable")))
            == ""
        )
        assert await refusal(people.ed, make_object("data", teams.one, TRAINED)) == ""

    async def test_what_was_granted_stays_but_other_code_must_be_granted_anew(self, people, teams):
        granted = with_fields(TRAINED, model__trust="Executable", model__architecture={"file": "m.py#build"})
        assert await refusal(people.trudy, make_object("kept", teams.one, granted)) == ""
        for harmless in (
            with_fields(granted, serving__replicas=2),
            with_fields(granted, optimization__precisions=["FP32"]),
            with_fields(granted, paused=True),
            with_fields(granted, optimization__distill__teacher__uri="s3://models/team/t2"),
        ):
            assert await refusal(people.ed, make_object("kept", teams.one, harmless)) == ""
        for other in (
            with_fields(granted, model__uri="s3://models/team/v2/"),
            with_fields(granted, model__architecture={"file": "other.py#build"}),
            with_fields(granted, model__digest="sha256:" + "0" * 64),
            with_fields(granted, optimization__distill__teacher__trust="Executable"),
        ):
            assert "may not ask for that" in await refusal(people.ed, make_object("kept", teams.one, other))
        assert await refusal(people.ed, make_object("kept", teams.one, TRAINED)) == "", "giving it up needs no right"
        assert "may not ask" in await refusal(people.ed, make_object("kept", teams.one, granted)), "but taking it does"

    async def test_the_operator_tells_the_status_of_it(self, people, teams):
        body = make_object("status", teams.one, with_fields(TRAINED, model__trust="Executable"))
        await people.trudy.apply(body)
        stored = await people.root.get(ref_of(body))
        said = {**stored, "status": {"phase": "Optimizing", "observedGeneration": 1}}
        assert (await people.root.write_status(said))["status"]["phase"] == "Optimizing"


FIELDS = {
    "model__uri": "s3://elsewhere/m/",
    "model__samples": {"uri": "s3://elsewhere/s.npz"},
    "optimization__fineTune": {"data": {"uri": "s3://elsewhere/d.npz"}},
    "optimization__prune": {"fineTune": {"data": {"uri": "s3://elsewhere/d.npz"}}},
    "optimization__distill": {"teacher": {"uri": "s3://models/team/t"}, "data": {"uri": "s3://elsewhere/d.npz"}},
    "optimization__distill__teacher": {"uri": "s3://elsewhere/t"},
    "storage": {"kind": "Bucket", "bucket": {"uri": "s3://elsewhere/artifacts"}},
}


@pytest.mark.apiserver
class TestSources:
    async def test_every_field_is_judged(self, people, teams):
        bare = {"model": {"uri": "s3://models/team/v1/"}}
        for path, value in FIELDS.items():
            base = TRAINED if "teacher" in path else bare
            told = await refusal(people.root, make_object("field", teams.one, with_fields(base, **{path: value})))
            assert re.search(r"s3://elsewhere/[\w/.]+ is not allowed in namespace " + teams.one, told), (path, told)

    async def test_the_message_says_what_is_allowed_and_who_may_change_it(self, people, teams):
        told = await refusal(people.ed, make_object("told", teams.other, {"model": {"uri": "s3://models/team/v1/"}}))
        assert "use what lies below hf://our-org/ or oci://registry.example.org/team/digits, or have" in told
        assert f"ConfigMap pilotfish-sources in namespace {NAMESPACE}, key {teams.other}" in told

    @pytest.mark.parametrize(
        ("uri", "allowed"),
        [
            ("s3://models/team", True),
            ("s3://models/team/v1/model.onnx", True),
            ("s3://models/team-b/v1/", False),
            ("s3://models/", False),
            ("s3://models/other/s3://models/team/", False),
            ("gs://models/team/v1/", False),
            ("pvc://models/digits", True),
            ("pvc://models-of-others/digits", False),
            ("https://host.example.org/a.onnx", True),
            ("https://host.example.org/a.onnx.evil", False),
            ("https://host.example.org:444/a.onnx", False),
            ("https://host.example.org.evil.net/a.onnx", False),
            ("http://host.example.org/a.onnx", False),
            ("hf://our-org/gpt2@main", True),
            ("hf://our-organisation/gpt2", False),
            ("oci://registry.example.org/team/digits:v1", True),
            ("oci://registry.example.org/team/digits@sha256:" + "a" * 64, True),
            ("oci://registry.example.org/team/digits-of-others:v1", False),
            ("oci://registry.example.org:5000/team/digits:v1", False),
            # These are refused by the schema: no path leads out of a folder, however it is written.
            ("s3://models/team/../other/", False),
            ("https://host.example.org/a.onnx/%2e%2e/secret", False),
            ("https://host.example.org/a.onnx/%2E%2e%2fsecret", False),
            ("https://host.example.org/a.onnx/..%5csecret", False),
            ("https://host.example.org/a.onnx/x%2f..%2fsecret", False),
        ],
    )
    async def test_a_folder_ends_where_its_name_ends(self, people, teams, uri, allowed):
        told = await refusal(people.root, make_object("edge", teams.one, {"model": {"uri": uri}}))
        assert (told == "") is allowed, told
        if not allowed:
            assert "is not allowed in namespace" in told or "without '..'" in told

    async def test_what_an_object_named_before_stays_and_a_changed_list_counts_at_once(self, people, teams, kubectl):
        ref = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "pilotfish-sources", "namespace": NAMESPACE},
        }
        stored = await people.root.get(ref_of(ref))
        mine = {"model": {"uri": "gs://new/m/"}}
        body = make_object("changed", teams.one, mine)
        assert "is not allowed" in await refusal(people.ed, body)
        data = {**stored["data"], teams.one: stored["data"][teams.one] + "\n# for a while\ngs://new"}
        kubectl.apply({**ref, "data": data})
        await until("it is allowed", lambda: is_taken(people.ed, body))
        kubectl.apply({**ref, "data": stored["data"]})
        await until("it is refused", lambda: refusal(people.ed, make_object("probe2", teams.one, mine)))
        assert await refusal(people.ed, make_object("changed", teams.one, with_fields(mine, serving__replicas=2))) == ""
        assert "gs://new/n/" in await refusal(
            people.ed, make_object("changed", teams.one, with_fields(mine, model__uri="gs://new/n/"))
        )


def job_body(namespace, change=lambda pod: None):
    """The Job that the operator makes, and what a thief of its token makes of it."""
    owner = Owner(name="digits", namespace=namespace, uid="u")
    spec = ModelDeploymentSpec.model_validate({**TRAINED, "model": {"uri": "s3://models/team/v1/"}})
    body = make_job(owner, JobIntent(spec=spec, revision="r", recipe_key="k", generation=1), POLICY)
    body["metadata"].pop("ownerReferences")
    body["metadata"]["name"] = "forged"
    pod = body["spec"]["template"]["spec"]
    for container in (*pod["containers"], *pod["initContainers"]):
        container["image"] = "pilotfish/optimizer-torch:0.1.0"
    change(pod)
    return body


def each(key, value):
    return lambda pod: [c["securityContext"].__setitem__(key, value) for c in pod["containers"]]


THEFTS = {
    "may not run evil.example.org/miner:1": lambda pod: pod["containers"][0].update(image="evil.example.org/miner:1"),
    "may not run pilotfish/optimizer-torch.evil/x": lambda pod: pod["initContainers"][0].update(
        image="pilotfish/optimizer-torch.evil/x"
    ),
    "another account than default": lambda pod: pod.update(serviceAccountName="builder"),
    "pods with a token": lambda pod: pod.update(automountServiceAccountToken=True),
    "a share in their node": lambda pod: pod.update(hostPID=True),
    "as root": lambda pod: pod["securityContext"].update(runAsNonRoot=False),
    "seccomp profile": lambda pod: pod["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    "may not mount anything but": lambda pod: pod["volumes"].append({"name": "h", "hostPath": {"path": "/"}}),
    "a container with privileges": lambda pod: [
        c["securityContext"].update(privileged=True, allowPrivilegeEscalation=True) for c in pod["containers"]
    ],
    "privileges, capabilities": each("capabilities", {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}),
    "a writable root": each("readOnlyRootFilesystem", value=False),
    "a port of its node": lambda pod: pod["containers"][0].update(ports=[{"containerPort": 1, "hostPort": 1}]),
}


@pytest.mark.apiserver
class TestOperator:
    @pytest.fixture(autouse=True)
    def _rights(self, kubectl, teams):
        """The operator's token, with every right that the chart gives it."""
        rights = [b for b in render() if b["kind"] == "ClusterRole" and b["metadata"]["name"] == "pilotfish"]
        rights[0]["metadata"]["name"] = "thief"
        binding = make_role_binding(teams.one, "thief", "thief")
        binding["subjects"] = [{"kind": "ServiceAccount", "name": "pilotfish", "namespace": NAMESPACE}]
        kubectl.apply(*rights, binding)

    async def test_a_stolen_token_runs_nothing_but_what_the_operator_runs(self, people, teams):
        await until("the token works", lambda: is_taken(people.operator, job_body(teams.one)))
        await people.root.delete(ref_of(job_body(teams.one)))
        for sentence, change in THEFTS.items():
            body = job_body(teams.one, change)
            body["metadata"]["name"] = "theft"
            assert sentence in await refusal(people.operator, body), sentence
            body = {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": body["metadata"],
                "spec": {"selector": {"matchLabels": body["metadata"]["labels"]}, "template": body["spec"]["template"]},
            }
            body["spec"]["template"]["spec"]["restartPolicy"] = "Always"
            assert sentence in await refusal(people.operator, body), sentence

    def test_whatever_the_operator_renders_may_run(self, kubectl, people, teams):
        """The recorded objects of every kind of spec."""
        bodies = [body for path in sorted(RECORDED.rglob("*.yaml")) for body in yaml.safe_load_all(path.read_text())]
        judged = [body for body in bodies if body and body["kind"] in {"Job", "Deployment", "Service"}]
        assert len(judged) > 20
        for number, body in enumerate(judged):
            body["metadata"] = {**body["metadata"], "name": f"r{number}", "namespace": teams.one, "ownerReferences": []}
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": judged})
        kubectl.run("create", "--dry-run=server", f"--as={OPERATOR}", "-f", "-", stdin=text)

    async def test_older_images_can_be_allowed(self, people, teams):
        body = job_body(
            teams.one, lambda pod: pod["containers"][0].update(image="old.example.org/optimizer@sha256:" + "a" * 64)
        )
        assert await refusal(people.operator, body) == ""

    async def test_its_services_stay_inside_the_cluster(self, people, teams):
        body = make_service_body(teams.one)
        assert await refusal(people.operator, body) == ""
        for change in (
            {"type": "NodePort"},
            {"type": "ExternalName", "externalName": "x.org"},
            {"externalIPs": ["8.8.8.8"]},
        ):
            stolen = {**body, "metadata": {**body["metadata"], "name": "s"}, "spec": {**body["spec"], **change}}
            assert "Services inside of the cluster" in await refusal(people.operator, stolen)

    async def test_nobody_else_is_judged(self, people, teams):
        body = job_body(teams.one, lambda pod: pod["containers"][0].update(image="busybox:1"))
        body["metadata"]["name"] = "of-an-admin"
        assert await refusal(people.root, body) == ""

    def test_the_policies_are_well_typed(self, kubectl, teams):
        """The API server checks CEL against the schemas of what it judges and writes down what cannot be."""
        for body in json.loads(kubectl.run("get", "validatingadmissionpolicies", "-o", "json"))["items"]:
            if body["metadata"]["name"].startswith("pilotfish-"):
                assert not body.get("status", {}).get("typeChecking", {}).get("expressionWarnings"), body["status"]
