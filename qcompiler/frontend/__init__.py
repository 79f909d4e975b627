"""From an untrusted ONNX file to the canonical quantized graph."""

from qcompiler.frontend.idioms import canonicalize
from qcompiler.frontend.load import load

__all__ = ["canonicalize", "load"]
