"""The processes of a service: supervisor, workers, and the BentoML service in them."""
