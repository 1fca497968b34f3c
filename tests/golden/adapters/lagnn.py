"""Adapters of LAGNN's arrays; see ../test_golden.py."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from methods.lagnn.generator import CVAE, Sampler, cvae_loss, disagreement, mean_cross_entropy, normalise_rows
from methods.lagnn.model import LAGCN, consistency_loss, random_propagation, supervised_loss
from retable.nn.sparse import combine, sym_normalise

Arrays = dict[str, np.ndarray]

DOUBLE = {"rtol": 1e-9, "atol": 1e-11}
CVAE_NAMES = {
    "encoder.MLP.L0": "encoder",
    "encoder.linear_means": "mean",
    "encoder.linear_log_var": "log_var",
    "decoder.MLP.L0": "decoder_in",
    "decoder.MLP.L1": "decoder_out",
}


def tensor(arrays: Arrays, key: str) -> Tensor:
    return torch.from_numpy(arrays[key])


def ours(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    layer = CVAE_NAMES.get(layer, layer)
    return f"{layer}.{kind}".replace("gcn1_list.", "first.").replace("gc2.", "second.")


def load(module: nn.Module, arrays: Arrays) -> None:
    module.load_state_dict({ours(key[2:]): tensor(arrays, key) for key in arrays if key.startswith("p:")})


def gradients(module: nn.Module, arrays: Arrays) -> Iterator[tuple]:
    own = dict(module.named_parameters())
    for key in [key for key in arrays if key.startswith("g:")]:
        yield key, own[ours(key[2:])].grad, DOUBLE


def prep(arrays: Arrays) -> Iterator[tuple]:
    adjacency = tensor(arrays, "A")
    edges = adjacency.nonzero().T
    yield "A_norm", sym_normalise(combine(edges, len(adjacency), torch.float64)).to_dense(), DOUBLE
    yield "X_norm", normalise_rows(tensor(arrays, "feat")), DOUBLE
    if "aug_norm" in arrays:
        yield "aug_norm", normalise_rows(tensor(arrays, "feat")), DOUBLE


def cvae(arrays: Arrays) -> Iterator[tuple]:
    x, c = tensor(arrays, "x"), tensor(arrays, "c")
    hidden, latent = len(arrays["p:encoder.MLP.L0.bias"]), len(arrays["p:encoder.linear_means.bias"])
    model = CVAE(x.shape[1], hidden, latent).double()
    load(model, arrays)
    found = model(x, c, tensor(arrays, "eps"))
    yield "mean", found.mean, DOUBLE
    yield "log_var", found.log_var, DOUBLE
    yield "z", found.mean + tensor(arrays, "eps") * (found.log_var / 2).exp(), DOUBLE
    yield "recon", found.x, DOUBLE
    loss = cvae_loss(found, x)
    loss.backward()
    yield "loss", loss, DOUBLE
    yield from gradients(model, arrays)
    z, condition = tensor(arrays, "z_inf"), tensor(arrays, "c_inf")
    yield "inference", model.decode(z, condition), DOUBLE
    yield "inference_norm", Sampler(model, condition).of(z), DOUBLE


def lagcn(arrays: Arrays) -> Iterator[tuple]:
    aug, real = tensor(arrays, "aug"), tensor(arrays, "X_norm")
    y, nodes = tensor(arrays, "y"), tensor(arrays, "idx_train")
    hidden, classes = len(arrays["p:gcn1_list.0.bias"]), len(arrays["p:gc2.bias"])
    model = LAGCN(real.shape[1], hidden, classes, aug.shape[1] + 1).double()
    load(model, arrays)
    log_p = torch.stack([model([*draw, real], tensor(arrays, "A_norm")) for draw in aug])
    yield "logp", log_p, DOUBLE
    supervised = supervised_loss(log_p, y, nodes)
    consistency = consistency_loss(log_p, float(arrays["tem"]), float(arrays["lam"]))
    yield "sup", supervised, DOUBLE
    yield "consis", consistency, DOUBLE
    (supervised + consistency).backward()
    yield from gradients(model, arrays)


def uscore(arrays: Arrays) -> Iterator[tuple]:
    nodes = tensor(arrays, "idx_train")
    logits, y = tensor(arrays, "logits")[:, nodes], tensor(arrays, "y")[nodes]
    yield "U", disagreement(logits, y), DOUBLE
    yield "mean_ce", mean_cross_entropy(logits, y), DOUBLE


def grand_prop(arrays: Arrays) -> Iterator[tuple]:
    x, adjacency, order = tensor(arrays, "X"), tensor(arrays, "A_norm"), int(arrays["order"])
    yield "out_train", random_propagation(tensor(arrays, "mask") * x, adjacency, order), DOUBLE
    yield "out_eval", random_propagation((1 - float(arrays["dropnode"])) * x, adjacency, order), DOUBLE


KINDS = {"prep": prep, "cvae": cvae, "lagcn": lagcn, "uscore": uscore, "grand_prop": grand_prop}
