"""A Kubernetes API server in memory: what the operator relies on of one, and nothing else.

Server-side apply with one remembered set of fields per manager, uid and resourceVersion preconditions, generations, the
status subresource, fields that may not change, and garbage collection by owner. It passes the same suite as the real one
(tests/adapters). `effects` lists every write that changed something; `fault` may stop a writer before or after one.
"""

import itertools
import pickle
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from pilotfish.core.objects import Body, ObjectRef
from pilotfish.ports import Conflict, Invalid, NotFound

OPERATOR = "pilotfish"
_MERGE_KEYS = ("mountPath", "containerPort", "uid", "topologyKey", "name", "port", "type")
_WITH_GENERATION = {
    "ModelDeployment",
    "Deployment",
    "Job",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "HTTPRoute",
    "GRPCRoute",
}
_FIXED = {
    "ControllerRevision": ("data",),
    "PersistentVolumeClaim": ("spec",),
    "Job": ("spec",),
}

Key = tuple[str, str, str]
Fault = Callable[[str, "Effect"], None]


@dataclass(frozen=True, slots=True)
class Effect:
    """One write that changed something."""

    verb: str
    kind: str
    name: str


@dataclass(slots=True)
class FakeCluster:
    """The fake. `now` stamps objects; `fault("before"|"after", effect)` may raise to play a crash of the writer."""

    now: Callable[[], datetime] = field(default=lambda: datetime.now(tz=UTC))
    fault: Fault | None = None
    effects: list[Effect] = field(default_factory=list)
    changes: int = 0
    """How often anything was stored or removed, by whomever."""
    watcher: Callable[[str, Body], None] | None = None
    """Hears `ADDED`, `MODIFIED` or `DELETED` with the object of every change, by whomever."""
    _objects: dict[Key, dict[str, Any]] = field(default_factory=dict)
    _applied: dict[tuple[Key, str], dict[str, Any]] = field(default_factory=dict)
    _versions: Any = field(default_factory=lambda: itertools.count(2))
    _uids: Any = field(default_factory=lambda: itertools.count(1))

    # ports.Cluster

    async def get(self, ref: ObjectRef) -> Body | None:
        return _copy(self.look(ref.kind, ref.name, ref.namespace))

    async def list(
        self, *, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]
    ) -> tuple[Body, ...]:
        return _copy(self.find(kind, labels, namespace))

    async def apply(self, body: Body) -> Body:
        return self.apply_now(body)

    async def patch(self, ref: ObjectRef, patch: Mapping[str, Any], *, manager: str) -> Body:
        return self.patch_now(ref, patch)

    async def delete(self, ref: ObjectRef) -> None:
        self.delete_now(ref)

    async def write_status(self, body: Body) -> Body:
        return self.write_status_now(body)

    async def emit(self, event: Body) -> None:
        self.emit_now(event)

    # The same without waiting, and what only tests and neighbours may do.

    def look(self, kind: str, name: str, namespace: str = "team") -> dict[str, Any] | None:
        """One object as stored, to read only: stored objects are replaced, never changed in place."""
        return self._objects.get((kind, namespace, name))

    def find(
        self, kind: str, labels: Mapping[str, str] | None = None, namespace: str | None = None
    ) -> tuple[dict[str, Any], ...]:
        """All objects of a kind with these labels as stored, by namespace and name; to read only."""
        keys = sorted(key for key in self._objects if key[0] == kind and namespace in {None, key[1]})
        return tuple(self._objects[key] for key in keys if _matches(self._objects[key], labels or {}))

    def everything(self) -> tuple[dict[str, Any], ...]:
        """All objects as stored; to read only."""
        return tuple(self._objects[key] for key in sorted(self._objects))

    def apply_now(self, body: Body, *, manager: str = OPERATOR) -> dict[str, Any]:
        """Server-side apply, forced."""
        wanted = _copy(dict(body))
        wanted.pop("status", None)
        uid = wanted["metadata"].pop("uid", None)
        version = wanted["metadata"].get("resourceVersion")
        for server_field in ("resourceVersion", "generation", "creationTimestamp", "managedFields"):
            wanted["metadata"].pop(server_field, None)
        key = _key(wanted)
        found = self._objects.get(key)
        if uid is not None and (found is None or found["metadata"]["uid"] != uid):
            raise Conflict(f"{key[0]} {key[2]} is not the object with uid {uid}")
        if version is not None and found is not None and version != found["metadata"]["resourceVersion"]:
            raise Conflict(f"{key[0]} {key[2]} is not at version {version}")
        before = self._applied.get((key, manager), {})
        merged = _merge(_without(_copy(found) if found is not None else {}, before, wanted), wanted)
        if found is not None:
            _check_fixed(found, merged)
        if merged == found:
            assert found is not None
            return _copy(found)
        self._write("apply", key, merged)
        self._applied[(key, manager)] = wanted
        self._after("apply", key)
        return _copy(self._objects[key])

    def delete_now(self, ref: ObjectRef) -> None:
        """Delete with everything that it owns; a missing object is fine."""
        key = (ref.kind, ref.namespace, ref.name)
        found = self._objects.get(key)
        if found is None:
            return
        if ref.uid is not None and found["metadata"]["uid"] != ref.uid:
            raise Conflict(f"{ref.kind} {ref.name} has another uid than {ref.uid}")
        self._before("delete", key)
        self._remove(key)
        self._after("delete", key)

    def write_status_now(self, body: Body) -> dict[str, Any]:
        """Replace a status; the resourceVersion, if named, must be the present one."""
        key = _key(body)
        found = self._objects.get(key)
        if found is None:
            raise NotFound(f"{key[0]} {key[2]} not found")
        version = body["metadata"].get("resourceVersion")
        if version is not None and version != found["metadata"]["resourceVersion"]:
            raise Conflict(f"{key[0]} {key[2]} was changed since version {version}")
        changed = {**_copy(found), "status": _copy(dict(body["status"]))}
        if changed == found:
            return _copy(found)
        self._before("status", key)
        changed["metadata"]["resourceVersion"] = self._version()
        self.changes += 1
        self._objects[key] = changed
        self._tell("MODIFIED", changed)
        self._after("status", key)
        return _copy(changed)

    def emit_now(self, event: Body) -> None:
        """Create an Event, or count the one of that name."""
        key = _key(event)
        found = self._objects.get(key)
        body = _copy(dict(event))
        if found is not None:
            count = found.get("series", {}).get("count", 1) + 1
            body["series"] = {"count": count, "lastObservedTime": event["eventTime"]}
        self._write("event", key, body)
        self._after("event", key)

    def create_now(self, body: Body) -> dict[str, Any]:
        """Create an object as somebody else, status included; not an effect of the operator."""
        key = _key(body)
        if key in self._objects:
            raise Conflict(f"{key[0]} {key[2]} exists")
        self._store(key, _copy(dict(body)))
        return self._objects[key]

    def change_now(
        self, kind: str, name: str, change: Callable[[dict[str, Any]], None], *, namespace: str = "team"
    ) -> dict[str, Any]:
        """Change an object in place as somebody else, status included; a changed spec raises the generation."""
        key = (kind, namespace, name)
        found = self._objects[key]
        body = _copy(found)
        change(body)
        if body != found:
            self._store(key, body)
        return self._objects[key]

    def patch_now(self, ref: ObjectRef, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a person's patch into an object; null removes a field."""
        if (ref.kind, ref.namespace, ref.name) not in self._objects:
            raise NotFound(f"{ref.kind} {ref.name} not found")
        changed = self.change_now(
            ref.kind, ref.name, lambda body: body.update(_patched(body, patch)), namespace=ref.namespace
        )
        return _copy(changed)

    def remove_now(self, kind: str, name: str, *, namespace: str = "team") -> None:
        """Delete an object as somebody else."""
        self._remove((kind, namespace, name))

    def _write(self, verb: str, key: Key, body: dict[str, Any]) -> None:
        self._before(verb, key)
        self._store(key, body)

    def _store(self, key: Key, body: dict[str, Any]) -> None:
        found = self._objects.get(key)
        meta = body["metadata"]
        if found is None:
            number = next(self._uids)
            meta.setdefault("uid", str(uuid.UUID(int=number)))
            meta.setdefault("creationTimestamp", self.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
            if body["kind"] in _WITH_GENERATION:
                meta["generation"] = 1
        elif "generation" in found["metadata"] and body.get("spec") != found.get("spec"):
            meta["generation"] = found["metadata"]["generation"] + 1
        meta["resourceVersion"] = self._version()
        self.changes += 1
        self._objects[key] = body
        self._tell("ADDED" if found is None else "MODIFIED", body)

    def _remove(self, key: Key) -> None:
        gone = self._objects.pop(key, None)
        if gone is None:
            return
        self.changes += 1
        self._tell("DELETED", gone)
        for entry in [entry for entry in self._applied if entry[0] == key]:
            del self._applied[entry]
        uid = gone["metadata"]["uid"]
        for child, body in list(self._objects.items()):
            if any(owner.get("uid") == uid for owner in body["metadata"].get("ownerReferences", ())):
                self._remove(child)

    def _tell(self, what: str, body: Body) -> None:
        if self.watcher is not None:
            self.watcher(what, body)

    def _version(self) -> str:
        return str(next(self._versions))

    def _before(self, verb: str, key: Key) -> None:
        if self.fault is not None:
            self.fault("before", Effect(verb, key[0], key[2]))

    def _after(self, verb: str, key: Key) -> None:
        effect = Effect(verb, key[0], key[2])
        self.effects.append(effect)
        if self.fault is not None:
            self.fault("after", effect)


T = TypeVar("T")


def _copy(value: T) -> T:
    """A deep copy; of plain data pickle makes one several times as fast as copy.deepcopy."""
    made: T = pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    return made


def _key(body: Mapping[str, Any]) -> Key:
    return (body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"])


def _matches(body: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    own = body["metadata"].get("labels", {})
    return all(own.get(key) == value for key, value in labels.items())


def _check_fixed(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    kind = found["kind"]
    fixed = list(_FIXED.get(kind, ()))
    if kind == "ConfigMap" and found.get("immutable"):
        fixed.append("data")
    for name in fixed:
        if found.get(name) != wanted.get(name):
            raise Invalid(f"{kind} {found['metadata']['name']}: field {name} is immutable")
    if kind == "Deployment" and found["spec"].get("selector") != wanted["spec"].get("selector"):
        raise Invalid(f"Deployment {found['metadata']['name']}: spec.selector is immutable")


def _merge_key(items: list[Any]) -> str | None:
    return next((k for k in _MERGE_KEYS if items and all(isinstance(i, Mapping) and k in i for i in items)), None)


def _merge(base: Any, wanted: Any) -> Any:
    """`wanted` laid over `base`: maps by key, associative lists by their merge key, the rest replaced."""
    if isinstance(base, dict) and isinstance(wanted, dict):
        return {**base, **{key: _merge(base.get(key), value) for key, value in wanted.items()}}
    if isinstance(base, list) and isinstance(wanted, list):
        key = _merge_key(wanted)
        if key is not None and key == _merge_key(base):
            named = {item[key]: item for item in base}
            mine = [_merge(named.pop(item[key], None), item) for item in wanted]
            return [*mine, *named.values()]
    return _copy(wanted)


def _patched(base: Any, patch: Any) -> Any:
    """A JSON merge patch."""
    if not isinstance(patch, Mapping):
        return _copy(patch)
    old = base if isinstance(base, dict) else {}
    merged = {**old, **{key: _patched(old.get(key), value) for key, value in patch.items() if value is not None}}
    return {key: value for key, value in merged.items() if key not in patch or patch[key] is not None}


def _without(base: Any, before: Any, wanted: Any) -> Any:
    """`base` without what the manager applied before and does not apply any more."""
    if isinstance(base, dict) and isinstance(before, dict) and isinstance(wanted, dict):
        kept = {key: value for key, value in base.items() if key not in before or key in wanted}
        return {key: _without(value, before.get(key), wanted.get(key)) for key, value in kept.items()}
    if isinstance(base, list) and isinstance(before, list) and isinstance(wanted, list):
        key = _merge_key(before)
        if key is not None and key == _merge_key(base):
            now, then = {item.get(key) for item in wanted}, {item[key] for item in before}
            return [item for item in base if item[key] not in then or item[key] in now]
    return base
