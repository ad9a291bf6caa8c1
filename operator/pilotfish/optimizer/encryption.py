"""Files encrypted with age: whoever writes needs the public key alone, whoever reads the private one. Opens no model.

An artifact in a bucket may be encrypted but for what says what it is: its manifest and its report's figures. The digest
that was proven is of the bytes before they were encrypted. The manifest has one of the encrypted files beside it, so
that an artifact can be checked by those who must not read it.
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.errors import OptimizerError

IDENTITY_PREFIX = "AGE-SECRET-KEY-1"
_BLOCK = 4 * 1024 * 1024
_FIELD = "spec.storage.bucket.encryption"

Decrypt = Callable[[str, Iterator[bytes]], Iterator[bytes]]
"""From a file's name and its bytes in the store to those that were encrypted."""


def encrypt_file(source: Path, target: Path, recipient: str) -> None:
    """Write `source` to `target`, for the owner of the recipient's private key alone. Raises InputInvalid."""
    import pyrage

    try:
        key = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise OptimizerError(
            Reason.INPUT_INVALID, f"{_FIELD}.recipient is no age public key ({error}); write what age-keygen -y prints"
        ) from error
    pyrage.encrypt_file(str(source), str(target), [key])


def read_identities(folder: Path) -> list[Any]:
    """The private keys in a mounted Secret, as age-keygen writes them; raises ArtifactKeyInvalid when there is none."""
    import pyrage

    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name[0] != "."] if folder.is_dir() else []
    lines = [line.strip() for path in files for line in path.read_text(errors="replace").splitlines()]
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith(IDENTITY_PREFIX)]
    except pyrage.IdentityError as error:
        raise _no_key(f"a line of {_FIELD}.identitySecret is no age private key") from error
    if not found:
        raise _no_key(f"{_FIELD}.identitySecret holds no line that begins with {IDENTITY_PREFIX}")
    return found


def decrypt_with(identities: list[Any]) -> Decrypt:
    """What decrypts with these keys, file by file, through a temporary file: nothing counts before all of it is there.

    It raises ArtifactKeyInvalid for what is encrypted for others, ArtifactDigestMismatch for what was changed, and
    whatever reading raises.
    """

    def decrypt(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        with tempfile.TemporaryFile() as plain:
            _decrypt(name, blocks, plain, identities)
            plain.seek(0)
            while block := plain.read(_BLOCK):
                yield block

    return decrypt


def as_it_is(_name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """For what is not encrypted."""
    return blocks


def _decrypt(name: str, blocks: Iterator[bytes], plain: Any, identities: list[Any]) -> None:
    import pyrage

    reader = _Reader(blocks)
    try:
        pyrage.decrypt_io(reader, plain, identities)
    except (pyrage.DecryptError, OSError) as error:
        if reader.error is not None:
            raise reader.error from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "No matching keys" in str(error):
            raise _no_key(f"{name} is encrypted for another key than {_FIELD}.identitySecret holds") from error
        raise OptimizerError(
            Reason.ARTIFACT_DIGEST_MISMATCH, f"{name} is not what was encrypted ({error}); the store was changed"
        ) from error


class _Reader(io.RawIOBase):
    """Blocks as a file; remembers why they ended early, which does not survive the way through the cipher."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""
        self.error: OptimizerError | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer or none only at the end."""
        try:
            while size < 0 or len(self._rest) < size:
                self._rest += next(self._blocks)
        except StopIteration:
            pass
        except OptimizerError as error:
            self.error = error
            raise OSError(str(error)) from error
        found, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return found


def _no_key(what: str) -> OptimizerError:
    return OptimizerError(
        Reason.ARTIFACT_KEY_INVALID, f"{what}; put the private key of {_FIELD}.recipient there, as age-keygen writes it"
    )
