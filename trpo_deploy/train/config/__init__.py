"""The configuration of a run: presets, settings, and their checks."""
