"""Processes of the service: supervisor, workers, and the BentoML service in them."""
