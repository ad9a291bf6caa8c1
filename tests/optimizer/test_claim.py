"""What a Job removes from its claim before it works: what no revision on record uses, and nothing else."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from pilotfish.api.job_input import JobInput
from pilotfish.optimizer.looks import uri_hash
from pilotfish.optimizer.store.references import GRACE, THE_CLAIM, read_references
from pilotfish.optimizer.store.shelf import open_shelf
from pilotfish.optimizer.store.steps import tidy_claim
from support.stores import write_artifact

URI = "s3://models/m.onnx"
OLD_SOURCE, LIVE_SOURCE = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def job(*, keep, digest=None):
    told = {"name": "m", "revision": "rev", "recipeKey": "now", "model": {"uri": URI, "digest": digest}, "keep": keep}
    return JobInput.model_validate(told)


def age(store: Path, by: timedelta):
    then = time.time() - by.total_seconds()
    for path in store.rglob("*"):
        os.utime(path, (then, then))


@pytest.fixture
def store(tmp_path):
    """A claim with two artifacts, their sources, a half-fetched source, half-written artifacts and abandoned work."""
    write_artifact(tmp_path, "artifacts/old", source=OLD_SOURCE)
    write_artifact(tmp_path, "artifacts/live", source=LIVE_SOURCE)
    for folder in (
        f"sources/{OLD_SOURCE[7:]}",
        f"sources/{LIVE_SOURCE[7:]}",
        "sources/.partial-other",
        f"sources/.partial-{uri_hash(URI)}",
        "artifacts/.partial-older",
        "work/older",
        "work/now",
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(b"x")
    (tmp_path / "sources" / ".look-1.json").write_text("{}")
    age(tmp_path, GRACE + timedelta(minutes=1))
    return tmp_path


def names(store):
    return {path.relative_to(store).as_posix() for path in store.glob("*/*") if path.parent.name != "refs"}


def test_what_no_revision_uses_goes(store):
    tidy_claim(job(keep=["artifacts/live"]), store)
    assert names(store) == {
        "artifacts/live",
        f"sources/{LIVE_SOURCE[7:]}",
        f"sources/.partial-{uri_hash(URI)}",
        "sources/.look-1.json",
        "work/now",
    }
    assert read_references(open_shelf(str(store), {}), THE_CLAIM).paths == {"artifacts/live", "artifacts/now"}


def test_the_pinned_source_of_this_run_stays(store):
    tidy_claim(job(keep=["artifacts/live"], digest=OLD_SOURCE), store)
    assert f"sources/{OLD_SOURCE[7:]}" in names(store)


def test_nothing_goes_while_nobody_knows_what_is_in_use(store):
    before = names(store)
    tidy_claim(job(keep=None), store)
    assert names(store) == before


def test_what_is_young_stays(store):
    age(store, GRACE - timedelta(minutes=1))
    before = names(store)
    tidy_claim(job(keep=["artifacts/live"]), store)
    assert names(store) == before


def test_what_was_in_use_a_moment_ago_stays(store):
    """Two Jobs may overlap while a node is lost: the older one does not know what the newer one made."""
    write_artifact(store, "artifacts/newer")
    tidy_claim(job(keep=["artifacts/live", "artifacts/old"]), store)
    age(store / "artifacts", GRACE + timedelta(minutes=1))
    tidy_claim(job(keep=["artifacts/live"]), store)
    assert "artifacts/old" in names(store), "its reference is younger than that"
    assert "artifacts/newer" not in names(store), "nobody ever referred to it"


def test_a_claim_that_cannot_be_cleaned_fails_no_job(store, capfd):
    (store / "refs").mkdir()
    (store / "refs" / "claim.json").write_text("{")
    before = names(store)
    tidy_claim(job(keep=["artifacts/live"]), store)
    assert names(store) == before
    assert "nothing was cleaned" in capfd.readouterr().err


def test_fetch_makes_room_before_it_fetches(store, pod):
    for folder in ("artifacts", "sources"):
        (store / folder).rename(pod.store / folder)
    (pod.source / "model.onnx").write_bytes(b"x")
    pod.job({"uri": "pvc://claim/model.onnx"}, keep=["artifacts/live"])
    assert pod.command("fetch")[0] == 0
    assert not (pod.store / "artifacts" / "old").exists()
    assert (pod.store / "artifacts" / "live").exists()
