"""What a loss did to the representations: how they are distributed over the sphere."""

import math

from torch import Tensor

from retable.evaluate import contrast
from retable.evaluate.spectra import effective_rank, mean_cosine_similarity


def geometry(z: Tensor, y: Tensor, **more: Tensor | float) -> dict[str, float]:
    """Measures of representations z (n, d) with classes y (n,), and ``more`` of the caller's own.

    A measure that is not defined for them, an infinity or NaN, is left out.
    """
    within, between = contrast.within_and_between(z, y)
    values: dict[str, Tensor | float] = {
        "mean_cosine": mean_cosine_similarity(z),
        "within_class_cosine": within,
        "between_class_cosine": between,
        "uniformity": contrast.uniformity(z),
        "effective_rank": effective_rank(z - z.mean(0)),
        "collapsed": contrast.is_collapsed(z),
    }
    return {name: float(value) for name, value in (values | more).items() if math.isfinite(float(value))}
