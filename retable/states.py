"""In how many seeds a row collapsed or answered with one class, by exact tests of a share. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from retable.cards import PaperCard, State
from retable.orders import Verdict, adjust, is_asked, metric_of, missing, over_looks
from retable.rows import Row
from retable.significance import ALPHA, exact_interval, look_two_of_share, share_tail


@dataclass(frozen=True)
class StateVerdict(Verdict):
    """Whether most seeds of a row are of a kind: in `hits` of `n` seeds they are."""

    kind = "state"
    asked_state: State = field(kw_only=True)
    hits: int = 0

    @property
    def asked(self) -> State:
        return self.asked_state

    def seeds_to_decide(self, alpha: float, tails: int = 2) -> int | None:
        return look_two_of_share(self.hits, self.n, alpha, tails) if self.n else None


def judge_states(paper: PaperCard, rows: list[Row]) -> list[StateVerdict]:
    """Every state at each row of its variant."""
    return adjust(
        [
            over_looks(lambda at, asked=state: _judge_state(asked, at[0], rows), (row,))
            for recipe in paper.recipes
            for state in recipe.states
            for row in rows
            if is_asked(recipe, state, row) and row.variant == state.variant
        ],
        _settle,
    )


def _judge_state(state: State, row: Row, rows: Sequence[Row]) -> StateVerdict:
    metric = metric_of(row.recipe, state)
    if lack := missing((row,), metric, rows):
        return StateVerdict((row,), lack[0], note=lack[1], asked_state=state)
    told = row.seeds_that(state.kind, metric)
    if len(told) < len(row.records):
        lacking = f"{len(row.records) - len(told)} of {len(row.records)} records do not say whether it is {state.kind}"
        return StateVerdict((row,), "not known", note=lacking, asked_state=state)
    n, hits = len(told), sum(told.values())
    low, high = exact_interval(hits, n)
    p_for, p_against = share_tail(hits, n)
    return StateVerdict(
        (row,),
        "inconclusive",
        n,
        test="exact binomial",
        p_for=p_for,
        p_against=p_against,
        note=f"{state.kind} in {hits} of {n} seeds (95 % interval of the share: {100 * low:.0f} to {100 * high:.0f} %)",
        asked_state=state,
        hits=hits,
    )


def _settle(verdict: StateVerdict) -> StateVerdict:
    assert verdict.p is not None
    if verdict.p > ALPHA:
        return verdict
    return replace(verdict, state="holds" if verdict.favours else "reversed")
