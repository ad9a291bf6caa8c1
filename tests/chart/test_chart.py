"""The chart: valid, safe by default, in step with the CRD and with the operator's settings."""

import json
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pilotfish.settings import OperatorSettings
from support.apiserver import REPOSITORY
from support.helm import CHART, EXAMPLES, helm, of_kind, one, render, values_of
from support.kube import fresh_namespace, make_kubectl

ALL = values_of("all")
NAMESPACED = values_of("namespaced")
NOT_BUILT_IN = {"CustomResourceDefinition", "PodMonitor", "PrometheusRule"}
CRD = REPOSITORY / "crds" / "pilotfish.dev_modeldeployments.yaml"


@pytest.fixture(scope="module", params=["", *EXAMPLES], ids=["default", *EXAMPLES])
def bodies(request):
    return render(*values_of(request.param))


@pytest.fixture(scope="module")
def default():
    return render()


def is_test(body):
    return body["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"


def environment(body):
    (container,) = body["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


@pytest.mark.parametrize("example", ["", *EXAMPLES])
def test_lint_is_silent(example):
    done = helm("lint", "--strict", str(CHART), *values_of(example))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_every_object_is_valid_by_the_strict_schema(bodies):
    for body in bodies:
        if body["kind"] not in NOT_BUILT_IN:
            kubernetes_validate.validate(body, "1.36", strict=True)


def test_the_whole_chart_can_be_switched_on():
    kinds = {body["kind"] for body in render(*ALL)}
    wanted = {"PodMonitor", "PrometheusRule", "NetworkPolicy", "PodDisruptionBudget", "Role", "RoleBinding"}
    assert wanted <= kinds
    assert "CustomResourceDefinition" not in kinds


def test_every_object_carries_the_standard_labels(bodies):
    for body in bodies:
        if body["kind"] != "CustomResourceDefinition" and "extra" not in body["metadata"]["name"]:
            labels = body["metadata"]["labels"]
            # What tests the operator is not selected as the operator.
            assert labels["app.kubernetes.io/name"] == ("pilotfish-test" if is_test(body) else "pilotfish")
            assert labels["app.kubernetes.io/instance"] == "pilotfish"
            assert labels["app.kubernetes.io/managed-by"] == "Helm"


def test_the_copy_of_the_crd_is_the_crd():
    assert (CHART / "files" / CRD.name).read_bytes() == CRD.read_bytes(), "run: hack/generate"


@pytest.mark.parametrize("keep", [True, False])
def test_the_rendered_crd_is_the_crd_and_may_be_kept(keep):
    rendered = one(render("--set", f"crds.keep={str(keep).lower()}"), "CustomResourceDefinition")
    annotations = rendered["metadata"].pop("annotations", None)
    assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else None)
    assert rendered == yaml.safe_load(CRD.read_text())


def test_the_operator_runs_under_the_restricted_profile(bodies):
    pod = one(bodies, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert {key for volume in pod["volumes"] for key in volume} <= {"name", "emptyDir", "secret"}


def test_the_environment_is_what_the_settings_read(bodies, monkeypatch):
    """A variable that no setting reads would be a value that does nothing."""
    variables = environment(one(bodies, "Deployment"))
    fields = {f"PILOTFISH_{name.upper()}" for name in OperatorSettings.model_fields}
    assert {name for name in variables if name.startswith("PILOTFISH_")} <= fields
    for name, value in variables.items():
        monkeypatch.setenv(name, value if value is not None else "from-the-pod")
    settings = OperatorSettings()
    assert settings.policy().images.triton == "nvcr.io/nvidia/tritonserver:26.07-py3"


def test_the_chart_s_defaults_are_the_settings_defaults(default, monkeypatch):
    for name in environment(one(default, "Deployment")):
        monkeypatch.delenv(name, raising=False)
    own = OperatorSettings()
    for name, value in environment(one(default, "Deployment")).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    assert OperatorSettings() == own


def test_values_reach_the_settings(monkeypatch):
    for name, value in environment(one(render(*ALL), "Deployment")).items():
        monkeypatch.setenv(name, value or "pod")
    settings = OperatorSettings()
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.policy().gateway_api
    assert settings.policy().images.triton_torch == "example.com/triton-torch:1"
    assert settings.policy().images.pull_secrets == ("registry",)
    assert settings.prometheus_url == "https://prometheus.monitoring:9090/prefix"
    assert settings.prometheus_token_file == Path("/var/run/pilotfish/prometheus/token")


def test_the_token_of_prometheus_is_a_file_of_one_key():
    pod = one(render(*ALL), "Deployment")["spec"]["template"]["spec"]
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret["secretName"] == "prometheus-token"
    assert secret["items"] == [{"key": "token", "path": "token"}]
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "prometheus-token"]
    assert mount == {"name": "prometheus-token", "mountPath": "/var/run/pilotfish/prometheus", "readOnly": True}


def test_a_digest_wins_over_a_tag(default):
    def image(bodies):
        return one(bodies, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]

    assert image(default) == "pilotfish/operator:0.1.0"
    assert image(render(*ALL)) == "pilotfish/operator@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("replicas=2", "replicas"),
        ("image.repo=x", "repo"),
        ("config.loglevel=DEBUG", "loglevel"),
        ("config.logLevel=debug", "logLevel"),
        ("tritonVersion=26.07", "tritonVersion"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("images.triton.digest=sha256:1", "digest"),
        ("defaults.serving.memory=lots", "memory"),
        ("replicaCount=-1", "replicaCount"),
        ("prometheus.url=prometheus:9090", "prometheus"),
        ("prometheus.url=http://user:secret@prometheus", "prometheus"),
        ("metrics.podMonitor.enabled=yes please", "enabled"),
        ("admission.sources.everywhere={models/}", "everywhere"),
        ("admission.sources.namespaces.team-a={s3:/models/}", "namespaces"),
        ("admission.operator.images={pilotfish/optimizer:0.1.0}", "images"),
        ("admission.trust.validationActions={Refuse}", "validationActions"),
        ("networkPolicy.apiServer.cidrs={10.0.0.1}", "cidrs"),
        ("pdb.maxUnavailable=0", "maxUnavailable"),
        ("extraEnv[0].name=PILOTFISH_DRAIN", "extraEnv"),
        ("resources.request.cpu=1", "request"),
        ("metrics.prometheusRule.runbookUrl=docs", "runbookUrl"),
        ("metrics.podMonitor.triton.interval=15", "interval"),
    ],
)
def test_a_wrong_value_is_refused_by_name(value, named):
    done = helm("template", "pilotfish", str(CHART), "--set", value)
    assert done.returncode != 0
    assert named in done.stderr


def test_an_old_cluster_is_refused():
    done = helm("template", "pilotfish", str(CHART), "--kube-version", "1.30.0")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


class TestRights:
    GOLDEN = REPOSITORY / "tests" / "chart" / "rbac.golden.yaml"

    def test_the_rules_are_the_recorded_ones(self, default):
        """A new right is a decision: record it on purpose."""
        rules = {
            f"{body['kind']}/{body['metadata']['name']}": body["rules"]
            for body in default
            if body["kind"] in {"ClusterRole", "Role"} and not is_test(body)
        }
        assert rules == yaml.safe_load(self.GOLDEN.read_text())

    def test_no_wildcard_no_secret_no_way_up(self, bodies):
        for body in bodies:
            for rule in body.get("rules", ()) if body["kind"] in {"ClusterRole", "Role"} else ():
                words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
                assert not words & {"*", "secrets", "escalate", "bind", "impersonate", "deletecollection"}, rule
                assert not any(word.startswith(("pods/", "nodes/", "serviceaccounts")) for word in words), rule
                assert not words & {"nodes", "resourcequotas"} or rule["verbs"] == ["list"], rule

    def test_routes_are_a_right_of_their_own(self, default):
        def rules(bodies):
            return [rule for body in of_kind(bodies, "ClusterRole") for rule in body["rules"]]

        more = [rule for rule in rules(render("--set", "gatewayAPI.enabled=true")) if rule not in rules(default)]
        assert more == [
            {
                "apiGroups": ["gateway.networking.k8s.io"],
                "resources": ["grpcroutes", "httproutes"],
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            }
        ]

    def test_named_namespaces_need_no_right_over_the_cluster(self):
        bodies = [body for body in render("--set", "watchNamespaces={team-a,team-b}") if not is_test(body)]
        names = {body["metadata"]["name"] for body in of_kind(bodies, "ClusterRole")}
        assert names == {"pilotfish-view", "pilotfish-edit", "pilotfish-trust"}  # for users, bound by nobody here
        assert of_kind(bodies, "ClusterRoleBinding") == []
        rules = [rule for body in of_kind(bodies, "Role") for rule in body["rules"]]
        assert not any("nodes" in rule["resources"] for rule in rules)
        homes = {body["metadata"]["namespace"] for body in of_kind(bodies, "RoleBinding")}
        assert homes == {"team-a", "team-b", "pilotfish-system"}


@pytest.mark.apiserver
@pytest.mark.parametrize("values", [(), ALL], ids=["default", "all"])
def test_a_restricted_namespace_takes_the_operator_s_pod(api_server, values):
    kubectl = make_kubectl(api_server)
    pod = one(render(*values), "Deployment")["spec"]["template"]
    spec = {k: v for k, v in pod["spec"].items() if k not in {"serviceAccountName", "priorityClassName"}}
    with fresh_namespace(kubectl) as namespace:
        kubectl.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
        metadata = {**pod["metadata"], "name": "operator", "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        told = kubectl.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=json.dumps(body))
        assert "created (server dry run)" in told
