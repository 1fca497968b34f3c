"""Methods on sets of graphs: batches, encoders, augmentations, and each method as a learner."""
