"""The methods on sets of graphs by their names in `card.yaml`."""

from .adgcl import ADGCL
from .autogcl import AutoGCL
from .graphcl import GraphCL
from .infograph import InfoGraph
from .joao import JOAO
from .learner import Learner

LEARNERS: dict[str, type[Learner]] = {
    "graphcl": GraphCL,
    "infograph": InfoGraph,
    "adgcl": ADGCL,
    "joao": JOAO,
    "autogcl": AutoGCL,
}
