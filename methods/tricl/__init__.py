"""triCL (NeurIPS 2023): features with an order of importance, unique up to signs."""
