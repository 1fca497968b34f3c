"""GIND: an implicit graph layer whose state is meant to be the fixed point of a nonlinear diffusion."""
