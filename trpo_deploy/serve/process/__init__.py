"""Processes of the service: supervisor, workers, the BentoML service in them, and bundles."""
