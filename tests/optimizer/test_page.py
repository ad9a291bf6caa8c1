"""report.html: all figures stand in it, nothing in it runs or loads, whatever names a model brings."""

import re
from html.parser import HTMLParser
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.wheel import WheelBuilder

from pilotfish.api.report import Report
from pilotfish.optimizer.report.page import render_page
from pilotfish.optimizer.report.scales import linear, logarithmic, short
from support.reports import candidate, error, make_report, make_wire, measurement

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"' {{ 7 * 7 }} {% raw %} &amp;"


class Seen(HTMLParser):
    """What a browser would make of a page: its tags with attributes, its text, and whether all is closed in order."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self.open, self.headings = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag == self.open[-1], f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in {"h1", "h2", "h3", "figcaption"}:
            self.headings.append(data)
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def seen():
    return Seen(render_page(make_report()))


def test_it_is_whole_and_shows_every_section(seen):
    assert seen.open == []
    for section in (
        "Candidates",
        "Differences to the original",
        "Training",
        "Where the time goes",
        "What answers depend on",
        "Stages",
        "Notes",
        "Provenance",
    ):
        assert section in seen.headings
    for plot in ("Speed against error", "Latency at batch 1", "Throughput by batch size", "Throughput by callers at once",
                 "Error by layer: onnx-int8-static", "Loss: distill", "accuracy: distill",
                 "Time by operator: onnx-int8-static (winner)", "image: all samples", "image of sample 0: logits[3]",
                 "age of sample 0: logits[3]"):  # fmt: skip
        assert plot in seen.headings
    for figure in ("0.12 / 0.144", "8333", "relative error 0.31 is above 0.05", "the graph cannot be traced", "90.0 MiB",
                   "sha256:" + "ab" * 32, "the batch dimension was free", "onnxruntime 1.31.0", "digits/1/model.onnx",
                   "1.4 times the throughput", "the server did not load it", "exports/model.tflite", "has no counterpart",
                   "profile/winner.trace.json.gz", "the profiler ended with exit code 1",
                   "IntegratedGradients by captum 0.8.0", "its attributions are not finite numbers", "0.0002"):  # fmt: skip
        assert figure in seen.text, figure


def test_the_winner_is_marked_among_candidates_and_among_settings(seen):
    assert len([row for row in seen.all("tr") if "winner" in row.get("class", "")]) == 2


def test_it_loads_nothing_and_runs_nothing(seen):
    assert not seen.all("script")
    assert not [a for _, attributes in seen.tags for a in attributes if a.startswith("on") or a in {"src", "href"}]
    policy = next(m["content"] for m in seen.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "url(" not in render_page(make_report())


def test_drawings_have_names_and_tables_have_captions_and_scopes(seen):
    assert len(seen.all("svg")) == len(seen.all("title")) - 1 - _tips(seen)
    for svg in seen.all("svg"):
        assert svg["role"] == "img"
        assert all(any(a.get("id") == wanted for _, a in seen.tags) for wanted in svg["aria-labelledby"].split())
    assert len(seen.all("caption")) == len(seen.all("table"))
    assert all("scope" in th for th in seen.all("th"))
    ids = [a["id"] for _, a in seen.tags if "id" in a]
    assert len(ids) == len(set(ids))


def _tips(seen):
    return sum(1 for a in seen.all("title") if "id" not in a) - 1


def test_every_drawing_stays_on_its_paper(seen):
    page = render_page(make_report())
    for svg in re.findall(r"<svg viewBox=\"0 0 (\d+) (\d+)\"(.*?)</svg>", page, re.DOTALL):
        width, height = int(svg[0]), int(svg[1])
        for name, limit in (("x", width), ("cx", width), ("x1", width), ("x2", width), ("y", height), ("cy", height)):
            places = [float(v) for v in re.findall(rf'\b{name}="(-?[\d.]+)"', svg[2])]
            assert all(0 <= place <= limit for place in places), (name, places)


def test_light_dark_and_paper(seen):
    page = render_page(make_report())
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def hostile(value):
    """The same document with a hostile text in the place of every free text."""
    if isinstance(value, dict):
        kept = {
            "golden",
            "method",
            "objective",
            "verdict",
            "format",
            "precision",
            "backend",
            "digest",
            "samples",
            "sha256",
            "path",
        }
        return {
            key: child if key in kept and isinstance(child, str) else hostile(child) for key, child in value.items()
        }
    if isinstance(value, list):
        return [hostile(child) for child in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_names_stay_text():
    wire = hostile(make_wire(recipe={HOSTILE: HOSTILE}))
    wire["environment"]["packages"] = {HOSTILE: HOSTILE}
    wire["files"][0]["path"] = wire["profile"][0]["trace"]["path"] = HOSTILE
    page = render_page(Report.model_validate(wire))
    seen, plain = Seen(page), Seen(render_page(make_report()))
    assert seen.open == []
    assert {tag for tag, _ in seen.tags} == {tag for tag, _ in plain.tags}
    assert not [a for _, attributes in seen.tags for a in attributes if a.startswith("on") or a in {"src", "href"}]
    assert "{{ 7 * 7 }}" in seen.text
    assert seen.headings[0] == HOSTILE


def test_an_old_report_without_the_new_sections_has_a_page():
    wire = make_wire(training=[], profile=[], exports=[], tuning=None, metric=None, notes=[], stages=[], why=None)
    for one in (wire["baseline"], *wire["candidates"]):
        one["measurements"] = [
            {k: v for k, v in m.items() if k in {"batch", "throughput", "spread"}}
            | {"latencyMs": {"median": 1, "p95": 2}}
            for m in one.get("measurements", [])
        ]
        one.pop("layers", None)
    seen = Seen(render_page(Report.model_validate(wire)))
    assert seen.open == []
    assert "Latency at batch 1" not in seen.headings


@pytest.mark.parametrize(
    "candidates",
    [
        [candidate("onnx-fp32")],
        [candidate("onnx-fp32", error=error(0.0), speedup=1.0, measurements=[measurement(1, 1e-9)])],
        [candidate("onnx-fp32", error=error(float("inf")), speedup=1e9, measurements=[measurement(1, 1e9)])],
        [
            candidate(f"onnx-{n}", error=error(10.0**-n), speedup=n + 1, measurements=[measurement(1, 1)])
            for n in range(30)
        ],
    ],
    ids=["nothing measured", "tiny", "enormous", "many"],
)
def test_odd_figures_have_a_page(candidates):
    seen = Seen(render_page(make_report(candidates=candidates, winner=candidates[0]["variant"])))
    assert seen.open == []
    assert not re.search(r"\bnan\b", seen.text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05, "0.05"),
        (3e-7, "3e-7"),
        (1234, "1234"),
        (12345, "12.3k"),
        (2.5e6, "2.5M"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_for_labels(value, text):
    assert short(value) == text


@pytest.mark.parametrize("values", [[0.001, 3], [5], [0, 0], [1e-9, 1e9], [7, 7.0001], [-3, 2], [float("nan"), 1]])
@pytest.mark.parametrize("make", [linear, logarithmic])
def test_scales_hold_their_values_and_have_a_handful_of_lines(make, values):
    scale = make(values, start=100, end=500)
    assert all(100 <= scale.at(v) <= 500 for v in values if v == v)  # noqa: PLR0124 - NaN
    assert 1 <= len(scale.ticks()) <= 12
    places = [place for place, _ in scale.ticks()]
    assert places == sorted(places)


def test_the_wheel_brings_the_templates(tmp_path):
    root = Path(__file__).resolve().parents[2]
    (wheel,) = WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"])
    templates = {f"pilotfish/optimizer/report/templates/{name}" for name in ("report.html.j2", "plot.j2", "report.css")}
    assert templates <= set(ZipFile(wheel).namelist())
