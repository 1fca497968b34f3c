"""Neural Common Neighbor, and its completion of the graph, for link prediction."""
