"""The papers of a checkout with everything that their verdicts rest on, one after the other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retable.cards import SCALES, CardError, Claim, PaperCard, Scale, load_claims, unknown
from retable.config import Workspace
from retable.currency import RecordStore
from retable.plan import Cell, recipe_cells
from retable.records import RunRecord
from retable.verdicts import Assessment, assess, check_claims


@dataclass(frozen=True)
class Assessed:
    """A paper's assessment, and its records, each with the reason why it is stale, or None."""

    assessment: Assessment
    records: list[tuple[RunRecord, str | None]]


def assessments(workspace: Workspace, papers: Sequence[str] | None = None) -> Iterator[Assessed]:
    """All papers, or some, at all scales. Raises CardError for a paper that has no card."""
    for name in workspace.papers if papers is None else papers:
        if name not in workspace.papers:
            raise CardError(unknown("paper", name, list(workspace.papers)))
        store = RecordStore.open(workspace, name)
        cells = [cell for scale in reversed(SCALES) for cell in planned(workspace, name, scale)]
        paper, claims, records = workspace.papers[name], claims_of(workspace, name), store.records
        assessment = assess(paper, claims, cells, records, store.currency, store.looks)
        yield Assessed(assessment, [(record, store.currency.reason(record)) for record in records])


def inputs(
    workspace: Workspace,
) -> tuple[dict[str, PaperCard], dict[str, list[Claim]], dict[Scale, list[Cell]], RecordStore]:
    """Papers, claims by paper, the planned cells by scale, and the records: all papers and scales."""
    claims = {name: claims_of(workspace, name) for name in workspace.papers}
    cells: dict[Scale, list[Cell]] = {
        scale: [cell for name in workspace.papers for cell in planned(workspace, name, scale)]
        for scale in reversed(SCALES)
    }
    return workspace.papers, claims, cells, RecordStore.open(workspace)


def claims_of(workspace: Workspace, name: str) -> list[Claim]:
    """A paper's claims, checked against its card."""
    path = workspace.folder_of(name) / "claims.csv"
    claims = load_claims(path) if path.exists() else []
    check_claims(workspace.papers[name], claims)
    return claims


def planned(workspace: Workspace, name: str, scale: Scale) -> list[Cell]:
    """A paper's cells at a scale; seeds that the user asked for beyond the card's are part of the plan."""
    more = workspace.config.seeds or 0
    return [
        cell
        for recipe in workspace.papers[name].recipes
        if scale in recipe.scales
        for cell in recipe_cells(name, recipe, workspace.datasets, scale, max(recipe.scales[scale].seeds, more))
    ]
