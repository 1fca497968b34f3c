"""Fine-tuning of pretrained models with SeqTopK on CodeAlpaca, and HumanEval's pass@1 without examples.

As `finetune.py`, whose models and training it shares; the data get their card from your own download, and scoring runs
code that the model wrote:

    retable data adopt code-alpaca ~/downloads
    RETABLE_WEIGHTS=~/weights RETABLE_RUN_GENERATED_CODE=1 retable run seqtopk/finetune-code --scale full
"""

import numpy as np
import torch

from retable.data.sentence_sets import SentenceSet, SentenceSplit
from retable.evaluate.programs import check_permission, passes
from retable.train.context import Result

from .finetune import FineTune, Problems

# A function ends where something else begins: the stops of the common evaluation harness for HumanEval.
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


class CodeProblems(Problems):
    """Instructions to learn from, each in finetune's prompt; functions of HumanEval to go on with, as they are."""

    def __init__(self, rows: SentenceSet, split: SentenceSplit, backbone: str, longest: int, device: torch.device):
        super().__init__(rows, split, backbone, longest, device)
        self.columns_of = rows.columns

    def texts(self, rows: SentenceSet, index: int) -> tuple[str, str]:
        """A test problem is a piece of a program, to which the model adds the rest."""
        if rows.columns["test"][index]:
            return rows.columns["question"][index], rows.columns["answer"][index]
        return super().texts(rows, index)

    def program(self, index: int, added: str) -> str:
        """The problem with what the model added, up to the end of the function, and its test."""
        question, test, name = (self.columns_of[column][index] for column in ("question", "test", "entry_point"))
        return f"{question}{until_stop(added)}\n{test}\ncheck({name})"


def until_stop(text: str) -> str:
    """A text up to the first of STOPS."""
    return text[: min((index for stop in STOPS if (index := text.find(stop)) >= 0), default=len(text))]


class FineTuneCode(FineTune):
    """Fine-tuning on instructions, measured by programs that run."""

    problems_class = CodeProblems
    problems: CodeProblems

    def train(self) -> None:
        check_permission()
        super().train()

    def measure(self) -> Result:
        """The share of problems whose greedy answer passes its test, in percent, and the costs of right answers."""
        solved = [passes(self.problems.program(index, text)) for index, text in self.generated()]
        return Result({"pass_at_1": 100 * float(np.mean(solved))} | self.answer_costs())


EXPERIMENT = FineTuneCode
