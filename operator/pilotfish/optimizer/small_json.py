"""JSON beside a model, from a stranger: small, and not deeper than a description is."""

import json
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 1024**2


def read_json(path: Path) -> Any:
    """What the file says. Raises ValueError when it is no JSON, too large or too deep."""
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES // 1024**2} MiB")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("too many levels") from error
