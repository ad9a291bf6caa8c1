"""What names an artifact in a store that many share: all that decides what its bytes are, and nothing else. Pure.

Not part of it: where bytes lie, which Secret opens them and who signed them; the names of the object and its revision;
deadlines.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pilotfish.api.job_input import JobInput

STORE_VERSION = 1
"""Part of every key: artifacts of another layout are not found."""
_LENGTH = 40
_WHERE = {"uri": True, "digest": True, "credentials": True, "refresh": True, "verification": True}


def artifact_key(job: JobInput, digests: Mapping[str, str]) -> str:
    """40 hexadecimal digits. `digests` are those of all that was fetched, by what it is for: source, samples, ….

    Two namespaces share an artifact only when the bytes are the same: the digest that was found counts, not the uri.
    """
    recipe: dict[str, Any] = {
        "store": STORE_VERSION,
        "inputs": dict(digests),
        "model": _said(job.model, exclude={**_WHERE, "samples": {"uri", "secret_name"}}),
        "optimization": _without_places(_said(job.optimization, exclude={"deadline": True})),
        "serving": _said(job.serving, exclude={"tuning": {"address", "folder"}}),
    }
    if job.bucket is not None and job.bucket.recipient is not None:
        recipe["encryption"] = job.bucket.recipient
    canonical = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_LENGTH]


def _without_places(said: Any) -> Any:
    """Data to train on and teachers count by their bytes too."""
    if not isinstance(said, dict):
        return said
    return {name: _without_places(value) for name, value in said.items() if name not in {"uri", "secretName"}}


def _said(block: Any, *, exclude: Any = None) -> dict[str, Any]:
    """As written, without what stands at its default: a field that is added later changes no key."""
    said: dict[str, Any] = block.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, exclude_none=True, exclude=exclude
    )
    return said
