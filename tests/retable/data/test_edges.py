import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retable.data.edges import distinct_edges

EDGES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30)


@given(pairs=EDGES, loops=st.booleans(), undirected=st.booleans())
def test_distinct_edges_equal_a_set(pairs, loops, undirected):
    expected = set(pairs)
    if undirected:
        expected |= {(target, source) for source, target in pairs}
    if not loops:
        expected -= {(node, node) for node in range(5)}
    got = distinct_edges(np.array(pairs).T, 5, loops=loops, undirected=undirected)
    assert got.shape == (2, len(expected))
    assert list(zip(*got.tolist(), strict=True)) == sorted(expected)
