"""CodeAlpaca and HumanEval: what the model sees, what is run of its answer, and the whole path with a tiny model."""

import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from methods.seqtopk.code import FineTuneCode, program
from retable.cards import load_unpinned
from retable.config import Config, Workspace
from retable.data.adopt import write_card
from retable.data.containers import DataError
from retable.data.fetch import fetch
from retable.data.sentence_sets import SentenceSet
from retable.evaluate.programs import PERMISSION, passes
from retable.plan import recipe_cells
from retable.records import read_record
from retable.run import evaluate_cell, run_cell

ROOT = next(folder for folder in Path(__file__).parents if (folder / "datasets").is_dir())
ADD = {
    "task_id": "t/0",
    "prompt": 'def add(a, b):\n    """Their sum."""\n',
    "canonical_solution": "    return a + b\n",
    "test": "def check(f):\n    assert f(1, 2) == 3",
    "entry_point": "add",
}
ROWS = SentenceSet(
    "code-alpaca",
    {
        "question": ("Print a list.\nin reverse", ADD["prompt"]),
        "answer": ("print(x[::-1])", ADD["canonical_solution"]),
        "test": ("", ADD["test"]),
        "entry_point": ("", "add"),
    },
    None,
    (),
    {},
)


def test_instructions_are_asked_for_and_functions_are_gone_on_with():
    asked, answer = FineTuneCode.texts(ROWS, 0)
    assert asked.startswith("Answer the following question.\n\nPrint a list.\nin reverse")
    assert answer == " print(x[::-1])"
    assert FineTuneCode.texts(ROWS, 1) == (ADD["prompt"], ADD["canonical_solution"])


def test_a_program_is_the_problem_the_answer_up_to_its_end_and_the_test(monkeypatch):
    monkeypatch.setenv(PERMISSION, "1")
    assert passes(program(ROWS, 1, "    return a + b\n"))
    assert passes(program(ROWS, 1, "    return a + b\n\nprint(undefined)\n"))
    assert not passes(program(ROWS, 1, "    return a - b\n"))
    assert not passes(program(ROWS, 1, ""))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """The checkout with a card for a small CodeAlpaca."""
    (tmp_path / "mine").mkdir()
    rows = [{"instruction": f"Add {i}", "input": "", "output": f"x + {i}"} for i in range(300)]
    evaluated = [json.dumps(ADD | {"task_id": f"t/{i}"}) for i in range(64)]
    (tmp_path / "mine" / "code_alpaca_20k.json").write_text(json.dumps(rows))
    (tmp_path / "mine" / "HumanEval.jsonl.gz").write_bytes(gzip.compress("\n".join(evaluated).encode()))
    for name in ("methods", "retable"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "datasets").mkdir()
    for card in (ROOT / "datasets").glob("*.yaml"):
        (tmp_path / "datasets" / card.name).symlink_to(card)
    return Workspace(tmp_path, Config(device="cpu"))


@pytest.mark.slow
def test_the_reduced_recipe_runs_on_a_card_of_ones_own_with_permission_only(workspace, tmp_path, monkeypatch):
    recipe = workspace.papers["seqtopk"].recipe("finetune-code")
    assert recipe_cells("seqtopk", recipe, workspace.datasets, "reduced") == []
    known = load_unpinned(ROOT, "code-alpaca")
    files = [file.model_copy(update={"sha256": None}) for file in known.files]  # not the real ones
    write_card(known.model_copy(update={"files": files}), tmp_path / "mine", tmp_path)
    for path in ("code-alpaca/code_alpaca_20k.json", "human-eval/HumanEval.jsonl.gz"):
        (tmp_path / "mirror" / path).parent.mkdir(parents=True)
        (tmp_path / "mirror" / path).write_bytes((tmp_path / "mine" / Path(path).name).read_bytes())
    workspace = Workspace(tmp_path, Config(device="cpu"))
    fetch(workspace.datasets["code-alpaca"], workspace.raw, str(tmp_path / "mirror"))
    cell = next(
        c for c in recipe_cells("seqtopk", recipe, workspace.datasets, "reduced") if c.variant == "tiny-seqtopk"
    )
    short = {"epochs": 1, "max_length": 64, "new_tokens": 4}
    cell = dataclasses.replace(cell, seeds=(0,), settings=cell.settings | short)

    monkeypatch.delenv(PERMISSION, raising=False)
    with pytest.raises(DataError, match=f"set {PERMISSION}=1"):
        run_cell(workspace, cell)
    monkeypatch.setenv(PERMISSION, "1")
    record = read_record(run_cell(workspace, cell).folder / "seed-0.json")
    assert record.state == "ok", record.error
    assert record.metrics["pass_at_1"] == 0  # four random bytes do not add
    assert record.metrics["experts_used"] == pytest.approx(2, abs=0.3)
    assert evaluate_cell(workspace, cell, 0).metrics == record.metrics
