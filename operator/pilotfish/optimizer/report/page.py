"""report.html: one file that shows the whole report. No script, nothing loaded from elsewhere, every text escaped.

The report may come from anybody's store and names in it from anybody's model: the template engine escapes all of them,
and the page forbids itself everything but its own style.
"""

import json
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from pilotfish.api.report import Report
from pilotfish.optimizer.progress import clock_text, size_text
from pilotfish.optimizer.report import charts
from pilotfish.optimizer.report.heat import heat_maps
from pilotfish.optimizer.report.scales import short

PAGE = "report.html"


def render_page(report: Report) -> str:
    """The page's text; equal reports give equal pages."""
    plots = (
        charts.speed_against_error(report),
        charts.latencies(report),
        charts.throughputs(report),
        charts.loads(report),
    )
    layers = [(c, charts.layer_errors(c, index=i)) for i, c in enumerate(report.candidates) if c.layers]
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            winner=next((c for c in report.candidates if c.variant == report.winner), None),
            plots=[plot for plot in plots if plot is not None],
            layers=layers,
            training=[(stage, charts.curves(stage, index=i)) for i, stage in enumerate(report.training)],
            profiles=[(p, charts.operators(p, index=i)) for i, p in enumerate(report.profile)],
            heat=heat_maps(report.explanation) if report.explanation else (),
            recipe=json.dumps(report.recipe, indent=2, ensure_ascii=False),
            batches=sorted({m.batch for c in report.candidates for m in c.measurements}),
        )
    )


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("pilotfish.optimizer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(short=short, size=size_text, clock=clock_text)
    return found
