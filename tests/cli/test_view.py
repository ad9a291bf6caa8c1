"""What `pilotfish get` shows, from the world in memory."""

from datetime import timedelta

import pytest
from rich.console import Console

from pilotfish.cli.render import draw
from pilotfish.cli.tree import Health
from pilotfish.cli.view import make_view
from support.builders import NOW
from support.neighbours import UNLOADABLE
from support.specs import make_wanted, uri
from support.world import World


def flat(node, depth=0):
    yield depth, node
    for child in node.children:
        yield from flat(child, depth + 1)


def find(view, start):
    return next(node for _, node in flat(view) if node.title.startswith(start))


@pytest.fixture
def world():
    world = World()
    world.submit(make_wanted("v1"))
    return world


def test_before_the_operator_has_looked(world):
    view = make_view(world.observed(), NOW)
    assert (view.state, view.health) == ("Pending", Health.BUSY)
    assert "not looked" in view.detail


def test_while_the_job_runs(world):
    world.reconcile()
    view = make_view(world.observed(), NOW)
    assert (view.state, view.health) == ("Optimizing", Health.BUSY)
    assert find(view, "revision").state == "candidate"
    assert find(view, "Job/").state == "Running"


def test_when_it_serves(world):
    world.settle()
    view = make_view(world.observed(), NOW + timedelta(hours=3))
    assert (view.state, view.health) == ("Ready", Health.GOOD)
    revision = find(view, "revision")
    assert (revision.state, revision.detail) == ("stable", "onnx-fp32")
    assert find(view, "Deployment/").state == "1/1 ready"
    assert any(node.title.startswith("Pod/") for _, node in flat(find(view, "Deployment/")))
    assert find(view, "http").detail.startswith("http://digits.team")


def test_settings_say_where_they_come_from(world):
    world.submit(make_wanted("v1", instances=2))
    world.settle()
    view = make_view(world.observed(), NOW)
    settings = [node.detail for _, node in flat(view) if node.title == "settings"]
    assert settings == ["instances 2 (Spec), threads 1, batch 8, delay 2ms"]
    assert find(view, "revision").children[0].title == "settings"


def test_restarts_of_a_pod_are_counted(world):
    world.settle()
    (pod,) = (p for p in world.cluster.find("Pod") if p["metadata"]["labels"]["pilotfish.dev/component"] == "triton")

    def restart(body):
        body["status"]["containerStatuses"] = [{"name": "triton", "restartCount": 2, "state": {"running": {}}}]

    world.cluster.change_now("Pod", pod["metadata"]["name"], restart)
    found = find(make_view(world.observed(), NOW), f"Pod/{pod['metadata']['name']}")
    assert found.detail.endswith(", 2 restarts")


def test_a_bad_update_shows_both_revisions_and_why(world):
    world.settle()
    world.around.models[uri("v2")] = UNLOADABLE
    world.submit(make_wanted("v2"))
    world.settle()
    view = make_view(world.observed(), NOW)
    assert view.health is Health.BAD
    assert "cannot be loaded" in view.detail or "load" in view.detail.lower()
    assert [node.state for _, node in flat(view) if node.title.startswith("revision")] == ["stable", "candidate"]


def test_a_change_that_the_operator_has_not_seen_is_not_called_good(world):
    world.settle()
    world.submit(make_wanted("v2"))
    assert make_view(world.observed(), NOW).health is Health.BUSY


def test_it_is_drawn_as_a_tree_with_one_line_for_each_thing(world):
    world.settle()
    view = make_view(world.observed(), NOW)
    console = Console(width=500, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(draw(view))
    text = console.export_text()
    assert len(text.splitlines()) == len(list(flat(view)))
    assert text.splitlines()[0].startswith("ModelDeployment/digits  ✔ Ready")
