"""The test cases that the ONNX package carries, through the whole compiler; `python -m tests.onnx_nodes` runs them."""
