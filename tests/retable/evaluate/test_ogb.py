import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from retable.evaluate.ogb import ogb_score

# Any connection, look-up of a host or question at the keyboard ends the process with an error.
ALONE = """
import builtins, os, socket, sys
def refuse(*_, **__):
    print("opened a connection or asked", flush=True)
    os._exit(3)
socket.socket.connect = socket.getaddrinfo = builtins.input = refuse
import numpy as np
from retable.evaluate.ogb import ogb_score
print(ogb_score("ogbn-arxiv", np.array([1, 2, 3, 4]), np.array([1, 2, 3, 3])))
assert sys.modules["outdated"] is None  # what asks a package index, from a thread, when it is loaded
"""


def test_it_is_accuracy_on_arxiv_and_the_area_under_the_curve_on_molecules():
    draw = np.random.default_rng(0)
    y, scores = draw.integers(0, 2, 50), draw.normal(size=50)
    assert ogb_score("ogbg-molhiv", y, scores) == pytest.approx(100 * roc_auc_score(y, scores))
    assert ogb_score("ogbn-arxiv", np.array([3, 1, 0, 2]), np.array([3, 1, 1, 2])) == 75.0


def test_an_unknown_data_set_is_refused():
    with pytest.raises(ValueError, match="Invalid dataset name"):
        ogb_score("ogbn-nothing", np.zeros(2), np.zeros(2))


def test_it_neither_asks_nor_opens_a_connection(root):
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "75.0"), done.stderr
