"""What the API server's answers mean: a body, or the error of its class. Asks nothing itself."""

import json
import math
from collections.abc import Mapping
from typing import Any

from pilotfish.ports import ClusterError, Conflict, Forbidden, Invalid, NotFound

MESSAGE_LIMIT = 500
_ERRORS: Mapping[int, type[ClusterError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    405: Invalid,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


class Gone(ClusterError):
    """A continue token or the version to watch from is too old."""


def read_answer(status: int, text: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """The body of a good answer; a bad one raises by its class."""
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    if status < 300:  # noqa: PLR2004 - the boundary of success in HTTP
        return body
    message = " ".join(str(body.get("message") or f"HTTP {status} from the API server").split())[:MESSAGE_LIMIT]
    if status == 410:  # noqa: PLR2004 - Gone
        raise Gone(message)
    if status == 422 and _has_cause(body, field="metadata.uid"):  # noqa: PLR2004 - Unprocessable Entity
        # An apply met an object with another uid: the server calls that an invalid change of metadata.uid.
        raise Conflict(message)
    if status == 403 and _has_cause(body, reason="NamespaceTerminating"):  # noqa: PLR2004 - Forbidden
        raise NotFound(message)
    raise _ERRORS.get(status, ClusterError)(message, retry_after=_retry_after(body, headers))


def _has_cause(body: Mapping[str, Any], **wanted: str) -> bool:
    causes = (body.get("details") or {}).get("causes") or ()
    return any(cause.get(key) == value for cause in causes for key, value in wanted.items())


def _retry_after(body: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    asked = headers.get("Retry-After") or (body.get("details") or {}).get("retryAfterSeconds")
    try:
        seconds = float(asked) if asked is not None else None
    except (TypeError, ValueError):
        return None
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None
