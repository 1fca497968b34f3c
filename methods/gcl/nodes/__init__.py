"""Methods on one graph: encoders, augmentations, and each method as a learner."""
