"""Fine-tuning of pretrained models with SeqTopK on CodeAlpaca, and HumanEval's pass@1 without examples.

As `finetune.py`, whose models and training it shares; the data get their card from your own download, and scoring runs
code that the model wrote:

    retable data adopt code-alpaca ~/downloads
    RETABLE_WEIGHTS=~/weights RETABLE_RUN_GENERATED_CODE=1 retable run seqtopk/finetune-code --scale full
"""

from retable.data.sentence_sets import SentenceSet
from retable.evaluate.generated import until_stop
from retable.evaluate.programs import check_permission, passes
from retable.train.context import Result

from .finetune import FineTune


class FineTuneCode(FineTune):
    """Fine-tuning on instructions, measured by programs that run."""

    @staticmethod
    def texts(rows: SentenceSet, index: int) -> tuple[str, str]:
        """A test problem is a piece of a program, given as it is, to which the model adds the rest."""
        if rows.columns["test"][index]:
            return rows.columns["question"][index], rows.columns["answer"][index]
        return FineTune.texts(rows, index)

    def train(self) -> None:
        check_permission()
        super().train()

    def measure(self) -> Result:
        """The share of problems whose greedy answer passes its test, in percent, and the costs of right answers."""
        solved = [passes(program(self.rows, index, text)) for index, text in self.generated()]
        return Result({"pass_at_1": 100 * (sum(solved) / len(solved))} | self.answer_costs())


def program(rows: SentenceSet, index: int, added: str) -> str:
    """A problem with what the model added, up to the end of the function, and its test."""
    question, test, name = (rows.columns[column][index] for column in ("question", "test", "entry_point"))
    return f"{question}{until_stop(added)}\n{test}\ncheck({name})"


EXPERIMENT = FineTuneCode
