"""Exported programs: a model as one file for ONNX Runtime, OpenVINO and other runtimes, with the masks inside."""
