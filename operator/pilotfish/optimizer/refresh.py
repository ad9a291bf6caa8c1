"""Look whether other bytes lie at an address than before. Reads the listing, and the bytes only when it differs.

Opens sources as `fetch` does and parses nothing. A look that is stopped halfway goes on where it was the next time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pilotfish.api.report import Look, SourceRecord
from pilotfish.optimizer.fetch import Limits, fetch
from pilotfish.optimizer.looks import fingerprint_of, read_known
from pilotfish.optimizer.progress import Progress
from pilotfish.optimizer.remotes import Remote


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The bytes at an address, and whether they are others than before."""

    source: SourceRecord
    look: Look


def look(
    connect: Callable[[], Remote],
    *,
    uri: str,
    store: Path,
    limits: Limits,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> Found:
    """What lies at `uri` now; other bytes than at the look before are in the store afterwards.

    Raises:
        OptimizerError: what `fetch` raises.
    """
    known = read_known(store, uri)
    remote = connect()
    fingerprint = fingerprint_of(remote.listing())
    if known is not None and known.fingerprint == fingerprint:
        return Found(source=known.source, look=Look(changed=False, fingerprint=fingerprint))
    # Not in the folder of a half-finished fetch: an optimization Job may start while this one is being stopped.
    fetched = fetch(
        lambda: remote,
        uri=uri,
        store=store,
        digest=None,
        limits=limits,
        progress=progress,
        sleep=sleep,
        scratch="look",
    )
    changed = known is None or known.source.digest != fetched.record.digest
    return Found(source=fetched.record, look=Look(changed=changed, fingerprint=fingerprint))
