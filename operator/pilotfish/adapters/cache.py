"""What the watches have delivered, and what we wrote since. In memory only; asks nobody.

Of two states of an object the one with the higher resourceVersion counts. So our own writes are seen before the watch
tells of them, and its echo changes nothing. Objects are kept as compressed JSON, a fifteenth of what they take as
dictionaries, without `managedFields`, which nobody reads.

It may be behind. Who takes away or overwrites something because of it must ask the API server first
(`controller.reconcile` does).
"""

import asyncio
import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any

from pilotfish.adapters.observe import Reading
from pilotfish.api.base import API_VERSION, KIND
from pilotfish.core.objects import label_of
from pilotfish.names import FIELD_MANAGER, MANAGED_BY, NAME_LABEL, stem
from pilotfish.ports import Body, ObjectRef

Kind = tuple[str, str]
"""(apiVersion, kind)."""
Place = tuple[Kind, str, str]
"""Kind, namespace, name."""
Owner = tuple[str, str]
"""Namespace and name of a ModelDeployment."""

OWN_KIND: Kind = (API_VERSION, KIND)
REMEMBERED_GONE = 20_000
"""Uids of objects that are gone, so that a late answer does not bring one back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What was known of a kind before it was listed; `namespace` None means all."""

    kind: Kind
    namespace: str | None
    versions: Mapping[Place, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    uid: str
    version: int
    owner: Owner | None
    packed: bytes


@dataclass(slots=True)
class _World:
    """What is known of one ModelDeployment. `stamp` changes whenever any of it does."""

    own: Place | None = None
    children: set[Place] = field(default_factory=set)
    stamp: int = 0


class Cache:
    """`touched` hears of every ModelDeployment of which something changed; of children only where it is known itself.

    scopes: every (kind, namespace) that somebody promised to list and watch; without any it keeps nothing.
    """

    def __init__(
        self, *, scopes: Iterable[tuple[Kind, str | None]], touched: Callable[[str, str], None] = lambda _n, _o: None
    ) -> None:
        self._touched = touched
        self._unlisted = set(scopes)
        self._is_followed = bool(self._unlisted)
        self._complete = asyncio.Event()
        self._unserved: set[Kind] = set()
        self._held: dict[Place, _Held] = {}
        self._worlds: dict[Owner, _World] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._stamps = 0

    # What a pass asks.

    async def completed(self) -> None:
        """Return once every scope was listed (ModelDeployments need not be: one is here or it is not)."""
        await self._complete.wait()

    def read(self, *, namespace: str, name: str) -> Reading | None:
        """The object and its children; None where the API server must be asked."""
        world = self._worlds.get((namespace, stem(name)))
        if world is None or world.own is None or self._unlisted:
            return None
        return Reading(
            body=self._body(world.own),
            objects=tuple(self._body(place) for place in sorted(world.children)),
            unserved=frozenset(kind for _, kind in self._unserved),
        )

    def stamp(self, *, namespace: str, name: str) -> int:
        """Another number after each change of the object or a child; 0 for an unknown one."""
        world = self._worlds.get((namespace, stem(name)))
        return 0 if world is None else world.stamp

    # What streams and lists tell.

    def heard(self, body: Body) -> bool:
        """A watch says that the object is so. Whether that was new."""
        self._gone.pop(body["metadata"]["uid"], None)
        return self._put(body)

    def heard_gone(self, body: Body) -> bool:
        """A watch says that the object is gone, or no longer ours to see. Whether that was new."""
        self._forget(body["metadata"]["uid"])
        place = _place(body)
        held = self._held.get(place)
        if held is None or held.uid != body["metadata"]["uid"]:
            return False
        self._drop(place)
        return True

    def mark(self, kind: Kind, namespace: str | None) -> Mark:
        """Take one before a kind is listed, and give it back with the list."""
        versions = {
            place: held.version
            for place, held in self._held.items()
            if place[0] == kind and namespace in {None, place[1]}
        }
        return Mark(kind=kind, namespace=namespace, versions=versions)

    def listed(self, mark: Mark, bodies: Iterable[Body]) -> None:
        """A complete list that was asked for after `mark`: what it lacks is gone, unless it has changed since."""
        found = set()
        for body in bodies:
            found.add(_place(body))
            self.heard(body)
        for place, version in mark.versions.items():
            held = self._held.get(place)
            if place not in found and held is not None and held.version == version:
                self._forget(held.uid)
                self._drop(place)
        self._unserved.discard(mark.kind)
        self._settle(mark.kind, mark.namespace)

    def not_served(self, kind: Kind, namespace: str | None) -> None:
        """Nobody installed this kind."""
        self._unserved.add(kind)
        self._settle(kind, namespace)

    def _settle(self, kind: Kind, namespace: str | None) -> None:
        self._unlisted.discard((kind, namespace))
        if not self._unlisted:
            self._complete.set()

    # What we know from our own requests.

    def learned(self, body: Body) -> None:
        """The API server answered with this object: it is at least as new as that."""
        is_watched = body["kind"] == KIND or label_of(body, MANAGED_BY) == FIELD_MANAGER
        if is_watched and body["metadata"]["uid"] not in self._gone:
            self._put(body)

    def going(self, ref: ObjectRef) -> None:
        """A delete was accepted: until the watch tells more, the object counts as on its way out."""
        place = ((ref.api_version, ref.kind), ref.namespace, ref.name)
        held = self._held.get(place)
        if held is None or held.uid != ref.uid:
            return
        body = _unpack(held.packed)
        body["metadata"].setdefault("deletionTimestamp", "1970-01-01T00:00:00Z")
        self._held[place] = replace(held, packed=_pack(body))
        self._change(held.owner)

    def uid(self, *, namespace: str, name: str) -> str | None:
        """Of the object as known; None for an unknown one."""
        world = self._worlds.get((namespace, stem(name)))
        return None if world is None or world.own is None else self._held[world.own].uid

    def knows_newer(self, body: Body) -> bool:
        """Whether a later state of this object was told before: whoever answered with this one is behind."""
        held = self._held.get(_place(body))
        metadata = body["metadata"]
        return held is not None and held.uid == metadata["uid"] and held.version > int(metadata["resourceVersion"])

    def absent(self, *, namespace: str, name: str, uid: str | None) -> None:
        """The API server has no object of that name; what is known of the one with this uid is out of date."""
        world = self._worlds.get((namespace, stem(name)))
        if uid is not None and world is not None and world.own is not None and self._held[world.own].uid == uid:
            self._forget(uid)
            self._drop(world.own)

    def _put(self, body: Body) -> bool:
        if not self._is_followed:
            return False
        place, metadata = _place(body), body["metadata"]
        held = self._held.get(place)
        version = int(metadata["resourceVersion"])
        if held is not None and version <= held.version:
            return False
        if held is not None and held.uid != metadata["uid"]:
            self._forget(held.uid)
        owner = _owner(body)
        if held is not None and held.owner != owner:
            self._drop(place)
        slim = {**body, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
        self._held[place] = _Held(uid=metadata["uid"], version=version, owner=owner, packed=_pack(slim))
        if owner is not None:
            world = self._worlds.setdefault(owner, _World())
            if place[0] == OWN_KIND:
                world.own = place
            else:
                world.children.add(place)
        self._change(owner)
        return True

    def _drop(self, place: Place) -> None:
        owner = self._held.pop(place).owner
        world = None if owner is None else self._worlds.get(owner)
        if owner is None or world is None:
            return
        self._change(owner)
        if world.own == place:
            world.own = None
        world.children.discard(place)
        if world.own is None and not world.children:
            del self._worlds[owner]

    def _change(self, owner: Owner | None) -> None:
        world = None if owner is None else self._worlds.get(owner)
        if owner is None or world is None:
            return
        self._stamps += 1
        world.stamp = self._stamps
        if world.own is not None:
            self._touched(*owner)

    def _forget(self, uid: str) -> None:
        self._gone[uid] = None
        self._gone.move_to_end(uid)
        if len(self._gone) > REMEMBERED_GONE:
            self._gone.popitem(last=False)

    def _body(self, place: Place) -> dict[str, Any]:
        return _unpack(self._held[place].packed)


def _pack(body: Body) -> bytes:
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)


def _unpack(packed: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(zlib.decompress(packed))
    return body


def _place(body: Body) -> Place:
    metadata = body["metadata"]
    kind = (intern(body["apiVersion"]), intern(body["kind"]))
    return kind, intern(metadata.get("namespace", "")), metadata["name"]


def _owner(body: Body) -> Owner | None:
    """Whose world it belongs to."""
    metadata = body["metadata"]
    name = stem(metadata["name"]) if body["kind"] == KIND else label_of(body, NAME_LABEL)
    return None if name is None else (metadata.get("namespace", ""), name)
