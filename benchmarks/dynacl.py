"""DYNACL's steps beside their straightforward form, in ratios: `python benchmarks/dynacl.py [parts]`.

Parts: step, attack, pair, whole, trades (the small network of the reduced scale), resnet (the paper's), loss. Attacks
of pre-training have 5 steps, TRADES' have 10. `whole` counts the drawing of views too, which the authors leave to
torchvision on PIL images in worker processes. The obvious forms attack in eval mode through all batch norms, let every
attack step compute the gradients of the weights too and zero them afterwards, take NT-Xent from exponentials and
boolean masks, and compute TRADES' clean logits in each step anew. One thread, no data needed. Both forms are checked to
give the same values first.
"""

import copy

import torch
import torch.nn.functional as F
from interleave import medians, run_parts
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from methods.dynacl.attack import adversarial_views
from methods.dynacl.data import views
from methods.dynacl.models import Classifier, Pair, Projector, make_encoder
from methods.dynacl.schedules import Augmentation, schedule_weighted
from methods.dynacl.trades import trades_examples, trades_loss
from retable.nn.nt_xent import nt_xent_interleaved

EPS, STEP, TAU, WEIGHT = 8 / 255, 2 / 255, 0.5, 4 / 3


# Obvious forms --------------------------------------------------------------------------------------------------------


def masked_loss(z: Tensor, t: float) -> Tensor:
    """NT-Xent by exponentials of all cosine similarities and two boolean masks."""
    rows = torch.arange(len(z))
    unit = F.normalize(z, dim=1)
    similarity = unit @ unit.T
    positive = (rows[:, None] ^ 1) == rows[None]
    negative = ~torch.eye(len(z), dtype=torch.bool)
    weights = (similarity / t).exp()
    return -(weights[positive] / weights[negative].view(len(z), -1).sum(1)).log().mean()


def obvious_pair(pair: Pair, views: Tensor, bn_branch: str) -> Tensor:
    """Both networks' rows written into one array, as in the authors' code."""
    if pair.k is None:
        return pair.q(views, bn_branch)
    first, second = pair.q(views[0::2], bn_branch), pair.k(views[1::2], bn_branch)
    z = first.new_empty(len(views), first.shape[1])
    z[0::2], z[1::2] = first, second
    return z


def obvious_attack(pair: Pair, views: Tensor, start: Tensor, iterations: int) -> Tensor:
    """PGD that differentiates everything."""
    pair.eval()
    delta = start.clone()
    for _ in range(iterations):
        delta = delta.detach().requires_grad_()
        masked_loss(obvious_pair(pair, views + delta, "adv"), TAU).backward()
        with torch.no_grad():
            delta = (delta + STEP * delta.grad.sign()).clamp(-EPS, EPS)
            delta = (views + delta).clamp(0, 1) - views
        pair.zero_grad()
    pair.train()
    return views + delta.detach()


def obvious_trades(classifier: Classifier, x: Tensor, start: Tensor, iterations: int) -> Tensor:
    """TRADES' examples with clean predictions in every step."""
    classifier.eval()
    attacked = x + start
    for _ in range(iterations):
        attacked = attacked.detach().requires_grad_()
        clean, adversarial = classifier(x, "clean").softmax(1), classifier(attacked, "adv").log_softmax(1)
        F.kl_div(adversarial, clean, reduction="sum").backward()
        with torch.no_grad():
            attacked = (attacked + STEP * attacked.grad.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
        classifier.zero_grad()
    classifier.train()
    return attacked.detach()


# Measuring ------------------------------------------------------------------------------------------------------------


def report(what: str, times: dict[str, float]) -> None:
    """Print a row: the obvious form's time, ours, and their ratio."""
    obvious, ours = times.values()
    print(f"| {what} | {obvious:.1f} ms | {ours:.1f} ms | {obvious / ours:.2f} |", flush=True)


def plain(network: nn.Module) -> nn.Module:
    """A copy with weights in torch's own memory order, as networks are usually built."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def make_pair(arch: str, size: int, momentum: float | None) -> Pair:
    """A pair whose statistics have seen some images."""
    torch.manual_seed(0)
    pair = Pair(Projector(make_encoder(arch)), momentum)
    for bn_branch in ("clean", "adv"):
        pair(torch.rand(8, 3, size, size), bn_branch)
    return pair


def pair_step(pair: Pair, attacked: Tensor, views: Tensor, *, obvious: bool) -> Tensor:
    """The two training passes, the moving average and the backward pass."""
    forward, loss = (obvious_pair, masked_loss) if obvious else (Pair.__call__, nt_xent_interleaved)
    adversarial = loss(forward(pair, attacked, "adv"), TAU)
    weighted = schedule_weighted(loss(forward(pair, views, "clean"), TAU), adversarial, WEIGHT)
    pair.update()
    pair.zero_grad()
    weighted.backward()
    return weighted.detach()


def compare_steps(
    what: str, arch: str, images: int, rounds: int, *, momentum: float | None, attack_only: bool = False
) -> None:
    """A pre-training step, or its attack alone."""
    ours, iterations = make_pair(arch, 32, momentum), 5
    theirs = plain(ours)
    assert isinstance(theirs, Pair)
    views = torch.rand(2 * images, 3, 32, 32)
    start = torch.empty_like(views).uniform_(-EPS, EPS)
    settings = {"eps": EPS, "step": STEP, "iterations": iterations, "start": start}
    same_values(ours, theirs, views, settings)
    # Rounding decides the sign of gradients near zero, so float32 attacks differ in few pixels.
    a, b = obvious_attack(theirs, views, start, 1), adversarial_views(ours, views, TAU, **settings | {"iterations": 1})
    assert ((a - b).abs() < 1e-5).float().mean() > 0.98

    def obvious() -> None:
        attacked = obvious_attack(theirs, views, start, iterations)
        if not attack_only:
            pair_step(theirs, attacked, views, obvious=True)

    def fast() -> None:
        attacked = adversarial_views(ours, views, TAU, **settings)
        if not attack_only:
            pair_step(ours, attacked, views, obvious=False)

    report(what, medians({"obvious": obvious, "ours": fast}, rounds))


def same_values(ours: Pair, theirs: Pair, views: Tensor, settings: dict) -> None:
    """In float64, on a few images, all pixels of the attack and the loss of the step are equal."""
    few, double = views[:8].double(), {key: settings[key] for key in ("eps", "step", "iterations")}
    first, second = copy.deepcopy(ours).double(), copy.deepcopy(theirs).double()
    start = settings["start"][:8].double()
    a = obvious_attack(second, few, start, settings["iterations"])
    b = adversarial_views(first, few, TAU, start=start, **double)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(pair_step(second, a, few, obvious=True), pair_step(first, b, few, obvious=False))


# Parts ----------------------------------------------------------------------------------------------------------------


def step() -> None:
    """One pre-training step of the reduced scale's network."""
    compare_steps("pre-training step, small network, 128 images", "small", 128, 9, momentum=None)


def attack() -> None:
    """Its attack alone."""
    compare_steps("its attack", "small", 128, 9, momentum=None, attack_only=True)


def pair() -> None:
    """The same step with a momentum encoder, whose weights get no gradient in either form."""
    compare_steps("pre-training step, small network with momentum encoder, 128 images", "small", 128, 9, momentum=0.99)


def resnet() -> None:
    """One pre-training step of the paper's network."""
    compare_steps("pre-training step, ResNet-18 with momentum encoder, 8 images", "resnet18", 8, 3, momentum=0.99)


def whole() -> None:
    """The same step with its views drawn from 128 images at full strength: by torchvision one by one, or in a batch.

    The views differ, being drawn at random; the step after them is the one compared in `pair`.
    """
    ours = make_pair("small", 32, 0.99)
    theirs = plain(ours)
    assert isinstance(theirs, Pair)
    x = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in x]
    strong = Augmentation.of_strength(1.0)
    hue, jitter = strong.hue, strong.jitter
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, (strong.smallest_crop, 1.0), strong.aspect),
            transforms.RandomHorizontalFlip(strong.flip_probability),
            transforms.RandomApply([transforms.ColorJitter(jitter, jitter, jitter, hue)], strong.jitter_probability),
            transforms.RandomGrayscale(strong.grayscale_probability),
            transforms.ToTensor(),
        ]
    )

    def obvious() -> None:
        drawn = torch.stack([transform(picture) for picture in pictures for _ in range(2)])
        start = torch.empty_like(drawn).uniform_(-EPS, EPS)
        pair_step(theirs, obvious_attack(theirs, drawn, start, 5), drawn, obvious=True)

    def fast() -> None:
        drawn = views(x, strong, "bilinear", flip=True)
        attacked = adversarial_views(ours, drawn, TAU, eps=EPS, step=STEP, iterations=5)
        pair_step(ours, attacked, drawn, obvious=False)

    report("the same with its views drawn by torchvision and PIL", medians({"obvious": obvious, "ours": fast}, 7))


def trades() -> None:
    """One step of adversarial fine-tuning: the attack, both passes, backward."""
    torch.manual_seed(0)
    ours = Classifier(make_encoder("small"), 10)
    x, y = torch.rand(128, 3, 32, 32), torch.randint(10, (128,))
    for bn_branch in ("clean", "adv"):
        ours(x, bn_branch)
    theirs = plain(ours)
    assert isinstance(theirs, Classifier)
    start = 0.001 * torch.randn_like(x)
    settings = {"eps": EPS, "step": STEP, "iterations": 10}
    first, second = copy.deepcopy(ours).double(), copy.deepcopy(theirs).double()
    a = obvious_trades(second, x[:8].double(), start[:8].double(), 10)
    torch.testing.assert_close(a, trades_examples(first, x[:8].double(), "clean", start=start[:8].double(), **settings))

    def update(classifier: Classifier, attacked: Tensor) -> None:
        classifier.zero_grad()
        trades_loss(classifier(x, "clean"), classifier(attacked, "adv"), y, 6.0).backward()

    times = medians(
        {
            "obvious": lambda: update(theirs, obvious_trades(theirs, x, start, 10)),
            "ours": lambda: update(ours, trades_examples(ours, x, "clean", start=start, **settings)),
        },
        5,
    )
    report("TRADES step, small network, 128 images, 10 attack steps", times)


def loss() -> None:
    """NT-Xent of 512 pairs, forward and backward."""
    torch.manual_seed(0)
    z = torch.randn(1024, 128, requires_grad=True)
    a, b = (torch.autograd.grad(function(z, TAU), z)[0] for function in (masked_loss, nt_xent_interleaved))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)
    functions = {"obvious": masked_loss, "ours": nt_xent_interleaved}
    times = medians({name: lambda f=f: f(z, TAU).backward() for name, f in functions.items()}, 7)
    report("NT-Xent, 512 pairs of width 128, forward and backward", times)


PARTS = {"step": step, "attack": attack, "pair": pair, "whole": whole, "trades": trades, "resnet": resnet, "loss": loss}

if __name__ == "__main__":
    run_parts(PARTS)
