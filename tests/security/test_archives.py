"""S7: archives that climb, link, lie or grow, through the Job's real commands."""

import pytest

from support.bad import Bad
from support.bad.trial import refuse, sandbox
from support.hostile.archives import CLAIMS, TARS, ZIPS
from support.hostile.effects import watched

__all__ = ["sandbox"]

CORPUS = (*TARS, *ZIPS, *CLAIMS)


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.name)
def test_a_hostile_archive_is_refused_and_nothing_of_it_happens(bad: Bad, sandbox, capfd):
    pod, around = sandbox
    with watched(around.folder, mounts=pod.folder) as effects:
        refuse(bad, sandbox, capfd, during=effects.armed)


def test_there_are_enough_and_no_name_twice():
    names = [bad.name for bad in CORPUS]
    assert len(set(names)) == len(names) >= 25
