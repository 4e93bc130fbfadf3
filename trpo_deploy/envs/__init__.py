"""Environments by id, with arguments and wrappers; their spaces; episodes played in them."""
