"""gRPC: from a connection to the Open Inference Protocol; limits, keys, errors."""
