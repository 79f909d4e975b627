"""Plain ONNX, as users of training frameworks write quantizers: with signs, comparisons and roundings."""

from qcompiler.frontend.dialects.dialect import Dialect
from qcompiler.frontend.dialects.plain.idioms import recognize_binarization

DIALECT = Dialect("plain", ("",), recognize=recognize_binarization)
