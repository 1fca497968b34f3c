"""Headline statements of a paper: what their parts say together, at each scale. Pure functions.

`docs/statistics.md` gives the rules.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from retable.cards import SCALES, Claim, PaperCard, Scalar, Scale, Statement
from retable.orders import EquivalenceVerdict, TrendVerdict, Verdict, join
from retable.rows import Row
from retable.significance import ALPHA, MOST_SEEDS, Gap, favours, holm, p_of_two, seeds_needed

Finding = Literal["supported", "contradicted", "undecided", "open"]
STATEMENT_STATES = ("holds", "holds in part", "reversed", "undecided", "not measured")


@dataclass(frozen=True)
class Part:
    """An ordering, equivalence, trend or state at one place, or a number of the paper, as evidence for a statement.

    `state` and `note` are those that it has by itself, in its own family of tests. `p_for` and `p_against` are
    unadjusted, `p` is Holm's over the parts of the statement, both directions together. `gap` is a distance that is
    tested against 0, for what more seeds would show.
    """

    name: str
    state: str
    p_for: float | None = None
    p_against: float | None = None
    p: float | None = None
    note: str = ""
    rows: tuple[Row, ...] = ()
    gap: Gap | None = None
    verdict: Verdict | None = None
    claim: Claim | None = None

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


@dataclass(frozen=True)
class StatementVerdict:
    """What the runs of a scale say about a statement.

    `more` seeds would decide the undecided parts and would take `hours` on the devices of the records; None where that
    is not known.
    """

    statement: Statement
    scale: Scale
    state: str
    parts: tuple[Part, ...]
    note: str = ""
    more: int | None = None
    hours: float | None = None

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
    gap = verdict.gap
    if gap and isinstance(verdict, EquivalenceVerdict):
        # Near the margin it is the distance to it that must be shown, whichever side the truth is on.
        gap = replace(gap, difference=abs(gap.difference) - verdict.equivalence.within)
    note = verdict.note
    if verdict.state == "inconclusive" and verdict.p is not None:
        note = join(f"p = {verdict.p:.2g} in its own family of {verdict.tests} (Holm)", note)
    return Part(name, verdict.state, verdict.p_for, verdict.p_against, None, note, verdict.rows, gap, verdict)


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
    more, hours = _decides(verdict.of("undecided"))
    would = f"about {more} more seeds" if more else f"{MOST_SEEDS} seeds would not decide every part"
    if more:
        would += " would decide what is measured"
        would += "" if hours is None else f", {hours:.2g} hours on the devices of the records"
    return replace(verdict, state="undecided", note=join(note, would), more=more, hours=hours)


def _open(parts: Sequence[Part]) -> str:
    """Why parts could not be tested, counted by state."""
    states = [part.state for part in parts if part.p_for is None]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _decides(parts: Sequence[Part]) -> tuple[int | None, float | None]:
    """The further seeds that decide every one of the parts with 80 % power, one-sided at 5 %, and their hours."""
    needed = [(part, seeds_needed(part.gap, ALPHA, tails=1) if part.gap else None) for part in parts]
    if not needed or any(more is None for _, more in needed):
        return None, None
    seeds: dict[int, tuple[Row, int]] = {}
    for part, more in needed:
        for row in part.rows:
            seeds[id(row)] = (row, max(more or 0, seeds.get(id(row), (row, 0))[1]))
    hours = sum(
        more * len(row.cells) * statistics.mean(record.cost.wall_s for record in row.records) / 3600
        for row, more in seeds.values()
    )
    return max(more or 0 for _, more in needed), hours
