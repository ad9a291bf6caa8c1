"""Who we are to the API server: a pod's account whose token rotates, or a kubeconfig."""

import datetime as dt
import socket
from types import SimpleNamespace

import pytest
import yaml
from kubernetes.aio.config import incluster_config

from pilotfish.adapters import connection
from pilotfish.adapters.connection import NoCluster, authorization_of, connect, credentials_of, default_namespace
from pilotfish.controller.lease import LeaseTimes


@pytest.fixture
def pod(monkeypatch, tmp_path, tmp_path_factory):
    """What the kubelet puts into a pod."""
    import certifi

    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    with open(certifi.where(), encoding="utf-8") as bundle:  # noqa: PTH123
        ca.write_text(bundle.read())
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(ca))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return token


async def test_a_rotated_token_is_used_whatever_happens_to_the_wall_clock(pod, monkeypatch):
    monkeypatch.setattr(connection, "TOKEN_AGE", 0.0)
    client = await connect(kubeconfig=None)
    assert await authorization_of(client.configuration) == "bearer first"
    pod.write_text("second\n")
    monkeypatch.setattr(incluster_config.datetime, "datetime", SimpleNamespace(now=lambda: dt.datetime(1970, 1, 1)))  # noqa: DTZ001
    assert await authorization_of(client.configuration) == "bearer second"
    assert (await credentials_of(client)).authorization == "bearer second"
    pod.write_text("")
    assert await authorization_of(client.configuration) == "bearer second", "half a replacement is none"
    pod.unlink()
    assert await authorization_of(client.configuration) == "bearer second"
    await client.close()


def test_the_token_is_not_read_for_every_request(tmp_path):
    moment, configuration = [0.0], SimpleNamespace(api_key={})
    (tmp_path / "token").write_text("t")
    token = connection.TokenFile(tmp_path / "token", monotonic=lambda: moment[0])
    token.refresh(configuration)
    assert configuration.api_key == {}, "it was read when the client was made"
    moment[0] = connection.TOKEN_AGE
    token.refresh(configuration)
    assert configuration.api_key == {"BearerToken": "bearer t"}


async def test_what_the_network_swallowed_is_not_sent_when_it_heals(kubeconfig):
    client = await connect(kubeconfig=kubeconfig)
    connector = client.rest_client._create_connector()
    made = connector._socket_factory((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1)))
    with made:
        milliseconds = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    await connector.close()
    await client.close()
    times = LeaseTimes()
    assert 0 < milliseconds / 1000 <= times.duration - times.renew_deadline


async def test_outside_a_pod_the_missing_account_is_named(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NoCluster, match="service account"):
        await connect(kubeconfig=None)


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "a",
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [
                    {"name": "a", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
                    {"name": "b", "context": {"cluster": "c", "user": "u"}},
                ],
            }
        )
    )
    return path


async def test_a_kubeconfig_gives_server_and_identity(kubeconfig, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    client = await connect(kubeconfig=kubeconfig)
    credentials = await credentials_of(client)
    assert (credentials.server, credentials.authorization) == ("http://127.0.0.1:1", "Bearer secret")
    assert client.configuration.client_session_kwargs == {"trust_env": False}
    await client.close()


def test_the_namespace_is_that_of_the_context(kubeconfig):
    assert default_namespace(kubeconfig=kubeconfig) == "team"
    assert default_namespace(kubeconfig=kubeconfig, context="b") == "default"
    with pytest.raises(NoCluster, match="no context 'x'"):
        default_namespace(kubeconfig=kubeconfig, context="x")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NoCluster, match="does not exist"):
        default_namespace(kubeconfig=tmp_path / "none")
