"""The state of a run between two updates, as one file, and whether a run may resume from it."""
