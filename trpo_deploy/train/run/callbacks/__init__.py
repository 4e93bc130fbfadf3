"""What a run does between updates: evaluate, write checkpoints, report progress."""
