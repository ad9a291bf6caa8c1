"""Through random walks of the small world: every revision that is on its way ends once, and every gauge can be read."""

import os
from itertools import groupby, pairwise

import pytest

from pilotfish.telemetry.gauges import GAUGES
from pilotfish.telemetry.outcomes import find_ends, new_failure
from pilotfish.telemetry.state import ObjectState
from support.builders import OWNER
from support.fake_cluster import FakeCluster
from support.walks import Walk

FIRST = int(os.environ.get("PILOTFISH_SEED", "0"))
WALKS = 1
LONG = 20
TAKES_OVER = {"promoted", "rolled_back"}


@pytest.fixture
def statuses(monkeypatch):
    """Every status that is stored, after an empty one; each is scraped as it comes."""
    stored = [{}]
    write = FakeCluster.write_status_now

    def write_and_tell(cluster, body):
        write(cluster, body)
        stored.append(body["status"])
        owner = cluster.look("ModelDeployment", OWNER.name)
        kinds = ("Deployment", "ControllerRevision", "Job")
        state = ObjectState(
            namespace=OWNER.namespace,
            name=OWNER.name,
            uid=owner["metadata"]["uid"],
            spec=owner["spec"],
            status=body["status"],
            objects=tuple(child for kind in kinds for child in cluster.find(kind)),
        )
        assert sum(len(list(gauge.rows(state))) for gauge in GAUGES) > len(body["status"]["conditions"])

    monkeypatch.setattr(FakeCluster, "write_status_now", write_and_tell)
    return stored


def candidate_of(status):
    return (status.get("candidateRevision") or {}).get("hash")


def stable_of(status):
    return (status.get("stableRevision") or {}).get("hash")


def has_failed(status, revision):
    return any(e["revision"] == revision and e["result"] == "Failed" for e in status.get("history") or ())


def ends_of(before, after):
    """Names of ends, with optimizations that failed."""
    found = [(outcome.value, revision) for outcome, revision, _ in find_ends(before, after)]
    failure = new_failure(before, after)
    if failure is not None and ("aborted", failure["revision"]) not in found:
        found.append(("not optimized", failure["revision"]))
    return found


@pytest.mark.parametrize(
    "seed",
    [*range(FIRST, FIRST + WALKS), *(pytest.param(FIRST + n, marks=pytest.mark.soak) for n in range(WALKS, LONG))],
)
def test_every_revision_ends_once(seed, statuses):
    Walk(seed).run()
    steps = list(pairwise(statuses))

    new_stables = [stable_of(after) for before, after in steps if stable_of(after) not in {None, stable_of(before)}]
    took_over = [name for step in steps for end, name in ends_of(*step) if end in TAKES_OVER]
    assert took_over == new_stables, f"PILOTFISH_SEED={seed}"

    places = iter(range(len(statuses)))
    for candidate, tenure in groupby(statuses, key=candidate_of):
        held = [next(places) for _ in tenure]
        if candidate is None or held[-1] == len(statuses) - 1:
            continue
        within = steps[held[0] - 1 : held[-1] + 1]
        ends = [end for step in within for end, name in ends_of(*step) if name == candidate]
        tried_again = any(has_failed(a, candidate) and not has_failed(b, candidate) for a, b in within[:-1])
        assert ends, f"PILOTFISH_SEED={seed}: {candidate} vanished without an end"
        assert len(ends) == 1 or tried_again, f"PILOTFISH_SEED={seed}: {candidate} ended as {ends}"
