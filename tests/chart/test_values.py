"""Values, their documentation and the templates say the same."""

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import chart_docs
import pytest
import yaml

from pilotfish.api.spec import ModelDeploymentSpec
from support.apiserver import REPOSITORY
from support.helm import CHART, EXAMPLES, helm, render, render_text, values_of

VALUES = chart_docs.read_values((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# What a marker cannot go through: it has to be a real address, or is only asked whether it is empty.
ADDRESSES = {"prometheus.url": "http://{}", "metrics.prometheusRule.runbookUrl": "http://{}"}
# Of two values, the first switches the second off.
ALTERNATIVES = ("digest", "configMap", "fullnameOverride")


def leaves(schema=SCHEMA, path=()):
    """(path, schema) of every value that can be set."""
    for name, node in schema["properties"].items():
        if "properties" in node:
            yield from leaves(node, (*path, name))
        elif name != "global":
            yield (*path, name), node


LEAVES = dict(leaves())


def with_value(values, path, value):
    """The values with another one."""
    changed = deepcopy(values)
    node = changed
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return changed


def marker_of(number, path, node):
    """A value of the right shape and the text that it leaves in what is rendered."""
    mark = f"mark-{number}-end"
    default = node.get("default")
    name = ".".join(path)
    if isinstance(default, bool) or "enum" in node:
        return None
    if isinstance(default, int | float):
        return 70000 + number, str(70000 + number)
    if isinstance(default, str):
        return ADDRESSES.get(name, "{}").format(mark), mark
    if isinstance(default, dict):
        return {mark: [mark] if name.endswith("namespaces") else mark}, mark
    return shape_of_items(name, number, mark)


def shape_of_items(name, number, mark):
    if name == "networkPolicy.apiServer.ports":
        return [70000 + number], str(70000 + number)
    if name == "metrics.prometheusRule.disabled":
        return None
    texts = {"imagePullSecrets", "watchNamespaces", "images.pullSecrets", "networkPolicy.apiServer.cidrs"}
    is_text = name in texts or name.startswith("admission.")
    return [mark if is_text else {"name": mark}], mark


def render_with(values, tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    return render_text("--values", str(file), "--skip-schema-validation")


def all_on():
    """Every switch on, so that no value hides behind one."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, node in LEAVES.items():
        if node.get("default") is False:
            values = with_value(values, path, True)
    return values


def quick(values):
    """Without the CRD, which is most of the text."""
    return with_value(values, ("crds", "enabled"), False)


def test_every_value_is_used_by_a_template(tmp_path):
    marked, marks = quick(all_on()), {}
    for number, (path, node) in enumerate(LEAVES.items()):
        if found := marker_of(number, path, node):
            marked = with_value(marked, path, found[0])
            marks[path] = found[1]
    plain = marked
    for path in marks:
        if path[-1] in ALTERNATIVES:
            plain = with_value(plain, path, "")
    text = render_with(marked, tmp_path) + render_with(plain, tmp_path)
    assert [".".join(path) for path, mark in marks.items() if mark not in text] == []


SWITCHES = [path for number, (path, node) in enumerate(LEAVES.items()) if marker_of(number, path, node) is None]


@pytest.mark.parametrize("path", SWITCHES, ids=".".join)
def test_every_switch_changes_what_is_rendered(path, tmp_path):
    node = LEAVES[path]
    values = all_on() if path[0] == "crds" else quick(all_on())
    before = render_with(values, tmp_path)
    if isinstance(node["default"], bool):
        other = False
    elif "enum" in node:
        other = next(word for word in node["enum"] if word != node["default"])
    else:
        other = ["OperatorDown"]
    assert render_with(with_value(values, path, other), tmp_path) != before


def test_every_value_is_documented():
    texts = {value.path: value.text for value in VALUES}
    bare = [
        ".".join(path) for path in LEAVES if not any(texts.get(path[:length]) for length in range(1, len(path) + 1))
    ]
    assert bare == []


def test_every_mapping_of_known_keys_is_closed_and_says_its_defaults():
    def check(node, values):
        assert node["additionalProperties"] is False
        assert set(values) == set(node["properties"]) - {"global"}
        for name, inner in node["properties"].items():
            if "properties" in inner:
                check(inner, values[name])
            elif name != "global":
                assert inner["default"] == values[name]

    check(SCHEMA, yaml.safe_load((CHART / "values.yaml").read_text()))


class TestGenerator:
    def test_readme_and_schema_are_up_to_date(self):
        command = [sys.executable, str(REPOSITORY / "hack" / "chart_docs.py"), "--check"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_a_new_value_comes_with_its_type_and_an_old_one_goes(self):
        values = chart_docs.read_values(
            "# Comment\n# of two lines.\nnew: 3\ngroup:\n  # Inner.\n  enabled: true\nfree: {a: b}\n"
        )
        kept = {"properties": {"old": {"type": "string"}, "global": {"type": "object"}}}
        schema = chart_docs.make_schema(values, kept)
        assert list(schema["properties"]) == ["new", "group", "free", "global"]
        assert schema["properties"]["new"] == {"description": "Comment of two lines.", "type": "integer", "default": 3}
        assert schema["properties"]["group"]["additionalProperties"] is False
        assert schema["properties"]["group"]["properties"]["enabled"]["description"] == "Inner."
        assert schema["properties"]["free"] == {"type": "object", "default": {"a": "b"}}
        assert "| `new` | `3` | Comment of two lines. |" in chart_docs.make_table(values, schema)

    def test_limits_that_were_written_by_hand_stay(self):
        values = chart_docs.read_values("# New text.\nport: 5\n")
        kept = {"properties": {"port": {"type": "integer", "minimum": 1, "description": "Old text.", "default": 4}}}
        (port,) = chart_docs.make_schema(values, kept)["properties"].values()
        assert port == {"description": "New text.", "type": "integer", "minimum": 1, "default": 5}


class TestNotes:
    @pytest.fixture
    def notes(self):
        def show(*arguments):
            done = helm("install", "pilotfish", str(CHART), "--dry-run=client", *arguments)
            assert done.returncode == 0, done.stderr
            return done.stdout.partition("NOTES:")[2]

        return show

    def test_monitors_without_labels_are_named(self, notes):
        on = ("--set", "metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true")
        assert "metrics.podMonitor.labels is empty" in notes(*on)
        assert "metrics.prometheusRule.labels is empty" in notes(*on)
        assert "WARNING" not in notes(*values_of("monitoring"))

    def test_they_say_how_to_look(self, notes):
        assert "helm -n default test pilotfish --logs" in notes()


def test_the_examples_are_those_that_the_readme_describes():
    assert set(EXAMPLES) == {"all", "ha", "minimal", "monitoring", "namespaced"}


def test_the_package_holds_what_the_chart_needs(tmp_path):
    done = helm("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = Path(tmp_path).glob("*.tgz")
    names = subprocess.run(["tar", "tzf", str(package)], capture_output=True, text=True, check=True).stdout.split()
    inside = {name.removeprefix("pilotfish/") for name in names}
    wanted = {
        "Chart.yaml",
        "README.md",
        "values.yaml",
        "values.schema.json",
        "files/pilotfish.dev_modeldeployments.yaml",
    }
    wanted |= {str(path.relative_to(CHART)) for path in (CHART / "files").rglob("*") if path.is_file()}
    assert wanted <= inside
    assert not [name for name in inside if name.startswith("ci/")]
    assert render() == render()


class TestArtifactHub:
    @pytest.fixture(scope="class")
    def chart(self):
        return yaml.safe_load((CHART / "Chart.yaml").read_text())

    def test_the_images_are_those_of_the_values(self, chart):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        named = [values["image"], *(image for image in values["images"].values() if isinstance(image, dict))]
        wanted = {f"{i['repository']}:{i['tag'] or chart['appVersion']}" for i in named if i["repository"]}
        told = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
        assert {image["image"] for image in told} == wanted

    def test_the_example_is_a_valid_object(self, chart):
        (example,) = yaml.safe_load(chart["annotations"]["artifacthub.io/crdsExamples"])
        ModelDeploymentSpec.model_validate(example["spec"])
        (crd,) = yaml.safe_load(chart["annotations"]["artifacthub.io/crds"])
        assert (crd["kind"], f"pilotfish.dev/{crd['version']}") == (example["kind"], example["apiVersion"])
