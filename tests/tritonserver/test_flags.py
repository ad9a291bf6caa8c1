"""The command line of tritonserver by version."""

import re

import pytest

from pilotfish.resources.triton_flags import (
    RESTRICTED_APIS,
    TritonDrain,
    TritonPorts,
    parse_triton_version,
    triton_arguments,
)

KEY = "$(TRITON_ADMIN_KEY)"


def arguments(version, **more):
    return triton_arguments(version, model_repository="/models", admin_key=KEY, **more)


def names(version):
    return {argument.partition("=")[0] for argument in arguments(version)}


def test_newer_releases_get_the_flags_that_older_ones_would_abort_on():
    assert names("2.68.0") - names("2.51.0") == {"--http-max-input-size", "--allow-client-shm"}
    assert names("2.59.0") - names("2.58.0") == {"--http-max-input-size"}
    assert names("2.68.0") - names("2.67.0") == {"--allow-client-shm"}
    assert names("2.42.0") == names("2.58.0")


def test_the_model_cannot_be_changed_from_outside():
    line = arguments("2.71.0")

    assert {"--model-control-mode=none", "--disable-auto-complete-config", "--allow-client-shm=false"} <= set(line)
    for flag in ("--http-restricted-api", "--grpc-restricted-protocol"):
        value = next(argument for argument in line if argument.startswith(flag))
        assert value == f"{flag}={','.join(RESTRICTED_APIS)}:pilotfish-admin={KEY}"


@pytest.mark.parametrize("version", ["2.42.0", "2.51.0", "2.71.0"])
def test_every_server_tells_quantiles_and_none_a_histogram_too_coarse_to_use(version):
    settings = [argument for argument in arguments(version) if argument.startswith("--metrics-config")]

    assert settings == ["--metrics-config=summary_latencies=true"]


def test_ports_drain_and_address_are_the_callers():
    line = arguments(
        "2.51.0",
        ports=TritonPorts(http=1, grpc=2, metrics=3),
        drain=TritonDrain(exit_timeout_seconds=4, grpc_connection_age_seconds=5, grpc_connection_grace_seconds=6),
        address="127.0.0.1",
        backend_directory="/backends",
    )

    assert {
        "--http-port=1",
        "--grpc-port=2",
        "--metrics-port=3",
        "--exit-timeout-secs=4",
        "--grpc-max-connection-age=5000",
        "--grpc-max-connection-age-grace=6000",
        "--grpc-address=127.0.0.1",
        "--backend-directory=/backends",
    } <= set(line)
    assert not any(re.match("--(.*-address|backend-directory)", argument) for argument in arguments("2.51.0"))


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("26.07", "is not a server version; write three numbers such as 2.71.0"),
        ("latest", "is not a server version"),
        ("2.41.9", "is older than 2.42.0"),
    ],
)
def test_a_version_that_cannot_be_served_says_what_to_write(version, message):
    with pytest.raises(ValueError, match=message):
        parse_triton_version(version)
