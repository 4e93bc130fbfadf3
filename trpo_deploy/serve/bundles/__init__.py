"""Bundles: policies packed for a container, Kubernetes, KServe or Triton."""
