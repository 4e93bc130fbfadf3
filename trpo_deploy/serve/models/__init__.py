"""Served models: find them on disk, load and check them, replace them when they change."""
