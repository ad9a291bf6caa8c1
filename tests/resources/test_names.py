import pytest

from pilotfish import names
from pilotfish.api.spec import ModelDeploymentSpec
from support.builders import make_spec

SMALL = {"model": {"uri": "s3://models/digits/v1/"}}


def changed(**blocks):
    return make_spec({**SMALL, **blocks})


def test_hashes_are_the_same_for_ever():
    """A hash that changes with an upgrade restarts everybody's pods."""
    full = changed(
        model={
            "uri": "s3://m/",
            "format": "StateDict",
            "architecture": {"factory": "torchvision.models.resnet18", "arguments": {"num_classes": 10}},
        },
        optimization={"precisions": ["FP32", "INT8"], "tolerance": {"maxAbs": "1e-3"}},
        serving={"gpus": {"count": 2}, "batching": {"maxBatchSize": 4}},
    )
    assert (names.revision_hash(make_spec(SMALL)), names.recipe_key(make_spec(SMALL))) == ("qddrk9db", "22mfqrcb")
    assert (names.revision_hash(full), names.recipe_key(full)) == ("jmx8tpll", "45n5xlgs")


def test_defaults_do_not_count_whether_written_out_or_not():
    spec = make_spec(SMALL)
    written_out = ModelDeploymentSpec.model_validate(spec.model_dump(mode="json", by_alias=True))
    assert names.revision_hash(written_out) == names.revision_hash(spec)


@pytest.mark.parametrize(
    "blocks",
    [
        {"serving": {"replicas": 5}},
        {"serving": {"minAvailable": 0}},
        {"serving": {"protocols": ["HTTP"]}},
        {"rollout": {"progressDeadline": "1m"}},
        {"storage": {"size": "1Gi"}},
        {"paused": True},
        {"revisionHistoryLimit": 1},
    ],
    ids=str,
)
def test_what_does_not_touch_pods_makes_no_revision(blocks):
    assert names.revision_hash(changed(**blocks)) == names.revision_hash(make_spec(SMALL))


@pytest.mark.parametrize(
    "blocks",
    [
        {"serving": {"batching": {"maxBatchSize": 16}}},
        {"serving": {"resources": {"cpu": "2"}}},
    ],
    ids=str,
)
def test_serving_makes_a_revision_with_the_same_artifact(blocks):
    spec = changed(**blocks)
    assert names.revision_hash(spec) != names.revision_hash(make_spec(SMALL))
    assert names.recipe_key(spec) == names.recipe_key(make_spec(SMALL))


@pytest.mark.parametrize(
    "blocks",
    [
        {"model": {"uri": "s3://models/digits/v2/"}},
        {"model": {**SMALL["model"], "digest": "sha256:" + "0" * 64}},
        {"model": {**SMALL["model"], "trust": "Executable"}},
        {"optimization": {"precisions": ["INT8"]}},
        {"optimization": {"objective": "Throughput"}},
    ],
    ids=str,
)
def test_model_and_optimization_make_another_artifact(blocks):
    assert names.recipe_key(changed(**blocks)) != names.recipe_key(make_spec(SMALL))


def test_pods_with_gpus_have_an_artifact_of_their_own_however_many_gpus():
    none, one, two = (names.recipe_key(changed(serving={"gpus": {"count": count}})) for count in range(3))
    assert one == two != none


@pytest.mark.parametrize(
    "blocks",
    [
        {"model": {**SMALL["model"], "credentials": {"secretName": "s"}}},
        {"optimization": {"deadline": "2h"}},
    ],
    ids=str,
)
def test_how_bytes_are_reached_makes_a_new_try_but_not_another_artifact(blocks):
    spec = changed(**blocks)
    assert names.revision_hash(spec) != names.revision_hash(make_spec(SMALL))
    assert names.job_input_hash(spec) != names.job_input_hash(make_spec(SMALL))
    assert names.recipe_key(spec) == names.recipe_key(make_spec(SMALL))


@pytest.mark.parametrize(
    "name", ["a", "digits", "n" * 40, "n" * 45, "n" * 46, "n" * 63, "a." * 100 + "z", "x" * 44 + "-" + "y" * 20]
)
def test_every_name_fits(name):
    revision = names.revision_hash(make_spec(SMALL))
    made = [
        names.store_claim(name),
        names.optimize_job(name, revision),
        names.revision_name(name, revision),
        names.traffic_service(name),
        *names.labels(name, names.Component.OPTIMIZE, revision).values(),
    ]
    for text in made:
        assert len(text) <= 63
        assert text[0].isalnum()
        assert text[-1].isalnum()


def test_long_names_stay_apart():
    assert names.stem("n" * 60) != names.stem("n" * 61)


def test_the_alphabet_is_safe():
    letters = set("".join(names.short_hash(n) for n in range(2000)))
    assert letters == set("bcdfghjklmnpqrstvwxz2456789")
