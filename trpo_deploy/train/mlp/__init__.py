"""The fast path for dense networks, with derivatives and rollouts written out."""
