"""Running an exported detector on images: NumPy, Pillow and ONNX Runtime, nothing else."""
