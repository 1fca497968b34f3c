"""Papers, one folder each: a card, the claims, the idea in one short file, and the training story."""
