"""ContraNorm inside Hugging Face BERT and ALBERT: eight positions in a layer, added and removed by hooks.

    from methods.contranorm.hf import patch, unpatch
    patch(model, scale=0.1)          # the paper's default: position 7, in front of the layer's first LayerNorm
    unpatch(model)                   # the original model

No parameter is added, so checkpoints stay interchangeable. Padding tokens take part in the softmax and are updated too,
as in the authors' code, so outputs depend on how a batch is padded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .norm import ContraNorm, FeatureContraNorm

# Position -> (module inside the layer, whether its "input" or "output" is replaced). The numbers are those of the
# authors' two model files, which disagree from 4 on.
POSITIONS = {
    "BERT": {
        "1": ("", "input"),
        "2": ("attention.self", "output"),
        "3": ("attention.output.dropout", "output"),
        "4": ("attention.output.LayerNorm", "output"),
        "5": ("output.dropout", "output"),
        "6": ("output.LayerNorm", "output"),
        "7": ("attention.output.LayerNorm", "input"),
        "8": ("output.LayerNorm", "input"),
    },
    "ALBERT": {
        "1": ("", "input"),
        "2": ("attention.dense", "input"),
        "3": ("attention.output_dropout", "output"),
        "4": ("attention.LayerNorm", "input"),
        "5": ("attention.LayerNorm", "output"),
        "6": ("ffn_output", "output"),
        "7": ("full_layer_layer_norm", "input"),
        "8": ("full_layer_layer_norm", "output"),
    },
}
# Inside the feed-forward part, which `chunk_size_feed_forward` splits along the sequence.
IN_FEED_FORWARD = {"BERT": "568", "ALBERT": "6"}


def patch(model: nn.Module, scale: float, positions: str = "7", form: str = "row") -> None:
    """Add ContraNorm with one `scale` to every layer of a BERT or ALBERT (or to a single such layer).

    `positions` is a string of one or more digits 1 to 8 (section 4.1 of the paper names the default):

    ======  =======================================  =======================================
    digit   BERT                                     ALBERT
    ======  =======================================  =======================================
    1       layer input, residual included           the same
    2       attention context, before its projection the same
    3       after that projection, before residual   the same
    4       after the first LayerNorm                before the first LayerNorm
    5       feed-forward output, before residual     after the first LayerNorm
    6       after the second LayerNorm               feed-forward output, before residual
    7       before the first LayerNorm               before the second LayerNorm
    8       before the second LayerNorm              after the second LayerNorm
    ======  =======================================  =======================================

    `form`: "row" is `(1 + s) x - s softmax(u u^T) x` in BERT and `x - s softmax(u u^T) x` in ALBERT, as in the authors'
    files, with u = unit rows of x; "feature", for BERT, `(1 + s) x - s x softmax(u^T u)`.

    Raises ValueError, with the model left as it was, for another architecture, unknown positions or forms, a patched
    model, a decoder (later tokens would reach earlier ones) and feed-forward chunks that split the sequence.
    """
    family, layers = _layers(model)
    if patched(model):
        raise ValueError(f"{type(model).__name__} has ContraNorm already: call unpatch(model) first")
    if not positions or set(positions) - set(POSITIONS[family]) or len(set(positions)) < len(positions):
        raise ValueError(f"ContraNorm positions {positions!r}: expected distinct digits 1 to 8, such as '7' or '47'")
    norm = _norm(family, form, scale)
    for layer in layers:
        if getattr(layer, "is_decoder", False):
            raise ValueError(f"{type(model).__name__} is a decoder, and ContraNorm would show it later tokens")
        if layer.chunk_size_feed_forward and set(positions) & set(IN_FEED_FORWARD[family]):
            raise ValueError(
                f"chunk_size_feed_forward {layer.chunk_size_feed_forward} cuts the sequence that ContraNorm at "
                f"position {positions} compares: set it to 0"
            )
    handles = [_attach(layer, *POSITIONS[family][digit], norm) for layer in layers for digit in positions]
    model._contranorm = handles  # type: ignore[assignment]


def unpatch(model: nn.Module) -> None:
    """Remove ContraNorm. Raises ValueError for a model that `patch` has not touched."""
    if not patched(model):
        raise ValueError(f"{type(model).__name__} has no ContraNorm: nothing to take out")
    for handle in model.__dict__.pop("_contranorm"):
        handle.remove()


def patched(model: nn.Module) -> bool:
    """Whether `patch` has added ContraNorm to the model."""
    return "_contranorm" in model.__dict__


def _layers(model: nn.Module) -> tuple[str, list[nn.Module]]:
    from transformers.models.albert.modeling_albert import AlbertLayer  # imported on use: it takes seconds
    from transformers.models.bert.modeling_bert import BertLayer

    for family, kind in (("BERT", BertLayer), ("ALBERT", AlbertLayer)):
        layers: list[nn.Module] = [module for module in model.modules() if isinstance(module, kind)]
        if layers:
            return family, layers
    raise ValueError(
        f"{type(model).__name__} holds no BERT or ALBERT layer: ContraNorm's positions are known for those"
    )


def _norm(family: str, form: str, scale: float) -> nn.Module:
    if form == "row":
        return ContraNorm(scale, identity=family == "BERT")
    if form == "feature" and family == "BERT":
        return FeatureContraNorm(scale)
    raise ValueError(f"ContraNorm form {form!r} for {family}: expected 'row'" + (" or 'feature'" * (family == "BERT")))


def _attach(layer: nn.Module, submodule: str, side: str, norm: nn.Module) -> RemovableHandle:
    module = layer.get_submodule(submodule)
    if side == "input":
        return module.register_forward_pre_hook(partial(_change_input, norm), with_kwargs=True)
    return module.register_forward_hook(partial(_change_output, norm))


def _change_input(norm: Callable[[Tensor], Tensor], module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    if args:
        return (norm(args[0]), *args[1:]), kwargs
    return args, kwargs | {"hidden_states": norm(kwargs["hidden_states"])}


def _change_output(norm: Callable[[Tensor], Tensor], module: nn.Module, args: tuple, output: Any) -> Any:
    return (norm(output[0]), *output[1:]) if isinstance(output, tuple) else norm(output)
