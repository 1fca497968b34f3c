"""U-MAE: masked autoencoders with a uniformity term (NeurIPS 2022)."""
