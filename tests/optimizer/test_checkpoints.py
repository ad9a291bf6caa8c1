"""What a stage has kept: found whole, by the same input alone, and gone once the artifact is finished."""

from pathlib import Path

import pytest

from pilotfish.optimizer.checkpoints import Checkpoints, input_digest


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, "abc12345")


def writes(text: str):
    return lambda path: path.write_text(text) and None


def test_the_furthest_step_of_the_same_input_is_found(kept: Checkpoints) -> None:
    digest, other = input_digest(seed=1, data="x"), input_digest(seed=2, data="x")
    assert kept.find("train", digest) is None
    for step in (1, 2, 10):
        kept.save("train", digest, step=step, write=writes(f"epoch {step}"))
    found = kept.find("train", digest)
    assert found is not None
    assert (found.step, found.path.read_text()) == (10, "epoch 10")
    assert kept.find("train", other) is None
    assert kept.find("trainer", digest) is None


def test_stages_do_not_push_each_other_out(kept: Checkpoints) -> None:
    digest = input_digest(seed=1)
    for stage in ("train", "train.prune", "other"):
        kept.save(stage, digest, step=1, write=writes(stage))
    assert all(kept.find(stage, digest) for stage in ("train", "train.prune", "other"))


def test_a_crash_while_writing_leaves_the_entry_before(kept: Checkpoints, tmp_path: Path) -> None:
    kept.save("train", "d", step=1, write=writes("whole"))

    def breaks_off(path: Path) -> None:
        path.write_text("ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.save("train", "d", step=2, write=breaks_off)
    found = kept.find("train", "d")
    assert found is not None
    assert found.path.read_text() == "whole"
    kept.discard()
    assert not list((tmp_path / "work").iterdir())


def test_a_damaged_entry_is_none_and_goes(kept: Checkpoints) -> None:
    saved = kept.save("train", "d", step=1, write=writes("whole"))
    saved.path.write_text("whale")
    assert kept.find("train", "d") is None
    assert not saved.path.exists()


def test_digests_tell_inputs_apart_and_do_not_depend_on_order() -> None:
    assert input_digest(a=1, b=[1, 2]) == input_digest(b=[1, 2], a=1)
    assert len({input_digest(a=1), input_digest(a="1"), input_digest(b=1), input_digest(a=[1])}) == 4
