"""Running a detector on images, by ONNX Runtime or PyTorch, whole or in tiles: used by export and the tools."""
