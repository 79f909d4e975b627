"""Forms of operators in which TVM's code is known to be wrong, and for which there is no kernel of ours."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.ir.view import integer
from qcompiler.lowering.standard.skeleton import refuse


def lp_pool(node: ir.Node) -> None:
    """TVM weights the last windows of ceil_mode as if they were whole."""
    if integer(node, "ceil_mode", 0):
        raise refuse(node, "with ceil_mode = 1 has no kernel", "pad the input and set ceil_mode to 0")
