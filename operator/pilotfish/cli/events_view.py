"""Events of a ModelDeployment and of all that it made, in time. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pilotfish import names
from pilotfish.api.base import KIND
from pilotfish.cli.output import as_columns
from pilotfish.cli.words import age_of
from pilotfish.core import Body, Observed
from pilotfish.core.objects import label_of, name_of

_TITLES = ("LAST", "TYPE", "REASON", "OBJECT", "COUNT", "MESSAGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event. `at`: when it was seen last, as the API server writes it; `count`: how often."""

    at: str
    type: str
    reason: str
    object: str
    count: int
    message: str

    def to_wire(self) -> dict[str, Any]:
        """For JSON and YAML."""
        return {key: getattr(self, key) for key in self.__slots__}


def make_events(observed: Observed, events: Iterable[Body]) -> tuple[Told, ...]:
    """Those of the object, its children and their pods, the oldest first; of what is gone by the name it had."""
    about = _Family.of(observed)
    told = (_told(event) for event in events if about.has(event.get("regarding") or {}))
    return tuple(sorted(told, key=lambda event: (_moment(event.at), event.object, event.reason)))


def as_table(events: Sequence[Told], now: datetime) -> str:
    """One line for each."""
    return as_columns(_TITLES, [_cells(event, now) for event in events])


def _cells(event: Told, now: datetime) -> tuple[str, ...]:
    last = f"{age_of(event.at, now)} ago" if event.at else "-"
    return last, event.type, event.reason, event.object, str(event.count), event.message.partition("\n")[0]


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    uids: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, observed: Observed) -> "_Family":
        everything = (observed.body, *observed.children, *observed.pods)
        revisions = {label_of(child, names.REVISION_LABEL) for child in observed.children}
        status: Mapping[str, Any] = observed.body.get("status") or {}
        revisions |= {entry.get("revision") for entry in status.get("history") or ()}
        prefixes = {names.revision_name(observed.name, revision) for revision in revisions if revision}
        prefixes |= {names.refresh_job(observed.name), *(name_of(child) for child in observed.children)}
        return cls(
            name=observed.name,
            uids=frozenset(str(body["metadata"]["uid"]) for body in everything if body["metadata"].get("uid")),
            prefixes=tuple(sorted(prefixes - {observed.name})),
        )

    def has(self, regarding: Mapping[str, Any]) -> bool:
        name = str(regarding.get("name", ""))
        if regarding.get("kind") == KIND:
            return name == self.name
        return regarding.get("uid") in self.uids or any(name == p or name.startswith(f"{p}-") for p in self.prefixes)


def _told(event: Body) -> Told:
    series: Mapping[str, Any] = event.get("series") or {}
    regarding: Mapping[str, Any] = event.get("regarding") or {}
    moments = (
        series.get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )
    return Told(
        at=str(next((moment for moment in moments if moment), "")),
        type=str(event.get("type") or "Normal"),
        reason=str(event.get("reason") or "-"),
        object=f"{regarding.get('kind', '?')}/{regarding.get('name', '?')}",
        count=int(series.get("count") or event.get("deprecatedCount") or 1),
        message=str(event.get("note") or ""),
    )


def _moment(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() if at else 0.0
