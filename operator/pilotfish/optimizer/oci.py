"""Model artifacts in an OCI registry, read over the distribution API: a manifest, then its blobs with ranges.

Files that ORAS names, layers of KitOps and ModelPack, images with a folder /models (ModelCar). Layers that are archives
are brought as they are, below `.layers/`: whoever holds no credentials unpacks them (layers.py).
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.credentials import Login
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.layers import LayerKind, is_layer, layer_path
from pilotfish.optimizer.remotes import (
    TIMEOUT,
    Listing,
    RemoteFile,
    blocks,
    check_status,
    range_headers,
    safe_relative,
)

_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MAX_MANIFEST = 4 * 1024**2
_TITLES = ("org.opencontainers.image.title", "org.cncf.model.filepath")
_UNPACK = "io.deis.oras.content.unpack"
_IMAGE_LAYERS = re.compile(r"application/vnd\.(oci\.image\.layer\.v1|docker\.image\.rootfs\.diff)\.tar[+.]?(gzip)?")
_MODEL_LAYERS = re.compile(r"application/vnd\.(kitops\.modelkit\.model(part)?|cncf\.model\.weight(\.config)?)\..+")
_OTHER_LAYERS = re.compile(r"application/vnd\.(kitops\.modelkit|cncf\.model)\..+")
_EMPTY = "application/vnd.oci.empty.v1+json"
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A place in a registry; `name` is a tag or a digest."""

    uri: str
    host: str
    repository: str
    name: str


def parse_reference(uri: str) -> Reference:
    """oci://registry/repository:tag or …@sha256:…; without either, the tag latest. Raises InputInvalid."""
    found = re.fullmatch(
        r"oci://(?P<host>[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-f:]+\](:\d+)?)/(?P<repository>[a-z0-9]+([._/-]+[a-z0-9]+)*)"
        r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?",
        uri,
    )
    if found is None:
        raise OptimizerError(
            Reason.INPUT_INVALID, f"{uri} is not of the form oci://registry/repository:tag or …@sha256:<64 digits>"
        )
    name = found["digest"] or found["tag"] or "latest"
    return Reference(uri=uri, host=found["host"], repository=found["repository"], name=name)


class Registry:
    """One repository of a registry over HTTP; asks for a token when the registry wants one."""

    def __init__(self, *, session: Any, reference: Reference, login: Login | None, plain_http: bool) -> None:
        self._session, self.reference, self._login = session, reference, login
        host = "registry-1.docker.io" if reference.host == "docker.io" else reference.host
        self._scheme = "http" if plain_http or _is_loopback(host) else "https"
        self._base = f"{self._scheme}://{host}/v2/{reference.repository}"
        self._authorization: Any = None

    def get(self, path: str, headers: Mapping[str, str]) -> Any:
        """The answer to a GET below the repository, not read yet.

        Raises:
            OptimizerError: SourceNotFound, SourceForbidden, SourceUnreachable.
        """
        reply = self._ask(f"{self._base}/{path}", headers, self._authorization)
        if reply.status_code == _UNAUTHORIZED:
            challenge = reply.headers.get("WWW-Authenticate", "")
            reply.close()
            self._authorization = self._authorize(challenge)
            reply = self._ask(f"{self._base}/{path}", headers, self._authorization)
        check_status(reply.status_code, uri=self.reference.uri)
        return reply

    def _ask(self, url: str, headers: Mapping[str, str], auth: Any) -> Any:
        import requests

        try:
            return self._session.get(url, headers=dict(headers), auth=auth, stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise OptimizerError(
                Reason.SOURCE_UNREACHABLE,
                f"cannot reach {self._scheme}://{urlsplit(url).netloc} for {self.reference.uri} "
                f"({type(error).__name__}); check host and network",
            ) from error

    def _authorize(self, challenge: str) -> Any:
        """What the registry asks for: the login itself, or a token that the login (or nobody) gets elsewhere."""
        kind, _, rest = challenge.partition(" ")
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() == "basic" and self._login is not None:
            return (self._login.username, self._login.password)
        if kind.lower() != "bearer" or "realm" not in asked:
            raise self._refused("set OCI_USERNAME and OCI_PASSWORD in the Secret of spec.model.credentials.secretName")
        if self._scheme == "https" and not asked["realm"].startswith("https://"):
            raise self._refused(f"it sends logins to {asked['realm']}, which is not encrypted; tell its operator")
        query = {"service": asked.get("service", ""), "scope": f"repository:{self.reference.repository}:pull"}
        login = (self._login.username, self._login.password) if self._login is not None else _Nobody()
        import requests

        url = requests.Request("GET", asked["realm"], params=query).prepare().url
        with self._ask(str(url), {}, login) as reply:
            check_status(reply.status_code, uri=self.reference.uri)
            answer = _json(_limited(reply), what=f"the token server of {self.reference.uri}")
        return _Bearer(str(answer.get("token") or answer.get("access_token") or ""))

    def _refused(self, remedy: str) -> OptimizerError:
        return OptimizerError(Reason.SOURCE_FORBIDDEN, f"{self.reference.uri} refuses access; {remedy}")


@dataclass(frozen=True, slots=True)
class _Bearer:
    """Adds a token to a request; requests drops it again where an answer leads to another host."""

    token: str

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _Nobody:
    """No login, not even one of a .netrc."""

    def __call__(self, request: Any) -> Any:
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class OciRemote:
    """The model files of one manifest, pinned by their digests."""

    uri: str
    registry: Registry

    def listing(self) -> Listing:
        """Files by their titles, archives as `.layers/…`; the version of each is its digest.

        Raises:
            OptimizerError: what `Registry.get` raises, SourceDigestMismatch, SourceUnsupported.
        """
        layers = self._manifest(self.registry.reference.name).get("layers", [])
        files = tuple(f for n, layer in enumerate(layers) if (f := self._file(n, layer)) is not None)
        names = [file.path for file in files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise OptimizerError(
                Reason.SOURCE_UNSUPPORTED, f"{self.uri} lists {twice[0]} twice; push it again with one file a name"
            )
        if not files:
            raise OptimizerError(
                Reason.SOURCE_NOT_FOUND,
                f"the artifact at {self.uri} has no files; push the model's files as its layers",
            )
        return Listing(files=files, single=len(files) == 1 and not is_layer(files[0].path))

    def read(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The blob's bytes."""
        with self.registry.get(f"blobs/{file.version}", range_headers(offset)) as reply:
            yield from blocks(reply, offset)

    def _manifest(self, name: str, *, depth: int = 0) -> dict[str, Any]:
        accept = {"Accept": ", ".join((*_MANIFESTS, *_INDEXES))}
        with self.registry.get(f"manifests/{name}", accept) as reply:
            body = _limited(reply)
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if name.startswith("sha256:") and name != found:
            raise OptimizerError(
                Reason.SOURCE_DIGEST_MISMATCH, f"the registry answers {found} for {self.uri}; push it again"
            )
        manifest = _json(body, what=self.uri)
        if "manifests" not in manifest:
            return manifest
        chosen = _for_this_machine(manifest["manifests"])
        if chosen is None or depth:
            raise OptimizerError(
                Reason.SOURCE_UNSUPPORTED, f"{self.uri} is an index without a manifest for linux/amd64; name one of its"
            )
        return self._manifest(chosen, depth=depth + 1)

    def _file(self, number: int, layer: Mapping[str, Any]) -> RemoteFile | None:
        """The layer as a file; None for layers that are no part of the model."""
        kind, digest, size = layer.get("mediaType", ""), str(layer.get("digest", "")), layer.get("size")
        if kind == _EMPTY or (_OTHER_LAYERS.fullmatch(kind) and not _MODEL_LAYERS.fullmatch(kind)):
            return None
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest) or not isinstance(size, int) or size < 0:
            raise OptimizerError(
                Reason.SOURCE_UNSUPPORTED, f"layer {number} of {self.uri} has no sha256 digest and size; push it again"
            )
        path = self._path(number, kind, layer.get("annotations") or {})
        return RemoteFile(path=path, size=size, version=digest, sha256=digest.removeprefix("sha256:"))

    def _path(self, number: int, kind: str, annotations: Mapping[str, str]) -> str:
        title = next((annotations[key] for key in _TITLES if annotations.get(key)), None)
        if kind.endswith(("zstd", "encrypted")):
            raise OptimizerError(
                Reason.SOURCE_UNSUPPORTED, f"layer {number} of {self.uri} is {kind}; push it with gzip or plain"
            )
        if annotations.get(_UNPACK) == "true" or (_MODEL_LAYERS.fullmatch(kind) and ".tar" in kind):
            return layer_path(number, LayerKind.FOLDER)
        if title is not None:
            return safe_relative(title, uri=self.uri)
        if _IMAGE_LAYERS.fullmatch(kind):
            return layer_path(number, LayerKind.IMAGE)
        raise OptimizerError(
            Reason.SOURCE_UNSUPPORTED,
            f"layer {number} of {self.uri} is {kind or 'of no type'} and has no title; push files with oras",
        )


def _for_this_machine(manifests: list[Mapping[str, Any]]) -> str | None:
    """The digest of an index' manifest for linux/amd64, or of the only one that is for a machine at all."""
    platforms = [(m.get("platform") or {}, str(m.get("digest", ""))) for m in manifests]
    fitting = [d for p, d in platforms if (p.get("os"), p.get("architecture")) == ("linux", "amd64")]
    others = [d for p, d in platforms if p.get("os") != "unknown"]
    return fitting[0] if fitting else others[0] if len(others) == 1 else None


def _limited(reply: Any) -> bytes:
    """The body of a small answer."""
    body = b""
    for block in reply.iter_content(64 * 1024):
        body += block
        if len(body) > _MAX_MANIFEST:
            break
    return body


def _json(body: bytes, *, what: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OptimizerError(Reason.SOURCE_UNREACHABLE, f"{what} answers no JSON object; check that it is a registry")
    return found


def _is_loopback(host: str) -> bool:
    """This machine: where registries speak plain HTTP, as container engines have it."""
    name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
