"""The contract of a ``policy.onnx``: its spaces, inputs, outputs and origin. Needs numpy only."""
