"""What is known of an address since somebody last looked there: a fingerprint of the listing beside the digest.

A note in the store, `sources/.look-<hash of uri>.json`. A note that cannot be read counts as not there.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from pilotfish.api.report import SourceRecord
from pilotfish.api.wire import WireModel
from pilotfish.optimizer.remotes import Listing


class Known(WireModel):
    """The bytes that were at an address, and how its listing looked then."""

    fingerprint: str
    source: SourceRecord


def uri_hash(uri: str) -> str:
    """Names files that belong to one address."""
    return hashlib.sha256(uri.encode()).hexdigest()[:16]


def fingerprint_of(listing: Listing) -> str | None:
    """Hash over names, sizes and versions; None when a file has no version: only its bytes can tell."""
    if not listing.files or not all(file.version for file in listing.files):
        return None
    rows = sorted((file.path, file.size, file.version) for file in listing.files)
    return hashlib.sha256(json.dumps([listing.single, rows]).encode()).hexdigest()


def read_known(store: Path, uri: str) -> Known | None:
    """What the last look left."""
    try:
        return Known.model_validate_json(note_of(store, uri).read_bytes())
    except (OSError, ValidationError):
        return None


def remember(store: Path, uri: str, listing: Listing, source: SourceRecord) -> None:
    """Leave what was found, or nothing where the listing cannot tell changes. Raises OSError."""
    note, fingerprint = note_of(store, uri), fingerprint_of(listing)
    if fingerprint is None:
        note.unlink(missing_ok=True)
        return
    fresh = note.with_suffix(".new")
    fresh.write_text(Known(fingerprint=fingerprint, source=source).to_json())
    fresh.replace(note)


def note_of(store: Path, uri: str) -> Path:
    """Where the last look at this address is kept."""
    return store / "sources" / f".look-{uri_hash(uri)}.json"
