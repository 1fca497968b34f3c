"""Adapters of the arrays made with DYNACL's released code; see ../test_golden.py."""

import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from methods.dynacl.attack import adversarial_views
from methods.dynacl.models import Architecture, Classifier, Encoder, Pair, Projector, folded_batchnorm
from methods.dynacl.schedules import Augmentation, adversarial_weight, augmentation_strength, schedule_weighted
from methods.dynacl.trades import trades_examples, trades_loss
from retable.evaluate.attacks import pgd_examples
from retable.nn.nt_xent import nt_xent_interleaved
from retable.train.optim import LARS
from retable.train.schedules import set_lr, warmup_cosine_epoch

Arrays = dict[str, np.ndarray]
CLOSE = {"rtol": 1e-6, "atol": 1e-8}
EXACT = {"rtol": 0.0, "atol": 1e-12}
ROUNDED = {"rtol": 0.0, "atol": 2e-6}
# One pair: the true loss and gradient are 0, what is stored is rounding.
ROUNDED_PAIR = {"rtol": 0.0, "atol": 5e-6}
# The stored temperature of the networks' cases.
TEMPERATURE = 0.5
# Our batch-norm branches and the authors' names of them, in the authors' order.
BRANCHES = {"clean": "normal", "adv": "pgd"}


def nt_xent_case(arrays: Arrays) -> Iterator[tuple]:
    t = float(arrays["t"])
    single = ROUNDED_PAIR if len(arrays["z64"]) == 2 else ROUNDED
    for bits, close in ((64, CLOSE), (32, single)):
        z = tensor(arrays[f"z{bits}"]).requires_grad_()
        loss = nt_xent_interleaved(z, t)
        loss.backward()
        yield f"loss{bits}", loss, close
        yield f"grad{bits}", z.grad, close
        unit = nn.functional.normalize(z.detach(), dim=1)
        yield f"sim{bits}", unit @ unit.T, close


def schedules(arrays: Arrays) -> Iterator[tuple]:
    columns = [str(name) for name in arrays["aug_columns"]]
    for key in sorted(key for key in arrays if key.startswith("cfg")):
        number = key.removeprefix("cfg")
        epochs, period, swap, lr = (float(value) for value in arrays[key])
        span = range(1, int(epochs) + 1)
        strengths = [augmentation_strength(e, int(epochs), int(period)) for e in span]
        weights = np.array([adversarial_weight(e, int(epochs), int(period), swap) for e in span])
        yield f"strength{number}", strengths, EXACT
        yield f"weight_adv{number}", weights, EXACT
        yield f"weight_clean{number}", 2 - weights, EXACT
        yield f"lr{number}", [warmup_cosine_epoch(e, lr, 10, int(epochs), 1e-6) for e in span], EXACT
        rows = [transforms(Augmentation.of_strength(s)) for s in strengths]
        yield f"aug{number}", np.array([[row[name] for name in columns] for row in rows]), EXACT


def transforms(augmentation: Augmentation) -> dict[str, float]:
    """The columns of the authors' transforms."""
    a = augmentation
    ranges = dict.fromkeys(("bright", "contrast", "sat"), a.jitter)
    bounds = {f"{name}_{end}": 1 + sign * by for name, by in ranges.items() for end, sign in (("lo", -1), ("hi", 1))}
    return bounds | {
        "crop_scale_min": a.smallest_crop,
        "crop_scale_max": 1.0,
        "jitter_p": a.jitter_probability,
        "hue_lo": -a.hue,
        "hue_hi": a.hue,
        "gray_p": a.grayscale_probability,
        "flip_p": a.flip_probability,
        "ratio_lo": a.aspect[0],
        "ratio_hi": a.aspect[1],
    }


def dual_bn(arrays: Arrays) -> Iterator[tuple]:
    network = projector(arrays, "p.")
    for mode in ("eval", "train"):
        network.train(mode == "train")
        for bn_branch, stored in BRANCHES.items():
            x = tensor(arrays["x"]).requires_grad_()
            if mode == "eval":
                yield f"eval_{stored}_feat", network.encoder(x, bn_branch), CLOSE
            out = network(x, bn_branch)
            c = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
            (gradient,) = torch.autograd.grad((out * c).sum(), x)
            yield f"{mode}_{stored}", out, CLOSE
            yield f"{mode}_{stored}_gx", gradient, CLOSE
            if mode == "train":
                yield from same_state(network, arrays, f"after_{stored}.")
                continue
            with folded_batchnorm(network, bn_branch):
                out = network(x, bn_branch)
                (gradient,) = torch.autograd.grad((out * c).sum(), x)
            yield f"eval_{stored}", out, CLOSE
            yield f"eval_{stored}_gx", gradient, CLOSE


def pgd_contrastive(arrays: Arrays) -> Iterator[tuple]:
    pair = stored_pair(arrays, "")
    x = tensor(arrays["x"])
    x_adv = attacked(pair, x, arrays["u"], arrays, int(arrays["iters"]))
    yield "x_adv", x_adv, CLOSE
    pair.eval()
    clean, adversarial = pair(x, "adv"), pair(x_adv, "adv")
    yield "feat_clean_eval_pgd", clean, CLOSE
    yield "feat_adv_eval_pgd", adversarial, CLOSE
    yield "loss_before", nt_xent_interleaved(clean, TEMPERATURE), CLOSE
    yield "loss_after", nt_xent_interleaved(adversarial, TEMPERATURE), CLOSE


def pgd_ce(arrays: Arrays) -> Iterator[tuple]:
    model = classifier(arrays, "p.").eval()
    x, y = tensor(arrays["x"]), tensor(arrays["y"])
    eps, step = float(arrays["eps"]), float(arrays["alpha"])
    start = uniform(arrays["u"], eps) if bool(arrays["random_init"]) else torch.zeros_like(x)
    with folded_batchnorm(model, "adv"):
        settings = {"eps": eps, "step": step, "iterations": int(arrays["iters"]), "start": start}
        x_adv = pgd_examples(lambda images: model(images, "adv"), x, y, **settings)
    yield "x_adv", x_adv, CLOSE
    yield "logits", model(x, "adv"), CLOSE
    yield "logits_adv", model(x_adv, "adv"), CLOSE


def trades_dual(arrays: Arrays) -> Iterator[tuple]:
    clean, adversarial = leaf(arrays["logits_nat_formula"]), leaf(arrays["logits_adv_formula"])
    x, y, beta = tensor(arrays["x"]), tensor(arrays["y"]), float(arrays["beta"])
    loss = trades_loss(clean, adversarial, y, beta)
    loss.backward()
    yield "loss_formula", loss, CLOSE
    yield "g_logits_nat", clean.grad, CLOSE
    yield "g_logits_adv", adversarial.grad, CLOSE

    model = classifier(arrays, "p.").train()
    eps, step, iterations = float(arrays["eps"]), float(arrays["step_size"]), int(arrays["perturb_steps"])
    settings = {"eps": eps, "step": step, "iterations": iterations, "start": torch.zeros_like(x)}
    x_adv = trades_examples(model, x, "clean", **settings)
    yield "x_adv", x_adv, CLOSE
    loss = trades_loss(model(x, "clean"), model(x_adv, "adv"), y, beta)
    loss.backward()
    yield "loss", loss, CLOSE
    yield from same_gradients(model, arrays, "g.")
    yield from same_state(model, arrays, "after.")


def lars(arrays: Arrays) -> Iterator[tuple]:
    numbers = range(sum(re.fullmatch(r"p\d+", key) is not None for key in arrays))
    params = [nn.Parameter(tensor(arrays[f"p{i}"])) for i in numbers]
    rates = np.atleast_1d(arrays["lr"])
    decay, trust, momentum = (float(arrays[name]) for name in ("weight_decay", "eta", "momentum"))
    optimiser = LARS(params, 1.0, form="acl", momentum=momentum, weight_decay=decay, trust=trust)
    for t in range(sum(key.startswith("g0_t") for key in arrays)):
        for i, parameter in enumerate(params):
            parameter.grad = tensor(arrays[f"g{i}_t{t}"])
        set_lr(optimiser, float(rates[min(t, len(rates) - 1)]))
        optimiser.step()
        for i, parameter in enumerate(params):
            yield f"p{i}_t{t}", parameter, CLOSE
            yield f"buf{i}_t{t}", optimiser.state[parameter]["momentum_buffer"], CLOSE


def train_step(arrays: Arrays) -> Iterator[tuple]:
    pair = stored_pair(arrays, "before.", float(arrays["momentum_k"])).train()
    epoch, epochs, period = (int(arrays[name]) for name in ("epoch", "epochs", "K"))
    weight = adversarial_weight(epoch, epochs, period, float(arrays["lam"]))
    yield "weight_adv", weight, CLOSE
    optimiser = LARS(pair.q.parameters(), float(arrays["lr"]), form="acl", weight_decay=1e-6)
    losses = []
    for t in range(sum(key.startswith("x_t") for key in arrays)):
        views = tensor(arrays[f"x_t{t}"]).flatten(0, 1)
        x_adv = attacked(pair, views, arrays[f"u_t{t}"], arrays, int(arrays["pgd_iter"]))
        yield f"x_adv_t{t}", x_adv, CLOSE
        adversarial, clean = pair(x_adv, "adv"), pair(views, "clean")
        yield f"feat_adv_t{t}", adversarial, CLOSE
        yield f"feat_clean_t{t}", clean, CLOSE
        pair.update()
        parts = nt_xent_interleaved(clean, TEMPERATURE), nt_xent_interleaved(adversarial, TEMPERATURE)
        yield f"loss_clean_t{t}", parts[0], CLOSE
        yield f"loss_adv_t{t}", parts[1], CLOSE
        losses.append(schedule_weighted(*parts, weight))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    yield "avg_loss", torch.stack(losses).mean(), CLOSE
    yield from same_gradients(pair.q, arrays, "lastgrad.q.")
    yield from same_state(pair.q, arrays, "after.q.", but="fc.fc1.bias")
    yield from same_state(pair.k, arrays, "after.k.")


# The authors' arrays --------------------------------------------------------------------------------------------------


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


def leaf(array: np.ndarray) -> Tensor:
    return tensor(array).requires_grad_()


def ours(name: str) -> str:
    """Our name of the authors' tensor `name`."""
    for number, bn_branch in enumerate(BRANCHES):
        name = name.replace(f".bn_list.{number}.", f".norms.{bn_branch}.")
    if name in ("fc.weight", "fc.bias"):
        return name.replace("fc", "linear")
    if name.startswith("fc."):
        part = name.removeprefix("fc.")
        place = str(int(part[2]) - 1)
        return f"head.layers.{place}.{part.replace('fc' + part[2], 'layer').replace('bn' + part[2] + '.', '')}"
    name = name.replace("normalize.", "").replace("layer1.", "blocks.0.")
    name = name.replace("downsample.conv", "shortcut.layer").replace("downsample.bn", "shortcut")
    for number, layer in (("1", "first"), ("2", "second")):
        block = f"blocks.0.{layer}"
        name = name.replace(f"blocks.0.conv{number}", f"{block}.layer").replace(f"blocks.0.bn{number}", block)
    name = name.replace("conv1.", "stem.layer.").replace("bn1.", "stem.")
    return f"encoder.{name}"


def states(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    stored = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
    return {ours(name): tensor(value) for name, value in stored.items()}


def encoder(arrays: Arrays, prefix: str) -> Encoder:
    """The tiny network, its widths read from the arrays."""
    stem, width = len(arrays[f"{prefix}conv1.weight"]), len(arrays[f"{prefix}layer1.conv1.weight"])
    return Encoder(Architecture(3, 1, False, stem, ((width, 2),)))


def projector(arrays: Arrays, prefix: str) -> Projector:
    layers = 3 if f"{prefix}fc.fc3.weight" in arrays else 2
    network = Projector(encoder(arrays, prefix), layers).double()
    network.load_state_dict(states(arrays, prefix))
    return network


def classifier(arrays: Arrays, prefix: str) -> Classifier:
    model = Classifier(encoder(arrays, prefix), len(arrays[f"{prefix}fc.bias"])).double()
    model.load_state_dict(states(arrays, prefix))
    return model


def stored_pair(arrays: Arrays, prefix: str, momentum: float = 0.99) -> Pair:
    pair = Pair(projector(arrays, f"{prefix}q."), momentum)
    pair.k.load_state_dict(states(arrays, f"{prefix}k."))
    return pair


def uniform(u: np.ndarray, eps: float) -> Tensor:
    return tensor(u) * 2 * eps - eps


def attacked(pair: Pair, views: Tensor, u: np.ndarray, arrays: Arrays, iterations: int) -> Tensor:
    eps, step = float(arrays["eps"]), float(arrays["alpha"])
    settings = {"eps": eps, "step": step, "iterations": iterations, "start": uniform(u, eps)}
    return adversarial_views(pair, views, TEMPERATURE, **settings)


def same_gradients(network: nn.Module, arrays: Arrays, prefix: str) -> Iterator[tuple]:
    parameters = dict(network.named_parameters())
    for key in arrays:
        if key.startswith(prefix):
            gradient = parameters[ours(key.removeprefix(prefix))].grad
            yield key, torch.zeros(arrays[key].shape) if gradient is None else gradient, CLOSE


def same_state(network: nn.Module, arrays: Arrays, prefix: str, but: str = "") -> Iterator[tuple]:
    """All tensors of a stored state; `but` is one whose step rounding decides (a bias in front of a batch norm)."""
    state = network.state_dict()
    for key in arrays:
        name = key.removeprefix(prefix)
        if key.startswith(prefix):
            yield key, state[ours(name)], {"rtol": 1e-2, "atol": 1e-2} if name == but else CLOSE


KINDS = {
    "nt_xent": nt_xent_case,
    "schedules": schedules,
    "dual_bn": dual_bn,
    "pgd_contrastive": pgd_contrastive,
    "pgd_ce": pgd_ce,
    "trades_dual": trades_dual,
    "lars": lars,
    "train_step": train_step,
}
