"""Stable-Baselines3's files and policies. Pickles are read here, and only as inert data."""
