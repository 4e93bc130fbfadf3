"""TRPO as a Stable-Baselines3 algorithm."""
