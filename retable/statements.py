"""Headline statements of a paper: what their parts say together, at each scale. Pure functions.

`docs/statistics.md` gives the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from retable.cards import SCALES, Claim, PaperCard, Scalar, Scale, Statement
from retable.orders import TrendVerdict, Verdict, join
from retable.rows import DeviceHours, Row, hours_to, most_seeds, possible, together
from retable.significance import ALPHA, MeanDifference, favours, holm, look_two, p_of_two

Finding = Literal["supported", "contradicted", "undecided", "open"]
STATEMENT_STATES = ("holds", "holds in part", "reversed", "undecided", "not measured")


@dataclass(frozen=True)
class Part:
    """An ordering, equivalence, trend or state at one place, or a number of the paper, as evidence for a statement.

    `state` and `note` are those that it has by itself, in its own family of tests. `p_for` and `p_against` are over its
    `looks`, unadjusted otherwise; `p` is Holm's over the parts of the statement, both directions together. `gap` is, of
    a number, the distance to its margin, for what more seeds would show.
    """

    name: str
    state: str
    p_for: float | None = None
    p_against: float | None = None
    p: float | None = None
    note: str = ""
    rows: tuple[Row, ...] = ()
    gap: MeanDifference | None = None
    verdict: Verdict | None = None
    claim: Claim | None = None
    looks: tuple[int, ...] = ()

    @property
    def axes(self) -> dict[str, Scalar]:
        """The setting at which it is asked; that of a trend without its axis."""
        along = self.verdict.trend.along if isinstance(self.verdict, TrendVerdict) else None
        return {key: value for key, value in self.rows[0].axes.items() if key != along} if self.rows else {}

    @property
    def finding(self) -> Finding:
        """`supported`, `contradicted` or `undecided`; `open` where nothing could be tested."""
        if self.p is None or self.p_for is None:
            return "open"
        if self.p > ALPHA:
            return "undecided"
        return "supported" if favours(self.p_for, self.p_against) else "contradicted"

    def seeds_to_decide(self, alpha: float, tails: int) -> int | None:
        """Seeds of the second look that shows it or its opposite at `alpha` with 80 % power; None where none does."""
        if len(self.looks) == 2:
            return None
        if self.verdict is not None:
            seeds = self.verdict.seeds_to_decide(alpha, tails)
        else:
            seeds = look_two(self.gap, alpha, tails=tails) if self.gap else None
        return possible(seeds, self.rows)


@dataclass(frozen=True)
class StatementVerdict:
    """What the runs of a scale say about a statement.

    A `look_two` at so many seeds in all would decide the undecided parts and would take `hours` on the devices of the
    records; None where that is not known.
    """

    statement: Statement
    scale: Scale
    state: str
    parts: tuple[Part, ...]
    note: str = ""
    look_two: int | None = None
    hours: DeviceHours | None = None

    def of(self, finding: Finding) -> list[Part]:
        """The parts with a finding."""
        return [part for part in self.parts if part.finding == finding]


def judge_statements(
    paper: PaperCard, verdicts: Sequence[Verdict], numbers: Mapping[str, Part]
) -> list[StatementVerdict]:
    """Every statement at each scale that asks a part of it, or `not measured` at full scale where none does.

    `numbers` are the paper's numbers by claim id, as judged at full scale.
    """
    found = []
    for statement in paper.statements:
        by_scale = [(scale, _parts(statement, scale, verdicts, numbers)) for scale in SCALES]
        asked = [(scale, parts) for scale, parts in by_scale if any(part.rows for part in parts)]
        found += [_judge(statement, scale, parts) for scale, parts in asked or by_scale[-1:]]
    return found


def _parts(
    statement: Statement, scale: Scale, verdicts: Sequence[Verdict], numbers: Mapping[str, Part]
) -> tuple[Part, ...]:
    parts = []
    for name in statement.parts:
        here = [v for v in verdicts if v.scale == scale and f"{v.first.recipe.name}/{v.asked.id}" == name]
        parts += [_part(name, verdict) for verdict in here] or [
            Part(name, "not covered", note="not planned at this scale")
        ]
    if scale == "full":
        nothing = "no recipe answers this number"
        parts += [numbers.get(claim, Part(claim, "not covered", note=nothing)) for claim in statement.numbers]
    return tuple(parts)


def _part(name: str, verdict: Verdict) -> Part:
    note = verdict.note
    if verdict.state == "inconclusive" and verdict.p is not None:
        note = join(f"p = {verdict.p:.2g} in its own family of {verdict.tests} (Holm)", note)
    return Part(
        name,
        verdict.state,
        verdict.p_for,
        verdict.p_against,
        note=note,
        rows=verdict.rows,
        verdict=verdict,
        looks=verdict.looks,
    )


def _judge(statement: Statement, scale: Scale, parts: Sequence[Part]) -> StatementVerdict:
    tested = [part for part in parts if part.p_for is not None]
    adjusted = iter(holm([p_of_two(part.p_for, part.p_against) for part in tested]))
    parts = tuple(replace(part, p=next(adjusted)) if part.p_for is not None else part for part in parts)
    verdict = StatementVerdict(statement, scale, "not measured", parts)
    supported, contradicted = len(verdict.of("supported")), len(verdict.of("contradicted"))
    if not tested:
        return replace(verdict, note=_open(parts))
    if len(tested) == len(parts) and all(part.p_for is not None and part.p_for <= ALPHA for part in parts):
        return replace(verdict, state="holds", note=f"parts: {len(parts)} of {len(parts)} shown, each at 5 %")
    undecided = len(verdict.of("undecided"))
    counts = f"parts: {supported} of {len(parts)} supported, {contradicted} contradicted, {undecided} undecided"
    note = join(counts, _open(parts))
    if supported or contradicted:
        return replace(verdict, state="holds in part" if supported else "reversed", note=note)
    seeds, hours = _decides(verdict.of("undecided"))
    would = f"look two at {seeds} seeds would decide what is measured" if seeds else _hopeless(verdict.of("undecided"))
    would += "" if hours is None else f", {hours} on the devices of the records"
    return replace(verdict, state="undecided", note=join(note, would), look_two=seeds, hours=hours)


def _open(parts: Sequence[Part]) -> str:
    """Why parts could not be tested, counted by state."""
    states = [part.state for part in parts if part.p_for is None]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _hopeless(parts: Sequence[Part]) -> str:
    """Why no second look decides every one of the parts."""
    done = sum(1 for part in parts if len(part.looks) == 2)
    if done:
        return f"both looks are taken of {done} undecided parts"
    most = most_seeds(row for part in parts for row in part.rows)
    return f"a look two of up to {most} seeds would not decide every part"


def _decides(parts: Sequence[Part]) -> tuple[int | None, DeviceHours | None]:
    """The seeds of the second look that shows each of the parts or its opposite, and the hours that they take."""
    needed = [part.seeds_to_decide(ALPHA, tails=1) for part in parts]
    if not needed or not all(needed):
        return None, None
    # A row is in several parts: it needs what the most demanding of them does.
    by_row: dict[str, tuple[Row, int]] = {}
    for part, seeds in zip(parts, needed, strict=True):
        for row in part.rows:
            key = row.cells[0].identity
            by_row[key] = row, max(seeds or 0, by_row.get(key, (row, 0))[1])
    hours = together([hours_to([row], seeds) for row, seeds in by_row.values()])
    return max(seeds or 0 for seeds in needed), hours
