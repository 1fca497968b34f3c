"""Laplacian canonization by maximal axis projection: eigenvectors of a graph without sign and basis ambiguity."""
