"""Adapters of the graph-contrastive arrays, node methods; those of graph methods are in gcl_graph.py."""

import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

from methods.gcl import losses
from methods.gcl.nodes import gca, progcl
from methods.gcl.nodes.augment import add_noise, drop, kept
from methods.gcl.nodes.bgrl import BGRL, bootstrap_loss, target_momentum
from methods.gcl.nodes.dgi import DGI, MVGRL, Convolution, mvgrl_operators, summary
from methods.gcl.nodes.encoders import GCNEncoder, MLPEncoder, Projector, View, gcn_propagation, make_normaliser
from methods.gcl.nodes.task import NodeTask
from methods.gcl.vision import pair_loss
from retable.data.containers import NodeGraph, canonical_csr
from retable.evaluate import contrast
from retable.evaluate.probes import adam_probe
from retable.nn.rows import normalize_rows
from retable.train.schedules import warmup_cosine

Arrays = dict[str, np.ndarray]

# The tolerances that the arrays were made for; ContraNorm's scale multiplies rounding errors.
EXACT = {"rtol": 1e-8, "atol": 1e-10}
TERMS = {
    "info": "contrast",
    "uniform": "no-positives",
    "align": "no-negatives",
}
NORMALISERS = {"none": "none", "cn": "contranorm", "dcn": "feature-contranorm", "ln": "layernorm"}
CENTRALITIES = {"degree": "degree", "pr": "pagerank", "evc": "eigenvector"}


def grace_losses(arrays: Arrays) -> Iterator[tuple]:
    z1, z2 = tensor(arrays["z1"]).requires_grad_(), tensor(arrays["z2"]).requires_grad_()
    tau = arrays["tau"].item()
    edges = tensor(arrays["edge_index1"]), tensor(arrays["edge_index2"])
    projector = Projector(z1.shape[1], len(arrays["fc1_bias"])).double()
    load(projector, {"0": "fc1", "2": "fc2"}, arrays)
    h1, h2 = projector(z1), projector(z2)
    yield "h1", h1, EXACT
    yield "h2", h2, EXACT
    leaves = {"z1": z1, "z2": z2, "fc1_weight": projector[0].weight, "fc2_weight": projector[2].weight}
    for kind, terms, neighbours in [*((kind, terms, None) for kind, terms in TERMS.items()),
                                    ("info_neighbor", "contrast", edges)]:  # fmt: skip
        there, back = losses.directed_losses(h1, h2, tau, terms, neighbours)
        yield f"semi12_{kind}", there, EXACT
        yield f"semi21_{kind}", back, EXACT
        total = losses.node_losses(h1, h2, tau, terms, neighbours).mean()
        yield f"loss_{kind}", total, EXACT
        gradients = torch.autograd.grad(total, list(leaves.values()), retain_graph=True)
        for name, gradient in zip(leaves, gradients, strict=True):
            yield f"grad_{name}_{kind}", gradient, EXACT
        if kind == "info_neighbor":
            continue
        yield f"loss_identical_views_{kind}", losses.node_losses(h1, h1, tau, terms).mean(), EXACT
        yield f"gca_semi12_{kind}", there, EXACT
        yield f"gca_loss_sum_{kind}", losses.node_losses(h1, h2, tau, terms).sum(), EXACT
        yield f"gca_loss_mean_{kind}", total, EXACT
        n = arrays["sample_n"].item()
        nodes = [tensor(arrays[f"sampled_perm_view{way}"])[:n] for way in ("12", "21")]
        # The authors' sampled form without negatives lacks the division by tau.
        scale = tau if kind == "align" else 1.0
        sampled = scale * losses.sampled_losses(h1, h2, tau, terms, tuple(nodes)).mean()
        yield f"sampled_loss_{kind}", sampled, EXACT
    yield "batched_semi12_info", losses.directed_losses(h1, h2, tau)[0], EXACT
    yield "batched_semi21_info", losses.directed_losses(h1, h2, tau)[1], EXACT


def node_encoders_norm(arrays: Arrays) -> Iterator[tuple]:
    x, edges = tensor(arrays["x"]), tensor(arrays["edge_index"])
    norm_in, cotangent = tensor(arrays["norm_in"]), tensor(arrays["norm_cotangent"])
    view = View.of(x, edges)
    yield "A_hat", view.propagate.csr.to_dense(), EXACT
    width = norm_in.shape[1]

    def normaliser(tag: str) -> nn.Module | None:
        """From "none", "cn5", "dcn0.5", "ln_scale1" or "cn_scale5_tau0.5"; scale and temperature are 1 if not named."""
        kind, scale, tau = re.fullmatch(r"([a-z]+)(?:_scale)?([\d.]*)(?:_tau([\d.]+))?", tag).groups()
        norm = make_normaliser(NORMALISERS[kind], width, float(scale or 1), float(tau or 1))
        if norm is None:
            return None
        layer = norm[1] if isinstance(norm, nn.Sequential) else norm
        layer.weight.data, layer.bias.data = tensor(arrays["ln_weight"]), tensor(arrays["ln_bias"])
        return norm

    for key in [key for key in arrays if key.startswith("norm_") and "_scale" in key]:
        tag = key.removeprefix("norm_").removesuffix("_grad_in")
        leaf = norm_in.clone().requires_grad_()
        out = normaliser(tag)(leaf)
        yield (
            (key, torch.autograd.grad((out * cotangent).sum(), leaf)[0], EXACT)
            if key.endswith("_grad_in")
            else (key, out, EXACT)
        )
    for key in [key for key in arrays if key.startswith("vcl_contranorm_scale")]:
        scale = float(key.removeprefix("vcl_contranorm_scale"))
        yield key, make_normaliser("contranorm", width, scale)[0](norm_in), EXACT

    for key in [key for key in arrays if key.startswith("gcn_out_")]:
        tag = key.removeprefix("gcn_out_")
        layers = arrays["num_layers"].item()
        encoder = GCNEncoder(x.shape[1], width, layers, norm=normaliser(tag))
        for i in range(layers):
            encoder.weights[i].data = tensor(arrays[f"conv{i}_weight"]).t().contiguous()
            encoder.biases[i].data = tensor(arrays[f"conv{i}_bias"])
        encoder.activation.weight.data = tensor(arrays["prelu_weight"])
        out = encoder(view)
        yield key, out, EXACT
        (out * cotangent).sum().backward()
        for i in range(layers):
            yield f"gcn_grad_conv{i}_weight_{tag}", encoder.weights[i].grad.t(), EXACT
        if f"gcn_grad_ln_weight_{tag}" in arrays:
            layer = encoder.norm[1] if isinstance(encoder.norm, nn.Sequential) else encoder.norm
            yield f"gcn_grad_ln_weight_{tag}", layer.weight.grad, EXACT

    for key in [key for key in arrays if key.startswith("mlp_out_eval")]:
        tag = key.removeprefix("mlp_out_eval").removeprefix("_") or "none"
        mlp = MLPEncoder(x.shape[1], width, normaliser(tag))
        for i in range(2):
            mlp.weights[i].data = tensor(arrays[f"mlp_fc{i + 1}_weight"]).t().contiguous()
            mlp.biases[i].data = tensor(arrays[f"mlp_fc{i + 1}_bias"])
        if tag == "none":
            mlp.first.weight.data = tensor(arrays["mlp_layernorm_weight"])
            mlp.first.bias.data = tensor(arrays["mlp_layernorm_bias"])
        yield key, mlp.eval()(view), EXACT


def node_augment(arrays: Arrays) -> Iterator[tuple]:
    x, edges = tensor(arrays["x"]), tensor(arrays["edge_index"])
    p_edge, p_feature, nodes = arrays["p_edge"].item(), arrays["p_feat"].item(), len(arrays["x"])
    columns = kept(tensor(arrays["feat_uniform"]), p_feature)
    yield "x_masked", masked(x, columns)
    yield "edge_index_dropped", edges[:, kept(tensor(arrays["edge_uniform"]), p_edge)]
    noise, std = tensor(arrays["noise_eps"]), arrays["noise_std"].item()
    yield "noise_out", add_noise(tensor(arrays["noise_z"]), noise, std)
    for key in [key for key in arrays if key.startswith("pagerank_k")]:
        yield key, gca.pagerank(edges, nodes, int(key.removeprefix("pagerank_k")))
    for key, scheme in CENTRALITIES.items():
        loose = {"rtol": 1e-3, "atol": 1e-3} if key == "evc" else {"rtol": 1e-4, "atol": 1e-5}
        centrality = gca.node_centrality(edges, nodes, scheme)
        yield f"gca_node_centrality_{key}", centrality, loose
        weights = gca.edge_weights(edges, nodes, scheme)
        yield f"gca_edge_weight_{key}", weights, loose
        yield f"gca_edge_drop_prob_{key}", gca.drop_probabilities(weights, p_edge), loose
        feature = gca.feature_weights((x != 0).to(x.dtype), centrality)
        yield f"gca_feat_weight_{key}", feature, loose
        yield f"gca_feat_drop_prob_{key}", gca.drop_probabilities(feature, p_feature), loose
        yield f"gca_feat_weight_dense_{key}", gca.feature_weights(x.abs(), centrality), loose
    # Drawn probabilities of 0 and 1 stand for the realised masks.
    for scheme in [key.removeprefix("gca_keep_mask_") for key in arrays if key.startswith("gca_keep_mask_")]:
        keep_edges, drop_columns = (tensor(arrays[f"gca_{mask}_mask_{scheme}"]) for mask in ("keep", "featdrop"))
        view = drop(View.of(x, edges), (~keep_edges).float(), drop_columns.float())
        yield f"gca_edge_index_{scheme}", view.edges
        yield f"gca_x_masked_{scheme}", view.times(torch.eye(x.shape[1]))


def bgrl_step(arrays: Arrays) -> Iterator[tuple]:
    sizes = arrays["layer_sizes"].tolist()
    model = BGRL(sizes[0], tuple(sizes[1:]), arrays["predictor_hidden"].item()).double()

    def parts(stage: str) -> Iterator[tuple[str, Tensor, bool]]:
        for network in ("online", "target"):
            encoder = getattr(model, network)
            for i, (norm, act) in enumerate(zip(encoder.norms, encoder.activations, strict=True)):
                name = f"{stage}_{network}:model.module_"
                yield f"{name}{3 * i}.lin.weight", encoder.weights[i], True
                yield f"{name}{3 * i}.bias", encoder.biases[i], False
                for field in ("weight", "bias", "running_mean", "running_var"):
                    yield f"{name}{3 * i + 1}.module.{field}", getattr(norm, field), False
                yield f"{name}{3 * i + 2}.weight", act.weight, False
        for field, value in model.predictor.named_parameters():
            yield f"{stage}_predictor:net.{field}", value, False

    with torch.no_grad():
        for key, value, transposed in parts("init"):
            stored = tensor(arrays[key])
            value.copy_(stored.t() if transposed else stored)
    views = [View.of(tensor(arrays[f"x{i}"]), tensor(arrays[f"edge_index{i}"])) for i in (1, 2)]
    lr, decay = arrays["lr"].item(), arrays["weight_decay"].item()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=decay)
    q1, y2, q2, y1 = model(*views)
    yield from [("q1", q1, EXACT), ("y2", y2, EXACT), ("q2", q2, EXACT), ("y1", y1, EXACT)]
    loss = bootstrap_loss(q1, y2, q2, y1)
    yield "loss", loss, EXACT
    loss.backward()
    for key, value, transposed in parts("grad"):
        if key in arrays:
            yield key, value.grad.t() if transposed else value.grad, EXACT
    optimiser.step()
    model.update_target(arrays["mm"].item())
    # A bias before BatchNorm has no gradient. What rounding leaves of it, up to 1e-14, Adam divides by eps, 1e-8.
    noise = {"rtol": 1e-8, "atol": 1e-10 + 1e-6 * lr}
    for key, value, transposed in parts("after"):
        followed = not key.startswith("after_predictor") and re.search(r"module_\d+\.bias$", key)
        yield key, value.t() if transposed else value, noise if followed else EXACT
    yield "eval_repr_after_step", model.online.eval()(views[0]), {"rtol": 1e-7, "atol": 1e-8 + 1e-6 * lr}
    total, warmup = arrays["sched_total"].item(), arrays["sched_warmup"].item()
    peak, start = arrays["sched_lr"].max(), arrays["sched_momentum"][0]
    rates = [warmup_cosine(t, peak, warmup, total) for t in range(total + 1)]
    yield "sched_lr", rates, EXACT
    yield "sched_momentum", [target_momentum(t, start, total) for t in range(total + 1)], EXACT


def dgi_mvgrl(arrays: Arrays) -> Iterator[tuple]:
    x, edges, shuffle = tensor(arrays["x"]), tensor(arrays["edge_index"]), tensor(arrays["shuffle_perm"])
    nodes, width = len(x), len(arrays["dgi_gcn_bias"])

    def fill(convolution: Convolution, name: str, slope: str) -> None:
        convolution.weight.data = tensor(arrays[f"{name}_weight"]).t().contiguous()
        convolution.bias.data = tensor(arrays[f"{name}_bias"])
        convolution.activation.weight.data = tensor(arrays[slope])

    def discriminate(model: DGI | MVGRL, prefix: str) -> None:
        model.discriminator.weight.data = tensor(arrays[f"{prefix}_bilinear_weight"])
        model.discriminator.bias.data = tensor(arrays[f"{prefix}_bilinear_bias"])

    dgi = DGI(x.shape[1], width)
    fill(dgi.convolution, "dgi_gcn", "dgi_prelu")
    discriminate(dgi, "dgi")
    propagate = gcn_propagation(edges, nodes, x.dtype)
    yield "dgi_adj", propagate.csr.to_dense(), EXACT
    real, fake = dgi(x, propagate, shuffle)
    yield "dgi_logits", torch.cat([real, fake]), EXACT
    yield "dgi_pos_term", losses.discrimination_loss(real, fake, "no-negatives"), EXACT
    yield "dgi_neg_term", losses.discrimination_loss(real, fake, "no-positives"), EXACT
    loss = losses.discrimination_loss(real, fake)
    yield "dgi_loss", loss, EXACT
    loss.backward()
    yield "dgi_grad_gcn_weight", dgi.convolution.weight.grad.t(), EXACT
    yield "dgi_grad_bilinear_weight", dgi.discriminator.weight.grad, EXACT
    embedded = dgi.embed(x, propagate)
    yield "dgi_embed", embedded, EXACT
    pre = embedded.mean(0)
    yield "dgi_summary_presigmoid", pre, EXACT
    yield "summary", summary(embedded), {"expected": pre.sigmoid(), **EXACT}

    mvgrl = MVGRL(x.shape[1], len(arrays["mvgrl_gcn1_bias"]))
    fill(mvgrl.near, "mvgrl_gcn1", "mvgrl_gcn1_prelu")
    fill(mvgrl.far, "mvgrl_gcn2", "mvgrl_gcn2_prelu")
    discriminate(mvgrl, "mvgrl")
    adjacency, diffusion = mvgrl_operators(edges, nodes, x.dtype, arrays["ppr_alpha"].item())
    yield "mvgrl_adj_normalised", adjacency.csr.to_dense(), EXACT
    yield "mvgrl_ppr", diffusion @ torch.eye(nodes, dtype=x.dtype), EXACT
    real, fake = mvgrl(x, adjacency, diffusion, shuffle)
    yield "mvgrl_logits", torch.cat([real, fake]), EXACT
    loss = losses.discrimination_loss(real, fake)
    yield "mvgrl_loss", loss, EXACT
    loss.backward()
    yield "mvgrl_grad_gcn1_weight", mvgrl.near.weight.grad.t(), EXACT
    yield "mvgrl_grad_gcn2_weight", mvgrl.far.weight.grad.t(), EXACT
    yield "mvgrl_embed", mvgrl.embed(x, adjacency, diffusion), EXACT


def later_methods(arrays: Arrays) -> Iterator[tuple]:
    yield from progcl_part(arrays)
    yield from graph_methods().check_later_graph_methods(arrays)


def progcl_part(arrays: Arrays) -> Iterator[tuple]:
    mixture = progcl.BetaMixture.fit(tensor(arrays["bmm_x"]), WEIGHT_INIT)
    yield "bmm_alphas", mixture.alpha, EXACT
    yield "bmm_betas", mixture.beta, EXACT
    yield "bmm_weight", mixture.weight, EXACT
    posteriors = mixture.posteriors(tensor(arrays["bmm_grid"]))
    yield "bmm_posterior0", posteriors[0], EXACT
    yield "bmm_posterior1", posteriors[1], EXACT

    z1, z2, tau = tensor(arrays["progcl_z1"]), tensor(arrays["progcl_z2"]), arrays["progcl_tau"].item()
    fitted_on = (normalize_rows(z1) @ normalize_rows(z2).t())[:, tensor(arrays["progcl_fit_columns"])]
    mixture = progcl.BetaMixture.fit((fitted_on + 1) / 2, WEIGHT_INIT)
    yield "progcl_alphas", mixture.alpha, EXACT
    yield "progcl_betas", mixture.beta, EXACT
    yield "progcl_weight", mixture.weight, EXACT
    weights = progcl.fit_pair_weights(z1, z2, tensor(arrays["progcl_fit_columns"]), WEIGHT_INIT)
    off_diagonal = ~torch.eye(len(z1), dtype=torch.bool)
    yield "progcl_B", weights[off_diagonal].view(len(z1), -1), EXACT
    weighted = losses.weighted_losses(z1, z2, weights, tau)
    yield "progcl_semi_info", weighted, EXACT
    yield "progcl_semi_info_next_epoch", weighted, EXACT
    yield "progcl_semi_uniform_next_epoch", losses.weighted_losses(z1, z2, weights, tau, "no-positives"), EXACT
    align = losses.directed_losses(z1, z2, tau, "no-negatives")[0]
    yield "progcl_semi_align_before_start", align, EXACT
    yield "progcl_semi_align_next_epoch_official_sign", -align, EXACT


def vcl_metrics_lreval(arrays: Arrays) -> Iterator[tuple]:
    tau = arrays["vcl_t"].item()
    # The authors' code adds the positive similarity where it is meant to be taken off.
    for key, loss, sign in (
        ("nt_xent", "contrast", 1),
        ("uniform", "no-positives", 1),
        ("align", "no-negatives", -1),
    ):
        x = tensor(arrays["vcl_x"]).requires_grad_()
        value = sign * pair_loss(x, tau, loss)
        value.backward()
        yield f"vcl_{key}", value, EXACT
        yield f"vcl_{key}_grad", x.grad, EXACT
    even, odd = tensor(arrays["vcl_x"])[::2], tensor(arrays["vcl_x"])[1::2]
    for key in arrays:
        if key.startswith("metric_align_alpha"):
            yield key, contrast.alignment(even, odd, float(key.removeprefix("metric_align_alpha"))), EXACT
        if key.startswith("metric_uniform_t"):
            yield key, contrast.uniformity(even, float(key.removeprefix("metric_uniform_t"))), EXACT

    x, y = tensor(arrays["lr_x"]), tensor(arrays["lr_y"])
    masks = {part: torch.zeros(1, len(y), dtype=torch.bool) for part in ("train", "valid", "test")}
    for part, mask in masks.items():
        mask[0, tensor(arrays[f"lr_{part}"])] = True
    start = tensor(arrays["lr_init_weight"])[None], tensor(arrays["lr_init_bias"])[None]
    fit = adam_probe(x, y, masks["train"], masks["valid"], steps=arrays["lr_epochs"].item(), start=start)
    yield "lr_final_weight", fit.weight[0], EXACT
    yield "lr_final_bias", fit.bias[0], EXACT
    answers, truth = fit.predictions[0][masks["test"][0]], y[masks["test"][0]]
    yield "lr_micro_f1", f1_score(truth, answers, average="micro"), EXACT
    yield "lr_macro_f1", f1_score(truth, answers, average="macro"), EXACT
    sizes = "split_sizes_train_valid_test_01_08"
    if sizes in arrays:
        nodes = int(arrays[sizes].sum())
        graph = NodeGraph("sizes", canonical_csr(np.eye(nodes)), np.empty((2, 0), int), np.zeros(nodes, int), {})
        context = SimpleNamespace(device=torch.device("cpu"), derive=lambda *names: 0)
        settings = SimpleNamespace(row_normalise=False, splits="random")
        task = NodeTask(graph, settings, context)
        yield sizes, [mask[0].sum() for mask in (task.train, *task.protocols["10_80_10"])]


def masked(x: Tensor, columns: Tensor) -> Tensor:
    return x * columns.to(x.dtype)


def load(module: nn.Sequential, names: dict[str, str], arrays: Arrays) -> None:
    for place, name in names.items():
        layer = module[int(place)]
        layer.weight.data, layer.bias.data = tensor(arrays[f"{name}_weight"]), tensor(arrays[f"{name}_bias"])


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())


def graph_methods() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_adapters_gcl_graph", Path(__file__).with_name("gcl_graph.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def held(adapter: Callable[[Arrays], Iterator[tuple]]) -> Callable[[Arrays], Iterator[tuple]]:
    """Without the outputs that a file leaves out; a test asks that those of this folder leave out none."""

    def adapt(arrays: Arrays) -> Iterator[tuple]:
        for key, *rest in adapter(arrays):
            if key in arrays or "expected" in dict(*rest[1:]):
                yield key, *rest

    return adapt


# The mixture's start, which the arrays do not carry: the authors' default.
WEIGHT_INIT = 0.05

ADAPTERS = {
    **graph_methods().GRAPH_KINDS,
    "grace_losses": grace_losses,
    "node_encoders_norm": node_encoders_norm,
    "node_augment": node_augment,
    "bgrl_step": bgrl_step,
    "dgi_mvgrl": dgi_mvgrl,
    "later_methods": later_methods,
    "vcl_metrics_lreval": vcl_metrics_lreval,
}
KINDS = {kind: held(adapter) for kind, adapter in ADAPTERS.items()}
