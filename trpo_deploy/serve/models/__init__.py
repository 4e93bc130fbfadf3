"""The models that are served: loading, swapping, what is known of each."""
