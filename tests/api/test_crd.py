"""The generated CRD: structural, documented, small, and what it refuses stands beside the fields."""

import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pilotfish.api.base import ApiModel, Duration, Fraction, Quantity
from pilotfish.api.crd import NAME_RULES, make_crd, printer_columns, unavailable_fields
from pilotfish.api.lint import lint
from pilotfish.api.markers import MARKERS, MEANINGS, DocumentedEnum, Rule, distinct, marked
from pilotfish.api.rollout import Analysis, AnalysisChecks, Check
from pilotfish.api.spec import ModelDeploymentSpec
from pilotfish.api.structural import SchemaError, make_structural, make_tree, rules_of
from support.invalid_objects import INVALID, NOT_AVAILABLE, make_manifest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = make_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(node, path):
    """Every node of the schema with its path."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")


SPEC = dict(walk(SCHEMA["properties"]["spec"], "spec"))
STATUS = dict(walk(SCHEMA["properties"]["status"], "status"))
EVERYTHING = {**SPEC, **STATUS}


def structural_of(model):
    return make_structural(make_tree(model), "spec")


# What an API server refuses, or silently misreads, in what pydantic prints


@pytest.mark.parametrize(
    "key", ["anyOf", "oneOf", "allOf", "$ref", "$defs", "title", "const", "examples", MARKERS, MEANINGS]
)
def test_only_structural_keys(key):
    assert [path for path, node in walk(SCHEMA, "") if key in node] == []


def test_no_default_is_null():
    assert [path for path, node in EVERYTHING.items() if node.get("default", 0) is None] == []


def test_every_node_has_a_type():
    untyped = [p for p, n in EVERYTHING.items() if "type" not in n and not n.get("x-kubernetes-int-or-string")]
    assert untyped == []


def test_every_list_says_how_it_merges():
    lists = {path: node for path, node in EVERYTHING.items() if node.get("type") == "array"}
    assert lists
    for path, node in lists.items():
        if node["x-kubernetes-list-type"] == "map":
            assert set(node["x-kubernetes-list-map-keys"]) <= set(node["items"]["required"]), path
            assert "default" not in node, f"{path}: apply could never remove a default from a map"
        else:
            assert node["x-kubernetes-list-type"] == "atomic", path


def test_everything_of_spec_has_a_bound():
    """CEL rules pay for the largest value; without bounds the server refuses them."""
    for path, node in SPEC.items():
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node.get("type") == "integer":
            assert {"minimum", "maximum"} <= set(node), path


def test_a_union_of_types_is_refused():
    class Both(BaseModel):
        value: int | list[str]

    with pytest.raises(SchemaError, match="a union of 2 types"):
        make_tree(Both)


class _Ring(BaseModel):
    inner: "_Ring | None" = None


def test_a_model_that_holds_itself_is_refused():
    with pytest.raises(SchemaError, match="_Ring holds itself"):
        make_tree(_Ring)


def test_optional_means_absent_not_null():
    class Inner(ApiModel):
        """Inner."""

        size: Quantity | None = None
        """Bytes."""

    class Outer(ApiModel):
        """Outer."""

        inner: Inner | None = None
        """What is inside."""
        always: Inner = Inner()
        """Always there."""

    schema = structural_of(Outer)
    assert schema["properties"]["inner"]["description"] == "What is inside."
    assert "default" not in schema["properties"]["inner"]
    assert schema["properties"]["always"]["default"] == {}
    size = schema["properties"]["inner"]["properties"]["size"]
    assert size["x-kubernetes-int-or-string"] is True
    assert "type" not in size
    assert "required" not in schema


def test_rules_of_a_type_and_of_the_field_that_uses_it_both_count():
    class Inner(ApiModel):
        """Inner."""

        model_config = ConfigDict(json_schema_extra=marked(Rule(cel="has(self.a)", message="type", holds=None)))
        a: int | None = None
        """A number."""

    class Outer(ApiModel):
        """Outer."""

        inner: Inner = Field(
            default=Inner(), json_schema_extra=marked(Rule(cel="!has(self.a)", message="field", holds=None))
        )
        """Both."""

    rules = structural_of(Outer)["properties"]["inner"]["x-kubernetes-validations"]
    assert [rule["message"] for rule in rules] == ["type", "field"]


def test_the_default_of_a_block_holds_what_its_fields_would_not_fill_in():
    class Bound(ApiModel):
        """Bound."""

        most: int | None = None
        """Most."""
        mode: str = "Hard"
        """Mode."""

    class Bounds(ApiModel):
        """Bounds."""

        errors: Bound | None = None
        """Errors."""
        restarts: Bound = Bound()
        """Restarts."""
        names: tuple[str, ...] = ()
        """Names."""

    class Judged(ApiModel):
        """Judged."""

        bounds: Bounds = Bounds(errors=Bound(most=1))
        """Bounds."""
        others: Bounds = Bounds()
        """Others."""

    fields = structural_of(Judged)["properties"]
    assert fields["bounds"]["default"] == {"errors": {"most": 1}}
    assert fields["bounds"]["description"] == "Bounds. Default: {errors: {most: 1}}."
    assert fields["others"]["default"] == {}
    assert fields["others"]["description"] == "Others."


def test_an_analysis_that_says_little_is_judged_by_the_same_defaults_as_one_that_says_nothing():
    """The API server fills in its defaults from the schema, the operator its own: they must not differ."""
    filled = SPEC["spec.rollout.analysis.checks"]["default"]
    assert AnalysisChecks.model_validate(filled) == Analysis().checks
    assert Analysis().checks.error_rate == Check(max="0.01")


def test_a_pattern_becomes_a_rule_with_a_sentence():
    class Timed(ApiModel):
        """Timed."""

        after: Duration = "1s"
        """When."""

    after = structural_of(Timed)["properties"]["after"]
    assert "pattern" not in after
    assert "with its unit such as" in after["x-kubernetes-validations"][0]["message"]


def test_no_bare_pattern_is_left():
    assert [path for path, node in EVERYTHING.items() if "pattern" in node] == []


def test_values_in_a_message_are_an_expression():
    class Colour(DocumentedEnum):
        RED = "red", "warm"
        BLUE = "blue", "cold"

    class Painted(ApiModel):
        """Painted."""

        colour: Colour = Field(default=Colour.RED, json_schema_extra=marked(unavailable=(Colour.BLUE,)))
        """Its colour."""

    colour = structural_of(Painted)["properties"]["colour"]
    assert colour["enum"] == ["red", "blue"]
    assert colour["x-kubernetes-validations"] == [
        {
            "rule": '!(self in ["blue"])',
            "message": "the value is not available in this version; use red",
            "messageExpression": '"" + self + " is not available in this version; use red"',
        }
    ]
    assert colour["description"] == (
        "Its colour. One of: red (warm); blue (cold). Default: red. Not available in this version: blue."
    )


def test_removing_the_mark_is_all_it_takes():
    class Before(ApiModel):
        """Before."""

        flag: bool = Field(default=False, json_schema_extra=marked(unavailable=True))
        """A flag."""

    class After(ApiModel):
        """After."""

        flag: bool = Field(default=False, json_schema_extra=marked())
        """A flag."""

    before, after = structural_of(Before)["properties"]["flag"], structural_of(After)["properties"]["flag"]
    assert before["x-kubernetes-validations"][0]["message"] == "spec.flag is not available in this version; remove it"
    assert "default" not in before
    assert after == {"type": "boolean", "description": "A flag. Default: false.", "default": False}


# Documentation


def test_every_field_is_documented():
    undocumented = [p for p, n in EVERYTHING.items() if not n.get("description") and not p.endswith("[]")]
    assert undocumented == []


def test_every_field_of_spec_has_a_default_or_an_example():
    """Enums list their values, objects may stand for their fields."""
    bare = [
        path
        for path, node in SPEC.items()
        if not path.endswith("[]")
        and node.get("type") != "object"
        and not {"default", "enum"} & set(node)
        and "enum" not in node.get("items", {})
        and "Example" not in node["description"]
        and "Default" not in node["description"]
        and node.get("type") != "boolean"
    ]
    assert bare == []


def test_every_default_is_in_its_description():
    for path, node in SPEC.items():
        if "default" in node and node["default"] != {}:
            assert "Default: " in node["description"], path


def test_every_enum_value_is_explained():
    for path, node in EVERYTHING.items():
        if "enum" not in node:
            continue
        text = EVERYTHING[path.removesuffix("[]")]["description"]
        if path.endswith("status"):  # True, False, Unknown of a condition explain themselves
            continue
        assert all(f"{value} (" in text for value in node["enum"]), path


def test_enums_keep_their_wire_values():
    class Plain(StrEnum):
        A = "a"

    class Explained(DocumentedEnum):
        A = "a", "the first"

    assert Explained("a") is Explained.A
    assert f"{Explained.A}" == f"{Plain.A}" == "a"
    assert Explained.A.meaning == "the first"


def test_small_enough():
    assert (ROOT / "crds" / "pilotfish.dev_modeldeployments.yaml").stat().st_size < 200_000


def test_the_file_is_up_to_date():
    done = subprocess.run(
        [sys.executable, "hack/crd.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_same_for_every_call():
    assert make_crd() == make_crd()


# The frame of the object


def test_names_and_subresources():
    spec = make_crd()["spec"]
    assert spec["names"]["shortNames"] == ["mdep"]
    assert spec["names"]["categories"] == ["all", "ai"]
    assert spec["scope"] == "Namespaced"
    assert spec["versions"][0]["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.serving.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }


def test_columns_read_fields_that_exist():
    names = {column["name"].upper(): column for column in printer_columns()}
    assert [n for n, c in names.items() if not c.get("priority")] == [
        "READY",
        "AVAILABLE",
        "PHASE",
        "VARIANT",
        "STEP",
        "REPLICAS",
        "AGE",
    ]
    assert [n for n, c in names.items() if c.get("priority")] == [
        "SPEEDUP",
        "ERROR",
        "STABLE",
        "CANDIDATE",
        "ENDPOINT",
        "MESSAGE",
    ]
    for column in names.values():
        path = column["jsonPath"].removeprefix(".")
        assert path in STATUS or "conditions[?" in path or path == "metadata.creationTimestamp", path


def test_nothing_refers_to_another_namespace():
    """fromNamespaces lets clients in; it refers to no object."""
    assert [p for p in SPEC if "namespace" in p.lower()] == [
        "spec.serving.access.fromNamespaces",
        "spec.serving.access.fromNamespaces[]",
    ]


def test_nothing_of_a_pod_can_be_written():
    """No field of a PodSpec, no environment, no command: an author gets no more than the templates give."""
    words = {
        "env",
        "envfrom",
        "command",
        "args",
        "volumes",
        "image",
        "securitycontext",
        "serviceaccountname",
        "template",
    }
    assert [p for p in SPEC if p.rpartition(".")[2].lower() in words] == []


# What this version refuses


def test_every_refusal_is_listed_and_tried():
    said = " ".join(case.says for case in NOT_AVAILABLE)
    for refused in unavailable_fields():
        if refused.values:
            assert all(f"{value} is not available" in said for value in refused.values), refused
        else:
            assert f"{refused.path.replace('[]', '')} is not available in this version; remove it" in said, refused


def test_what_this_version_refuses():
    """Implementing one shortens this list by a line, here and beside the field."""
    assert [f"{found.path} {' '.join(found.values)}".strip() for found in unavailable_fields()] == [
        "spec.optimization.distill.teacher.format Keras SavedModel TFLite",
        "spec.optimization.gpus",
        "spec.storage.kind OCI",
        "spec.storage.oci",
        "spec.serving.autoscaling.metrics[].type Prometheus",
        "spec.serving.autoscaling.metrics[].query",
        "spec.serving.placement",
        "spec.rollout.verification.tolerance.metric",
        "spec.rollout.verification.tolerance.maxMetricDrop",
    ]


# Rules


def _rules():
    def below(node):
        yield from rules_of(node)
        for child in node.get("properties", {}).values():
            yield from below(child)
        if "items" in node:
            yield from below(node["items"])

    return tuple(dict.fromkeys((*NAME_RULES, *below(make_tree(ModelDeploymentSpec)))))


SENTENCES = {finding.message for case in INVALID for finding in lint(case.manifest())}


@pytest.mark.parametrize("rule", [r for r in _rules() if r.holds is not None], ids=lambda rule: rule.message)
def test_every_rule_is_broken_by_some_invalid_object(rule):
    assert rule.message in SENTENCES


def test_rules_that_compare_with_the_stored_object_are_the_server_s_alone():
    assert {rule.message.split(":")[0] for rule in _rules() if rule.holds is None} == {
        "leave storage.kind as it is; make a new ModelDeployment to move the artifacts",
        "leave bucket.uri as it is; make a new ModelDeployment to move the artifacts",
        "leave className as it is",
        "leave accessMode as it is",
        "write the old size or a larger one",
    }
    assert all("oldSelf" in rule.cel for rule in _rules() if rule.holds is None)


def test_distinct_by_key():
    rule = distinct("once", key="name")
    assert rule.holds([{"name": "a"}, {"name": "b"}])
    assert not rule.holds([{"name": "a"}, {"name": "a"}])


def test_the_operator_reads_what_an_older_rule_let_in():
    """Markers judge at the door, not when an object is read."""
    spec = make_manifest({"model.uri": "oci://host/model", "serving.access": {"mode": "Internal"}})["spec"]
    assert ModelDeploymentSpec.model_validate(spec).model.uri == "oci://host/model"


def test_integers_become_quantities_but_not_fractions():
    class Sized(ApiModel):
        """Sized."""

        size: Quantity
        """Bytes."""
        share: Fraction
        """Share."""

    assert Sized.model_validate({"size": 2, "share": "1"}).to_wire() == {"size": "2", "share": "1"}
    with pytest.raises(ValueError, match="valid string"):
        Sized.model_validate({"size": True, "share": "1"})
    with pytest.raises(ValueError, match="valid string"):
        Sized.model_validate({"size": 2, "share": 1})


def test_integers_or_strings_are_few_and_in_no_list():
    """Up to Kubernetes 1.33 a rule on one costs some 4 of the 100 million that a whole CRD may spend."""
    found = [path for path, node in SPEC.items() if node.get("x-kubernetes-int-or-string")]
    assert len(found) <= 10
    assert not any("[]" in path for path in found)
