"""Drawings of numbers with their intervals, set into pages: claimed against measured, and differences one by one.

They are plain SVG that follows the page's colours: an index has one for every paper, and each must cost nothing.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retable.report.words import MARKS, number, plural
from retable.verdicts import Assessment

MARGIN = 8
ROOM = {"left": 46, "foot": 34}

UPRIGHT = Markup('<g class="{}"><path d="M{x} {}V{}"/><circle cx="{x}" cy="{}" r="3"><title>{}</title></circle></g>')
LEVEL = Markup('{}<g class="{}"><path d="M{} {y}H{}"/><circle cx="{}" cy="{y}" r="3"><title>{}</title></circle></g>')


@dataclass(frozen=True)
class Point:
    """A number with its 95 % interval, a name for it, and the tone of its state."""

    name: str
    value: float
    low: float
    high: float
    tone: str
    claimed: float = 0.0


def claimed_and_measured(assessment: Assessment) -> tuple[str, list[Point]]:
    """The claims that were measured and can be compared, of the metric that most of them have, with its name."""
    at_full = [v for v in assessment.values if v.row and v.row.scale == "full" and v.state != "not comparable"]
    found = [v for v in at_full if v.interval and v.mean is not None]
    if not found:
        return "", []
    (metric, unit), _ = Counter((v.claim.metric, v.claim.unit) for v in found).most_common(1)[0]
    points = []
    for v in found:
        if (v.claim.metric, v.claim.unit) == (metric, unit) and v.interval and v.mean is not None:
            low, high = v.interval
            name = f"{v.claim.dataset}, {v.claim.method}"
            points.append(Point(name, v.mean, low, high, MARKS[v.state].tone, v.claim.mean))
    return f"{metric} ({unit})" if unit else metric, points


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers between two, at most so many, evenly apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(at * step, 12) for at in range(first, math.floor(high / step) + 1)]


def _widened(low: float, high: float) -> tuple[float, float]:
    """With some room at both ends."""
    room = (high - low) * 0.04 or 1.0
    return low - room, high + room


def _told(point: Point) -> str:
    return f"{point.name}: {number(point.claimed)} claimed, {number(point.value)} measured"


def scatter(title: str, points: Sequence[Point], width: int, height: int) -> Markup:
    """Measured over claimed: on the line they agree; bars are 95 % intervals of what was measured."""
    low, high = _widened(min(min(p.low, p.claimed) for p in points), max(max(p.high, p.claimed) for p in points))
    left, bottom = ROOM["left"], height - ROOM["foot"]
    right, top = width - MARGIN, MARGIN

    def x(value: float) -> str:
        return f"{left + (value - low) / (high - low) * (right - left):.1f}"

    def y(value: float) -> str:
        return f"{bottom - (value - low) / (high - low) * (bottom - top):.1f}"

    drawn = [UPRIGHT.format(p.tone, y(p.low), y(p.high), y(p.value), _told(p), x=x(p.claimed)) for p in points]
    outside = sum(1 for p in points if not p.low <= p.claimed <= p.high)
    label = (
        f"{title}: measured against claimed, {plural(len(points), 'number')} with 95 % intervals; "
        f"{outside} of the intervals leave out the claimed number"
    )
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" class="plot" role="img" aria-label="{label}">'
        '<path class="frame" d="M{left} {top}V{bottom}H{right}"/>'
        '<path class="even" d="M{left} {bottom}L{right} {top}"/>'
        "{drawn}{ticks}"
        '<text class="middle" x="{mid}" y="{h}" dy="-4">claimed, {title}</text>'
        '<text class="middle" transform="translate(11 {half}) rotate(-90)">measured</text></svg>'
    ).format(
        w=width, h=height, label=label, left=left, right=right, top=top, bottom=bottom, title=title,
        drawn=Markup("").join(drawn), mid=(left + right) / 2, half=(top + bottom) / 2,
        ticks=Markup("").join(
            Markup('<text class="end" x="{}" y="{}" dy="4">{n}</text><text class="middle" x="{}" y="{}">{n}</text>')
            .format(left - 4, y(value), x(value), bottom + 13, n=number(value))
            for value in ticks(low, high)
        ),
    )  # fmt: skip


def forest(title: str, points: Sequence[Point], width: int, step: int = 20, names: bool = True) -> Markup:
    """Differences with their intervals, one a line, around the line of no difference."""
    low, high = _widened(min(0.0, *(p.low for p in points)), max(0.0, *(p.high for p in points)))
    longest = max(len(p.name) for p in points) if names else 0
    left, right = min(longest * 6.1 + 12, width * 0.55) if names else MARGIN, width - MARGIN
    bottom = MARGIN + step * len(points)

    def x(value: float) -> str:
        return f"{left + (value - low) / (high - low) * (right - left):.1f}"

    lines = []
    for rank, p in enumerate(points):
        y = MARGIN + step * (rank + 0.5)
        short = p.name if len(p.name) * 6.1 + 12 <= left else p.name[: int((left - 18) / 6.1)] + "…"
        text = Markup('<text class="end" x="{}" y="{}" dy="4">{}</text>').format(left - 6, y, short) if names else ""
        told = f"{p.name}: {number(p.value)}"
        lines.append(LEVEL.format(text, p.tone, x(p.low), x(p.high), x(p.value), told, y=y))
    label = f"{title}: {plural(len(points), 'difference')} with 95 % intervals around the line of no difference"
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" class="plot" role="img" aria-label="{label}">'
        '<path class="even" d="M{zero} {top}V{bottom}"/>{lines}'
        "{ticks}"
        '<text class="middle" x="{mid}" y="{h}" dy="-4">{title}</text></svg>'
    ).format(
        w=width, h=bottom + ROOM["foot"], label=label, zero=x(0.0), top=MARGIN, bottom=bottom,
        lines=Markup("").join(lines), mid=(left + right) / 2, title=title,
        ticks=Markup("").join(
            Markup('<text class="middle" x="{}" y="{}">{}</text>').format(x(value), bottom + 13, number(value))
            for value in ticks(low, high)
        ),
    )  # fmt: skip
