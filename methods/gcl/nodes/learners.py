"""The methods on nodes by their names in `card.yaml`."""

from .bgrl import Bootstrap
from .dgi import Discriminate
from .gca import GCA
from .grace import Grace
from .learner import Learner
from .progcl import ProGCL

LEARNERS: dict[str, type[Learner]] = {
    "grace": Grace,
    "gca": GCA,
    "progcl": ProGCL,
    "bgrl": Bootstrap,
    "dgi": Discriminate,
    "mvgrl": Discriminate,
}
