"""Small line drawings of a run's series for cell pages: hundreds of them must cost nothing."""

from collections.abc import Sequence

from markupsafe import Markup

from retable.records import RunRecord
from retable.report.figures import LAYERWISE
from retable.report.words import number
from retable.significance import average

# Of more runs the mean is drawn, between the least and the largest value.
MOST_LINES = 20
WIDTH, HEIGHT, LEFT, RIGHT, TOP, FOOT = 330, 130, 58, 6, 8, 18
PICTURE = Markup(
    '<svg viewBox="0 0 {width} {height}" class="curve" role="img" aria-label="between {low} and {high}">'
    '<path class="frame" d="M{left} {top}V{bottom}H{right}"/>{lines}'
    '<text class="y" x="{beside}" y="{top}" dy="4">{high}</text>'
    '<text class="y" x="{beside}" y="{bottom}">{low}</text>'
    '<text x="{left}" y="{below}">{first}</text><text class="y" x="{right}" y="{below}">{last}</text></svg>'
)


def draw(records: Sequence[RunRecord]) -> dict[str, Markup]:
    """For each recorded series an SVG with one line a seed; series by layer are counted from 1, others from 0."""
    names = sorted({name for record in records for name, values in record.series.items() if len(values) > 1})
    pictures = {}
    for name in names:
        first = 1 if name.partition("/")[0] in LAYERWISE else 0
        pictures[name] = _picture([record.series.get(name, []) for record in records], first)
    return pictures


def _band(runs: Sequence[Sequence[float]]) -> list[list[tuple[int, float]]]:
    """Of many runs the least, the mean and the largest value at each step: a page holds no hundred lines."""
    steps = [[run[x] for run in runs if len(run) > x] for x in range(max(len(run) for run in runs))]
    return [[(x, pick(values)) for x, values in enumerate(steps)] for pick in (min, average, max)]


def _picture(runs: Sequence[Sequence[float]], first: int) -> Markup:
    low, high = min(min(run) for run in runs if run), max(max(run) for run in runs if run)
    steps = max(len(run) for run in runs) - 1
    bottom, right = HEIGHT - FOOT, WIDTH - RIGHT
    across, up = (right - LEFT) / steps, (bottom - TOP) / ((high - low) or 1.0)
    drawn = _band(runs) if len(runs) > MOST_LINES else [list(enumerate(run)) for run in runs]
    lines = "".join(
        '<polyline points="'
        + " ".join(f"{LEFT + x * across:.1f},{bottom - (y - low) * up:.1f}" for x, y in line)
        + '"/>'
        for line in drawn
    )
    return PICTURE.format(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=right,
        top=TOP,
        bottom=bottom,
        beside=LEFT - 5,
        below=HEIGHT - 4,
        low=number(low),
        high=number(high),
        first=first,
        last=first + steps,
        lines=Markup(lines),
    )
