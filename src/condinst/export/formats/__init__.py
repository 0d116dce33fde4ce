"""A model as ONNX, OpenVINO and PyTorch programs, in float32 and in 8 bit, and the example beside them."""
