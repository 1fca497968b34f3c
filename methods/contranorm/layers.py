"""The paper's figure of feature statistics: how alike a deep GCN's features are after each layer.

The same run as `run`, which records a curve over the layers for each statistic and place; here each curve is a number,
too, its mean over the layers:

    retable run contranorm/layer-statistics --scale full
"""

from statistics import fmean

from retable.train.context import Result

from .run import NodeClassification


class LayerStatistics(NodeClassification):
    """`NodeClassification`, with the mean of each curve: `similarity_norm` of the curve `similarity/norm`."""

    def measure(self) -> Result:
        result = super().measure()
        means = {name.replace("/", "_"): fmean(curve) for name, curve in result.series.items()}
        return Result(result.metrics | means, result.series)


EXPERIMENT = LayerStatistics
