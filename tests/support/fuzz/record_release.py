"""Record what a release leaves in a cluster, for the tests of upgrades to come: objects at rest and in the middle of things.

Run it as a program with the code of that release on the path, and without anything else of this folder:

    git archive RELEASE operator tests/support | tar -x -C FOLDER
    PYTHONPATH=FOLDER/operator:FOLDER/tests python tests/support/fuzz/record_release.py tests/faults/recorded/RELEASE.json.xz

It writes no more than the release's own small world holds. What it wrote is never written anew: it is what users have.
"""

import json
import lzma
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pilotfish.api.crd import make_crd
from support.builders import make_model_deployment
from support.neighbours import UNLOADABLE, WRONG, Surroundings
from support.specs import make_wanted, uri
from support.valid_objects import VALID
from support.world import World

Story = Callable[[World], None]
CANARY = {
    "strategy": "Canary",
    "steps": [{"weight": 20, "hold": "1m"}, {"weight": 60, "hold": "Forever"}],
    "bake": "5m",
}
STEPS = 17
"""After so many steps of the update, each in its turn, one more picture is taken."""


def record(path: Path) -> None:
    """Write everything to a file."""
    found = [picture for picture in _pictures() if picture["objects"]]
    text = json.dumps(found, sort_keys=True, default=str)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    sys.stdout.write(f"{len(found)} objects, {path.stat().st_size} bytes\n")


def _pictures() -> Iterator[dict[str, Any]]:
    for what, changes in VALID:
        spec = _changed(changes)
        if "gateway" in spec.get("serving", {}):
            continue  # Its world has a gateway; the pods are made by the same code.
        yield _taken(what, spec, lambda world: world.go_on(timedelta(minutes=5)))
    for what, (spec, story) in _stories().items():
        yield _taken(what, spec, story)


def _stories() -> dict[str, tuple[dict[str, Any], Story]]:
    plain = make_wanted("v1", replicas=2)
    canary = {**plain, "rollout": CANARY}
    stories: dict[str, tuple[dict[str, Any], Story]] = {
        "three revisions": (plain, lambda w: _served(w, "v2", "v3")),
        "there and back": (plain, lambda w: _served(w, "v2", "v1")),
        "an update that cannot be loaded": (plain, lambda w: _served(w, "odd")),
        "an update that answers wrongly": (plain, lambda w: _served(w, "wrong")),
        "an update that is not there": (plain, lambda w: _served(w, "missing")),
        "a canary that waits": (canary, _waiting),
        "a canary that was aborted": (canary, lambda w: _waiting(w, lambda: w.act("abort"))),
        "a canary that bakes": (canary, lambda w: _waiting(w, lambda: w.act("promote"))),
        "paused": (plain, _paused),
        "paused in the middle": (canary, lambda w: _waiting(w, w.pause)),
        "a first one without a place": ({**plain, "serving": {**plain["serving"], "gpus": {"count": 9}}}, _passes),
    }
    for count in range(1, STEPS + 1):
        stories[f"an update, {count} steps in"] = (plain, _after(count))
        stories[f"a canary, {count} steps in"] = (canary, _after(count))
    return stories


def _after(count: int) -> Story:
    def story(world: World) -> None:
        world.settle()
        world.submit({**world.body["spec"], "model": {**world.body["spec"]["model"], "uri": uri("v2")}})
        for _ in range(count):
            world.step_all()

    return story


def _served(world: World, *versions: str) -> None:
    world.settle()
    for version in versions:
        world.submit({**world.body["spec"], "model": {**world.body["spec"]["model"], "uri": uri(version)}})
        world.settle()


def _paused(world: World) -> None:
    world.settle()
    world.pause()
    world.settle()


def _waiting(world: World, then: Callable[[], None] | None = None) -> None:
    """A canary that holds for ever, measured again and again; and a little after what somebody does then."""
    world.settle()
    world.submit({**world.body["spec"], "model": {**world.body["spec"]["model"], "uri": uri("v2")}})
    world.go_on(timedelta(minutes=4))
    if then is not None:
        then()
        world.go_on(timedelta(minutes=1))


def _passes(world: World) -> None:
    world.go_on(timedelta(minutes=20))


def _taken(what: str, spec: dict[str, Any], story: Story) -> dict[str, Any]:
    models = {uri("odd"): UNLOADABLE, uri("wrong"): WRONG, uri("missing"): "SourceNotFound"}
    world = World(around=Surroundings(models=models))
    world.traffic.rate = 20.0
    world.cluster.create_now(make_model_deployment(_stored(spec)))
    story(world)
    cluster = world.cluster
    return {
        "what": what,
        "moment": world.moment.isoformat(),
        "objects": [body for body in cluster.everything() if body["kind"] != "Event"],
        "applied": [
            [*key, manager, body] for (key, manager), body in sorted(cluster._applied.items()) if key[0] != "Event"
        ],
    }


def _changed(changes: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {"model": {"uri": "s3://models/digits/v1/"}, "serving": {"gpus": {"count": 1}}}
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return spec


def _stored(spec: dict[str, Any]) -> dict[str, Any]:
    """With the defaults of that release's CRD."""
    (version,) = make_crd()["spec"]["versions"]
    made: dict[str, Any] = _with_defaults(version["schema"]["openAPIV3Schema"]["properties"]["spec"], spec)
    return made


def _with_defaults(schema: dict[str, Any], value: Any) -> Any:
    if isinstance(value, list | tuple) and "items" in schema:
        return [_with_defaults(schema["items"], item) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    fields = schema["properties"]
    said = {name: child for name, child in value.items() if name in fields and child is not None}
    told = {name: child["default"] for name, child in fields.items() if "default" in child and name not in said}
    return {name: _with_defaults(fields[name], child) for name, child in {**said, **told}.items()}


if __name__ == "__main__":
    record(Path(sys.argv[1]))
