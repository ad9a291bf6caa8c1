"""The settings: what they read, what they refuse, and in which words."""

import os
import subprocess
from datetime import timedelta

import pytest
from pydantic import ValidationError

from pilotfish.settings import OperatorSettings
from support.operator_process import PROGRAM


def test_lists_are_written_with_commas(monkeypatch):
    monkeypatch.setenv("PILOTFISH_WATCH_NAMESPACES", "a, b,")
    monkeypatch.setenv("PILOTFISH_IMAGE_PULL_SECRETS", "")
    settings = OperatorSettings()
    assert settings.watch_namespaces == ("a", "b")
    assert settings.image_pull_secrets == ()


def test_everything_about_children_reaches_the_policy(monkeypatch):
    for name, value in {
        "OPTIMIZER_IMAGE": "o:1",
        "OPTIMIZER_TORCH_IMAGE": "ot:1",
        "TRITON_IMAGE": "t:1",
        "TRITON_TORCH_IMAGE": "tt:1",
        "TRITON_VERSION": "2.51.0",
        "IMAGE_PULL_POLICY": "Never",
        "OPTIMIZER_CPU": "3",
        "SERVING_MEMORY": "7Gi",
        "DRAIN": "4",
        "PRE_STOP": "5",
        "SHARED_MEMORY": "1Gi",
        "DOCS_URL": "https://d",
    }.items():
        monkeypatch.setenv(f"PILOTFISH_{name}", value)
    policy = OperatorSettings().policy()
    assert (policy.images.optimizer, policy.images.triton_torch, policy.images.pull_policy) == ("o:1", "tt:1", "Never")
    assert (policy.optimizer_compute.cpu, policy.serving_compute.memory) == ("3", "7Gi")
    assert (policy.drain, policy.pre_stop) == (timedelta(seconds=4), timedelta(seconds=5))
    assert (policy.triton_version, policy.shared_memory, policy.docs_url) == ("2.51.0", "1Gi", "https://d")


def test_an_empty_image_for_torchscript_means_none(monkeypatch):
    monkeypatch.setenv("PILOTFISH_TRITON_TORCH_IMAGE", "")
    assert OperatorSettings().policy().images.triton_torch is None


@pytest.mark.parametrize("url", ["", "http://prometheus.monitoring:9090", "https://[::1]:9090/prefix/"])
def test_queries_go_to_a_base_address_or_nowhere(url):
    assert OperatorSettings(prometheus_url=url).prometheus_url == url


@pytest.mark.parametrize(
    "url",
    [
        "prometheus:9090",
        "ftp://prometheus",
        "http://",
        "http://p/?a=b",
        "http://p/#a",
        "http://me:secret@p",
        "http://[p",
    ],
)
def test_an_address_that_is_none_or_tells_a_secret_is_refused(url):
    with pytest.raises(ValidationError, match="prometheus_url") as error:
        OperatorSettings(prometheus_url=url)
    assert "write a base address such as http://prometheus.monitoring:9090" in str(error.value) or "IPv6" in str(
        error.value
    )


def test_an_empty_file_of_a_token_means_none(monkeypatch):
    monkeypatch.setenv("PILOTFISH_PROMETHEUS_TOKEN_FILE", "")
    assert OperatorSettings().prometheus_token_file is None


@pytest.mark.parametrize(
    ("lease", "wrong"),
    [({"duration": 10, "renew_deadline": 10}, "shorter"), ({"renew_deadline": 2, "retry": 2}, "shorter")],
)
def test_a_lease_that_two_could_hold_is_refused(lease, wrong):
    with pytest.raises(ValidationError, match=wrong):
        OperatorSettings(**{f"lease_{name}": value for name, value in lease.items()})


def test_a_wrong_setting_is_named_in_one_line():
    environment = {**os.environ, "PILOTFISH_WORKERS": "none", "PILOTFISH_TRITON_VERSION": "26.07"}
    done = subprocess.run([str(PROGRAM)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "PILOTFISH_WORKERS" in line
    assert "PILOTFISH_TRITON_VERSION" in line
    assert "2.71.0" in line


def test_a_missing_cluster_is_named_in_one_line(tmp_path):
    environment = {**os.environ, "PILOTFISH_KUBECONFIG": str(tmp_path / "none"), "PILOTFISH_LOG_FORMAT": "json"}
    done = subprocess.run([str(PROGRAM)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "does not exist" in line
