"""Protocols: JSON and raw tensors, Open Inference Protocol, WebSocket, and their description."""
