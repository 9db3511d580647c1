"""The tracker's parts as ONNX, and tracking on onnxruntime with them."""
