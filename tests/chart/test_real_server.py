"""The chart on a real API server, by Helm 3 and by Helm 4; and a ModelDeployment in a chart of a user's own."""

import json
import subprocess

import pytest
import yaml
from testbed.kubectl import KubectlError, wait_for

from support.apiserver import run_cluster, running_api_server
from support.helm import CHART, EXAMPLES, NAMESPACE, helm, helm3, program_of, render, render_text, values_of
from support.kube import make_kubectl, make_object

HELMS = {"helm3": helm3, "helm4": helm}
MODEL = make_object("kept", "team-a")
CRD = "modeldeployments.pilotfish.dev"


@pytest.mark.parametrize("example", ["", *EXAMPLES])
def test_both_render_the_same(example):
    assert render(*values_of(example), program=helm3) == render(*values_of(example))


@pytest.mark.parametrize("name", HELMS)
def test_each_is_what_it_is_called(name):
    assert HELMS[name]("version", "--template", "{{.Version}}").stdout.startswith(f"v{name[-1]}.")


@pytest.mark.parametrize("name", HELMS)
def test_each_finds_nothing_to_complain_about(name):
    done = HELMS[name]("lint", "--strict", str(CHART), *values_of("all"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server():
    """An API server of its own: the chart's policies are for the whole cluster."""
    with running_api_server() as kubeconfig:
        kubectl = make_kubectl(kubeconfig)
        kubectl.run("apply", "--server-side", "-f", run_cluster("monitoring-crds"))
        for name in ("team-a", "team-b", "monitoring", NAMESPACE):
            kubectl.run("create", "namespace", name)
        # A pod is refused without it, in a dry run too, which leaves none behind for the next object.
        kubectl.run("create", "serviceaccount", "pilotfish-test", "-n", NAMESPACE)
        yield kubectl


@pytest.fixture
def use(server):
    """Calls Helm against the server; gives what it printed. Raises AssertionError with its own words."""

    def call(program, *arguments):
        done = program(*arguments, "--kubeconfig", str(server.kubeconfig), "--namespace", NAMESPACE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.mark.apiserver
@pytest.mark.parametrize("example", ["", *EXAMPLES])
def test_the_api_server_takes_every_object_strictly(server, example):
    text = render_text(*values_of(example))
    told = server.run(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text
    )
    assert told.count("(server dry run)") == len(render(*values_of(example)))


def is_there(kubectl, kind, name):
    return kubectl.get(kind, name, namespace=NAMESPACE) is not None


@pytest.mark.apiserver
class TestLife:
    """Install, upgrade, roll back, uninstall, one after the other with the same program."""

    @pytest.fixture(autouse=True)
    def cleared(self, server):
        yield
        server.delete("modeldeployment", "kept", namespace="team-a")
        server.run("delete", "crd", CRD, "--ignore-not-found")

    @pytest.mark.parametrize("name", [pytest.param("helm3", marks=pytest.mark.soak), "helm4"])
    def test_a_release_comes_changes_goes_back_and_leaves_what_users_made(self, server, use, name):
        program = HELMS[name]
        use(program, "install", "pilotfish", str(CHART), *values_of("ha"))
        wait_for("the CRD is served", lambda: is_served(server), seconds=30)
        server.apply(MODEL)
        uid = server.get("modeldeployment", "kept", namespace="team-a")["metadata"]["uid"]

        use(program, "upgrade", "pilotfish", str(CHART), *values_of("monitoring"))
        assert is_there(server, "podmonitor", "pilotfish-triton")
        assert is_there(server, "prometheusrule", "pilotfish")
        assert not is_there(server, "pdb", "pilotfish")

        use(program, "rollback", "pilotfish", "1")
        assert is_there(server, "pdb", "pilotfish")
        assert not is_there(server, "podmonitor", "pilotfish-triton")

        use(program, "uninstall", "pilotfish", "--wait")
        assert not is_there(server, "deployment", "pilotfish")
        assert server.get("modeldeployment", "kept", namespace="team-a")["metadata"]["uid"] == uid
        left = json.loads(
            server.run("get", "clusterroles,clusterrolebindings,validatingadmissionpolicies", "-o", "json")
        )
        assert [body["metadata"]["name"] for body in left["items"] if "pilotfish" in body["metadata"]["name"]] == []

        use(program, "install", "pilotfish", str(CHART))
        assert is_there(server, "deployment", "pilotfish")
        use(program, "uninstall", "pilotfish", "--wait")

    def test_helm_4_takes_over_a_release_of_helm_3(self, server, use):
        use(helm3, "install", "pilotfish", str(CHART))
        use(helm, "upgrade", "pilotfish", str(CHART), "--set", "replicaCount=2,config.drain=20")
        body = server.get("deployment", "pilotfish", namespace=NAMESPACE)
        variables = body["spec"]["template"]["spec"]["containers"][0]["env"]
        assert body["spec"]["replicas"] == 2
        assert [v["value"] for v in variables if v["name"] == "PILOTFISH_DRAIN"] == ["20"]
        use(helm, "uninstall", "pilotfish", "--wait")


def is_served(kubectl):
    try:
        kubectl.run("get", CRD, "--all-namespaces")
    except KubectlError:
        return False
    return True


def status(ready, *others):
    """A status patch about the first generation; conditions as `Type=Status:Reason`."""

    def condition(text):
        kind, _, rest = text.partition("=")
        said, _, reason = rest.partition(":")
        about = {"message": "said so", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        return {"type": kind, "status": said, "reason": reason, **about}

    return json.dumps({"status": {"observedGeneration": 1, "conditions": [condition(c) for c in (ready, *others)]}})


@pytest.mark.apiserver
class TestWaiting:
    """`helm install --wait` (Helm 4) of a chart that holds a ModelDeployment."""

    LONG, SHORT = "60s", "4s"

    @pytest.fixture
    def chart(self, tmp_path):
        (tmp_path / "templates").mkdir()
        (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 0.1.0\n")
        (tmp_path / "templates" / "model.yaml").write_text(yaml.safe_dump(make_object("shop", "team-b")))
        return tmp_path

    @pytest.fixture
    def waiting(self, server, chart):
        """Starts the installation and gives its process once the object is there."""
        if not is_served(server):
            server.run(
                "apply",
                "--server-side",
                "--force-conflicts",
                "-f",
                str(CHART / "files" / f"pilotfish.dev_{CRD.partition('.')[0]}.yaml"),
            )
            wait_for("the CRD is served", lambda: is_served(server), seconds=30)
        started = []

        def start(timeout):
            common = ("--kubeconfig", str(server.kubeconfig), "--namespace", "team-b")
            command = [f"{program_of('tools')}/helm", "install", "shop", str(chart), "--wait", "--timeout", timeout]
            process = subprocess.Popen([*command, *common], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.append(process)
            wait_for("the object", lambda: server.get("modeldeployment", "shop", namespace="team-b"), seconds=30)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()
        helm("uninstall", "shop", "--kubeconfig", str(server.kubeconfig), "--namespace", "team-b")
        server.delete("modeldeployment", "shop", namespace="team-b")

    def say(self, server, patch):
        server.run(
            "patch", "modeldeployment", "shop", "-n", "team-b", "--subresource=status", "--type=merge", "-p", patch
        )

    def test_what_nobody_has_seen_yet_is_not_done(self, waiting):
        _, told = waiting(self.SHORT).communicate(timeout=60)
        assert (
            "status: InProgress, message: ModelDeployment generation is 1, but latest observed generation is -1" in told
        )

    def test_what_is_on_its_way_is_not_done(self, server, waiting):
        process = waiting(self.SHORT)
        self.say(server, status("Ready=False:Optimizing", "Reconciling=True:Optimizing"))
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "status: InProgress, message: said so" in told

    def test_what_serves_is_done(self, server, waiting):
        process = waiting(self.LONG)
        assert process.poll() is None
        self.say(server, status("Ready=True:Serving"))
        printed, told = process.communicate(timeout=50)
        assert process.returncode == 0, told
        assert "STATUS: deployed" in printed

    def test_what_is_stuck_has_failed_at_once(self, server, waiting):
        process = waiting(self.LONG)
        self.say(server, status("Ready=False:SourceNotFound", "Stalled=True:SourceNotFound"))
        _, told = process.communicate(timeout=50)
        assert process.returncode == 1
        assert "status: Failed, message: said so" in told
