"""All revisions of a ModelDeployment with their roles and how they ended. Pure: rows, and rows as text."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilotfish import names
from pilotfish.cli.words import age_of
from pilotfish.core import Body, Observed
from pilotfish.core.objects import annotation_of, label_of
from pilotfish.core.scope import FAILED

_CHANGES = 3
_TITLES = ("REVISION", "NUMBER", "ROLE", "VARIANT", "SOURCE", "RESULT", "REASON", "WHEN", "CAUSE")
_DIGEST_LENGTH = len("sha256:") + 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One revision. `number` is that of its ControllerRevision, None while or where there is none."""

    revision: str
    role: str
    number: int | None = None
    variant: str | None = None
    source_digest: str | None = None
    result: str | None = None
    reason: str | None = None
    message: str | None = None
    cause: str | None = None
    at: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """camelCase, without what is not known."""
        wire = {
            "revision": self.revision,
            "number": self.number,
            "role": self.role,
            "variant": self.variant,
            "sourceDigest": self.source_digest,
            "result": self.result,
            "reason": self.reason,
            "message": self.message,
            "cause": self.cause,
            "at": self.at,
        }
        return {key: value for key, value in wire.items() if value is not None}


def make_history(observed: Observed) -> tuple[Row, ...]:
    """All revisions, newest first; one without a record stands where its time puts it."""
    status: Mapping[str, Any] = observed.body.get("status") or {}
    records = sorted(observed.of_kind("ControllerRevision"), key=_number)
    by_hash = {label_of(body, names.REVISION_LABEL) or "": body for body in records}
    before = dict(zip(by_hash, [None, *by_hash.values()], strict=False))
    ends: dict[str, Mapping[str, Any]] = {entry["revision"]: entry for entry in status.get("history") or ()}
    roles = {
        str(status[field]["hash"]): (role, status[field])
        for role, field in (("stable", "stableRevision"), ("candidate", "candidateRevision"))
        if status.get(field)
    }
    hashes = dict.fromkeys((*by_hash, *roles, *ends))
    rows = [_row(h, by_hash.get(h), before.get(h), roles.get(h), ends.get(h)) for h in hashes]
    return tuple(sorted(rows, key=lambda row: (row.at or "", row.number or 0), reverse=True))


def as_table(rows: Sequence[Row], now: datetime) -> str:
    """One line for each revision, in columns."""
    cells = [_TITLES, *(tuple(_cells(row, now)) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_TITLES))]
    lines = ("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _row(
    revision: str,
    record: Body | None,
    before: Body | None,
    role: tuple[str, Mapping[str, Any]] | None,
    end: Mapping[str, Any] | None,
) -> Row:
    data: Mapping[str, Any] = (record or {}).get("data") or {}
    word, known = role or ("kept" if record else "gone", {})
    artifact = data.get("artifact") or known.get("artifact") or {}
    created = record["metadata"].get("creationTimestamp") if record else None
    # An ending that is on record belongs to an earlier time in which the revision served.
    end = None if word == "stable" else end
    return Row(
        revision=revision,
        number=_number(record) if record else None,
        role=word,
        variant=artifact.get("variant"),
        source_digest=(data.get("source") or {}).get("digest") or known.get("sourceDigest"),
        result=_result(word, end),
        reason=(end or {}).get("reason"),
        message=(end or {}).get("message"),
        cause=_cause(record, before),
        at=(end or {}).get("at") or known.get("since") or created,
    )


def _result(role: str, end: Mapping[str, Any] | None) -> str | None:
    if role == "stable":
        return "Stable"
    if role == "candidate" and (end is None or end["result"] != FAILED):
        return "OnItsWay"
    return None if end is None else str(end["result"])


def _cause(record: Body | None, before: Body | None) -> str | None:
    """What the author said; else what differs from the revision made before."""
    if record is None:
        return None
    if said := annotation_of(record, names.CHANGE_CAUSE):
        return said
    if before is None:
        return None
    old, new = (dict(_flat(body.get("data", {}).get("intent") or {})) for body in (before, record))
    changes = [
        f"{path}: {old.get(path, 'default')} → {new.get(path, 'default')}"
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]
    more = [f"{len(changes) - _CHANGES} more"] if len(changes) > _CHANGES else []
    return "; ".join((*changes[:_CHANGES], *more)) or None


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, child in value.items():
            yield from _flat(child, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        yield path, f"[{', '.join(map(str, value))}]"
    else:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def _cells(row: Row, now: datetime) -> Iterable[str]:
    yield row.revision
    yield "-" if row.number is None else str(row.number)
    yield row.role
    yield row.variant or "-"
    yield (row.source_digest or "-")[:_DIGEST_LENGTH]
    yield row.result or "-"
    yield row.reason or "-"
    yield f"{age_of(row.at, now)} ago" if row.at else "-"
    yield row.cause or "-"


def _number(record: Body) -> int:
    return int(record.get("revision", 0))
