"""Adapters of the U-MAE arrays; see ../test_golden.py."""

import json
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn

from methods.umae import losses, masking
from methods.umae.classifiers import Classifier, ProbeHead, resized_positions
from methods.umae.mae import MAE
from methods.umae.mask_graph import MaskGraph
from methods.umae.simmim import PixelHead
from methods.umae.vit import Encoder, Size, sincos_positions
from retable.evaluate.spectra import pairwise_cosines, spectrum
from retable.train.optim import LARS
from retable.train.schedules import set_lr, warmup_cosine

Arrays = dict[str, np.ndarray]

# The tolerances that the arrays were made for.
DOUBLE = {"rtol": 1e-9, "atol": 1e-11}
AFTER_STEPS = {"rtol": 1e-7, "atol": 1e-10}
SPECTRA = {"rtol": 1e-6, "atol": 1e-12}
TOY = {"rtol": 1e-8, "atol": 1e-12}


def uniformity_loss(arrays: Arrays) -> Iterator[tuple]:
    def gradient(z: Tensor, world_size: int = 1) -> tuple[Tensor, Tensor]:
        z = z.clone().requires_grad_()
        loss = losses.uniformity_loss(z, world_size)
        return loss, torch.autograd.grad(loss, z)[0]

    for key in [key for key in arrays if key.startswith("loss")]:
        case = key.removeprefix("loss").removeprefix("_")
        loss, grad = gradient(uniformity_input(arrays, case))
        yield key, loss, DOUBLE
        grad_key = f"grad_{case}" if case else "grad_z"
        if grad_key in arrays:
            yield grad_key, grad, DOUBLE

    if "ddp_z" in arrays:
        union = double(arrays["ddp_z"])
        loss, grad = gradient(union.flatten(0, 1))
        yield "ddp_loss_z", loss, DOUBLE
        yield "ddp_grad_z_per_rank", grad.view_as(union), DOUBLE
    if "ddp_weight" in arrays:
        weight = double(arrays["ddp_weight"]).requires_grad_()
        for key, emulated in (("single", 1), ("ddp", arrays["ddp_world_size"].item())):
            loss = losses.uniformity_loss(double(arrays["ddp_x"]).flatten(0, 1) @ weight.T, emulated)
            yield "ddp_loss_lin", loss, DOUBLE
            yield f"ddp_grad_weight_{key}", torch.autograd.grad(loss, weight)[0], DOUBLE


def uniformity_input(arrays: Arrays, case: str) -> Tensor:
    """Features of a case: stored for it, or derived from the file's main ones."""
    if f"z_{case}" in arrays:
        return double(arrays[f"z_{case}"])
    if case == "single":
        return double(arrays["z"])[:1]
    factor = float(case.removeprefix("scaled") or 1)  # "scaled123", or "" for the main features
    return torch.from_numpy(arrays["z"] * np.float32(factor)).double()


def recon_loss(arrays: Arrays) -> Iterator[tuple]:
    images, patch = double(arrays["imgs"]), arrays["patch_size"].item()
    prediction, hidden = double(arrays["pred"]).requires_grad_(), double(arrays["mask"])
    patches = losses.patchify(images, patch)
    yield "patches", patches, DOUBLE
    yield "unpatchify_of_pred", losses.unpatchify(prediction, patch, images.shape[1]), DOUBLE
    yield "target_norm_pix", losses.normalize_patches(patches), DOUBLE
    for name, target in (("raw", patches), ("norm_pix", losses.normalize_patches(patches))):
        loss = losses.reconstruction_loss(prediction, target, hidden)
        yield f"loss_{name}", loss, DOUBLE
        yield f"grad_pred_{name}", torch.autograd.grad(loss, prediction)[0], DOUBLE


def pos_embed(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "_dim_grid_cls"):
        width, grid, cls = arrays[f"{case}_dim_grid_cls"].tolist()
        yield f"{case}_pos", sincos_positions(width, grid, cls_row=bool(cls), dtype=torch.float64), DOUBLE
    if "interp_src" in arrays:
        source, grid = torch.from_numpy(arrays["interp_src"]), arrays["interp_grids"][1].item()
        yield "interp_dst", resized_positions(source, grid).to(torch.float32), {"rtol": 1e-4, "atol": 5e-6}


def random_masking(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "_noise"):
        noise, ratio = torch.from_numpy(arrays[f"{case}_noise"]), arrays[f"{case}_ratio"].item()
        made = masking.random_masking(noise, ratio)
        exact = {"rtol": 0.0, "atol": 0.0}
        yield f"{case}_len_keep", masking.visible_patches(noise.shape[1], ratio)
        yield f"{case}_x_masked", masking.gather_tokens(torch.from_numpy(arrays[f"{case}_x"]), made.visible), exact
        yield f"{case}_mask", made.mask, exact
        yield f"{case}_ids_restore", made.restore


def lr_schedule(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "_lr"):
        lr, floor, warmup, epochs = arrays[f"{case}_cfg_lr_minlr_warm_epochs"].tolist()
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr_scale": s} for s in arrays[f"{case}_scales"].tolist()]
        optimiser = torch.optim.AdamW(groups)
        rates = []
        for epoch in arrays[f"{case}_epoch"].tolist():
            set_lr(optimiser, warmup_cosine(epoch, lr, warmup, epochs, floor))
            rates.append([group["lr"] for group in optimiser.param_groups])
        yield f"{case}_lr", np.array(rates), DOUBLE


def lars_step(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "_cfg_lr_wd_mom_tc"):
        lr, decay, momentum, trust = arrays[f"{case}_cfg_lr_wd_mom_tc"].tolist()
        start = {name: double(arrays[f"{case}_{name}0"]) for name in ("w", "u", "b")}
        start["z"] = torch.zeros_like(double(arrays[f"{case}_gz"][0]))
        weights = {name: nn.Parameter(value) for name, value in start.items()}
        optimiser = LARS(weights.values(), lr, form="mae", momentum=momentum, weight_decay=decay, trust=trust)
        after: dict[str, list[Tensor]] = {name: [] for name in weights}
        for step in range(len(arrays[f"{case}_w"])):
            for name, weight in weights.items():
                given = arrays.get(f"{case}_g{name}")
                weight.grad = torch.zeros_like(weight) if given is None else double(given[step])
            optimiser.step()
            for name, weight in weights.items():
                after[name].append(weight.detach().clone())
        for name, values in after.items():
            yield f"{case}_{name}", torch.stack(values), DOUBLE


def layer_decay_groups(arrays: Arrays) -> Iterator[tuple]:
    decay = arrays["base_weight_decay"].item()
    # Only depth and names matter to the groups.
    model = Classifier(Size(8, 4, 8, arrays["depth"].item(), 2, 8, 1, 2), classes=3)
    groups = param_groups_layer_decay(
        model,
        weight_decay=decay,
        layer_decay=arrays["layer_decay"].item(),
        no_weight_decay_list=("pos_embed", "cls_token"),
    )
    group_of = {id(weight): group for group in groups for weight in group["params"]}
    found = {name: group_of[id(weight)] for name, weight in model.named_parameters()}
    names = arrays["names"].tolist()
    yield "names", sorted(found) == sorted(names), {"expected": True}
    yield "lr_scale", [found[name]["lr_scale"] for name in names], DOUBLE
    yield "weight_decay", [found[name]["weight_decay"] for name in names], DOUBLE


def mae_forward(arrays: Arrays) -> Iterator[tuple]:
    model = mae_of(arrays, "param__", arrays["mask_ratio"].item())
    images, noise = double(arrays["imgs"]), double(arrays["noise"])
    latent, hidden, restore = model.encode_visible(images, noise)
    yield "latent", latent, DOUBLE
    yield "mask", hidden.float(), {"rtol": 0.0, "atol": 0.0}
    yield "ids_restore", restore
    yield "monitor's feature", model.masked_feature(images, noise), {"expected": arrays["feats"], **DOUBLE}
    out = model(images, noise)
    yield "pred", out.prediction, DOUBLE
    yield "feats", out.z, DOUBLE
    logits = model.fc(out.z.detach())
    yield "outputs", logits, DOUBLE
    unif, ce = losses.uniformity_loss(out.z), F.cross_entropy(logits, torch.from_numpy(arrays["labels"]))
    total = out.loss + arrays["lamb"].item() * unif + ce
    for key, loss in (("mae", out.loss), ("unif", unif), ("ce", ce), ("total", total)):
        yield f"loss_{key}", loss, DOUBLE

    weights = dict(model.named_parameters())
    names = [key.removeprefix("grad_unif_only__") for key in arrays if key.startswith("grad_unif_only__")]
    of_unif = torch.autograd.grad(unif, [weights[name] for name in names], retain_graph=True)
    for name, gradient in zip(names, of_unif, strict=True):
        yield f"grad_unif_only__{name}", gradient, DOUBLE
    total.backward()
    without = [name for name, weight in weights.items() if weight.grad is None]
    yield "params_without_grad", sorted(without) == sorted(arrays["params_without_grad"].tolist()), {"expected": True}
    for key in arrays:
        if key.startswith("grad__"):
            yield key, weights[key.removeprefix("grad__")].grad, DOUBLE


def vit_eval_and_probe_head(arrays: Arrays) -> Iterator[tuple]:
    config = json.loads(arrays["cfg"].item())
    encoder = Encoder(size_of(config), channels=config["in_chans"]).double()
    encoder.load_state_dict(stored(arrays, "param__"))
    images = double(arrays["imgs"])
    features = encoder.features(images)["cls"].detach()
    yield "feats_cls", features, DOUBLE
    yield "feats_pool", encoder.pooled(images), DOUBLE
    weight = double(arrays["head_weight"])
    head = ProbeHead(weight.shape[1], len(weight)).double()
    head[1].weight.data = weight
    yield "head_out_train", head(features), DOUBLE
    head(features * 1.5 + 0.1)
    yield "bn_running_mean_after2", head[0].running_mean, DOUBLE
    yield "bn_running_var_after2", head[0].running_var, DOUBLE
    yield "head_out_eval_after2", head.eval()(features), DOUBLE


def pretrain_steps(arrays: Arrays) -> Iterator[tuple]:
    hyper = json.loads(arrays["hyper"].item())
    model = mae_of(arrays, "param0__", hyper["mask_ratio"])
    weights = dict(model.named_parameters())
    groups = param_groups_weight_decay(model, hyper["weight_decay"])
    name_of = {id(weight): name for name, weight in weights.items()}
    decayed = [name_of[id(weight)] for group in groups if group["weight_decay"] for weight in group["params"]]
    yield "decayed_names", sorted(decayed) == sorted(arrays["decayed_names"].tolist()), {"expected": True}
    optimiser = torch.optim.AdamW(groups, lr=hyper["lr"], betas=tuple(hyper["betas"]), eps=hyper["eps"])
    rows = []
    for step in range(len(arrays["imgs"])):
        epoch = step / hyper["steps_per_epoch"]
        rate = warmup_cosine(epoch, hyper["lr"], hyper["warmup_epochs"], hyper["epochs"], hyper["min_lr"])
        set_lr(optimiser, rate)
        out = model(double(arrays["imgs"][step]), double(arrays["noise"][step]))
        unif = losses.uniformity_loss(out.z)
        ce = F.cross_entropy(model.fc(out.z.detach()), torch.from_numpy(arrays["labels"][step]))
        total = out.loss + hyper["lamb"] * unif + ce
        optimiser.zero_grad()
        total.backward()
        norm = torch.stack([w.grad.norm() for w in weights.values() if w.grad is not None]).norm()
        optimiser.step()
        rows.append([rate, *(value.item() for value in (out.loss, unif, ce, total, norm))])
    yield "log_lr_mae_unif_ce_total_gradnorm", np.array(rows), AFTER_STEPS
    for key in arrays:
        if key.startswith("paramT__"):
            yield key, weights[key.removeprefix("paramT__")], AFTER_STEPS


def rank_diagnostics(arrays: Arrays) -> Iterator[tuple]:
    names = {
        "singular_values": "singular_values",
        "erank": "effective_rank",
        "vn_entropy_rank": "entropy_rank",
        "participation_ratio": "participation_ratio",
        "stable_rank": "stable_rank",
        "numrank99": "directions_99",
    }
    pairs = {"unif_sq": "uniformity", "unif_sq_offdiag": "uniformity_of_pairs", "mean_cos_offdiag": "mean_cosine"}
    for case in [key.removeprefix("z_") for key in arrays if key.startswith("z_")]:
        z = double(arrays[f"z_{case}"])
        for form, centre in (("centered", True), ("uncentered", False)):
            of_z = spectrum(z, centre=centre)
            for key, name in names.items():
                options = {} if key == "numrank99" else SPECTRA
                yield f"{case}__{form}_{key}", getattr(of_z, name), options
        measured = pairwise_cosines(z)
        for key, name in pairs.items():
            yield f"{case}__{key}", measured[name], SPECTRA


def mask_graph_toy(arrays: Arrays) -> Iterator[tuple]:
    for case in cases(arrays, "_n_views"):
        graph = MaskGraph.of(arrays["tokens"], arrays["labels"], int(case.removeprefix("keep")))
        yield f"{case}_n_views", np.array(graph.joint.shape)
        yield f"{case}_alpha", graph.label_error(), TOY
        yield f"{case}_alpha_soft", graph.soft_label_error(), TOY
        yield f"{case}_bayes_err", graph.bayes_error(), TOY
        values = graph.eigenvalues()
        top = len(arrays[f"{case}_eig_top20"])
        yield f"{case}_eig_top20", values[:top], TOY
        yield f"{case}_sum_eig_sq", graph.tail(0), TOY
        yield f"{case}_trace_A", np.trace(graph.adjacency()), TOY
        for key in arrays:
            if key.startswith(f"{case}_tail_after_k"):
                yield key, graph.tail(int(key.rpartition("_k")[2])), TOY


def simmim_loss(arrays: Arrays) -> Iterator[tuple]:
    side, patch, square, ratio = arrays["cfg_img_patch_maskpatch_ratio"].tolist()
    squares = int(side // square) ** 2
    count = masking.masked_squares(ratio, squares)
    yield "mask_count", count
    legacy = np.random.RandomState(arrays["np_seed"].item())
    order = torch.from_numpy(np.stack([legacy.permutation(squares) for _ in range(len(arrays["mask"]))]))
    hidden = masking.square_masking(order, ratio, int(square // patch))
    yield "mask", hidden.long()

    z, images = double(arrays["z"]).requires_grad_(), double(arrays["imgs"])
    head = PixelHead(z.shape[1], int(patch), images.shape[1]).double()
    head[0].weight.data, head[0].bias.data = double(arrays["conv_weight"]), double(arrays["conv_bias"])
    reconstruction = head(z)
    yield "recon", reconstruction, DOUBLE
    loss = losses.simmim_loss(reconstruction, images, hidden)
    loss.backward()
    yield "loss", loss, DOUBLE
    yield "grad_z", z.grad, DOUBLE
    yield "grad_conv_weight", head[0].weight.grad, DOUBLE


def mae_of(arrays: Arrays, prefix: str, mask_ratio: float) -> MAE:
    config = json.loads(arrays["cfg"].item())
    model = MAE(
        size_of(config),
        config["num_classes"],
        mask_ratio,
        channels=config["in_chans"],
        norm_pixels=config["norm_pix_loss"],
        global_pool=config["global_pool"],
    ).double()
    # Positions are stored in float32, which is what ours are rounded to as well.
    model.load_state_dict(stored(arrays, prefix))
    return model


def size_of(config: dict) -> Size:
    return Size(
        image=config["img_size"],
        patch=config["patch_size"],
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        decoder_width=config["decoder_embed_dim"],
        decoder_depth=config["decoder_depth"],
        decoder_heads=config["decoder_num_heads"],
        mlp_ratio=config["mlp_ratio"],
    )


def stored(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): double(array) for key, array in arrays.items() if key.startswith(prefix)}


def cases(arrays: Arrays, ending: str) -> list[str]:
    return [key.removesuffix(ending) for key in arrays if key.endswith(ending)]


def double(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy()).double()


KINDS = {
    "uniformity_loss": uniformity_loss,
    "recon_loss": recon_loss,
    "pos_embed": pos_embed,
    "random_masking": random_masking,
    "lr_schedule": lr_schedule,
    "lars_step": lars_step,
    "layer_decay_groups": layer_decay_groups,
    "mae_forward_cls": mae_forward,
    "mae_forward_pool": mae_forward,
    "vit_eval_and_probe_head": vit_eval_and_probe_head,
    "pretrain_steps": pretrain_steps,
    "rank_diagnostics": rank_diagnostics,
    "mask_graph_toy": mask_graph_toy,
    "simmim_loss": simmim_loss,
}
