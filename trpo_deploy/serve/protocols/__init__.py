"""What clients speak: our JSON, raw tensors, the Open Inference Protocol, WebSockets."""
