"""Targets of the export other than ONNX: a table, and a module or folder for each."""
