"""Reads a torch policy and its normaliser into the plain arrays of ``export.policy``."""
