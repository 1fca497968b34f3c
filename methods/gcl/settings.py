"""What the recipes of `card.yaml` set."""

from typing import Literal

from retable.settings import Settings

Terms = Literal["contrast", "no-positives", "no-negatives"]
"""The terms of a loss that are kept: both, the negatives' alone, the positives' alone."""


class NodeSettings(Settings):
    """A method on one graph; GCA, ProGCL and BGRL have some settings of their own, with defaults."""

    method: Literal["grace", "gca", "progcl", "bgrl", "dgi", "mvgrl", "raw-features", "majority"]
    loss: Literal[Terms, "neighbours"]
    """The terms that are kept; "neighbours": both, and neighbours are an anchor's positives."""
    encoder: Literal["gcn", "batchnorm-gcn", "mlp"]
    normaliser: Literal["none", "layernorm", "contranorm", "feature-contranorm"]
    norm_scale: float
    augmentation: Literal["own", "none", "noise"]
    noise_variance: float
    trained: bool
    hidden: int
    projection: int
    layers: int
    activation: Literal["prelu", "relu", "rrelu"]
    tau: float
    drop_edges_1: float
    drop_edges_2: float
    drop_features_1: float
    drop_features_2: float
    sample: int
    """Nodes that the loss is computed among; 0 means all."""
    lr: float
    weight_decay: float
    epochs: int
    patience: int
    """Epochs without a lower training loss; 0 runs all epochs."""
    row_normalise: bool
    splits: Literal["random", "fixed"]
    official_quirks: bool
    centrality: Literal["degree", "pagerank", "eigenvector"] = "degree"
    weight_init: float = 0.05
    weights_from: int = 400
    """Epoch at which ProGCL fits its mixture."""
    out: int = 128
    predictor: int = 512
    warmup: int = 0
    """Epochs."""
    target_momentum: float = 0.99

    @property
    def terms(self) -> Terms:
        """The terms of the loss that are kept."""
        return "contrast" if self.loss == "neighbours" else self.loss


class GraphSettings(Settings):
    """A method on a set of graphs; AD-GCL, JOAO and the SVM have some settings of their own, with defaults."""

    method: Literal[
        "graphcl", "infograph", "adgcl", "joao", "autogcl", "raw-features", "labels-and-degrees", "majority"
    ]
    loss: Literal[Terms, "none"]
    """The terms that are kept; "none" in rows without an encoder."""
    encoder: Literal["gin", "mlp"]
    trained: bool
    augmentation: Literal["drop-nodes", "drop-edges", "subgraph", "mask-attributes", "noise", "none"]
    ratio: float
    noise_variance: float
    official_quirks: bool
    node_attributes: bool = False
    hidden: int
    layers: int
    tau: float
    lr: float
    epochs: int
    batch_size: int
    view_lr: float = 0.001
    penalty: float = 5.0
    """What AD-GCL's view learner pays for dropped edges."""
    gamma: float = 0.1
    """JOAO's pull to the uniform distribution."""
    svm_inner_folds: int = 5
    svm_lowest_cost: float = 0.001
    svm_highest_cost: float = 1000.0
    svm_divisions: int = 10
    """Divisions into folds, drawn from the training seed, over which a seed's number is the mean."""
    linear_svc: bool = False
    """Whether scikit-learn's LinearSVC is fitted too, on the first division."""

    @property
    def terms(self) -> Terms:
        """The terms of the loss that are kept."""
        if self.loss == "none":
            raise ValueError("a row without an encoder has no loss")
        return self.loss


EXPERIMENTS = {
    "node": NodeSettings,
    "node_adam_probe": NodeSettings,
    "node_ogb": NodeSettings,
    "graph": GraphSettings,
    "molecules": GraphSettings,
}
