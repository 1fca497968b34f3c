"""Figures from records: a metric along the grid's axis beside the paper's numbers, and statistics by layer.

Each is a Vega-Lite specification, turned into an SVG without script that follows the reader's light or dark setting,
with its data beside as CSV.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from retable.cards import Curve, DatasetCard, Recipe, Scale
from retable.report import render
from retable.report.words import anchor
from retable.rows import Row
from retable.significance import average, deviation
from retable.verdicts import Assessment

# Okabe and Ito's palette (distinct for all common kinds of colour vision), grey in place of its yellow and black.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#808890"]
# One more or fewer than the colours, so that the pairs repeat late.
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
GREY = "#808890"
# On a logarithmic axis, values further below the largest one are the rounding noise of what is zero.
NOISE = 1e-9
LAYERWISE = {
    "effective_rank": "A fall towards 1 is the collapse of all features onto one direction",
    "similarity": "A rise towards 1 is the collapse of all features onto one direction",
    "variance": "A fall towards 0 is the collapse of all features onto one point",
}
OURS, PAPER, CONTROL = "measured here", "the paper", "control"
CONFIG = {
    "background": "transparent",
    "font": "Arial, Helvetica, Liberation Sans, sans-serif",
    "padding": 16,  # room for a reader whose font is wider than the one that measured
    "view": {"stroke": None},
    "axis": {"domainColor": "#8888", "tickColor": "#8888", "gridColor": "#8883", "labelFontSize": 11},
    "legend": {"orient": "bottom", "labelFontSize": 12, "labelLimit": 220, "columnPadding": 24, "symbolOpacity": 1},
    "title": {"fontSize": 12, "anchor": "start"},
}


@dataclass(frozen=True)
class Figure:
    """A Vega-Lite specification with what a reader is told about it."""

    name: str
    caption: str
    category: Scale
    labels: dict[str, str]
    spec: dict[str, Any]
    data: list[dict]
    wide: bool = False


def draw(assessment: Assessment, datasets: Mapping[str, DatasetCard]) -> list[Figure]:
    """All figures that the records allow, in the order of recipes, scales (full first) and data sets."""
    figures = []
    asked = {(verdict.row.recipe.name, verdict.row.variant) for verdict in assessment.values if verdict.row}
    for recipe in assessment.paper.recipes:
        for scale in ("full", "reduced", "demo"):
            rows = [r for r in assessment.rows if (r.recipe.name, r.scale) == (recipe.name, scale) and r.looks]
            for dataset in dict.fromkeys(row.dataset for row in rows):
                here = [row for row in rows if row.dataset == dataset]
                main = [row for row in here if (recipe.name, row.variant) in asked] or here
                labels = {"paper": assessment.paper.id, "recipe": recipe.name, "data set": datasets[dataset].title}
                axis = _main_axis(here)
                if axis:
                    others = [row for row in here if row not in main]
                    figures += _by_axis(assessment, main, others, axis, scale, labels)
                else:
                    figures += _by_variant(here, scale, labels)
                figures += _by_layer(main, axis, scale, labels)
                for curve in recipe.curves:
                    figures += _of_series(curve, here, axis, scale, labels)
    return figures


def to_svg(figure: Figure) -> str:
    """The figure as SVG text; the same data gives the same bytes."""
    return render.to_svg(figure.spec)


def key_of(figure: Figure) -> str:
    """What the SVG is made from."""
    parts = (version("vl-convert-python"), render.STYLE, json.dumps(figure.spec, sort_keys=True))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def to_csv(figure: Figure) -> str:
    """The figure's data, one row a point."""
    text = io.StringIO()
    names = list(dict.fromkeys(key for row in figure.data for key in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(figure.data)
    return text.getvalue()


def _main_axis(rows: Sequence[Row]) -> str | None:
    """The first numeric axis that takes two values or more."""
    for name in dict.fromkeys(name for row in rows for name in row.axes):
        values = {row.axes[name] for row in rows if name in row.axes}
        if len(values) > 1 and all(isinstance(value, int | float) for value in values):
            return name
    return None


def _line_name(row: Row, axis: str | None) -> str:
    return ", ".join([row.label, *(f"{key}={value}" for key, value in row.axes.items() if key != axis)])


# A metric along the axis


def _by_axis(
    assessment: Assessment, main: list[Row], others: list[Row], axis: str, scale: Scale, labels: dict[str, str]
) -> list[Figure]:
    """A figure of the main rows and one of the others; rows without the axis (controls) are in both."""
    controls = [row for row in [*main, *others] if axis not in row.axes]
    figures = []
    for rows, kind in ((main, f"by-{axis}"), (others, f"by-{axis}-others")):
        curves = [row for row in rows if axis in row.axes]
        data = _axis_data(assessment, curves, controls, axis)
        if len({point["x"] for point in data}) > 1:
            figures.append(_axis_figure(curves, data, axis, scale, kind, labels))
    return figures


def _axis_data(assessment: Assessment, curves: Sequence[Row], controls: Sequence[Row], axis: str) -> list[dict]:
    claims = {id(verdict.row): verdict.claim for verdict in assessment.values if verdict.row}
    places = sorted({row.axes[axis] for row in curves})
    data = []
    for row in [*curves, *(controls if curves else ())]:
        values = list(row.values(row.recipe.metric).values())
        if not values:
            continue
        mean, spread = average(values), deviation(values) or 0.0
        point = {"method": _line_name(row, axis), "mean": mean, "low": mean - spread, "high": mean + spread}
        by = OURS if axis in row.axes else CONTROL
        for x in [row.axes[axis]] if axis in row.axes else places:
            data.append(point | {"by": by, "x": x, "n": len(values)})
        claim = claims.get(id(row))
        if claim and row.scale == "full" and axis in row.axes:
            data.append({"method": point["method"], "by": PAPER, "x": row.axes[axis], "mean": claim.mean})
    return data


def _axis_figure(
    curves: Sequence[Row], data: list[dict], axis: str, scale: Scale, kind: str, labels: dict[str, str]
) -> Figure:
    recipe, methods = curves[0].recipe, _methods(curves, axis)
    metric = recipe.metric.replace("_", " ")
    dash = {"field": "by", "scale": {"domain": [OURS, PAPER], "range": [[1, 0], [5, 3]]}, "legend": None}
    x = {"field": "x", "type": "ordinal", "title": axis, "axis": {"labelAngle": 0}}
    y = {"field": "mean", "type": "quantitative", "title": _measure(recipe), "scale": {"zero": False}}
    ours = [{"filter": f"datum.by === '{OURS}'"}]
    bar = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    layers: list[dict] = [
        {"mark": "line", "transform": [{"filter": f"datum.by !== '{CONTROL}'"}],
         "encoding": {"y": y, "color": methods["color"], "strokeDash": dash}},
        {"mark": "rule", "transform": ours, "encoding": {**bar, "color": methods["color"]}},
        {"mark": {"type": "point", "filled": True, "size": 55}, "transform": ours, "encoding": {"y": y, **methods}},
    ]  # fmt: skip
    controls = list(dict.fromkeys(point["method"] for point in data if point["by"] == CONTROL))
    for rank, name in enumerate(controls):
        layers += _control_layers(name, y, [point["x"] for point in data], left=rank % 2 == 0)
    spec = {"width": 300, "height": 220, "encoding": {"x": x}, "layer": layers}
    beside = " Dashed: the paper's numbers." if any(point["by"] == PAPER for point in data) else ""
    dotted = f" Dotted: controls, which have no {axis}." if controls else ""
    caption = (
        f"{labels['data set']}, {scale} scale: {metric} by {axis}. Solid: measured here, mean and sample deviation "
        f"over {recipe.protocol.spread}.{beside}{dotted} See which lines stay up as {axis} grows."
    )
    return _figure(caption, scale, kind, labels, spec, data)


def _control_layers(name: str, y: dict, places: list, left: bool) -> list[dict]:
    """A dotted line through all places, named at its left or right end."""
    this = {"filter": f"datum.method === {json.dumps(name)}"}
    end = {"filter": f"datum.x === {json.dumps(min(places) if left else max(places))}"}
    text = {"type": "text", "align": "left" if left else "right", "dy": -6, "fontSize": 10}
    return [
        {"mark": {"type": "line", "color": GREY, "strokeDash": [1, 3]}, "transform": [this], "encoding": {"y": y}},
        {"mark": text, "transform": [this, end], "encoding": {"y": y, "text": {"field": "method"}}},
    ]


# A metric by row, where no axis is varied


def _by_variant(rows: Sequence[Row], scale: Scale, labels: dict[str, str]) -> list[Figure]:
    """One line a variant: its mean with the deviation; none where there is nothing to compare."""
    data = []
    for row in rows:
        values = list(row.values(row.recipe.metric).values())
        if values:
            mean, spread = average(values), deviation(values) or 0.0
            point = {"method": _line_name(row, None), "mean": mean, "n": len(values)}
            data.append(point | {"low": mean - spread, "high": mean + spread})
    if len(data) < 2:
        return []
    recipe = rows[0].recipe
    metric = recipe.metric.replace("_", " ")
    x = {"field": "mean", "type": "quantitative", "title": _measure(recipe), "scale": {"zero": False}}
    y = {"field": "method", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 260}}
    colour = {"color": {"value": COLOURS[0]}}
    layers = [
        {"mark": "rule", "encoding": {"x": x | {"field": "low"}, "x2": {"field": "high"}, **colour}},
        {"mark": {"type": "point", "filled": True, "size": 55}, "encoding": {"x": x, **colour}},
    ]
    caption = (
        f"{labels['data set']}, {scale} scale: {metric} of each row, mean and sample deviation over "
        f"{recipe.protocol.spread}. See which change moves the number, and by more than its spread."
    )
    spec = {"width": 300, "height": {"step": 24}, "encoding": {"y": y}, "layer": layers}
    return [_figure(caption, scale, "by-variant", labels, spec, data)]


# Statistics by layer


def _by_layer(rows: list[Row], axis: str | None, scale: Scale, labels: dict[str, str]) -> list[Figure]:
    """For each statistic a panel a value of the axis and a line a method; panels of one layer are left out.

    Where features were recorded at several places of a layer, those after the normalisation (`<statistic>/norm`)
    are drawn; the others are curves on the cells' pages.
    """
    figures = []
    declared = {curve.series for row in rows for curve in row.recipe.curves}
    keys = sorted({key for row in rows for record in row.records for key in record.series} - declared)
    for key in [key for key in keys if key.endswith("/norm")] or keys:
        quantity, _, place = key.partition("/")
        data = [point for row in rows for point in _layer_data(row, key, axis)]
        depths = {x: max(p["layer"] for p in data if p["x"] == x) for x in {p["x"] for p in data}}
        panels = sorted(x for x, layers in depths.items() if layers > 1)
        if quantity not in LAYERWISE or not panels:
            continue
        data = [point for point in data if point["x"] in panels]
        methods = _methods([row for row in rows if axis is None or axis in row.axes], axis)
        charts = [_layer_panel(x, depths[x], axis, methods, data, quantity if x == panels[0] else "") for x in panels]
        name = quantity.replace("_", " ") + (f" after “{place}”" if place else "")
        caption = f"{labels['data set']}, {scale} scale: {name}, by layer, mean over runs. {LAYERWISE[quantity]}."
        spec = {"hconcat": charts, "spacing": 14}
        figures.append(_figure(caption, scale, key, labels, spec, data, wide=len(charts) > 2))
    return figures


def _layer_panel(x: Any, layers: int, axis: str | None, methods: dict, data: list[dict], quantity: str) -> dict:
    ticks = list(range(1, layers + 1, max(1, layers // 5)))
    top = max(point["mean"] for point in data)
    y_axis = {"title": quantity.replace("_", " ") or None, "labels": bool(quantity)}
    return {
        "width": 165,
        "height": 150,
        "title": f"{axis} {x}" if axis else "",
        "transform": [{"filter": f"datum.x === {json.dumps(x)}"}],
        "mark": {"type": "line", "point": {"size": 22}},
        "encoding": {
            "x": {"field": "layer", "type": "quantitative", "axis": {"values": ticks, "format": "d", "grid": False}},
            "y": {"field": "mean", "type": "quantitative", "scale": {"domain": [0, top]}, "axis": y_axis},
            **methods,
        },
    }


def _layer_data(row: Row, key: str, axis: str | None) -> list[dict]:
    """Mean by layer over the runs; layers count from 1. A row without the axis (a control) has no panel."""
    runs = [record.series[key] for record in row.records if record.series.get(key)]
    if axis is not None and axis not in row.axes:
        return []
    place = {"x": row.axes[axis] if axis else "", "method": _line_name(row, axis)}
    return [
        {**place, "layer": layer, "mean": average(values), "n": len(values)}
        for layer, values in enumerate(zip(*runs, strict=False), start=1)
    ]


# Series that the card asks for


def _of_series(
    curve: Curve, rows: Sequence[Row], axis: str | None, scale: Scale, labels: dict[str, str]
) -> list[Figure]:
    """One figure of a series with a line a row.

    Where that would be more lines than colours, only the rows at the middle of the axis are drawn, and those that
    do not have it.
    """
    rows = [row for row in rows if any(record.series.get(curve.series) for record in row.records)]
    places = sorted({row.axes[axis] for row in rows if axis in row.axes}) if axis else []
    middle = ""
    if len(rows) > len(COLOURS) and axis and len(places) > 1:
        chosen = places[len(places) // 2]
        rows = [row for row in rows if row.axes.get(axis, chosen) == chosen]
        middle = f", {axis} {chosen}"
    data = [point for row in rows for point in _series_data(row, curve)]
    if not data:
        return []
    if curve.log:
        largest = max(point["mean"] for point in data)
        data = [point for point in data if point["mean"] > NOISE * largest]
    names = list(dict.fromkeys(point["method"] for point in data))
    order = [variant.label for variant in rows[0].recipe.variants.values()]
    # A variant has its colour in all figures, unless it has several lines.
    alone = len({row.label for row in rows}) == len(names)
    ranks = [order.index(row.label) for row in rows if _line_name(row, None) in names] if alone else range(len(names))
    channel = {"field": "method", "type": "nominal", "title": None}
    wheel = {"domain": names, "range": _colours(ranks)}
    colour = {"color": channel | {"scale": wheel, "legend": {"columns": 1 if max(map(len, names)) > 18 else 2}}}
    x = {"field": "x", "type": "quantitative", "title": curve.x, "scale": {"zero": False, "nice": False}}
    y_scale = {"type": "log"} if curve.log else {"zero": False}
    y = {"field": "mean", "type": "quantitative", "title": curve.y, "scale": y_scale}
    few = len({point["x"] for point in data}) <= 20
    layers: list[dict] = [
        {"mark": {"type": "area", "opacity": 0.15}, "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}}},
        {"mark": {"type": "line", "point": {"size": 22} if few else False}, "encoding": {"y": y}},
    ]
    spec = {"width": 300, "height": 220, "encoding": {"x": x, **colour}, "layer": layers}
    caption = (
        f"{labels['data set']}, {scale} scale{middle}: {curve.y} by {curve.x}, mean and sample deviation over "
        f"{rows[0].recipe.protocol.spread}. {curve.caption}"
    )
    return [_figure(caption, scale, f"series-{curve.series}", labels, spec, data)]


def _colours(ranks: Iterable[int]) -> list[str]:
    """A colour for each variant's place in the card; where two would have the same, the later takes a free one."""
    own = [COLOURS[rank % len(COLOURS)] for rank in ranks]
    free = [colour for colour in COLOURS if colour not in own]
    return [free.pop(0) if colour in own[:line] and free else colour for line, colour in enumerate(own)]


def _series_data(row: Row, curve: Curve) -> list[dict]:
    """Mean and deviation over the runs at each place that all of them have."""
    runs = [record.series[curve.series] for record in row.records if record.series.get(curve.series)]
    name, data = _line_name(row, None), []
    for place, values in enumerate(zip(*runs, strict=False)):
        if curve.at and place >= len(curve.at):
            break
        mean, spread = average(values), deviation(values) or 0.0
        if curve.log and mean <= 0:
            continue
        low = mean if curve.log and spread >= mean else mean - spread
        x = curve.at[place] if curve.at else place + 1
        data.append({"method": name, "x": x, "mean": mean, "low": low, "high": mean + spread, "n": len(values)})
    return data


def _measure(recipe: Recipe) -> str:
    """A recipe's metric as an axis' title, with its unit if it has one."""
    metric = recipe.metric.replace("_", " ")
    return f"{metric} ({recipe.unit})" if recipe.unit else metric


def _methods(rows: Sequence[Row], axis: str | None) -> dict:
    """Colour and shape of each line, by its variant's place in the card: the same in every figure of a recipe."""
    order = [variant.label for variant in rows[0].recipe.variants.values()]
    ranks = {_line_name(row, axis): order.index(row.label) for row in rows}
    names = sorted(ranks, key=ranks.__getitem__)
    channel = {"field": "method", "type": "nominal", "title": None}
    legend = {"columns": 1 if max(map(len, names)) > 18 else 2}
    return {
        key: {
            **channel,
            "legend": legend,
            "scale": {"domain": names, "range": [wheel[ranks[n] % len(wheel)] for n in names]},
        }
        for key, wheel in (("color", COLOURS), ("shape", SHAPES))
    }


def _figure(
    caption: str, scale: Scale, kind: str, labels: dict[str, str], spec: dict, data: list[dict], wide: bool = False
) -> Figure:
    parts = (labels["paper"], labels["recipe"], scale, labels["data set"], kind)
    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "data": {"values": data}, "config": CONFIG}
    return Figure(
        "_".join(anchor(part) for part in parts), caption, scale, labels | {"figure": kind}, whole | spec, data, wide
    )
