"""Fine-tuning of pretrained models with SeqTopK on GSM8K, and its evaluation by generated answers.

The paper's own recipe starts from pretrained weights, which you bring:

    RETABLE_WEIGHTS=~/weights retable run seqtopk/finetune --scale full    # ~/weights/OLMoE-1B-7B-0125/config.json ..

Without them the same path can be walked with a tiny random OLMoE that reads bytes (`--scale reduced`), which solves no
problem.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retable.cards import CardError, unknown
from retable.data.pretrained import pretrained_folder
from retable.data.sentence_batches import IGNORED, PromptBatches, in_batches
from retable.data.sentence_sets import SentenceSet
from retable.data.tokenizers import Bytes, PretrainedTokenizer
from retable.evaluate.generated import final_number
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.precision import autocast
from retable.train.schedules import set_lr, warmup_decay

from .hf import patch
from .settings import FineTuneSettings

TINY = "tiny-random-olmoe"
PRETRAINED = ("OLMoE-1B-7B-0125", "Qwen1.5-MoE-A2.7B")
# The tiny model's size, in the configuration's names.
TINY_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "initializer_range": 0.1,
}
PROMPT = "Answer the following question.\n\n{question}\n\nAnswer:"


def target_loss(model: nn.Module, tokens: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over target tokens, as the sister code of the paper's recipe sums it."""
    logits = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits
    flat = logits[:, :-1].flatten(0, 1).float()
    return F.cross_entropy(flat, targets[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")


def make_model(backbone: str) -> Any:
    """The network of a name, in float32; a random one comes from torch's global stream."""
    from transformers import AutoModelForCausalLM, OlmoeConfig, OlmoeForCausalLM

    if backbone == TINY:
        config = OlmoeConfig(vocab_size=Bytes.size, pad_token_id=Bytes.pad, eos_token_id=Bytes.end, **TINY_SIZE)
        return OlmoeForCausalLM(config)
    if backbone not in PRETRAINED:
        raise CardError(unknown("backbone", backbone, [TINY, *PRETRAINED]))
    return AutoModelForCausalLM.from_pretrained(pretrained_folder(backbone), dtype=torch.float32, local_files_only=True)


class FineTune(Experiment[FineTuneSettings]):
    """All weights learn the training part's answers with the variant's router; evaluation routes causally."""

    model: Any
    """Of transformers, whose classes have no useful types."""

    def __init__(self, settings: FineTuneSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        self.rows, self.split = context.data()
        tokenizer = Bytes() if s.backbone == TINY else PretrainedTokenizer(s.backbone)
        texts = {
            index: self.texts(self.rows, index) for index in [*self.split.train.tolist(), *self.split.test.tolist()]
        }
        self.problems = PromptBatches(texts, tokenizer, s.max_length, context.device)
        context.seed_torch("weights")
        self.model = make_model(s.backbone).to(context.device)
        if s.checkpointing:
            self.model.activation_checkpointing_enable()
        self.handle = patch(self.model, router=s.router, K=s.k, lower=s.lower, upper=s.k + s.extra)

    @staticmethod
    def texts(rows: SentenceSet, index: int) -> tuple[str, str]:
        """What the model is given of a problem, and what it should add to it."""
        return PROMPT.format(question=rows.columns["question"][index]), " " + rows.columns["answer"][index]

    def train(self) -> None:
        s, problems, model, train = self.settings, self.problems, self.model, self.split.train
        optimiser = torch.optim.AdamW(model.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        steps = -(-len(train) // s.batch_size)
        for epoch in self.context.epochs(s.epochs, model=model, optimiser=optimiser):
            order = train[torch.randperm(len(train)).numpy()]
            model.train()
            total, count = 0.0, 0
            for step, indices in enumerate(in_batches(order, s.batch_size), start=(epoch - 1) * steps):
                set_lr(optimiser, warmup_decay(step, s.lr, s.warmup_share, s.epochs * steps, s.schedule))
                optimiser.zero_grad()
                for piece in in_batches(indices, s.micro_batch):
                    batch = problems.batch(piece)
                    with self.autocast():
                        loss = target_loss(model, *batch)
                    loss.backward()
                    total, count = total + loss.item(), count + int((batch[2] != IGNORED).sum())
                optimiser.step()
            self.context.check_finite(total / count, "loss", epoch)
            self.context.log(epoch, loss=total / count)

    def measure(self) -> Result:
        """Exact match of generated answers in percent, and the costs of the right answers."""
        gold = self.rows.columns["answer"]
        right = sum(final_number(text) == final_number(gold[index]) for index, text in self.generated())
        return Result({"exact_match": 100 * right / len(self.split.test)} | self.answer_costs())

    def fixed_batch(self) -> Callable[[], Tensor]:
        batch = self.problems.batch(self.split.train[: self.settings.micro_batch])
        return lambda: target_loss(self.model.eval(), *batch)

    def autocast(self) -> torch.autocast:
        """Products in bfloat16 over float32 weights, or float32 throughout."""
        return autocast(self.context.device, self.settings.precision == "bfloat16")

    @torch.no_grad()
    def generated(self) -> Iterator[tuple[int, str]]:
        """Places of the test part with the text that the model adds to the prompt, greedily.

        Prompts are known and routed together, answers token by token; BatchTopK, which has no such form, is routed as
        SeqTopK, a sequence at a time.
        """
        problems, handle = self.problems, self.handle
        self.model.eval()
        handle.router, handle.mode = "topk" if handle.router == "topk" else "seqtopk", "offline"
        for indices in in_batches(self.split.test, self.settings.micro_batch):
            prompt, mask, _ = problems.batch(indices, answers=False)
            with self.autocast():
                made = self.model.generate(
                    prompt,
                    attention_mask=mask,
                    max_new_tokens=self.settings.new_tokens,
                    do_sample=False,
                    pad_token_id=problems.tokenizer.pad,
                    eos_token_id=problems.tokenizer.end,
                )
            for index, answer in zip(indices.tolist(), made[:, prompt.shape[1] :].tolist(), strict=True):
                yield index, problems.tokenizer.decode(answer)

    @torch.no_grad()
    def answer_costs(self) -> dict[str, float]:
        """What a token of the right answers costs in nats and uses in experts, routed as in `generated`.

        `offline_nll` lets later tokens take part.
        """
        problems, handle = self.problems, self.handle
        self.model.eval()
        handle.router = "topk" if handle.router == "topk" else "seqtopk"
        nll, used, tokens_seen = {"online": 0.0, "offline": 0.0}, 0, 0
        for indices in in_batches(self.split.test, self.settings.micro_batch):
            tokens, mask, targets = problems.batch(indices)
            counted = targets != IGNORED
            handle.prompt = problems.columns(indices)
            for mode in ("offline", "online"):
                handle.mode = mode
                with self.autocast():
                    nll[mode] += float(target_loss(self.model, tokens, mask, targets))
            used += int(handle.counts()[:, counted].sum())
            tokens_seen += int(counted.sum())
        return {
            "online_nll": nll["online"] / tokens_seen,
            "offline_nll": nll["offline"] / tokens_seen,
            "experts_used": used / tokens_seen / handle.layers,
        }


EXPERIMENT = FineTune
