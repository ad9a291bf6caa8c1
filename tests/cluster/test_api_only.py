"""Real API servers without nodes: several at once, production settings, nothing left."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pilotcluster import control_plane, native, processes
from pilotcluster.native import Native
from pilotcluster.paths import layout_of

from support.apiserver import run_cluster, running_api_server

pytestmark = pytest.mark.apiserver


def kubectl(kubeconfig: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess:
    program = Path(run_cluster("tools")) / "kubectl"
    command = [str(program), f"--kubeconfig={kubeconfig}", *args]
    return subprocess.run(command, capture_output=True, text=True, check=check)


def server_of(kubeconfig: Path) -> str:
    return json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]


def test_version_controllers_and_admission(api_server):
    version = json.loads(kubectl(api_server, "version", "-ojson").stdout)
    assert version["serverVersion"]["gitVersion"] == "v1.36.3"
    assert kubectl(api_server, "get", "serviceaccount", "default").returncode == 0
    kubectl(api_server, "create", "namespace", "strict")
    kubectl(api_server, "label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    refused = kubectl(api_server, "run", "x", "-n", "strict", "--image=x", check=False)
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_rights_are_checked_and_tokens_are_signed(api_server):
    kubectl(api_server, "create", "serviceaccount", "nobody")
    token = kubectl(api_server, "create", "token", "nobody").stdout.strip()
    command = [f"--server={server_of(api_server)}", f"--token={token}", "--insecure-skip-tls-verify", "get", "secrets"]
    refused = kubectl(Path(os.devnull), *command, check=False)
    assert 'User "system:serviceaccount:default:nobody" cannot list resource "secrets"' in refused.stderr


def test_several_at_once_are_strangers_to_each_other(api_server):
    with running_api_server() as other:
        kubectl(api_server, "create", "namespace", "only-here")
        assert "not found" in kubectl(other, "get", "namespace", "only-here", check=False).stderr
        crossed = kubectl(api_server, f"--server={server_of(other)}", "get", "namespaces", check=False)
        assert "certificate" in crossed.stderr


def test_up_again_changes_nothing_and_a_killed_server_is_started_anew(tmp_path):
    name = f"test-again-{os.getpid()}"
    with running_api_server(name=name) as kubeconfig:
        before = kubeconfig.read_text()
        layout = layout_of(name)
        first = layout.record.read_text()
        copy = tmp_path / "kubeconfig"
        run_cluster("up", "--api-only", "--name", name, "--kubeconfig", str(copy))
        assert copy.read_text() == before
        assert json.loads(layout.record.read_text())["processes"] == json.loads(first)["processes"]
        for process in json.loads(first)["processes"][:2]:
            os.kill(process["pid"], 9)
        run_cluster("up", "--api-only", "--name", name)
        assert kubectl(kubeconfig, "get", "--raw=/readyz").stdout == "ok"
        assert json.loads(layout.record.read_text())["processes"] != json.loads(first)["processes"]
    assert not layout.folder.exists()
    assert processes.strays(layout.folder) == []


def test_a_port_taken_meanwhile_is_not_the_end(api_server, monkeypatch):
    layout = layout_of(f"test-port-{os.getpid()}")
    right = control_plane.loopback_endpoints()
    taken = replace(right, api_port=int(server_of(api_server).rpartition(":")[2]))
    offers = iter([taken, right])
    monkeypatch.setattr(native.control_plane, "loopback_endpoints", lambda: next(offers))
    try:
        assert Native().up_api_only(layout, owner=None).server == right.server
    finally:
        Native().down(layout)
