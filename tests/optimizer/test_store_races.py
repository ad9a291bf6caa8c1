"""One takes an artifact while another removes it: at every single step of the one, the other runs from start to end."""

import pytest

from pilotfish.optimizer.store import artifacts, cleaning
from pilotfish.optimizer.store.references import GRACE, Owner, read_all, refer
from pilotfish.optimizer.store.shelf import Shelf, open_shelf
from support.builders import NOW
from support.stores import write_artifact

KEY = "abc"
PATH = f"artifacts/{KEY}/0123456789abcdef"
LEAVES, TAKES = Owner(name="a/m", file="refs/a/m/1.json"), Owner(name="b/m", file="refs/b/m/2.json")
STEPS = ("folders", "files", "read", "write", "remove", "remove_folder", "upload")


class Interrupted:
    """Counts the steps on a shelf and calls `then` before the one with this number, once."""

    def __init__(self, monkeypatch, number, then):
        self.left, self.then, self.happened = number, then, False
        for name in STEPS:
            monkeypatch.setattr(Shelf, name, self._counting(getattr(Shelf, name)))

    def _counting(self, step):
        def counted(shelf, *arguments):
            self.left -= 1
            if self.left == 0 and not self.happened:
                self.happened = True
                self.then()
            return step(shelf, *arguments)

        return counted


def leave(shelf):
    """The only user of the artifact goes over to another one, and cleans."""
    let_go = cleaning.settle(shelf, LEAVES, "artifacts/other/fedcba9876543210", keep=[], now=NOW + GRACE)
    cleaning.remove_released(shelf, let_go)


def take(shelf):
    return artifacts.find_artifact(shelf, KEY, refer=lambda path: refer(shelf, TAKES, path, now=NOW + GRACE))


@pytest.fixture
def shelf(tmp_path):
    write_artifact(tmp_path, PATH)
    shelf = open_shelf(str(tmp_path), {})
    refer(shelf, LEAVES, PATH, now=NOW)
    return shelf


def whole(shelf):
    return {p.path for p in shelf.files(PATH)} >= {f"{PATH}/model_repository/m/1/model.onnx", f"{PATH}/manifest.json"}


@pytest.mark.parametrize("number", range(1, 31))
@pytest.mark.parametrize("first", ["take", "leave"])
def test_what_was_taken_stays_whole(shelf, monkeypatch, first, number):
    taken = []
    steps = {"take": lambda: taken.append(take(shelf)), "leave": lambda: leave(shelf)}
    second = next(name for name in steps if name != first)
    interrupted = Interrupted(monkeypatch, number, steps[second])
    steps[first]()
    if not interrupted.happened:
        interrupted.happened = True
        steps[second]()
    (kept,) = taken
    if kept is not None:
        assert whole(shelf), "somebody serves it"
        assert PATH in read_all(shelf)[TAKES.file].paths
    refers = [owner for owner, told in read_all(shelf).items() if PATH in told.paths]
    assert LEAVES.file not in refers


def test_in_time(shelf):
    """With the next one: what is tested above has both ends."""
    assert take(shelf) is not None
    leave(shelf)
    assert whole(shelf)


def test_too_late(shelf):
    leave(shelf)
    assert take(shelf) is None
    assert not shelf.files(PATH)
