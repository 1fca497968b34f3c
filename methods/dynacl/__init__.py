"""DYNACL and DYNACL++: adversarial contrastive learning whose augmentations grow weaker (ICLR 2023)."""
