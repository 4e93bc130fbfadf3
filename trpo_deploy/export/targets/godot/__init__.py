"""The target ``godot``: an ONNX file under the contract of the Godot RL Agents plugin."""
