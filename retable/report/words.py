"""How states, numbers and findings are put into words. Numbers are rounded here and nowhere earlier."""

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from retable import progress
from retable.cards import Claim, Reach, Recipe, Scalar, Scale
from retable.orders import (
    EQUIVALENCE_STATES,
    ORDER_STATES,
    EquivalenceVerdict,
    OrderingVerdict,
    PairedComparison,
    TrendVerdict,
    Verdict,
    metric_of,
)
from retable.rows import DeviceHours, Row, together
from retable.significance import ALPHA, average, deviation, interval_of_mean
from retable.statements import STATEMENT_STATES, Part, StatementVerdict
from retable.states import StateVerdict
from retable.verdicts import VALUE_STATES, Assessment, ValueVerdict


class Mark(NamedTuple):
    """How a state looks: a symbol beside its word, and a tone for the colour, which never stands alone."""

    symbol: str
    tone: str
    meaning: str


MARKS = {
    "reproduced": Mark(
        "✓", "good", "equivalent to the printed number within the margin (two one-sided t-tests, 5 % over both looks)"
    ),
    "within the margin, not distinctive": Mark(
        "≈", "quiet", "equivalent, but more than half of the table’s other rows lie within the margin too"
    ),
    "differs": Mark("≠", "bad", "significantly different from the claim (t-test, false discovery rate 5 %)"),
    "inconclusive": Mark("?", "open", "too few seeds for either answer"),
    "cannot be decided": Mark("∅", "quiet", "outside the margin, but the paper’s own error is too large to differ"),
    "constant answer": Mark("▬", "bad", "all predictions are one class in every seed; not judged as a value"),
    "collapsed": Mark("●", "bad", "all representations are zero or one direction in every seed; not judged as a value"),
    "mixture": Mark("◐", "open", "constant or collapsed in some seeds only: two numbers and a share, no test of means"),
    "not known": Mark("‽", "open", "older records do not say whether the answer is constant; measure again"),
    "used to set up": Mark("⊙", "quiet", "the number served to choose a setting; shown and not judged"),
    "not comparable": Mark("◇", "quiet", "measured at another scale, or the claim is from memory or of low confidence"),
    "not measured at this scale": Mark("□", "quiet", "runs of this scale do not produce the metric"),
    "holds": Mark(
        "✓", "good", "shown (two-sided test, 5 % after Holm); a headline statement: every part is shown, each at 5 %"
    ),
    "holds in part": Mark("◑", "open", "a headline statement of which some part is shown (5 % after Holm), not all"),
    "reversed": Mark(
        "⇄", "bad", "the opposite is shown (5 % after Holm); a headline statement: of a part, and no part"
    ),
    "undecided": Mark("?", "open", "a headline statement of which no part and no opposite of one is shown"),
    "not measured": Mark("○", "quiet", "a headline statement of which no part was tested"),
    "equivalent": Mark("≡", "good", "the rows differ by less than the margin (two one-sided t-tests, 5 % after Holm)"),
    "not equivalent": Mark("≢", "bad", "the rows differ by more than the margin (t-test, 5 % after Holm)"),
    "incomplete": Mark("…", "open", "some candidates of a tuned setting are not measured"),
    "diverged": Mark("∞", "bad", "training left the finite numbers"),
    "failed": Mark("✕", "bad", "a run ended with an error"),
    "stale": Mark("↻", "open", "the code or the data changed since the run"),
    "not run": Mark("○", "quiet", "planned, no record"),
    "not covered": Mark("–", "quiet", "no recipe answers this claim yet"),
    "measured": Mark("•", "quiet", "a result that answers no claim of the paper"),
}
EVIDENCE = {
    "source": "paper",
    "digitised": "digitised from a figure",
    "second-hand": "second-hand",
    "memory": "from memory",
}
REACH_WORDS: dict[Reach, str] = {
    "here": "a processor answers it",
    "gpu": "wants a GPU",
    "data": "wants data or weights that no card fetches",
    "unspecified": "a setting is not given in what could be read",
}
SCALE_WORDS: dict[Scale, str] = {
    "full": "Full scale: the paper's own setting",
    "reduced": "Reduced scale: real data, smaller settings",
    "demo": "Demo scale: embedded data, shows that the pipeline works",
}


def number(value: float | None, unit: str = "") -> str:
    """A value for people: percentages with two decimals, counts whole, others with four digits."""
    if value is None:
        return "–"
    if unit == "%":
        return f"{value:.2f}"
    if unit == "count" or (value == int(value) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def signed(value: float | None, unit: str = "") -> str:
    """A difference with its sign; the minus is the typographic one."""
    if value is None:
        return "–"
    text = number(abs(value), unit)
    return f"−{text}" if value < 0 else f"+{text}"


def with_spread(mean: float | None, std: float | None, unit: str = "") -> str:
    """Mean ± sample deviation; without a unit, as many decimals as show two digits of the deviation."""
    if mean is None or std is None:
        return number(mean, unit)
    if unit or not std:
        return f"{number(mean, unit)} ± {number(std, unit)}"
    places = min(max(1 - math.floor(math.log10(std)), 0), 6)
    return f"{mean:,.{places}f} ± {std:.{places}f}"


def mean_spread(values: Sequence[float], unit: str = "") -> str:
    """Mean ± sample deviation of the values; a dash for none."""
    return with_spread(average(values), deviation(values), unit) if values else "–"


def measured(row: Row, metric: str, unit: str = "") -> str:
    """Mean ± sample deviation of a row; of a mixture each part with its share of the seeds. Fits that did not converge
    are counted beside.
    """
    values = list(row.values(metric).values())
    count = row.unconverged(metric)
    note = f" ({count} fit{'s' if count > 1 else ''} did not converge)" if count else ""
    if row.condition(metric) != "mixture":
        return mean_spread(values, unit) + note
    parts = (
        f"{mean_spread(part, unit)} in {len(part)} of {len(values)}" + (f" ({kind})" if kind else "")
        for kind, part in row.parts(metric)
    )
    return "; ".join(parts) + note


def row_state(row: Row) -> str:
    """The state of a row, or what all or some of its seeds are instead of a plain result."""
    return row.condition(row.recipe.metric) or row.state


def look(looks: Sequence[int]) -> str:
    """Which look a verdict is of, from the seeds of each; empty where nothing was tested."""
    if not looks:
        return ""
    return "look one" if len(looks) == 1 else f"look two, after one at {looks[0]} seeds"


def anchor(text: str) -> str:
    """A name for a place in a page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def p_value(p: float | None) -> str:
    """A p-value with three decimals."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """To three digits."""
    return progress.duration(seconds, ".3g")


def megabytes(size: int) -> str:
    """Memory in units of 10^6 bytes."""
    return f"{size / 1e6:,.0f} MB"


def settings(axes: dict[str, Scalar] | dict[str, str], leave_out: Iterable[str] = ()) -> str:
    """`depth = 4, scale = 0.5`."""
    return ", ".join(f"{key} = {value}" for key, value in axes.items() if key not in leave_out)


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 claim`, `2 claims`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def counted(counts: dict[str, int]) -> str:
    """`reproduced 12, differs 3, not run 65`, without the empty ones."""
    return ", ".join(f"{state} {count}" for state, count in counts.items() if count)


def count_states(states: Iterable[str], order: tuple[str, ...]) -> dict[str, int]:
    """Counts in the order given, empty ones left out."""
    found = list(states)
    return {state: found.count(state) for state in order if state in found}


def claim_name(claim: Claim) -> str:
    """A claim in one line."""
    return ", ".join(filter(None, [claim.dataset, claim.method, settings(claim.setting), claim.metric]))


def summary(assessment: Assessment, recipe: Recipe) -> list[str]:
    """What the verdicts of a recipe say, a sentence a finding: generated from counts, never by hand."""
    sentences = [
        *_value_findings(assessment, recipe),
        *_order_findings(assessment, recipe),
        *_comparison_findings(assessment, recipe),
    ]
    rows = [row.state for row in assessment.rows if row.recipe.name == recipe.name]
    own = sorted({name for scale in recipe.scales.values() for name in scale.user_provided})
    if own and not rows:
        return [f"It runs once there is a card of your own download: {', '.join(own)}."]
    found = counted(count_states(rows, tuple(MARKS))) or "none planned"
    return sentences or [f"It answers no claim of the paper; its rows: {found}."]


def _value_findings(assessment: Assessment, recipe: Recipe) -> list[str]:
    verdicts = [v for v in assessment.values if v.row and v.row.recipe.name == recipe.name and v.row.scale == "full"]
    if not verdicts:
        return []
    states = count_states((v.state for v in verdicts), VALUE_STATES)
    sentences = [f"Of {plural(len(verdicts), 'claimed number')} asked at full scale: {counted(states)}."]
    tested = [v for v in verdicts if v.p_equal is not None]
    differing = [v for v in tested if v.state == "differs"]
    if tested:
        sentences.append(bounds(len(differing), len(tested)))
    plain = sum(1 for v in tested if v.plain == "differs")
    if plain > len(differing):
        sentences.append(f"Without the adjustment for many numbers: differs {plain}.")
    gaps = sorted((v for v in tested if v.difference is not None), key=lambda v: -abs(v.difference or 0.0))
    if gaps and len({v.claim.unit for v in gaps}) == 1:
        unit = gaps[0].claim.unit
        middle = number(statistics.median(abs(v.difference or 0.0) for v in gaps), unit)
        name = "points" if unit == "%" else unit
        sentences.append(f"Half of the tested numbers lie within {middle} {name} of the claimed ones.")
    if differing:
        far = max(differing, key=lambda v: abs(v.difference or 0.0))
        ours = with_spread(far.mean, far.std, far.claim.unit)
        theirs = number(far.claim.mean, far.claim.unit)
        sentences.append(f"The largest difference: {claim_name(far.claim)}: {theirs} claimed, {ours} measured.")
    return sentences


def bounds(differing: int, tested: int) -> str:
    """The errors to expect of counts of verdicts on numbers."""
    shown = (
        f"of the {differing} that differ at most {ALPHA * differing:.2g} are expected to be false; "
        if differing
        else ""
    )
    return (
        f"Errors to expect: {shown}of the {plural(tested, 'tested number')} at most {ALPHA * tested:.2g} would be "
        "called reproduced though the expected value lies outside the margin."
    )


def _order_findings(assessment: Assessment, recipe: Recipe) -> list[str]:
    asked: dict[tuple[Scale, str], list[str]] = {}
    for verdict, text in statements(assessment):
        if verdict.first.recipe.name == recipe.name:
            asked.setdefault((verdict.scale, text), []).append(verdict.state)
    waiting: list[Scale] = []
    findings: dict[Scale, list[str]] = {scale: [] for scale in SCALE_WORDS}
    for (scale, text), states in asked.items():
        if set(states) == {"not run"}:
            waiting.append(scale)
            continue
        counts = counted(count_states(states, tuple(dict.fromkeys([*ORDER_STATES, *EQUIVALENCE_STATES]))))
        findings[scale].append(f"{text}, {scale} scale, {plural(len(states), 'place')}: {counts}.")
    sentences = [sentence for scale in SCALE_WORDS for sentence in findings[scale]]
    if waiting:
        scales = ", ".join(f"{waiting.count(scale)} at {scale} scale" for scale in SCALE_WORDS if scale in waiting)
        sentences.append(f"Statements that were not run: {scales}.")
    return sentences


def statements(assessment: Assessment) -> list[tuple[Verdict, str]]:
    """Orderings, equivalences, trends and states, each with its statement in words."""
    found = (*assessment.orderings, *assessment.equivalences, *assessment.trends, *assessment.states)
    return [(verdict, stated(verdict)) for verdict in found]


def stated(verdict: Verdict) -> str:
    """An ordering, equivalence, trend or state in words."""
    first = f"“{verdict.first.label}”"
    if isinstance(verdict, OrderingVerdict):
        return statement([verdict.better.label], verdict.worse.label)
    if isinstance(verdict, EquivalenceVerdict):
        return equivalent(verdict.rows, verdict.equivalence.within)
    if isinstance(verdict, TrendVerdict):
        return f"{first} {verdict.trend.direction} along {verdict.trend.along}"
    assert isinstance(verdict, StateVerdict)
    return f"{first} {'collapsed' if verdict.asked.kind == 'collapsed' else 'a constant answer'} in most seeds"


def headline_counts(assessment: Assessment, scale: Scale) -> str:
    """Headline statements of a scale by state: `holds 2, undecided 1`."""
    states = [verdict.state for verdict in assessment.statements if verdict.scale == scale]
    return counted(count_states(states, STATEMENT_STATES))


def best(verdicts: Sequence[StatementVerdict]) -> StatementVerdict:
    """Of a statement's verdicts, the largest scale's first, the first with a finding; else the first."""
    return next((v for v in verdicts if v.state != "not measured"), verdicts[0])


def brief(verdict: Verdict) -> str:
    """A statement about rows in the fewest words: `ContraNorm − plain`."""
    if isinstance(verdict, OrderingVerdict | EquivalenceVerdict):
        return f"{verdict.rows[0].label} − {verdict.rows[1].label}"
    if isinstance(verdict, TrendVerdict):
        return f"{verdict.first.label} by {verdict.trend.along}"
    return verdict.first.label


def measure(verdict: Verdict) -> str:
    """The metric of a statement about rows with its unit, per step of the axis for a trend."""
    recipe = verdict.first.recipe
    metric = metric_of(recipe, verdict.asked)
    name = metric.replace("_", " ")
    if metric == recipe.metric and recipe.unit:
        name += f" ({'points' if recipe.unit == '%' else recipe.unit})"
    if isinstance(verdict, TrendVerdict):
        return f"{name} per {'doubling' if verdict.trend.log else 'step'} of {verdict.trend.along}"
    return name


def interval(found: tuple[float | None, float | None] | None, unit: str = "") -> str:
    """`[low, high]` with signs; a dash where there is none."""
    return f"[{signed(found[0], unit)}, {signed(found[1], unit)}]" if found else "–"


def hours(value: DeviceHours | None) -> str:
    """`about 3 processor-hours`; how long a row takes that is not measured."""
    return "time not known" if value is None else f"about {value}"


def hours_together(each: Sequence[DeviceHours | None]) -> str:
    """`hours` of several rows; not known where one is not."""
    return hours(together(each))


def not_measured(part: Part, hours_of: Callable[[Row], DeviceHours | None]) -> str:
    """`not measured, about 3 processor-hours`: of the rows of a part that are open."""
    open_rows = [row for row in part.rows if row.state != "measured"]
    if not open_rows:
        return part.state
    return f"not measured, {hours_together([hours_of(row) for row in open_rows])}"


FINDINGS = {"supported": "holds", "contradicted": "reversed", "undecided": "inconclusive"}
OPEN = ("incomplete", "diverged", "failed", "stale", "not run", "not covered", "not measured at this scale")


def answered(counts: Mapping[str, int]) -> int:
    """How many of the claims have a number here."""
    return sum(count for state, count in counts.items() if state not in OPEN)


def shown(verdict: StatementVerdict) -> str:
    """`1 of 16 parts shown, 2 against`."""
    supported, against = len(verdict.of("supported")), len(verdict.of("contradicted"))
    if verdict.state == "holds":
        supported = len(verdict.parts)
    text = f"{supported} of {plural(len(verdict.parts), 'part')} shown"
    return text + (f", {against} against" if against else "")


def lacking(verdicts: Sequence[StatementVerdict], hours_of: Callable[[Row], DeviceHours | None]) -> str:
    """Why no part of a statement was tested, and how long that would take at the largest scale."""
    begun = [
        (v.scale, v.note) for v in verdicts if any(part.state not in ("not run", "not covered") for part in v.parts)
    ]
    if begun:
        return "; ".join(f"{scale} scale: {note}" for scale, note in begun)
    verdict = verdicts[0]
    rows = {row.cells[0].identity: row for found in verdict.parts for row in found.rows if row.state != "measured"}
    if not rows:
        return verdict.note
    return f"{verdict.scale} scale: {hours_together([hours_of(row) for row in rows.values()])}"


def unit_of(verdict: Verdict) -> str:
    """The unit of a statement's difference: that of its recipe's metric."""
    recipe = verdict.first.recipe
    return recipe.unit if metric_of(recipe, verdict.asked) == recipe.metric else ""


def metric(verdict: Verdict) -> str:
    """The metric that a statement is about."""
    return metric_of(verdict.first.recipe, verdict.asked)


def place(found: Part, scale: Scale) -> str:
    """A permanent name for a part of a statement."""
    where = [found.rows[0].dataset, *(f"{key}-{value}" for key, value in found.axes.items())] if found.rows else []
    return anchor(" ".join([found.name, scale, *where]))


def at_scale(verdicts: Sequence[ValueVerdict], scale: Scale) -> list[ValueVerdict]:
    """Those of a scale."""
    return [verdict for verdict in verdicts if verdict.row and verdict.row.scale == scale]


def around(values: Sequence[float], unit: str = "") -> str:
    """The 95 % interval of the mean of the values; a dash below two."""
    found = interval_of_mean(values)
    return f"[{number(found[0], unit)}, {number(found[1], unit)}]" if found else "–"


def part(found: Part) -> str:
    """A part of a headline statement in words."""
    if found.verdict is not None:
        return stated(found.verdict)
    return f"{claim_name(found.claim)} is {number(found.claim.mean, found.claim.unit)}" if found.claim else found.name


def by_statement(assessment: Assessment) -> dict[str, list[StatementVerdict]]:
    """Headline statements by id, in the card's order, each with its verdicts from the largest scale down."""
    found: dict[str, list[StatementVerdict]] = {}
    for verdict in assessment.statements:
        found.setdefault(verdict.statement.id, []).insert(0, verdict)
    return found


def equivalent(rows: Sequence[Row], within: float) -> str:
    """An equivalence in words."""
    return f"“{rows[0].label}” and “{rows[1].label}” equivalent within {within:g}"


def _comparison_findings(assessment: Assessment, recipe: Recipe) -> list[str]:
    found: dict[tuple[Scale, str], dict[str, list[str]]] = {}
    for each in assessment.comparisons:
        if each.recipe.name == recipe.name and each.differences:
            label = recipe.variants[each.variant].label
            finding = f"{compared(each)} on {plural(len(each.datasets), 'data set')}"
            found.setdefault((each.scale, each.reference), {}).setdefault(finding, []).append(label)
    return [
        f"Against {quoted(recipe.variants[reference].label)}, {scale} scale: "
        + "; ".join(f"{finding}: {quoted(*labels)}" for finding, labels in sorted(by_finding.items()))
        + "."
        for (scale, reference), by_finding in found.items()
    ]


def quoted(*labels: str) -> str:
    """Labels of rows in a sentence."""
    return ", ".join(f"“{label}”" for label in labels)


def statement(betters: Iterable[str], worse: str) -> str:
    """An ordering, or several alike, in words; by labels."""
    return f"{quoted(*betters)} better than {quoted(worse)}"


def compared(found: PairedComparison) -> str:
    """What a comparison with pairs says, in words."""
    if found.state == "inconclusive":
        return "too few pairs to tell" if found.too_few else "no difference shown"
    up = (found.state == "above") == found.recipe.higher_is_better
    return f"{'better' if up else 'worse'} (5 %)"


def pairs(found: PairedComparison, title_of: Callable[[str], str]) -> str:
    """What the pairs of a comparison are: `seeds of Cora, CiteSeer; 7 above, 3 below`."""
    above, below = (sum(1 for d in found.differences if sign * d > 0) for sign in (1, -1))
    equal = len(found.differences) - above - below
    text = f"{found.recipe.protocol.spread} of {', '.join(map(title_of, found.datasets))}"
    text += f"; {above} above, {below} below" + (f", {equal} equal" if equal else "")
    missing = found.places - found.measured
    if found.unpaired:
        text += f"; {plural(found.unpaired, 'place')} left out, whose rows are from different devices"
    return text + (f"; {missing} of {plural(found.places, 'place')} not measured" if missing else "")
