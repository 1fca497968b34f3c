"""Adapters of the graph-classification arrays of the GCL paper; see ../test_golden.py. Merged in gcl.py."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from methods.gcl.graphs.adgcl import ContrastModel, ViewLearner, dropped_share, gate, view_objective
from methods.gcl.graphs.augment import cut, edges_without, kept_nodes
from methods.gcl.graphs.graphcl import GraphCL
from methods.gcl.graphs.infograph import FeedForward
from methods.gcl.graphs.joao import update_distribution
from methods.gcl.losses import graphcl_loss, infograph_loss, symmetric_loss
from retable.nn.graph_batch import GraphBatch, with_self_loops

Arrays = dict[str, np.ndarray]
# Float64 sums in another order than the authors'.
CLOSE = {"rtol": 1e-8, "atol": 1e-10}
# Our names -> the authors'.
TERMS = {"contrast": "info", "no-positives": "uniform", "no-negatives": "align"}
INFOGRAPH = {"contrast": "jsd", "no-positives": "neg", "no-negatives": "pos"}


def graph_losses(arrays: Arrays) -> Iterator[tuple]:
    tau = float(arrays["tau"])
    forms = {
        "graphcl": graphcl_loss,
        "adgcl": symmetric_loss,
        "adgcl_asym": graphcl_loss,
        "autogcl": symmetric_loss,
    }
    for form, function in forms.items():
        for terms, theirs in TERMS.items():
            x, x_aug = leaf(arrays["x"]), leaf(arrays["x_aug"])
            loss = function(x, x_aug, tau, terms)
            loss.backward()
            yield f"{form}_{theirs}", loss, CLOSE
            yield f"{form}_{theirs}_grad_x", x.grad, CLOSE
            yield f"{form}_{theirs}_grad_x_aug", x_aug.grad, CLOSE
    default = symmetric_loss(tensor(arrays["x"]), tensor(arrays["x_aug"]), float(arrays["adgcl_default_tau"]))
    yield "adgcl_info_default", default, CLOSE

    for terms, theirs in INFOGRAPH.items():
        local, pooled = leaf(arrays["ig_local"]), leaf(arrays["ig_global"])
        loss = infograph_loss(local, pooled, tensor(arrays["ig_batch"]), terms)
        loss.backward()
        yield f"infograph_{theirs}", loss, CLOSE
        yield f"infograph_{theirs}_grad_local", local.grad, CLOSE
        yield f"infograph_{theirs}_grad_global", pooled.grad, CLOSE
    head = FeedForward(arrays["ig_local"].shape[1]).double()
    load(head, arrays, "ff:")
    yield "ff_out", head(tensor(arrays["ig_local"])), CLOSE


def graphcl_gin_view(arrays: Arrays) -> Iterator[tuple]:
    graphs = sum(key.endswith("_edge_index_raw") for key in arrays)
    dropped = []
    for number in range(graphs):
        one = {name: arrays[f"g{number}_{name}"] for name in ("x", "edge_index_raw", "dropped_nodes")}
        nodes = len(one["x"])
        raw = batch_of(one["x"], one["edge_index_raw"], np.zeros(nodes, dtype=np.int64), 1)
        looped = with_self_loops(raw)
        yield from same_edges(f"g{number}_edge_index_selfloops", looped.edge_index, arrays)
        mask = torch.zeros(nodes, dtype=torch.bool)
        mask[tensor(one["dropped_nodes"]).long()] = True  # an empty list may be stored as one of floats
        dropped.append(mask)
        survivors = looped.edge_index[:, edges_without(looped, mask)]
        yield from same_edges(f"g{number}_edge_index_after_drop", survivors, arrays)

    first = batch_of(arrays["view1_x"], arrays["view1_edge_index"], arrays["view1_batch"], graphs)
    mask = edges_without(first, torch.cat(dropped))
    second = cut(first, mask)
    yield "view2_kept_nodes", kept_nodes(first, mask).nonzero().squeeze(1)
    yield "view2_x", second.x
    yield "view2_batch", second.node_graph
    yield from same_edges("view2_edge_index", second.edge_index, arrays)

    settings = SimpleNamespace(encoder="gin", hidden=int(arrays["dim"]), layers=int(arrays["num_layers"]))
    for terms, theirs in TERMS.items():
        model = GraphCL(first.x.shape[1], settings).double()
        load(model, arrays, "init:")
        model.train()
        projections = model(first)
        after_first = model.encoder.bns[0].running_mean.clone()
        projections_aug = model(second)
        loss = graphcl_loss(projections, projections_aug, float(arrays["tau"]), terms)
        loss.backward()
        yield f"loss_{theirs}", loss, CLOSE
        yield f"grad_conv0_lin0_{theirs}", model.encoder.convs[0].nn[0].weight.grad, CLOSE
        yield f"grad_proj0_{theirs}", model.proj_head[0].weight.grad, CLOSE
    yield "proj_view1", projections, CLOSE
    yield "proj_view2", projections_aug, CLOSE
    yield "running_mean_bn0_after_view1", after_first, CLOSE
    for layer, norm in enumerate(model.encoder.bns):
        yield f"running_mean_bn{layer}_final", norm.running_mean, CLOSE
        yield f"running_var_bn{layer}_final", norm.running_var, CLOSE
    pooled, layers = model.eval().encoder(first)
    yield "eval_graph_embedding", pooled, CLOSE
    yield "eval_node_embedding", torch.cat(layers, dim=1), CLOSE


def check_later_graph_methods(arrays: Arrays) -> Iterator[tuple]:
    """The AD-GCL and JOAO parts of the kind `later_methods`."""
    graphs = len(arrays["ad_z"])
    batch = batch_of(arrays["ad_x"], arrays["ad_edge_index"], arrays["ad_batch"], graphs)
    features = batch.x.shape[1]
    hidden, dim = arrays["ad_view:mlp_edge_model.0.weight"].shape[0], arrays["ad_z"].shape[1]
    layers = sum(key.startswith("ad_model:") and key.endswith("nn.0.weight") for key in arrays)
    model = ContrastModel(features, dim, layers).double().eval()
    load(model, arrays, "ad_model:")
    uniform, penalty = tensor(arrays["ad_uniform"]), float(arrays["ad_reg_lambda"])
    for terms, theirs in TERMS.items():
        learner = ViewLearner(features, dim, layers, hidden).double().train()
        load(learner, arrays, "ad_view:")
        objective = view_objective(model, learner, batch, uniform, terms, 0.2, penalty)
        (-objective).backward()
        yield f"ad_view_loss_{theirs}", objective, CLOSE
        yield f"ad_view_grad_mlp0_{theirs}", learner.mlp_edge_model[0].weight.grad, CLOSE
    logits = learner(batch)
    weight = gate(logits, uniform)
    yield "ad_edge_logits", logits, CLOSE
    yield "ad_edge_weight", weight, CLOSE
    yield "ad_z", model(batch), CLOSE
    yield "ad_z_aug", model(batch, weight), CLOSE
    yield "ad_reg", dropped_share(weight, batch), CLOSE

    steps = zip(arrays["joao_P"], arrays["joao_loss"], arrays["joao_gamma"], strict=True)
    yield "joao_P_new", np.stack([update_distribution(p, loss, gamma) for p, loss, gamma in steps]), CLOSE


def batch_of(x: np.ndarray, edges: np.ndarray, node_graph: np.ndarray, graphs: int) -> GraphBatch:
    return GraphBatch(tensor(x), tensor(edges), tensor(node_graph), graphs)


def load(module: nn.Module, arrays: Arrays, prefix: str) -> None:
    """Weights by name; epsilon, which is 0 and never learnt, and counts of batches have no place in ours."""
    stored = {key.removeprefix(prefix): tensor(array) for key, array in arrays.items() if key.startswith(prefix)}
    epsilons = [stored.pop(key) for key in list(stored) if key.endswith(".eps")]
    assert not any(epsilon.any() for epsilon in epsilons)
    missing, unexpected = module.load_state_dict(stored, strict=False)
    assert not unexpected, unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing), missing


def same_edges(key: str, edges: Tensor, arrays: Arrays) -> Iterator[tuple]:
    """The edges as a sorted list of pairs: their order carries no meaning."""
    yield key, in_order(edges.numpy()), {"expected": in_order(arrays[key])}


def in_order(edges: np.ndarray) -> np.ndarray:
    return edges[:, np.lexsort(edges[::-1])]


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def leaf(array: np.ndarray) -> Tensor:
    return tensor(array).requires_grad_()


GRAPH_KINDS = {"graph_losses": graph_losses, "graphcl_gin_view": graphcl_gin_view}
