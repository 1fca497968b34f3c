"""A small invented paper with its data set, plan and records, for tests of rows, verdicts and pages; a real paper's
workspace, for tests of runs.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from retable.cards import Claim, DatasetCard, PaperCard
from retable.config import Config, Workspace
from retable.currency import Currency
from retable.ledger import Entry
from retable.looks import Looks
from retable.plan import Cell, recipe_cells
from retable.records import Cost, RunRecord
from retable.verdicts import Assessment, assess

SOURCE, DATA, SPLIT = "a" * 64, "b" * 64, "c" * 64

CARD = {
    "id": "toy",
    "title": "A toy paper",
    "venue": "Nowhere",
    "year": 2020,
    "link": "https://example.org/paper",
    "code": "https://example.org/code",
    "summary": "Deep is fine.",
    "statements": [
        {
            "id": "ours-is-better",
            "text": "Ours is better at any depth.",
            "refuted_by": "Plain is better at some depth.",
            "scope": "Cora.",
            "parts": ["depth/ours-over-plain"],
        }
    ],
    "tables": {"T1": {"title": "Accuracy by depth", "where": "Table 1"}},
    "recipes": [
        {
            "name": "depth",
            "title": "Depth",
            "task": "node classification",
            "protocol": {
                "name": "last",
                "version": 1,
                "description": "Last epoch.",
                "spread": "seeds",
                "shared": "the split",
            },
            "metric": "accuracy",
            "unit": "%",
            "variants": {
                "plain": {"label": "plain", "settings": {"s": 0.0}},
                "ours": {
                    "label": "Ours",
                    "axes": {"s": [0.5, 1.0]},
                    "select": {"metric": "val_accuracy", "mode": "max"},
                },
                "majority": {"label": "majority", "skip_axes": ["depth"], "control": True},
            },
            "hyper": {"lr": {"value": 0.1, "source": "Section 4"}},
            "scales": {
                "full": {
                    "datasets": {"cora": "public"},
                    "axes": {"depth": [2, 4]},
                    "seeds": 5,
                    "cost": "1 h",
                },
                "demo": {"datasets": {"cora": "public"}, "axes": {"depth": [2]}, "seeds": 2, "cost": "1 s"},
            },
            "answers": [
                {"measured": "accuracy", "claims": "t1-{dataset}-{variant}-{depth}", "margin": 1.0, "reason": "ours"},
            ],
            "orderings": [
                {
                    "id": "ours-over-plain",
                    "better": "ours",
                    "worse": "plain",
                    "axes": {"depth": [2, 4]},
                    "source": "Table 1",
                }
            ],
        }
    ],
}


@dataclass
class World:
    """The invented paper; tests add records and claims, then ask for the assessment."""

    paper: PaperCard = field(default_factory=lambda: PaperCard.model_validate(CARD))
    claims: list[Claim] = field(default_factory=list)
    records: list[RunRecord] = field(default_factory=list)
    stored: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dataset: DatasetCard = field(
        default_factory=lambda: DatasetCard(
            name="cora",
            title="Cora",
            task="node classification",
            homepage="https://example.org",
            licence="none",
            citation="nobody",
            reader="none",
            counts={"nodes": 1},
            content_sha256=DATA,
            splits={"public": {"sha256": SPLIT, "note": "fixed"}},
        )
    )

    @property
    def currency(self) -> Currency:
        return Currency({("toy", "depth"): SOURCE}, {"cora": self.dataset})

    def cells(self, scale: str = "full") -> list[Cell]:
        found = [recipe_cells("toy", recipe, {"cora": self.dataset}, scale) for recipe in self.paper.recipes]
        return [cell for cells in found for cell in cells]

    def cell(self, variant: str, scale: str = "full", **axes) -> Cell:
        (found,) = (c for c in self.cells(scale) if c.variant == variant and axes.items() <= c.axes.items())
        return found

    def claim(self, method: str, depth: int, mean: float, **change) -> Claim:
        """A claim with an id such as `t1-cora-plain-2`: table, data set, method and settings."""
        row = {
            "paper": "toy",
            "table": "T1",
            "task": "node classification",
            "dataset": "Cora",
            "model": "GCN",
            "method": method,
            "setting": {"depth": str(depth)},
            "metric": "test accuracy",
            "unit": "%",
            "mean": mean,
            "std": None,
            "runs": None,
            "higher_is_better": True,
            "evidence": "source",
            "source": "Table 1",
            "reach": "here",
        }
        row |= change
        parts = (row["table"], row["dataset"], row["method"], *row["setting"].values())
        claim = Claim.model_validate({"id": re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")} | row)
        self.claims.append(claim)
        return claim

    def answer(self, claims: str) -> None:
        """Has the recipe's accuracy answer the claims of one more pattern."""
        data = self.paper.model_dump()
        answer = {"measured": "accuracy", "claims": claims, "margin": 1.0, "reason": "ours"}
        data["recipes"][0]["answers"].append(answer)
        self.paper = PaperCard.model_validate(data)

    def measure(self, cell: Cell, accuracies, validation=None, first_seed: int = 0, **change) -> list[RunRecord]:
        """One record a value; `validation` are the values of val_accuracy (those of accuracy if absent)."""
        made = []
        for seed, value in enumerate(accuracies, start=first_seed):
            judged = value if validation is None else validation[seed - first_seed]
            fields = {
                **{name: getattr(cell, name) for name in cell.__dataclass_fields__ if name != "seeds"},
                "identity": cell.identity,
                "seed": seed,
                "state": "ok",
                "metrics": {"accuracy": value, "val_accuracy": judged},
                "source_sha256": SOURCE,
                "data_sha256": DATA,
                "split_sha256": SPLIT,
                "cost": Cost(wall_s=2.0, cpu_s=1.5, peak_memory_bytes=10**8),
                "environment": {"torch": "2.14.1"},
                "started": "2026-01-01T00:00:00Z",
                "ended": "2026-01-01T00:00:02Z",
            }
            made.append(RunRecord.model_validate(fields | change))
        self.records += made
        return made

    def proof(self, base: str, tree: str, *cells: Cell) -> Entry:
        """That these cells gave the same bytes with both source hashes."""
        fields = {
            "paper": "toy",
            "recipe": "depth",
            "base": {"source_sha256": base, "commit": "1" * 40, "path": "/base"},
            "tree": {"source_sha256": tree, "commit": "2" * 40, "path": "/tree"},
            "date": "2026-01-01",
            "epochs": 3,
            "cells": {cell.identity: [{"seed": 0, "sha256": "d" * 64}] for cell in cells},
            "environment": {},
            "cpu_s": 1.0,
        }
        return Entry.model_validate(fields)

    @property
    def looks(self) -> Looks:
        """The looks that a test stored; what else is measured is look one, however few its seeds are."""
        found = dict(self.stored)
        for record in self.records:
            if record.identity not in self.stored:
                found[record.identity] = (max(record.seed + 1, *found.get(record.identity, ()), 1),)
        return Looks(found)

    def assess(self, *scales: str) -> Assessment:
        cells = [cell for scale in scales or ("full",) for cell in self.cells(scale)]
        return assess(self.paper, self.claims, cells, self.records, self.currency, self.looks)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def workspace(root: Path, tmp_path: Path) -> Workspace:
    """ContraNorm's cards and this checkout's code, and no results."""
    for name in ("methods", "datasets", "retable"):
        (tmp_path / name).symlink_to(root / name)
    return Workspace(tmp_path, Config(device="cpu", papers=["contranorm"]))


@pytest.fixture
def cell(workspace: Workspace) -> Cell:
    """A cell of seeds 0 and 1 that runs in a moment."""
    recipe = workspace.papers["contranorm"].recipe("node-depth")
    first = recipe_cells("contranorm", recipe, workspace.datasets, "demo")[0]
    return replace(first, settings=first.settings | {"epochs": 4, "eval_every": 2}, seeds=(0, 1))
