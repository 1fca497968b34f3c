"""Fine-tuning of pretrained models with SeqTopK on CodeAlpaca, and HumanEval's pass@1 without examples.

As `finetune.py`, whose models and training it shares; the data get their card from your own download, and scoring runs
code that the model wrote:

    python -m retable.data.unpinned code-alpaca ~/downloads
    RETABLE_WEIGHTS=~/weights RETABLE_RUN_GENERATED_CODE=1 retable run seqtopk/finetune-code --scale full
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.seqtopk.finetune import Problems, answer_costs, fine_tune, generated, target_loss
from methods.seqtopk.finetune import build as build_with
from methods.seqtopk.hf import Patch
from retable.cards import Scalar
from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.evaluate.programs import check_permission, passes
from retable.plan import Cell
from retable.train.context import Context, Measured

# A function ends where something else begins: the stops of the common evaluation harness for HumanEval.
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


class CodeProblems(Problems):
    """Instructions to learn from, each in finetune's prompt; functions of HumanEval to go on with, as they are."""

    def __init__(self, rows: SentenceSet, split: SentenceSplit, settings: dict[str, Scalar], device: torch.device):
        super().__init__(rows, split, settings, device)
        self.columns_of = rows.columns

    def texts(self, rows: SentenceSet, place: int) -> tuple[str, str]:
        """A test problem is a piece of a program, to which the model adds the rest."""
        if rows.columns["test"][place]:
            return rows.columns["question"][place], rows.columns["answer"][place]
        return super().texts(rows, place)

    def program(self, place: int, added: str) -> str:
        """The problem with what the model added, up to the end of the function, and its test."""
        question, test, name = (self.columns_of[column][place] for column in ("question", "test", "entry_point"))
        return f"{question}{until_stop(added)}\n{test}\ncheck({name})"


def until_stop(text: str) -> str:
    """A text up to the first of STOPS."""
    return text[: min((place for stop in STOPS if (place := text.find(stop)) >= 0), default=len(text))]


def build(cell: Cell, context: Context) -> tuple[CodeProblems, Any, Patch]:
    """Data, model before fine-tuning, and the handle of its router."""
    problems, model, handle = build_with(cell, context, CodeProblems)
    assert isinstance(problems, CodeProblems)
    return problems, model, handle


def fixed_batch(cell: Cell, context: Context) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model and a loss without chance in it, for the test that one step of learning lowers the loss."""
    problems, model, _ = build(cell, context)
    batch = problems.batch(problems.split.train[: int(cell.settings["micro_batch"])])
    return model, lambda: target_loss(model.eval(), *batch)


def run(cell: Cell, context: Context) -> Measured:
    """Fine-tune one seed with its router, then measure it with causal routing."""
    check_permission()
    problems, model, handle = build(cell, context)
    fine_tune(cell, context, problems, model)
    return measure(cell, context, problems, model, handle)


def evaluate(cell: Cell, context: Context) -> Measured:
    """The metrics of a finished run from the weights it kept, without training."""
    problems, model, handle = build(cell, context)
    model.load_state_dict(context.kept("last"))
    return measure(cell, context, problems, model, handle)


def measure(cell: Cell, context: Context, problems: CodeProblems, model: Any, handle: Patch) -> Measured:
    """The share of problems whose greedy answer passes its test, in percent, and the costs of the right answers."""
    solved = [
        passes(problems.program(place, text)) for place, text in generated(cell, context, problems, model, handle)
    ]
    return Measured({"pass_at_1": 100 * float(np.mean(solved))} | answer_costs(cell, context, problems, model, handle))
