"""ContraNorm (Guo et al., ICLR 2023): a normalisation layer against oversmoothing and dimensional collapse."""
