"""Writing the ONNX file and verifying that it reproduces the model's detections: used by export."""
