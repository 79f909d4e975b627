"""Plain ONNX, as users of training frameworks write quantizers: with signs, comparisons, roundings and absolutes."""

import onnx_ir as ir

from qcompiler.frontend.dialects.dialect import Dialect
from qcompiler.frontend.dialects.plain.clips import recognize_clips
from qcompiler.frontend.dialects.plain.idioms import recognize_binarization


def _recognize(model: ir.Model) -> int:
    return recognize_clips(model) + recognize_binarization(model)


DIALECT = Dialect("plain", ("",), recognize=_recognize)
