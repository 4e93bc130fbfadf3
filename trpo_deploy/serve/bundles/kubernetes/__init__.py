"""The target ``kubernetes``: a Kustomize base of the service."""
