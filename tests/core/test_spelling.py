"""What means the same as a revision on record is that revision; what means something else is another one."""

import pytest

from pilotfish import names
from pilotfish.core.spelling import in_known_words
from pilotfish.resources.revision import RevisionObjects, RevisionRecord
from support.builders import make_artifact, make_signature, make_spec

MODEL = {"uri": "s3://models/digits/v1/"}
SAID = {
    "model": {**MODEL, "architecture": {"factory": "timm.create_model", "arguments": {"rate": "0.50"}}},
    "optimization": {"resources": {"cpu": "0.5"}, "prune": {"ratio": "0.5"}, "tolerance": {"maxAbs": "1e-4"}},
    "serving": {"resources": {"cpu": 2, "memory": "1Gi"}, "batching": {"maxQueueDelay": "5ms"}},
}


def make_record(spec):
    spec = make_spec(spec)
    return RevisionRecord(
        hash_version=names.HASH_VERSION,
        revision=names.revision_hash(spec),
        recipe_key=names.recipe_key(spec),
        intent=names.intent(spec),
        artifact=make_artifact(),
        signature=make_signature(),
        objects=RevisionObjects(deployment={}, config_map={}, service={}),
    )


def with_block(block, **fields):
    return {**SAID, block: {**SAID[block], **fields}}


@pytest.mark.parametrize(
    "spec",
    [
        with_block("serving", resources={"cpu": "2000m", "memory": "1024Mi"}),
        with_block("serving", batching={"maxQueueDelay": "0.005s"}),
        with_block("serving", terminationGracePeriod="1m"),
        with_block("optimization", resources={"cpu": "500m"}),
        with_block("optimization", prune={"ratio": "0.500"}),
        with_block("optimization", tolerance={"maxAbs": "0.0001"}),
    ],
)
def test_other_words_for_the_same(spec):
    record = make_record(SAID)
    assert names.revision_hash(make_spec(spec)) != record.revision
    told = in_known_words(make_spec(spec), [record])
    assert names.revision_hash(told) == record.revision
    assert names.recipe_key(told) == record.recipe_key


@pytest.mark.parametrize("block", ["tolerance", "resources"])
def test_an_empty_block_is_none(block):
    none, empty = {"model": MODEL}, {"model": MODEL, "optimization": {block: {}}}
    for said, known in ((none, empty), (empty, none)):
        record = make_record(known)
        assert names.revision_hash(in_known_words(make_spec(said), [record])) == record.revision


@pytest.mark.parametrize(
    "spec",
    [
        with_block("serving", resources={"cpu": "2001m", "memory": "1Gi"}),
        with_block("serving", terminationGracePeriod="61s"),
        with_block("optimization", tolerance={"maxAbs": "1e-5"}),
        # Arguments of a factory are the user's: "0.5" is another string than "0.50".
        with_block("model", architecture={"factory": "timm.create_model", "arguments": {"rate": "0.5"}}),
        # This block says something by standing there.
        with_block("optimization", tuning={}),
    ],
)
def test_something_else_is_something_else(spec):
    asked = make_spec(spec)
    assert in_known_words(asked, [make_record(SAID)]) is asked


def test_the_very_words_come_before_the_meaning():
    first = make_record(SAID)
    other = make_record(with_block("serving", resources={"cpu": "2000m", "memory": "1Gi"}))
    asked = make_spec(SAID)
    assert in_known_words(asked, [first, other]) is asked


def test_what_does_not_make_a_revision_stays_as_asked():
    asked = make_spec({**with_block("serving", replicas=7, terminationGracePeriod="1m"), "paused": True})
    told = in_known_words(asked, [make_record(SAID)])
    assert (told.serving.replicas, told.paused, told.serving.termination_grace_period) == (7, True, "60s")
