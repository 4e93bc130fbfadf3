"""One training run over several processes: its group, and how they share samples and randomness."""
