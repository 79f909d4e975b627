"""The standard's own quantizers: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import onnx

from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.dialect import Dialect, Op
from qcompiler.frontend.emit import Emitter
from qcompiler.frontend.tensors import TWO_BIT_RANGES

# The types that stand for two-bit ones.
_WIDE = {onnx.TensorProto.INT2: onnx.TensorProto.INT8, onnx.TensorProto.UINT2: onnx.TensorProto.UINT8}


def _quantize(emitter: Emitter, node: onnx.NodeProto) -> None:
    """QuantizeLinear to two bits becomes one to eight bits, clipped to the range of the two."""
    limits = emitter.two_bit_range(node.input[2]) if len(node.input) > 2 else None
    declared = attributes.integer(node, "output_dtype", 0)
    if declared in _WIDE:
        limits = TWO_BIT_RANGES[declared]
        attributes.state(node, "output_dtype", _WIDE[declared])
    if limits is None:
        emitter.place(node)
        return
    wide = onnx.NodeProto.FromString(node.SerializeToString())
    wide.output[0] = emitter.fresh(f"{emitter.base}/wide")
    wide.name = f"{emitter.base}/quantizelinear"
    emitter.place(wide)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(emitter.element_type(wide.output[0]))
    bounds = [emitter.constant(limit, hint, dtype) for limit, hint in zip(limits, ("low", "high"), strict=True)]
    emitter.op("Clip", [wide.output[0], *bounds], node.output)


DIALECT = Dialect("QDQ", ("",), {"QuantizeLinear": Op(_quantize, (2, 3))})
