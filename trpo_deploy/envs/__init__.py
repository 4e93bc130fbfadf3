"""Environments by id, with their arguments and wrappers; episodes played in them; their spaces."""
