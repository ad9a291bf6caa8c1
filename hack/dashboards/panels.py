"""Panels, variables and annotations as all dashboards use them. Must not know a metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from grafana_foundation_sdk.builders import common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
Panel = timeseries.Panel | stat.Panel | table.Panel


class Unit(StrEnum):
    """Grafana's names of units."""

    NUMBER = "short"
    SECONDS = "s"
    MICROSECONDS = "µs"
    SHARE = "percentunit"
    PERCENT = "percent"
    REQUESTS = "reqps"
    PER_SECOND = "ops"
    BYTES = "bytes"
    CORES = "cores"
    TIMES = "x"
    WATTS = "watt"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called: `{{label}}` is that label's value."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table: a query whose series carry the same labels as those of the other columns, and how it is shown."""

    title: str
    expr: str
    unit: Unit = Unit.NUMBER
    colours: Mapping[float, str] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


def make_graph(
    title: str,
    description: str,
    *queries: Query,
    unit: Unit,
    span: int = 8,
    stacked: bool = False,
    limits: Mapping[float, str] | None = None,
) -> timeseries.Panel:
    """Lines over time, from zero; `limits` are values from which on it is that colour, as areas behind the lines."""
    legend = common.VizLegendOptions().show_legend(show_legend=True).placement(common_models.LegendPlacement.BOTTOM)
    panel = timeseries.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(span).height(8)
    panel.min(0).fill_opacity(30 if stacked else 8).line_width(1).show_points(common_models.VisibilityMode.NEVER)
    panel.legend(legend.calcs(["lastNotNull", "max"]).display_mode(common_models.LegendDisplayMode.TABLE))
    panel.tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if limits:
        panel.thresholds(_thresholds(limits))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED))
    return panel.targets([_target(index, query) for index, query in enumerate(queries)])


def make_number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: Unit = Unit.NUMBER,
    span: int = 3,
    colours: Mapping[float, str] | None = None,
    words: bool = False,
    when_none: str = "-",
) -> stat.Panel:
    """The last value, large; `words`: the series' name instead of its value."""
    panel = stat.Panel().title(title).description(description).datasource(SOURCE).unit(unit).span(span).height(4)
    panel.no_value(when_none).thresholds(_thresholds(colours or {}))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(common_models.BigValueGraphMode.NONE if words else common_models.BigValueGraphMode.AREA)
    panel.text_mode(common_models.BigValueTextMode.NAME if words else common_models.BigValueTextMode.VALUE)
    return panel.targets([_target(0, query, instant=words)])


def make_table(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    hidden: Sequence[str] = (),
    height: int = 9,
    span: int = WIDTH,
    links: Mapping[str, str] | None = None,
) -> table.Panel:
    """One row for each set of labels; `hidden`: labels without a column; `links`: addresses by label."""
    panel = table.Panel().title(title).description(description).datasource(SOURCE).unit(Unit.NUMBER).span(span)
    panel.height(height).targets([_target(i, Query(c.expr), instant=True) for i, c in enumerate(columns)])
    names = (
        {f"Value #{_ref(i)}": c.title for i, c in enumerate(columns)}
        if len(columns) > 1
        else {"Value": columns[0].title}
    )
    gone = {"Time": True, **dict.fromkeys(hidden, True)}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(id_val="organize", options={"excludeByName": gone, "renameByName": names})
    )
    for column in columns:
        shown = [models.DynamicConfigValue(id_val="unit", value=column.unit)]
        if column.colours:
            shown.append(models.DynamicConfigValue(id_val="thresholds", value=_thresholds(column.colours).build()))
            shown.append(models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
        panel.override_by_name(column.title, shown)
    for label, url in (links or {}).items():
        link = [{"title": "Its dashboard", "url": url}]
        panel.override_by_name(label, [models.DynamicConfigValue(id_val="links", value=link)])
    return panel


def make_source() -> build.DatasourceVariable:
    """Which Prometheus: the only place that says where data comes from."""
    return build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def make_variable(name: str, label: str, query: str, *, every: bool = False) -> build.QueryVariable:
    """Values of a label; `every`: several may be chosen, and all are at first."""
    variable = build.QueryVariable(name).label(label).datasource(SOURCE).sort(models.VariableSort.ALPHABETICAL_ASC)
    variable.query({"query": query, "refId": f"variable-{name}"}).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.multi(multi=True).include_all(include_all=True) if every else variable


class _Mark(models.AnnotationQuery):
    """With what Prometheus' annotations have beside Grafana's schema."""

    def __init__(self, *, name: str, expr: str, text: str, colour: str, value_is_time: bool) -> None:
        super().__init__(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=expr)
        self._more: dict[str, object] = {"titleFormat": name, "textFormat": text, "useValueForTime": value_is_time}

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), **self._more}


@dataclass(frozen=True, kw_only=True)
class Mark(Builder[models.AnnotationQuery]):
    """Something that happened; `expr` has a value then, or is the time in milliseconds where `value_is_time`."""

    name: str
    expr: str
    text: str
    colour: Literal["blue", "green", "red", "orange"]
    value_is_time: bool = False

    def build(self) -> models.AnnotationQuery:
        """As Grafana's SDK asks for it."""
        return _Mark(
            name=self.name, expr=self.expr, text=self.text, colour=self.colour, value_is_time=self.value_is_time
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A whole dashboard."""

    uid: str
    title: str
    description: str
    variables: Sequence[build.QueryVariable]
    rows: Sequence[Row]
    marks: Sequence[Mark] = ()
    since: str = "now-3h"

    def make(self) -> models.Dashboard:
        """As Grafana imports it."""
        board = build.Dashboard(self.title).uid(self.uid).description(self.description).tags(["pilotfish"])
        board.time(self.since, "now").refresh("30s").tooltip(models.DashboardCursorSync.CROSSHAIR)
        board.timezone("browser")
        board.link(
            build.DashboardLink("Pilotfish")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["pilotfish"])
            .as_dropdown(as_dropdown=True)
            .keep_time(keep_time=True)
        )
        board.with_variable(make_source())
        for variable in self.variables:
            board.with_variable(variable)
        for mark in self.marks:
            board.annotation(mark)
        for row in self.rows:
            board.with_row(build.Row(row.title))
            for panel in row.panels:
                board.with_panel(panel)
        made = board.build()
        for number, panel_made in enumerate(made.panels or (), start=1):
            panel_made.id_val = number
        return made


def _ref(index: int) -> str:
    return chr(ord("A") + index)


def _target(index: int, query: Query, *, instant: bool = False) -> Dataquery:
    target = Dataquery().expr(query.expr).ref_id(_ref(index)).datasource(SOURCE).legend_format(query.legend)
    if instant:
        target.format(PromQueryFormat.TABLE if not query.legend else PromQueryFormat.TIME_SERIES)
        return target.instant()
    return target.range()


def _thresholds(colours: Mapping[float, str]) -> build.ThresholdsConfig:
    """Green below the first value."""
    steps = [models.Threshold(value=None, color="green")]
    steps += [models.Threshold(value=value, color=colour) for value, colour in sorted(colours.items())]
    return build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
