"""The trained detector as one ONNX file, and the proof that it answers like the model."""
