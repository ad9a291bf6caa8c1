"""From the mounted Secret's keys to what each client takes. Knows names of keys; opens no connection.

Keys are named as the clients' own environment variables. A shell without a mounted Secret may set the variables.
"""

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError

DOCKER_CONFIG = ".dockerconfigjson"
KMS_KEY = "AWS_SSE_KMS_KEY_ID"
CUSTOMER_KEY = "AWS_SSE_CUSTOMER_KEY"
_CUSTOMER_KEY_BYTES = 32
_GOOGLE = ("GOOGLE_APPLICATION_CREDENTIALS_JSON", "GOOGLE_APPLICATION_CREDENTIALS")
# Never HTTP_BEARER_TOKEN or OCI_PASSWORD: a shell's variable would go to whatever host a manifest names.
_FROM_SHELL = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION"),
    *(KMS_KEY, CUSTOMER_KEY),
    *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    *("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_CLIENT_ID", "AZURE_STORAGE_CLIENT_SECRET"),
    *("AZURE_STORAGE_TENANT_ID", "STORAGE_EMULATOR_HOST", *_GOOGLE, "HF_TOKEN", "HF_ENDPOINT"),
    "OCI_PLAIN_HTTP",
)
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_SECRET = "spec.model.credentials.secretName"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """User name and password at one registry."""

    username: str
    password: str


def read_credentials(folder: Path) -> dict[str, str]:
    """The Secret's keys as mounted, one file per key; without a mount what a shell has, Docker's logins among it."""
    if not folder.is_dir():
        docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
        logins = {DOCKER_CONFIG: _text(docker)} if docker.is_file() else {}
        return logins | {name: os.environ[name] for name in _FROM_SHELL if os.environ.get(name)}
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and (p.name[0] != "." or p.name == DOCKER_CONFIG)]
    return {path.name: _text(path) for path in files}


def filesystem_options(scheme: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the fsspec file system behind s3, gs or az.

    Raises:
        OptimizerError: SourceForbidden when the keys cannot be used as they are.
    """
    match scheme:
        case "s3":
            return _s3(keys)
        case "gs":
            return _gs(keys)
        case _:
            return _az(keys)


def registry_login(keys: Mapping[str, str], host: str) -> Login | None:
    """User and password for an OCI registry: OCI_USERNAME and OCI_PASSWORD, else from a .dockerconfigjson."""
    if "OCI_USERNAME" in keys:
        return Login(username=keys["OCI_USERNAME"], password=keys.get("OCI_PASSWORD", ""))
    if DOCKER_CONFIG not in keys:
        return None
    try:
        entries = json.loads(keys[DOCKER_CONFIG]).get("auths", {}).items()
        return next((login for name, entry in entries if _is_host(name, host) and (login := _login(entry))), None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(DOCKER_CONFIG, "a Docker configuration; make the Secret with type docker-registry") from error


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except UnicodeDecodeError as error:
        raise _unusable(path.name, "text; write the key as it was given to you") from error


def _s3(keys: Mapping[str, str]) -> dict[str, Any]:
    encryption = _s3_encryption(keys)
    client = {"endpoint_url": keys.get("AWS_ENDPOINT_URL"), "region_name": keys.get("AWS_REGION")}
    return {
        "key": keys.get("AWS_ACCESS_KEY_ID"),
        "secret": keys.get("AWS_SECRET_ACCESS_KEY"),
        "token": keys.get("AWS_SESSION_TOKEN"),
        "anon": "AWS_ACCESS_KEY_ID" not in keys,
        "client_kwargs": {k: v for k, v in client.items() if v},
        **({"s3_additional_kwargs": encryption} if encryption else {}),
    }


def _s3_encryption(keys: Mapping[str, str]) -> dict[str, Any]:
    """What goes with every request that takes it: a key of KMS (SSE-KMS), or a key of the customer's own (SSE-C)."""
    if KMS_KEY in keys and CUSTOMER_KEY in keys:
        raise _unusable(CUSTOMER_KEY, f"used beside a key of KMS; S3 takes one of both, remove it or {KMS_KEY}")
    if KMS_KEY in keys:
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": keys[KMS_KEY]}
    if CUSTOMER_KEY not in keys:
        return {}
    try:
        key = base64.b64decode(keys[CUSTOMER_KEY], validate=True)
    except ValueError:
        key = b""
    if len(key) != _CUSTOMER_KEY_BYTES:
        raise _unusable(CUSTOMER_KEY, "256 bits in base64; write what `openssl rand -base64 32` prints")
    return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}


def _gs(keys: Mapping[str, str]) -> dict[str, Any]:
    endpoint = keys.get("STORAGE_EMULATOR_HOST")
    options: dict[str, Any] = {"endpoint_url": endpoint} if endpoint else {}
    name = next((name for name in _GOOGLE if name in keys), None)
    if name is None:
        return options | {"token": "anon"}
    text = keys[name]
    try:
        return options | {"token": _google_login(json.loads(text if text.startswith("{") else Path(text).read_text()))}
    except (ValueError, OSError, AttributeError) as error:
        # The client's own sentences hold no secret, and no line of the key.
        what = "the JSON key of a service account; put the text of the downloaded file there"
        raise _unusable(name, f"{what} ({type(error).__name__}: {str(error).split('.')[0]})") from error


def _google_login(key: dict[str, Any]) -> Any:
    """Of a service account's key, or of what `gcloud auth application-default login` writes. Raises ValueError."""
    from google.oauth2.credentials import Credentials
    from google.oauth2.service_account import Credentials as ServiceAccount

    if key.get("type") == "service_account":
        return ServiceAccount.from_service_account_info(key, scopes=[_GOOGLE_SCOPE])
    return Credentials.from_authorized_user_info(key)


def _az(keys: Mapping[str, str]) -> dict[str, Any]:
    names = {
        "account_name": "AZURE_STORAGE_ACCOUNT_NAME",
        "account_key": "AZURE_STORAGE_ACCOUNT_KEY",
        "sas_token": "AZURE_STORAGE_SAS_TOKEN",
        "connection_string": "AZURE_STORAGE_CONNECTION_STRING",
        "client_id": "AZURE_STORAGE_CLIENT_ID",
        "client_secret": "AZURE_STORAGE_CLIENT_SECRET",
        "tenant_id": "AZURE_STORAGE_TENANT_ID",
    }
    found = {option: keys[name] for option, name in names.items() if keys.get(name)}
    if "account_name" not in found and "connection_string" not in found:
        raise OptimizerError(
            Reason.SOURCE_FORBIDDEN,
            f"az:// needs to know the account: set AZURE_STORAGE_ACCOUNT_NAME (or AZURE_STORAGE_CONNECTION_STRING) "
            f"in the Secret that {_SECRET} names; without a key the container is read anonymously",
        )
    # Said outright, or the adapter asks every place where Azure keeps identities.
    return found | {"anon": not {"account_key", "sas_token", "connection_string", "client_id"} & set(found)}


def _is_host(name: str, host: str) -> bool:
    """Whether an entry of a Docker configuration is of the registry."""
    bare = name.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    return bare == host or (host == "docker.io" and bare == "index.docker.io")


def _login(entry: Mapping[str, str]) -> Login | None:
    if entry.get("auth"):
        username, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        return Login(username=username, password=password)
    return Login(username=entry["username"], password=entry["password"]) if "username" in entry else None


def _unusable(name: str, what: str) -> OptimizerError:
    return OptimizerError(Reason.SOURCE_FORBIDDEN, f"{name} in the Secret that {_SECRET} names is not {what}")
