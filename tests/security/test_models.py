"""S1 to S6, S9: hostile models through the Job's real commands. Each ends with its reason; nothing of it ever happens."""

import pytest

from support.bad import Bad
from support.bad.trial import refuse, sandbox
from support.hostile.effects import watched
from support.hostile.graphs import GRAPHS
from support.hostile.others import FOLDERS, KERAS, NATIVE, SAFETENSORS
from support.hostile.pickles import PICKLES

__all__ = ["sandbox"]

CORPUS = (*PICKLES, *GRAPHS, *NATIVE, *SAFETENSORS, *FOLDERS, *KERAS)


def _cases():
    for bad in CORPUS:
        yield pytest.param(bad, id=bad.name, marks=[pytest.mark.torch] if bad.torch else [])


@pytest.mark.parametrize("bad", _cases())
def test_a_hostile_model_is_refused_and_nothing_of_it_happens(bad: Bad, sandbox, capfd):
    pod, around = sandbox
    with watched(around.folder, mounts=pod.folder) as effects:
        refuse(bad, sandbox, capfd, during=effects.armed)


def test_the_corpus_is_large_and_has_no_name_twice():
    names = [bad.name for bad in CORPUS]
    assert len(set(names)) == len(names) >= 50
