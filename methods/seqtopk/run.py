"""SeqTopK in a small language model: trained from scratch, or a TopK model fine-tuned with another router.

On generated facts with 4 of 32 experts a token, about 98 % of the answers are right after 15 seconds on one CPU core:

    retable run seqtopk/facts --scale reduced
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from retable.data.text_batches import TextBatches
from retable.evaluate.pictures import heat_map
from retable.experiment import Experiment
from retable.train.context import Context, Result
from retable.train.schedules import set_lr, warmup_cosine_tail

from .losses import lb_from_mask, next_l1_weight, relu_l1
from .model import MoELM
from .routers import nested_budgets
from .settings import FactsSettings
from .tasks import loss, measure
from .tasks import majority as unigram

# What `route` runs for a variant's router: MRL-TopK differs from TopK in training alone, dense is TopK of all experts.
SAME_RULE = {"mrl": "topk", "dense": "topk"}
FIRST_L1_WEIGHT = 1e-8  # ReMoE's
LONGEST_COUNT = 16
PICTURED_LAYERS, PICTURED_TOKENS = 2, 128


class Router:
    """A variant's rule and budget, and the loss terms that come with it."""

    def __init__(self, name: str, K: int, lower: int, extra: int, balance: float) -> None:
        self.name, self.K = name, K
        self.lower, self.upper = lower, K + extra
        self.balance = balance
        self.l1_weight = FIRST_L1_WEIGHT

    def install(self, model: MoELM) -> None:
        """Route `model` by this rule."""
        model.set_router(SAME_RULE.get(self.name, self.name), self.K, self.lower, self.upper)

    def loss(self, model: MoELM, rows: Tensor) -> Tensor:
        """Cross-entropy and balance of a batch; the selection is left in the model's layers."""
        if self.name != "mrl":
            return self._loss(model, rows)
        losses = []
        for K in reversed(nested_budgets(self.K)):
            model.set_router("topk", K, 1, K)
            losses.append(self._loss(model, rows))
        return torch.stack(losses).mean()

    def _loss(self, model: MoELM, rows: Tensor) -> Tensor:
        total = loss(model(rows[:, :-1]), rows)
        layers = [layer.routed for layer in model.moe_layers()]
        if self.name == "relu":
            return total + self.l1_weight * relu_l1([layer.p for layer in layers], self.K)
        for layer in layers:
            total = total + self.balance * lb_from_mask([layer.logits], [layer.mask]) / _used(layer.mask)
        return total

    def after_step(self, model: MoELM) -> float:
        """Experts a token used in the last batch; steers ReMoE's penalty."""
        used = sum(_used(layer.routed.mask) for layer in model.moe_layers()) / len(model.moe_layers())
        if self.name == "relu":
            self.l1_weight = next_l1_weight(self.l1_weight, used, self.K)
        return used

    def state_dict(self) -> dict[str, float]:
        return {"l1_weight": self.l1_weight}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.l1_weight = state["l1_weight"]


def _used(mask: Tensor) -> float:
    """Mean number of experts of a token."""
    return max(mask.sum().item(), 1) / mask[..., 0].numel()


# The experiment -------------------------------------------------------------------------------------------------------


def majority(settings: FactsSettings, context: Context) -> Result:
    """Shares of the training part's symbols as the answer to everything."""
    return Result(unigram(TextBatches(*context.data(), settings.tokens, settings.test_windows, context.device)))


class Facts(Experiment[FactsSettings]):
    """Train a model by the variant's router, after a TopK model by `pretraining_epochs` of its own."""

    controls = {"majority": majority}
    model: MoELM

    def __init__(self, settings: FactsSettings, context: Context) -> None:
        super().__init__(settings, context)
        s = settings
        self.task = TextBatches(*context.data(), s.tokens, s.test_windows, context.device)
        self.router = self._router(s.router, s.experts if s.router == "dense" else s.k)
        context.seed_torch("weights")
        self.model = MoELM(
            self.task.symbols,
            self.task.width - 1,
            d=s.d,
            layers=s.layers,
            heads=s.heads,
            positions=s.positions,
            experts=s.experts,
            width=s.width,
            K=self.router.K,
            router=SAME_RULE.get(s.router, s.router),
            lower=self.router.lower,
            upper=self.router.upper,
            shared_width=s.shared_width,
            gate_scale=s.gate_scale,
        ).to(context.device)

    def _router(self, name: str, K: int) -> Router:
        return Router(name, K, self.settings.lower, self.settings.extra, self.settings.balance)

    def train(self) -> None:
        s = self.settings
        if s.pretraining_epochs:
            before = self._router("topk", s.pretraining_k)
            self._phase("pretrain", before, s.pretraining_epochs, s.pretraining_lr, s.pretraining_warmup)
            self.context.save_weights("pretrained", self.model.state_dict())
        self._phase("", self.router, s.epochs, s.lr, s.warmup)

    def _phase(self, name: str, router: Router, epochs: int, lr: float, warmup: int) -> None:
        """Train by one router: AdamW, gradients clipped to 1."""
        s, model = self.settings, self.model.train()
        betas = (0.9, 0.95)
        optimiser = torch.optim.AdamW(model.parameters(), lr=lr, betas=betas, weight_decay=s.weight_decay, fused=True)
        router.install(model)
        for epoch in self.context.epochs(epochs, phase=name, model=model, optimiser=optimiser, router=router):
            losses, used = 0.0, 0.0
            for step in range((epoch - 1) * s.steps_per_epoch, epoch * s.steps_per_epoch):
                set_lr(optimiser, warmup_cosine_tail(step, lr, warmup, epochs * s.steps_per_epoch))
                value = router.loss(model, self.task.batch(s.batch_size))
                optimiser.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                used += router.after_step(model) / s.steps_per_epoch
                losses += value.item() / s.steps_per_epoch
            self.context.log(epoch, loss=losses, experts_used=used)

    def measure(self) -> Result:
        """Test metrics; `untuned_` ones are the new router's in the TopK model, before any step of training with it."""
        self.router.install(self.model)
        metrics, series = numbers(self.task, self.model, self.router)
        draw(self.task, self.model, self.router, self.context)
        if self.settings.pretraining_epochs:
            self.model.load_state_dict(self.context.load_weights("pretrained"))
            untuned, _ = numbers(self.task, self.model, self.router)
            metrics |= {f"untuned_{name}": value for name, value in untuned.items() if "nll" in name or "hard_" in name}
        return Result(metrics, series)

    def fixed_batch(self) -> Callable[[], Tensor]:
        """The loss with the level of a threshold held."""
        rows = self.task.batch(self.settings.batch_size)
        self.router.loss(self.model, rows)
        self.model.eval()
        return lambda: self.router.loss(self.model, rows)


EXPERIMENT = Facts


# Evaluation -----------------------------------------------------------------------------------------------------------


def numbers(task: TextBatches, model: MoELM, router: Router) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Test metrics by causal routing, `offline_` ones by the rule that training used, and what the routers did."""
    metrics, masks = measure(model, task, causal=True)
    offline, _ = measure(model, task, causal=False)
    metrics |= {f"offline_{name}": value for name, value in offline.items()}
    mask = torch.stack(masks).double()  # (layers, rows, T, E)
    used = mask.sum(-1)
    loads = mask.sum((1, 2))
    relative = loads / loads.mean(1, keepdim=True).clamp(min=1e-9)
    metrics |= {
        "largest_load": relative.max(1).values.mean().item(),
        "load_deviation": relative.std(1).mean().item(),
        "unused_experts": (loads == 0).sum(1).double().mean().item(),
        "largest_budget_used": (used.sum(2) / (router.K * used.shape[2])).max().item(),
    }
    positions = torch.arange(1, used.shape[2] + 1, device=used.device)
    counts = used.flatten().long().clamp(max=LONGEST_COUNT).bincount(minlength=LONGEST_COUNT + 1).double()
    series = {
        "budget_used": (used.cumsum(2) / (router.K * positions)).mean((0, 1)).tolist(),
        "load_by_rank": relative.sort(1, descending=True).values.mean(0).tolist(),
        "share_of_tokens_by_experts": (100 * counts / counts.sum()).tolist(),
    }
    return metrics, series


@torch.no_grad()
def draw(task: TextBatches, model: MoELM, router: Router, context: Context) -> None:
    """A heat map of the experts of each token of the first test sequence, by causal routing."""
    model.eval()
    row = task.rows[:1, : PICTURED_TOKENS + 1]
    model(row[:, :-1], causal=True)
    counts = torch.stack([layer.routed.mask[0].sum(-1) for layer in model.moe_layers()[:PICTURED_LAYERS]])
    text = task.alphabet.decode(row[0, :-1].cpu().numpy())
    caption = f"Experts of each token of a test sequence, one line a layer, {router.K} on average being the budget"
    context.picture("experts-per-token", heat_map(text, counts.cpu().numpy(), 2 * router.K), caption)
