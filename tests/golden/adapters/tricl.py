"""Adapters of the triCL arrays; see ../test_golden.py."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.tricl import baselines, factorisation
from methods.tricl import loss as losses
from methods.tricl.importance import importance_order, selected
from methods.tricl.models import Projector
from retable.evaluate.neighbours import retrieval, vote_accuracy, weighted_knn
from retable.train.optim import LARS
from retable.train.schedules import warmup_cosine_step

Arrays = dict[str, np.ndarray]
# Of float64; sums in another order than the authors'.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
CLOSE_F32 = {"rtol": 2e-5, "atol": 2e-6}
RATE = {"rtol": 1e-9, "atol": 1e-12}


def simclr(arrays: Arrays) -> Iterator[tuple]:
    z = leaf(arrays["z"])
    normalise = bool(arrays["normalize"])
    loss = baselines.simclr(z, float(arrays["temperature"]), tensor(arrays["indexes"]), normalise=normalise)
    yield "loss", loss, close(arrays, "loss")
    yield "grad_z", grad(loss, z), close(arrays, "grad_z")


def scl_code(arrays: Arrays) -> Iterator[tuple]:
    z = leaf(arrays["z"])
    loss = baselines.scl(z, float(arrays["temperature"]), tensor(arrays["indexes"]))
    yield "loss", loss, close(arrays, "loss")
    yield "grad_z", grad(loss, z), close(arrays, "grad_z")


def scl_original(arrays: Arrays) -> Iterator[tuple]:
    z1, z2 = leaf(arrays["z1"]), leaf(arrays["z2"])
    pull, push = baselines.scl_original(z1, z2, float(arrays["mu"]))
    yield "part1", pull, close(arrays, "part1")
    yield "part2", push, close(arrays, "part2")
    yield "loss", pull + push, close(arrays, "loss")
    for key, gradient in zip(("grad_z1", "grad_z2"), torch.autograd.grad(pull + push, (z1, z2)), strict=True):
        yield key, gradient, close(arrays, key)


def tri_simclr(arrays: Arrays) -> Iterator[tuple]:
    yield from tri(arrays, "nce")


def tri_scl(arrays: Arrays) -> Iterator[tuple]:
    yield from tri(arrays, "spectral")


def tri(arrays: Arrays, part: str) -> Iterator[tuple]:
    z, s, importance = with_importance(arrays)
    tau, ids = float(arrays["tau"]), tensor(arrays["indexes"])
    if part == "nce":
        loss = losses.tri_simclr(z, s, float(arrays["temperature"]), tau, ids)
    else:
        loss = losses.tri_scl(z, s, tau, ids)
    raw = importance.raw
    answers = {
        "softplus_s": s,
        f"{part}_loss": loss.contrast,
        "dec_loss": loss.decorrelation,
        "total": loss.total,
        f"grad_z_{part}": grad(loss.contrast, z),
        f"grad_s_{part}": grad(loss.contrast, raw),
        "grad_z_dec": grad(loss.decorrelation, z),
        "grad_z_total": grad(loss.total, z),
        "grad_s_total": grad(loss.total, raw),
    }
    for key, actual in answers.items():
        yield key, actual, close(arrays, key)


def tri_scl_paper_form(arrays: Arrays) -> Iterator[tuple]:
    z1, z2 = leaf(arrays["z1"]), leaf(arrays["z2"])
    importance = importance_of(arrays)
    tau = float(arrays.get("tau", 1.0))
    loss = losses.tri_scl_paper(torch.cat([z1, z2]), importance(), tau)
    yield "tri_loss", loss.contrast, close(arrays, "tri_loss")
    yield "dec_loss", loss.decorrelation, close(arrays, "dec_loss")
    yield "total", loss.total, close(arrays, "total")
    gradients = torch.autograd.grad(loss.total, (z1, z2, importance.raw))
    for key, gradient in zip(("grad_z1", "grad_z2", "grad_s"), gradients, strict=True):
        yield key, gradient, close(arrays, key)


def lars(arrays: Arrays) -> Iterator[tuple]:
    names = [key.removeprefix("p0_") for key in arrays if key.startswith("p0_")]
    params = {name: torch.nn.Parameter(tensor(arrays[f"p0_{name}"])) for name in names}
    ratio, decay = float(arrays["group1_lr_ratio"]), float(arrays["weight_decay"])
    main = [p for name, p in params.items() if name != "cls_w"]
    rest = [p for name, p in params.items() if name == "cls_w"]
    groups = [{"params": main}, {"params": rest, "weight_decay": 0.0}]
    optimiser = LARS(
        groups,
        lr=float(arrays["lr"]),
        form="solo-learn",
        momentum=float(arrays["momentum"]),
        weight_decay=decay,
        trust=float(arrays["eta"]),
        eps=float(arrays["eps"]),
        clip=bool(arrays["clip_lr"]),
        exclude_vectors=bool(arrays["exclude_bias_n_norm"]),
        nesterov=bool(arrays["nesterov"]),
    )
    for step, rate in enumerate(arrays["lr_seq"].tolist()):
        for group, factor in zip(optimiser.param_groups, (1.0, ratio), strict=True):
            group["lr"] = rate * factor
        for name, p in params.items():
            p.grad = tensor(arrays[f"grad{step}_{name}"])
        optimiser.step()
        for name, p in params.items():
            yield f"p{step + 1}_{name}", p, close(arrays, f"p{step + 1}_{name}")
    for name, p in params.items():
        if f"mom_{name}" in arrays:  # without momentum the authors keep no buffer
            yield f"mom_{name}", optimiser.state[p]["momentum_buffer"], close(arrays, f"mom_{name}")


def warmup_cosine(arrays: Arrays) -> Iterator[tuple]:
    # Not always whole: a warm-up is so many epochs, which may be half ones.
    warmup, steps = arrays["warmup_steps"].item(), arrays["max_steps"].item()
    start, floor = float(arrays["warmup_start_lr"]), float(arrays["eta_min"])
    rates = [
        [warmup_cosine_step(int(step), base, warmup, steps, start, floor) for base in arrays["base_lrs"].tolist()]
        for step in arrays["step"]
    ]
    yield "lr", np.array(rates), RATE


def importance_retrieval(arrays: Arrays) -> Iterator[tuple]:
    importance = importance_of(arrays)().detach()
    order = importance_order(importance)
    yield "importance", importance, close(arrays, "importance")
    yield "order", order
    rows, labels = F.normalize(tensor(arrays["z"])), labels_of(arrays["labels"])
    dims, depth = arrays["k_list"].tolist(), int(arrays["K"])
    # The curve wants each number of dimensions once and in order.
    distinct = sorted(set(dims))
    place = [distinct.index(k) for k in dims]
    top = retrieval(rows, labels, order, distinct, neighbours=depth)
    bottom = retrieval(rows, labels, order.flip(0), distinct, neighbours=depth)
    yield "prec_at_K_top", top.precision[place], CLOSE
    yield "prec_at_K_bottom", bottom.precision[place], CLOSE
    yield "map_at_K_top", top.average_precision[place], CLOSE


def knn(arrays: Arrays) -> Iterator[tuple]:
    train, test = tensor(arrays["train_features"]), tensor(arrays["test_features"])
    train_labels, test_labels = labels_of(arrays["train_targets"]), labels_of(arrays["test_targets"])
    k, options = int(arrays["k"]), {"temperature": float(arrays["T"]), "epsilon": float(arrays["epsilon"])}
    for metric in ("cosine", "euclidean"):
        votes = weighted_knn(train, train_labels, test, k=k, metric=metric, **options)
        # The authors' top 5 is never deeper than the number of neighbours.
        for top, depth in ((1, 1), (5, min(5, k, len(train)))):
            yield f"acc{top}_{metric}", vote_accuracy(votes, test_labels, depth), CLOSE


def selected_dims_head(arrays: Arrays) -> Iterator[tuple]:
    hidden, features = arrays["W1"].shape
    projector = Projector(features, hidden, len(arrays["W2"])).to(tensor(arrays["W1"]).dtype)
    for layer, number in ((projector[0], 1), (projector[2], 2)):
        layer.weight.data, layer.bias.data = tensor(arrays[f"W{number}"]), tensor(arrays[f"b{number}"])
    order = importance_order(importance_of(arrays)().detach())
    with torch.no_grad():
        columns = selected(projector(tensor(arrays["feats_backbone"])), order, "first", int(arrays["k"]))
    weight, bias, labels = leaf(arrays["cls_W"]), leaf(arrays["cls_b"]), labels_of(arrays["labels"])
    logits = F.linear(columns, weight, bias)
    loss = F.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, (weight, bias))
    yield "order", order
    answers = {"selected": columns, "logits": logits, "loss": loss}
    for key, actual in {**answers, "grad_cls_W": gradients[0], "grad_cls_b": gradients[1]}.items():
        yield key, actual, close(arrays, key)
    for top in (1, 5):
        accuracy = np.full_like(arrays[f"acc{top}"], vote_accuracy(logits.detach(), labels, top))
        yield f"acc{top}", accuracy, close(arrays, f"acc{top}")


def matrix_factorisation(arrays: Arrays) -> Iterator[tuple]:
    a, beta = tensor(arrays["A"]), float(arrays["beta"])
    f, importance = leaf(arrays["F"]), importance_of(arrays)
    two = factorisation.two_factor(a, f)
    three, dec = factorisation.three_factor(a, f, importance()), factorisation.decorrelation(f)
    total = three + beta * dec
    gradients = torch.autograd.grad(total, (f, importance.raw))
    vectors, values, optimum = factorisation.best_factors(a, f.shape[1])
    answers = {
        "loss_2factor": two,
        "grad_F_2factor": grad(two, f),
        "loss_3factor": three,
        "dec": dec,
        "total_3factor": total,
        "grad_F_3factor": gradients[0],
        "grad_s_3factor": gradients[1],
        "optimum_eigenvalues": values,
        "optimum_loss": optimum,
    }
    for key, actual in answers.items():
        yield key, actual, close(arrays, key)
    stored = tensor(arrays["optimum_F"])
    at_stored = factorisation.three_factor(a, stored, tensor(arrays["optimum_eigenvalues"]))
    yield "optimum_loss", at_stored, close(arrays, "optimum_loss")
    yield "penalty at the optimum", factorisation.decorrelation(stored), {"expected": np.zeros(()), **CLOSE}
    # Projections on the eigenvectors, which do not depend on their signs, nor on rotations where eigenvalues are equal.
    kept, rest = arrays["optimum_eigenvalues"].round(9), np.linalg.eigvalsh(arrays["A"])[: -f.shape[1]].round(9)
    for value in np.setdiff1d(kept, rest):  # of equal ones on both sides of the cut any may be kept
        same = torch.from_numpy(np.flatnonzero(kept == value))
        ours, theirs = vectors[:, same] @ vectors[:, same].T, stored[:, same] @ stored[:, same].T
        yield f"eigenvectors of {value}", ours, {"expected": theirs.numpy(), "rtol": 1e-7, "atol": 1e-9}


def with_importance(arrays: Arrays) -> tuple[Tensor, Tensor, losses.Importance]:
    importance = importance_of(arrays)
    return leaf(arrays["z"]), importance(), importance


def importance_of(arrays: Arrays) -> losses.Importance:
    raw = tensor(arrays["scale_param"])
    importance = losses.Importance(len(raw), learned=True).to(raw.dtype)
    importance.raw.data = raw
    return importance


def close(arrays: Arrays, key: str) -> dict[str, float]:
    return CLOSE_F32 if arrays[key].dtype == np.float32 else CLOSE


def grad(value: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(value, x, retain_graph=True)[0]


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def labels_of(array: np.ndarray) -> Tensor:
    return tensor(array).long()


def leaf(array: np.ndarray) -> Tensor:
    return tensor(array).requires_grad_()


KINDS = {
    "importance_retrieval": importance_retrieval,
    "lars": lars,
    "matrix_factorisation": matrix_factorisation,
    "scl_code": scl_code,
    "scl_original": scl_original,
    "selected_dims_head": selected_dims_head,
    "simclr": simclr,
    "tri_scl": tri_scl,
    "tri_scl_paper_form": tri_scl_paper_form,
    "tri_simclr": tri_simclr,
    "warmup_cosine": warmup_cosine,
    "weighted_knn": knn,
}
