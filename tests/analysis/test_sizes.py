from __future__ import annotations

import onnx.parser
import onnx_ir as ir

from qcompiler.analysis.sizes import Constants, constants_of

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[4,3] x) => (float[1,8] y, float[4,5] z)
<float[3,2] w = {1,2,3,4,5,6}, float[2] bias = {1,2}, int64[2] shape = {1,8}, float[7] unused = {1,2,3,4,5,6,7}>
{
    scale = Constant <value = float {2.0}> ()
    quantized = Constant <value = int8[3,5] {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}> ()
    a = MatMul (x, w)
    b = Add (a, bias)
    c = Add (b, bias)
    y = Reshape (c, shape)
    v = DequantizeLinear (quantized, scale)
    z = MatMul (x, v)
}"""


def test_weights_and_others_are_counted_once() -> None:
    graph = ir.serde.deserialize_model(onnx.parser.parse_model(TEXT)).graph
    found = constants_of(graph)
    assert found == Constants(weights=6 + 15, others=2 + 1)
    assert (found.float32_bytes, found.int8_bytes) == (24 * 4, 21 + 3 * 4)
