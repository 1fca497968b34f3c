"""Graph methods on a set of molecules with one split: an encoder trained without labels, then logistic regression.

OGB's evaluator gives the area under the ROC curve, since hardly four in a hundred molecules are active. The data are
OGB's own archive (ogbg-molhiv), whose card a user makes once, or MoleculeNet's table (molhiv-scaffold):

    retable run gcl/graph-molecules --scale full --datasets molhiv-scaffold
"""

from .graph import Graph
from .graphs.molecules import MoleculeTask
from .task import controls


class Molecules(Graph):
    """`Graph`, scored by OGB's evaluator."""

    task_class = MoleculeTask
    controls = controls(MoleculeTask.load)


EXPERIMENT = Molecules
