"""Graph contrastive learning with its losses taken apart, on nodes and on sets of graphs."""
