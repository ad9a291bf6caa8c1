"""What can be switched on beside the operator: monitors, alerts, dashboards, budgets, its own test, extra objects."""

import json
import shutil

import pytest
import yaml

from pilotfish.cli.doctor.command import CheckName
from pilotfish.names import COMPONENT_LABEL, FIELD_MANAGER, MANAGED_BY, NAME_LABEL, REVISION_LABEL, Component
from support.helm import CHART, EXAMPLES, helm, of_kind, one, render, values_of

MONITORING = values_of("monitoring")
RULES = sorted((CHART / "files" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))


def named(bodies, kind, name):
    (body,) = [body for body in of_kind(bodies, kind) if body["metadata"]["name"] == name]
    return body


class TestPodMonitors:
    def test_one_selects_the_operator_and_one_every_triton_pod(self):
        bodies = render(*MONITORING)
        operator = named(bodies, "PodMonitor", "pilotfish")["spec"]
        pod = one(bodies, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert operator["selector"]["matchLabels"].items() <= pod.items()
        assert operator["podMetricsEndpoints"][0]["honorLabels"] is True
        triton = named(bodies, "PodMonitor", "pilotfish-triton")["spec"]
        wanted = {MANAGED_BY: FIELD_MANAGER, COMPONENT_LABEL: Component.TRITON.value}
        assert triton["selector"] == {"matchLabels": wanted}
        assert triton["namespaceSelector"] == {"any": True}
        assert triton["podTargetLabels"] == [NAME_LABEL, REVISION_LABEL]
        assert triton["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "15s"}]

    def test_they_stay_in_the_watched_namespaces(self):
        spec = named(render(*values_of("all")), "PodMonitor", "pilotfish-triton")["spec"]
        assert spec["namespaceSelector"] == {"matchNames": ["team-a", "team-b"]}

    def test_everything_for_prometheus_carries_its_labels(self):
        for body in render(*MONITORING):
            if body["apiVersion"].startswith("monitoring.coreos.com/"):
                assert body["metadata"]["labels"]["release"] == "kube-prometheus-stack"

    def test_that_of_triton_can_be_left_out(self):
        bodies = render(*MONITORING, "--set", "metrics.podMonitor.triton.enabled=false")
        assert [body["metadata"]["name"] for body in of_kind(bodies, "PodMonitor")] == ["pilotfish"]


class TestAlerts:
    def rules(self, *values):
        (group,) = one(render(*values), "PrometheusRule")["spec"]["groups"]
        return {rule["alert"]: rule for rule in group["rules"]}

    def test_every_file_is_an_alert_unchanged(self):
        assert RULES
        files = [yaml.safe_load(path.read_text()) for path in RULES]
        assert self.rules(*MONITORING) == {rule["alert"]: rule for rule in files}

    def test_some_can_be_left_out_and_the_others_lead_to_their_runbooks(self):
        rules = self.rules(*values_of("all"))
        assert set(rules) == {path.stem for path in RULES} - {"OperatorDown"}
        for name, rule in rules.items():
            assert rule["annotations"]["runbook_url"] == f"https://docs.example.org/runbooks/{name}"


class TestDashboards:
    def test_every_file_is_a_config_map_that_the_sidecar_finds(self):
        assert DASHBOARDS
        maps = [body for body in of_kind(render(*MONITORING), "ConfigMap") if "-dashboard-" in body["metadata"]["name"]]
        assert {name: json.loads(text) for body in maps for name, text in body["data"].items()} == {
            path.name: json.loads(path.read_text()) for path in DASHBOARDS
        }
        assert len(maps) == len(DASHBOARDS)
        assert all(body["metadata"]["labels"]["grafana_dashboard"] == "1" for body in maps)
        assert all(body["metadata"]["namespace"] == "pilotfish-system" for body in maps)

    def test_place_label_and_annotations_are_values(self):
        label = "metrics.grafanaDashboard.label=dashboards,metrics.grafanaDashboard.labelValue=yes"
        bodies = of_kind(render(*values_of("all"), "--set", label), "ConfigMap")
        for body in (body for body in bodies if "-dashboard-" in body["metadata"]["name"]):
            assert body["metadata"]["namespace"] == "monitoring"
            assert body["metadata"]["labels"]["dashboards"] == "yes"
            assert body["metadata"]["annotations"] == {"grafana_folder": "Pilotfish"}


class TestAvailability:
    def test_a_drain_never_waits_for_a_single_replica(self):
        spec = one(render("--set", "pdb.enabled=true"), "PodDisruptionBudget")["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        assert "minAvailable" not in spec

    def test_the_budget_and_the_spread_are_about_the_operator_s_pods(self):
        bodies = render(*values_of("ha"))
        deployment = one(bodies, "Deployment")["spec"]
        wanted = deployment["selector"]
        assert one(bodies, "PodDisruptionBudget")["spec"]["selector"] == wanted
        constraints = deployment["template"]["spec"]["topologySpreadConstraints"]
        assert [constraint["labelSelector"] for constraint in constraints] == [wanted, wanted]

    def test_a_selector_of_the_user_s_own_wins(self):
        own = "topologySpreadConstraints[0].labelSelector.matchLabels.app=other"
        (constraint,) = one(render("--set", own), "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert constraint["labelSelector"] == {"matchLabels": {"app": "other"}}


class TestOwnTest:
    """The pod of `helm test`."""

    @pytest.fixture(scope="class", params=["", *EXAMPLES], ids=["default", *EXAMPLES])
    def bodies(self, request):
        return render(*values_of(request.param))

    def test_it_runs_the_doctor_as_the_operator_runs(self, bodies):
        pod = one(bodies, "Pod")["spec"]
        operator = one(bodies, "Deployment")["spec"]["template"]["spec"]
        (ours,), (theirs,) = pod["containers"], operator["containers"]
        for key in ("image", "imagePullPolicy", "securityContext", "resources"):
            assert ours[key] == theirs[key]
        assert pod["securityContext"] == operator["securityContext"]
        assert ours["command"] == ["pilotfish", "doctor"]
        skipped = {arg.partition("=")[2] for arg in ours["args"] if arg.startswith("--skip")}
        assert skipped <= set(CheckName)

    def test_nothing_takes_it_for_the_operator(self, bodies):
        labels = one(bodies, "Pod")["metadata"]["labels"]
        chosen = one(bodies, "Deployment")["spec"]["selector"]["matchLabels"]
        assert not chosen.items() <= labels.items()

    def test_its_rights_only_read_and_are_there_only_for_the_test(self, bodies):
        account = one(bodies, "Pod")["spec"]["serviceAccountName"]
        (own,) = [body for body in of_kind(bodies, "ServiceAccount") if body["metadata"]["name"] == account]
        assert own["metadata"]["annotations"]["helm.sh/hook"] == "test"
        roles = [
            (body["roleRef"]["kind"], body["metadata"].get("namespace"), body["roleRef"]["name"])
            for kind in ("RoleBinding", "ClusterRoleBinding")
            for body in of_kind(bodies, kind)
            if body["subjects"][0]["name"] == account
        ]
        assert roles
        for kind, namespace, name in roles:
            (role,) = [
                body
                for body in of_kind(bodies, kind)
                if (body["metadata"]["name"], body["metadata"].get("namespace")) == (name, namespace)
            ]
            assert role["metadata"]["annotations"] == own["metadata"]["annotations"]
            assert "hook-succeeded" in role["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
            for rule in role["rules"]:
                assert set(rule["verbs"]) <= {"get", "list"}

    def test_named_namespaces_need_no_right_over_the_cluster(self):
        bodies = render(*values_of("namespaced"))
        assert of_kind(bodies, "ClusterRole") == of_kind(bodies, "ClusterRoleBinding") == []
        assert "--namespace=team-a" in one(bodies, "Pod")["spec"]["containers"][0]["args"]

    def test_without_rbac_nothing_is_granted(self):
        bodies = render("--set", "rbac.create=false,admission.trust.enabled=false")
        assert not [body for body in bodies if body["kind"].endswith(("Role", "RoleBinding"))]


class TestExtras:
    def test_objects_are_maps_or_texts_and_both_are_templates(self):
        names = {body["metadata"]["name"]: body for body in of_kind(render(*values_of("all")), "ConfigMap")}
        assert names["extra"]["metadata"]["labels"]["app.kubernetes.io/name"] == "pilotfish"
        assert "pilotfish-extra" in names

    def test_variables_come_after_the_chart_s_own_and_never_twice(self):
        (container,) = one(render(*values_of("all")), "Deployment")["spec"]["template"]["spec"]["containers"]
        names = [variable["name"] for variable in container["env"]]
        assert names[-1] == "HTTPS_PROXY"
        assert len(names) == len(set(names))

    def test_annotations_of_the_deployment_are_not_the_pods(self):
        deployment = one(render(*values_of("all")), "Deployment")
        assert deployment["metadata"]["annotations"] == {"reloader.example.org/auto": "true"}
        assert "reloader.example.org/auto" not in deployment["spec"]["template"]["metadata"]["annotations"]

    def test_a_rule_that_is_no_yaml_is_named(self, tmp_path):
        copy = tmp_path / "pilotfish"
        shutil.copytree(CHART, copy)
        (copy / "files" / "rules" / "Bad.yaml").write_text("alert: [")
        done = helm("template", "pilotfish", str(copy), "--set", "metrics.prometheusRule.enabled=true")
        assert done.returncode != 0
        assert "files/rules/Bad.yaml" in done.stderr
