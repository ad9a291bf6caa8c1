"""Is the source signed by a key that its user trusts? OpenSSF model signing, by a key; opens no model.

The signature lies with the bytes: `model.sig` in a folder, `<file>.sig` beside a single file. It must cover every file.
Keyless signatures need Sigstore's servers, which a container that opens sources must not depend on: they are refused.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import list_files
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.fetch import Fetched

SIGNATURE = "model.sig"
"""In the folder that it signs."""
SUFFIX = ".sig"
_LARGEST = 64 * 1024**2
_PREDICATE = "https://model_signing/signature/v1.0"
# What git and the hub add to a folder. Signers leave them out, and nothing that loads a model opens them.
_OF_GIT = frozenset({".gitattributes", ".gitignore"})
# Of the verifier's sentence: the name of a folder in the store, and brackets around what it found.
_NAMELESS = re.compile(r" in model '[^']*'")
_BARE = str.maketrans("", "", '[]"')
_SECRET = "spec.model.verification.publicKeySecret"  # noqa: S105 - the name of a field


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key: its file, and the sha256 of its DER form, as `openssl pkey -pubin -outform DER | sha256sum`."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    """What a signature says that it covers. Not to be believed before the signature was verified."""

    serialization: dict[str, Any]
    names: frozenset[str]


def trusted_keys(folder: Path) -> tuple[TrustedKey, ...]:
    """The public keys in a mounted Secret, one PEM file each; raises InputInvalid when there is none, or another file.

    Several keys let one be replaced: a signature by any of them counts.
    """
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name[0] != "."] if folder.is_dir() else []
    if not files:
        raise OptimizerError(Reason.INPUT_INVALID, f"the Secret of {_SECRET} holds no key; put a public key into it")
    return tuple(TrustedKey(path=path, fingerprint=_fingerprint(path)) for path in files)


def verify_source(source: Fetched, *, uri: str, keys: Path, bring: Callable[[str], Path]) -> str:
    """The fingerprint of the trusted key that signed exactly these bytes. `bring` fetches a file beside the source.

    Raises:
        OptimizerError: SourceSignatureInvalid when there is no signature, none by a trusted key, or one of other bytes;
            InputInvalid for a Secret without keys; and whatever `bring` raises.
    """
    trusted = trusted_keys(keys)
    is_folder = source.entry == source.path
    signature = source.path / SIGNATURE if is_folder else _beside(uri, bring)
    if not signature.is_file():
        raise _invalid(f"{uri} has no {SIGNATURE}", "sign it with model_signing and put the signature into the folder")
    statement = _read(signature, uri)
    failures: list[str] = []
    for key in trusted:
        failure = _failure(source.entry, signature, statement, key)
        if failure is None:
            _check_complete(source, statement, uri=uri, is_folder=is_folder)
            return key.fingerprint
        failures.append(failure)
    # The most telling one: whoever trusts two keys wants to hear of the bytes, not of the key that it was not.
    telling = next((failure for failure in failures if failure.startswith("Signature mismatch")), failures[0])
    raise _invalid(f"the signature of {uri} does not hold ({telling})", f"sign it again with a key of {_SECRET}")


def signature_uri(uri: str) -> str:
    """Where the signature of a single file lies; raises SourceSignatureInvalid where nothing lies beside a file."""
    parts = urlsplit(uri)
    if parts.scheme == "oci":
        raise _invalid(f"{uri} is a single file and has no place for a signature", f"push a folder with {SIGNATURE}")
    return urlunsplit(parts._replace(path=f"{parts.path}{SUFFIX}"))


def _beside(uri: str, bring: Callable[[str], Path]) -> Path:
    where = signature_uri(uri)
    try:
        return bring(where)
    except OptimizerError as error:
        if error.reason is not Reason.SOURCE_NOT_FOUND:
            raise
        raise _invalid(f"{uri} has no signature at {where}", "sign it with model_signing and put it there") from error


def _read(signature: Path, uri: str) -> _Statement:
    if signature.stat().st_size > _LARGEST:
        raise _invalid(f"the signature of {uri} is larger than {_LARGEST} bytes", "sign it with model_signing")
    try:
        envelope = json.loads(signature.read_bytes())["dsseEnvelope"]
        said = json.loads(base64.b64decode(envelope["payload"], validate=True))
        if said["predicateType"] != _PREDICATE:
            raise _invalid(f"the signature of {uri} is of another kind", "sign it with model_signing 1.0 or later")
        predicate = said["predicate"]
        serialization = dict(predicate["serialization"])
        names = (str(resource["name"]) for resource in predicate["resources"])
        if serialization["method"] == "shards":
            names = (name.rsplit(":", 2)[0] for name in names)
        return _Statement(serialization=serialization, names=frozenset(names))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise _invalid(f"the signature of {uri} cannot be read", "sign it with model_signing") from error


def _failure(entry: Path, signature: Path, statement: _Statement, key: TrustedKey) -> str | None:
    """Why the signature is not one of these bytes by this key; None when it is."""
    from model_signing import verifying  # slow, and only wanted here

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key.path)  # type: ignore[no-untyped-call]
        config.set_hashing_config(_hashing(statement, signature)).verify(entry, signature)
    except Exception as error:  # noqa: BLE001 - whatever it says about bytes from outside, it does not vouch for them
        return _NAMELESS.sub("", str(error)).translate(_BARE) or type(error).__name__
    return None


def _hashing(statement: _Statement, signature: Path) -> Any:
    """The signer's way of hashing, but the only file left out is the signature itself."""
    from model_signing import hashing

    said = statement.serialization
    config = hashing.Config()  # type: ignore[no-untyped-call]
    if said["method"] == "shards":
        config.use_shard_serialization(hashing_algorithm=said["hash_type"], shard_size=int(said["shard_size"]))
    else:
        config.use_file_serialization(hashing_algorithm=said["hash_type"])
    return config.set_ignored_paths(paths=[signature], ignore_git_paths=False)


def _check_complete(source: Fetched, statement: _Statement, *, uri: str, is_folder: bool) -> None:
    """A signer may leave files out; a file that nobody signed is one that anybody may add."""
    if not is_folder:
        return
    files = {path.relative_to(source.path).as_posix() for path in list_files(source.path)}
    unsigned = sorted(files - statement.names - _OF_GIT - {SIGNATURE})
    if unsigned:
        raise _invalid(
            f"the signature of {uri} leaves {unsigned[0]} out"
            + (f" and {len(unsigned) - 1} more files" if len(unsigned) > 1 else ""),
            "sign every file of the folder, or remove what is not signed",
        )


def _fingerprint(path: Path) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OptimizerError(
            Reason.INPUT_INVALID,
            f"{path.name} in the Secret of {_SECRET} is not a public key in PEM; put there what `openssl ec -pubout` "
            "prints",
        ) from error
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def _invalid(what: str, remedy: str) -> OptimizerError:
    return OptimizerError(Reason.SOURCE_SIGNATURE_INVALID, f"{what}; {remedy}")
