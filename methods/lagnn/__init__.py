"""Local augmentation: a generator of neighbours' features whose draws a graph network sees beside the real ones."""
