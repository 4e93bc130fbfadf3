"""The environments of a training run, several side by side."""
