"""docs/metrics.md is what the registry says, and the check notices when it is not."""

import subprocess
import sys

import generated
import metrics_docs
from prometheus_client import Counter

from pilotfish.telemetry.gauges import GAUGES
from pilotfish.telemetry.metrics import REGISTRY
from support.apiserver import REPOSITORY


def test_the_page_is_up_to_date():
    """In a process of its own: what other tests have counted is none of the page's business."""
    command = [sys.executable, "-W", "ignore", str(REPOSITORY / "hack" / "metrics_docs.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run hack/generate"


def test_a_new_metric_makes_it_stale(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["metrics_docs.py", "--check"])
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    monkeypatch.setattr(metrics_docs, "FILE", tmp_path / "metrics.md")
    (tmp_path / "metrics.md").write_text(metrics_docs.page())
    assert metrics_docs.main() == 0
    counter = Counter("pilotfish_novelties", "Things that nobody wrote down.", registry=REGISTRY)
    try:
        assert metrics_docs.main() == 1
    finally:
        REGISTRY.unregister(counter)
    assert capsys.readouterr().err == "metrics.md differs from operator/pilotfish/telemetry: run hack/generate\n"


def test_every_metric_says_what_it_is_and_in_which_unit():
    families = [(metric.name, metric.documentation) for metric in REGISTRY.collect()]
    for name, told in [*families, *((gauge.name, gauge.help) for gauge in GAUGES)]:
        assert name.startswith(("pilotfish_", "process_")), name
        assert told.endswith("."), f"{name}: {told}"
        assert not name.endswith(("_ms", "_milliseconds", "_us", "_minutes")), f"{name}: seconds and bytes"


def test_no_counter_carries_the_name_of_an_object():
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            assert not {"name", "namespace", "uid", "revision"} & set(sample.labels), sample
