"""Augmentation of whole batches, with the rules and the arithmetic of torchvision and PIL.

Each operation is two functions. `draw_*` draws the parameters of n images from torch's global CPU stream, so a seed
gives the same augmentations on every device and nothing waits for a GPU. The other one applies given parameters to
images x (N, C, H, W), C = 1 or 3, floats in [0, 1], where they lie. A third name does both. Inputs are never changed.

An image is resized by one matrix for its rows and one for its columns, made from its crop box and PIL's filters, so a
batch is resized by two batched matrix products; PIL's Gaussian blur has this form too. Values are clipped to [0, 1]
where PIL would clip, but not rounded to 8 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Range = tuple[float, float]
# PIL's luma weights (ITU-R 601-2).
LUMA = (0.299, 0.587, 0.114)


def to_float(images: Tensor) -> Tensor:
    """Bytes (..., H, W) as floats in [0, 1]."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype}: give uint8, 0 to 255")
    return images.to(torch.get_default_dtype()).div_(255)


def normalise(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std by channel."""
    centre, width = (torch.tensor(values, dtype=x.dtype).view(-1, 1, 1) for values in (mean, std))
    return x.sub(centre.to(x.device)).div_(width.to(x.device))


# Crop and resize ------------------------------------------------------------------------------------------------------


def random_resized_crop(
    x: Tensor,
    size: int | tuple[int, int],
    scale: Range = (0.08, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    interpolation: str = "bilinear",
    attempts: int = 10,
) -> Tensor:
    """A random part of each image, resized to `size` (side, or height and width)."""
    boxes = draw_boxes(len(x), x.shape[2], x.shape[3], scale, ratio, attempts)
    return resized_crop(x, boxes, size, interpolation)


def draw_boxes(
    n: int, height: int, width: int, scale: Range = (0.08, 1.0), ratio: Range = (3 / 4, 4 / 3), attempts: int = 10
) -> Tensor:
    """Crop boxes (n, 4), int64: top, left, height, width.

    torchvision's rule: the share of the area is uniform in `scale`, the aspect log-uniform in `ratio`, both sides are
    rounded; the first of `attempts` tries that fits is taken, at a uniform place. If none fits: the largest central box
    whose aspect is within `ratio`.
    """
    if not (0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1]):
        raise ValueError(f"scale {scale} and ratio {ratio}: both must be positive and ascending")
    area = height * width * torch.empty(attempts, n, dtype=torch.float64).uniform_(*scale)
    lowest, highest = torch.tensor(ratio, dtype=torch.float64).log().tolist()
    aspect = torch.empty(attempts, n, dtype=torch.float64).uniform_(lowest, highest).exp_()
    w, h = (area * aspect).sqrt_().round_(), (area / aspect).sqrt_().round_()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(0, keepdim=True)
    found, w, h = (part.gather(0, first).squeeze(0) for part in (fits, w, h))
    top, left = ((free + 1) * torch.rand(n, dtype=torch.float64) for free in (height - h, width - w))
    drawn = torch.stack([top.floor_(), left.floor_(), h, w], dim=1).long()
    return torch.where(found[:, None], drawn, torch.tensor(_central_box(height, width, ratio)))


def _central_box(height: int, width: int, ratio: Range) -> tuple[int, int, int, int]:
    h, w = height, width
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def resized_crop(x: Tensor, boxes: Tensor, size: int | tuple[int, int], interpolation: str = "bilinear") -> Tensor:
    """Cut `boxes` (N, 4) out of x (N, C, H, W) and resize them to `size`, with antialiasing as PIL does."""
    out_h, out_w = (size, size) if isinstance(size, int) else size
    top, left, h, w = boxes.to(device=x.device, dtype=x.dtype).unbind(1)
    rows = _resizing(top, h, x.shape[2], out_h, interpolation)
    columns = _resizing(left, w, x.shape[3], out_w, interpolation)
    return _two_sided(rows, x, columns)


def _resizing(start: Tensor, length: Tensor, inside: int, outside: int, interpolation: str) -> Tensor:
    """Matrices (N, outside, inside) that resample [start, start + length) (N,) to `outside` pixels."""
    step = (length / outside)[:, None]
    pixels = torch.arange(max(inside, outside), dtype=start.dtype, device=start.device) + 0.5
    centres = start[:, None] + pixels[:outside] * step
    width = step.clamp(min=1)[:, :, None]
    distance = (pixels[:inside] - centres[:, :, None]).div_(width).abs_()
    if interpolation == "bilinear":
        weights = distance.neg_().add_(1).clamp_(min=0)
    elif interpolation == "bicubic":
        weights = _bicubic(distance)
    else:
        raise ValueError(f"interpolation {interpolation!r}: choose from bilinear, bicubic")
    before, after = pixels[:inside] < start[:, None], pixels[:inside] > (start + length)[:, None]
    weights.mul_((~(before | after)).to(start.dtype)[:, None, :])
    return weights.div_(weights.sum(2, keepdim=True))


def _bicubic(distance: Tensor) -> Tensor:
    # Keys' cubic with a = -1/2. Each piece is zero at 1, so clamping selects one without a branch.
    near, far = distance.clamp(max=1), distance.clamp_(1, 2)
    return near.mul(1.5).sub_(2.5).mul_(near).mul_(near).add_(1).add_(_cubic_tail(far))


def _cubic_tail(far: Tensor) -> Tensor:
    return far.sub(5).mul_(far).add_(8).mul_(far).sub_(4).mul_(-0.5)


def _two_sided(rows: Tensor, x: Tensor, columns: Tensor) -> Tensor:
    """rows x columns' for each image and channel; `rows` (N, h, H), x (N, C, H, W), `columns` (N, w, W)."""
    n, channels, height, width = x.shape
    # Cubic filters overshoot, and sums of weights round: clipped after each direction, as in PIL.
    wide = torch.bmm(x.reshape(n, channels * height, width), columns.transpose(1, 2)).clamp_(0, 1)
    wide = wide.view(n, channels, height, -1)
    # One product for each channel: matmul would copy the rows' matrices for all of them.
    out = torch.stack([torch.bmm(rows, wide[:, channel]) for channel in range(channels)], dim=1)
    return out.clamp_(0, 1)


def random_crop(x: Tensor, padding: int) -> Tensor:
    """Pad each image with `padding` black pixels on all sides and cut its own size out at a random place."""
    return shifted_crop(x, draw_shifts(len(x), padding), padding)


def draw_shifts(n: int, padding: int) -> Tensor:
    """Top and left of crops in padded images: int64 (n, 2), 0 to 2 * padding."""
    return torch.randint(2 * padding + 1, (n, 2))


def shifted_crop(x: Tensor, shifts: Tensor, padding: int) -> Tensor:
    """Crops of x's own size (N, C, H, W) at `shifts` (N, 2) of x padded with zeros."""
    padded = F.pad(x, (padding,) * 4)
    windows = padded.unfold(2, x.shape[2], 1).unfold(3, x.shape[3], 1)
    top, left = shifts.to(x.device).unbind(1)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


# Chosen images --------------------------------------------------------------------------------------------------------


def draw_chosen(n: int, p: float) -> Tensor:
    """Which of n images an operation is applied to: bool (n,), each with probability p."""
    return torch.rand(n) < p


def _indices(chosen: Tensor, device: torch.device) -> Tensor:
    return chosen.nonzero().squeeze(1).to(device, non_blocking=True)


def horizontal_flip(x: Tensor, p: float = 0.5) -> Tensor:
    """Mirror images left to right with probability p."""
    return flip(x, draw_chosen(len(x), p))


def flip(x: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen ones (N,) of x."""
    where = _indices(chosen, x.device)
    return x.index_copy(0, where, x[where].flip(3))


def grayscale(x: Tensor, p: float) -> Tensor:
    """Replace images by their luma in all channels with probability p."""
    return to_grey(x, draw_chosen(len(x), p))


def to_grey(x: Tensor, chosen: Tensor) -> Tensor:
    """Replace the chosen ones (N,) of x by their luma."""
    where = _indices(chosen, x.device)
    return x.index_copy(0, where, _luma(x[where]).expand(-1, x.shape[1], -1, -1))


def _luma(x: Tensor) -> Tensor:
    """(N, 1, H, W); images of one channel are their own."""
    if x.shape[1] == 1:
        return x
    if x.shape[1] != 3:
        raise ValueError(f"images have {x.shape[1]} channels: expected 1 (grey) or 3 (red, green, blue)")
    red, green, blue = LUMA
    return (x[:, :1] * red).add_(x[:, 1:2], alpha=green).add_(x[:, 2:], alpha=blue)


# Colour ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Jitter:
    """Parameters of colour jitter for n images.

    `chosen` bool (n,); `factors` (n, 4) of brightness, contrast, saturation (1 changes nothing) and hue (0 changes
    nothing, in turns of the colour circle); `order` int64 (n, 4): the operations by these numbers, in the order of use.
    """

    chosen: Tensor
    factors: Tensor
    order: Tensor


BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def color_jitter(
    x: Tensor, brightness: float, contrast: float, saturation: float, hue: float, p: float = 0.8
) -> Tensor:
    """Change the colours of images chosen with probability p, in a random order of the four operations each."""
    return jitter(x, draw_jitter(len(x), brightness, contrast, saturation, hue, p))


def draw_jitter(n: int, brightness: float, contrast: float, saturation: float, hue: float, p: float = 0.8) -> Jitter:
    """torchvision's rule: factors are uniform in [max(0, 1 - strength), 1 + strength], the hue's in [-hue, hue]."""
    if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
        raise ValueError(f"jitter {brightness, contrast, saturation, hue}: strengths are 0 or more, hue at most 0.5")
    factors = torch.empty(n, 4)
    for column, strength in enumerate((brightness, contrast, saturation)):
        factors[:, column].uniform_(max(0.0, 1 - strength), 1 + strength)
    factors[:, HUE].uniform_(-hue, hue)
    return Jitter(draw_chosen(n, p), factors, torch.rand(n, 4).argsort(1))


def jitter(x: Tensor, parameters: Jitter) -> Tensor:
    """Apply `parameters` to x.

    Brightness, contrast and saturation are all clip(a x + b luma(x) + c) with numbers a, b, c for each image, so one
    pass serves images that are at different ones of them. Hue is turned at the beginning of the pass that follows it.
    """
    turn = (parameters.order == HUE).int().argmax(1)
    # Images that turn their hue at the same pass lie together, so each group is a view.
    where = parameters.chosen.nonzero().squeeze(1)
    where = where[turn[where].argsort(stable=True)]
    factors, order = parameters.factors[where], parameters.order[where]
    bounds = torch.searchsorted(turn[where], torch.arange(5)).tolist()
    others = order[order != HUE].view(-1, 3)
    coloured = x.shape[1] == 3 and bool(factors[:, HUE].any())
    where = where.to(x.device, non_blocking=True)
    some = x[where]
    for step in range(4):
        if coloured and bounds[step] < bounds[step + 1]:
            group = slice(bounds[step], bounds[step + 1])
            _turn_hue(some[group], factors[group, HUE].to(x))
        if step < 3:
            _blend(some, others[:, step], factors)
    return x.index_copy(0, where, some)


def _blend(x: Tensor, operation: Tensor, factors: Tensor) -> None:
    """Change the brightness, contrast or saturation of x (n, C, H, W) in place, as `operation` (n,) says."""
    factor = factors.gather(1, operation[:, None]).to(x).view(-1, 1, 1, 1)
    saturation, contrast = ((operation == which).to(x).view(-1, 1, 1, 1) for which in (SATURATION, CONTRAST))
    luma = _luma(x)
    mean = luma.mean((1, 2, 3), keepdim=True)
    rest = luma * ((1 - factor) * saturation) + mean * ((1 - factor) * contrast)
    x.mul_(factor).add_(rest).clamp_(0, 1)


def _turn_hue(x: Tensor, turns: Tensor) -> None:
    """Turn the hue of x (n, 3, H, W) in place by `turns` (n,), in the HSV model."""
    red, green, blue = x.unbind(1)
    low, high = torch.minimum(red, green).minimum(blue), torch.maximum(red, green).maximum(blue)
    chroma = high - low
    scale = chroma.clamp(min=1e-12).reciprocal_()
    # The hue in sixths of the circle; which channel is the largest decides, red before green before blue. Float masks
    # and lerp instead of torch.where, which is many times slower on random masks.
    hue = torch.sub(red, green).mul_(scale).add_(4)
    hue.lerp_(torch.sub(blue, red).mul_(scale).add_(2), green.clone().eq_(high))
    hue.lerp_(torch.sub(green, blue).mul_(scale), red.clone().eq_(high))
    hue.add_(6 * turns.view(-1, 1, 1))
    hue.sub_(torch.floor(hue / 6), alpha=6)
    part = torch.empty_like(hue)
    torch.sub(hue, 3, out=part).abs_().sub_(1).clamp_(0, 1)
    torch.addcmul(low, chroma, part, out=red)
    for channel, centre in ((green, 2), (blue, 4)):
        torch.sub(hue, centre, out=part).abs_().neg_().add_(2).clamp_(0, 1)
        torch.addcmul(low, chroma, part, out=channel)


# Blur -----------------------------------------------------------------------------------------------------------------


def gaussian_blur(x: Tensor, p: float, sigma: Range = (0.1, 2.0)) -> Tensor:
    """PIL's Gaussian blur with a radius uniform in `sigma` pixels, of images chosen with probability p."""
    return blur(x, draw_blur(len(x), p, sigma))


def draw_blur(n: int, p: float, sigma: Range = (0.1, 2.0)) -> Tensor:
    """Radii (n,) in pixels; 0 for images that stay sharp."""
    if not 0 < sigma[0] <= sigma[1]:
        raise ValueError(f"sigma {sigma}: must be positive and ascending")
    return torch.empty(n).uniform_(*sigma) * draw_chosen(n, p)


def blur(x: Tensor, radii: Tensor) -> Tensor:
    """Blur x by `radii` (N,) in pixels, as PIL does: three box filters of fractional width, edges repeated."""
    where = radii.nonzero().squeeze(1)
    if not len(where):
        return x.clone()
    reach = _box_reach(float(radii.max()))
    radii, where = radii[where].to(x), where.to(x.device, non_blocking=True)
    height, width = x.shape[2:]
    rows = _boxes(radii, height, reach)
    columns = rows if height == width else _boxes(radii, width, reach)
    return x.index_copy(0, where, _two_sided(rows, x[where], columns))


def _box_reach(sigma: float) -> int:
    """How many pixels to each side the box filters of a blur by `sigma` may touch."""
    return int(((4 * sigma**2 + 1) ** 0.5 - 1) / 2) + 1


def _boxes(sigma: Tensor, side: int, reach: int) -> Tensor:
    """Matrices (n, side, side) that blur a line by `sigma` (n,): the third powers of box filters.

    The box's half-width is chosen such that three passes have the Gaussian's variance (Gwosdek et al. 2011, "extended
    box filter": the whole part with full weight, one pixel more on each side with a fraction).
    """
    variance = sigma.square() / 3
    whole = ((12 * variance + 1).sqrt() - 1).div(2).floor()
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1).square()))
    full = 1 / (2 * (whole + part) + 1)
    offsets = torch.arange(-reach, reach + 1, device=sigma.device)
    # Weight 1 up to `whole` pixels away, `part` one further, 0 beyond.
    profile = (1 + whole[:, None] - offsets.abs()).clamp(0, 1)
    profile = profile + (offsets.abs() == whole[:, None] + 1) * part[:, None]
    lines = torch.arange(side, device=sigma.device)
    shifts = F.one_hot((lines + offsets[:, None]).clamp(0, side - 1), side).to(sigma)
    box = ((full[:, None] * profile) @ shifts.flatten(1)).view(-1, side, side)
    return box @ box @ box
