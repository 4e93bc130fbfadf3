"""What a training run is made of: presets, flags, their checks."""
