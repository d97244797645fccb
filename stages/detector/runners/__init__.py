"""Run a detector on images with ONNX Runtime or PyTorch, whole or in tiles: used by export and the tools."""
