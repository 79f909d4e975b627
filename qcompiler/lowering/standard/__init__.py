"""Operators with kernels of our own beside the layers: standard ones that TVM lacks or gets wrong, and RoundTo.

A lowering takes a node of the graph and gives one call. To add one: a function in the file of its family, a line in
the table, and a test against onnxruntime in tests/lowering/standard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from qcompiler.ir.axis_order import is_marked
from qcompiler.ir.ops import DOMAIN
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard import (
    columns,
    elementwise,
    gather,
    integers,
    limits,
    recurrent,
    resize,
    roi,
    scatter,
    split_concat,
    transpose,
)
from qcompiler.lowering.standard.copy import copied

__all__ = ["LOWERINGS", "copied", "lowered"]

LOWERINGS: Mapping[str, Callable[[ir.Node], StandardCall | None]] = {
    "BitShift": integers.shift,
    "Concat": split_concat.concat,
    "Cosh": elementwise.libm,
    "CumSum": columns.cum_sum,
    "Div": integers.divide,
    "GRU": recurrent.recurrent,
    "Gather": gather.gather,
    "GatherElements": gather.gather_elements,
    "GatherND": gather.gather_nd,
    "IsInf": elementwise.is_inf,
    "LSTM": recurrent.recurrent,
    "LpPool": limits.lp_pool,
    "MaxUnpool": scatter.max_unpool,
    "Mod": integers.modulo,
    "OneHot": columns.one_hot,
    "Pow": integers.power,
    "RNN": recurrent.recurrent,
    "Resize": resize.resize,
    "RoiAlign": roi.roi_align,
    "RoundTo": elementwise.round_to,
    "ScatterElements": scatter.scatter_elements,
    "ScatterND": scatter.scatter_nd,
    "Sinh": elementwise.libm,
    "Split": split_concat.split,
    "ThresholdedRelu": elementwise.thresholded_relu,
    "TopK": columns.top_k,
    "Transpose": transpose.transpose,
}

# those whose kernels know tensors that are channels-last: most are the same in any layout
IN_ANY_LAYOUT = ("Concat", "Cosh", "IsInf", "RoundTo", "Sinh", "ThresholdedRelu", "Transpose")


def lowered(node: ir.Node) -> StandardCall | None:
    """The node as a call of a kernel of ours; None where it is left to TVM.

    Raises UnsupportedModel where neither can do it.
    """
    if node.domain not in ("", DOMAIN) or (is_marked(node) and node.op_type not in IN_ANY_LAYOUT):
        return None
    lowering = LOWERINGS.get(node.op_type)
    return lowering(node) if lowering is not None else None
