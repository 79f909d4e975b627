"""The graph level: ops as ONNX functions, numerics, annotations and read-only views."""
