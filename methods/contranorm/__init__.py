"""ContraNorm (Guo et al., ICLR 2023): a layer against oversmoothing and dimensional collapse."""
