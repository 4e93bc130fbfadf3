"""What a policy computes, as plain arrays: layers, observation steps, distribution. NumPy only."""
