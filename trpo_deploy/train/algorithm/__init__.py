"""TRPO: the update, the trust region, the critic."""
