"""What a request to the API server is about, read from its path, and the trace of those that came by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish.adapters.kinds import PLURALS
from support.faults.plan import Fault, On

KINDS = {plural: kind for (_, kind), plural in PLURALS.items()}
_READS = {"GET", "HEAD"}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """A request: `kind` is the plural where the operator has no word for it, `name` is empty for a collection."""

    verb: str
    kind: str
    namespace: str
    name: str
    subresource: str
    watch: bool

    @property
    def on(self) -> tuple[On, ...]:
        """What faults may call it."""
        if self.watch:
            return (On.WATCH, On.ANY)
        if self.verb not in _READS:
            return (On.WRITE, On.ANY)
        return (On.READ, On.ANY) if self.name else (On.READ, On.LIST, On.ANY)


def read_about(verb: str, path: str, query: Mapping[str, str]) -> About:
    """From a path such as /apis/apps/v1/namespaces/team/deployments/x/status."""
    parts = path.strip("/").split("/")
    rest = parts[3:] if parts[0] == "apis" else parts[2:]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    rest += [""] * (3 - len(rest))
    return About(
        verb=verb,
        kind=KINDS.get(rest[0], rest[0]),
        namespace=namespace,
        name=rest[1],
        subresource=rest[2],
        watch=query.get("watch") in {"true", "1"},
    )


@dataclass(slots=True)
class Exchange:
    """One request and what became of it. `code` is what the API server answered, 0 when it was never asked."""

    about: About
    query: Mapping[str, str]
    at: float
    """time.monotonic() when it came."""
    code: int = 0
    told: int = 0
    """What the operator was answered; 0: nothing."""
    fault: Fault | None = None
    stored: dict[str, Any] | None = None
    """After a write: the object as the API server stored it."""

    @property
    def is_write(self) -> bool:
        """Whether it wants to change something; renewing the Lease does not count."""
        return On.WRITE in self.about.on and self.about.kind != "Lease"

    @property
    def created(self) -> bool:
        """Whether an object came to be by it."""
        return self.is_write and self.code == 201

    @property
    def deleted(self) -> bool:
        """Whether an object went by it."""
        return self.about.verb == "DELETE" and self.code in {200, 202}


@dataclass(slots=True)
class Delivered:
    """One event of a stream, as the API server sent it."""

    type: str
    kind: str
    name: str
    at: float
    fault: Fault | None = None


@dataclass(slots=True)
class Trace:
    """All that came by, over all lives of an operator."""

    exchanges: list[Exchange] = field(default_factory=list)
    events: list[Delivered] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    """Resource versions that were seen, each once, ascending."""

    def saw(self, version: object) -> None:
        """Note a resource version."""
        number = int(str(version or 0))
        if number and (not self.versions or number > self.versions[-1]):
            self.versions.append(number)

    @property
    def writes(self) -> list[Exchange]:
        """Requests that write, the Lease's left out."""
        return [exchange for exchange in self.exchanges if exchange.is_write]
