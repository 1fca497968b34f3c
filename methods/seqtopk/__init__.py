"""SeqTopK: experts are given to the tokens of a sequence together, not to each token alone."""
