"""The dialects that are read, one file each.

To add one: a file with a `DIALECT`, a line in `DIALECTS`, and a test against the dialect's own definition in
tests/frontend/dialects.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from qcompiler.errors import UnsupportedModel
from qcompiler.frontend.dialects import channels_last, finn, microsoft, nncf, own, plain, qdq, qonnx, qoperator
from qcompiler.frontend.dialects.dialect import Dialect
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.structure import label

__all__ = ["DIALECTS", "lower", "recognize", "refusal"]

# where two know an op, the first lowers it
DIALECTS: tuple[Dialect, ...] = (
    own.DIALECT,
    qonnx.DIALECT,
    finn.DIALECT,
    channels_last.DIALECT,
    qdq.DIALECT,
    qoperator.DIALECT,
    microsoft.DIALECT,
    nncf.DIALECT,
    plain.DIALECT,
)


def lower(emitter: Emitter, node: onnx.NodeProto) -> bool:
    """Add the canonical form of `node` to the graph; False where it is an op of no dialect.

    Raises UnsupportedModel or InvalidModel for what the op's lowering refuses.
    """
    op = next((each.ops[node.op_type] for each in _of(node.domain) if node.op_type in each.ops), None)
    if op is None:
        return False
    op.check(node)
    op.lower(emitter, node)
    return True


def refusal(node: onnx.NodeProto) -> UnsupportedModel | None:
    """Why no dialect lowers `node`; None for a node of the standard domain that none of them knows."""
    found = _of(node.domain)
    why = next((each.refused[node.op_type] for each in found if node.op_type in each.refused), "")
    if not node.domain and not why:
        return None
    known = ", ".join(op for each in found for op in each.ops)
    return UnsupportedModel(
        f"operator {node.op_type} of domain '{node.domain}' {why or ('is not supported' if found else 'is unknown')}",
        node=label(node),
        remedy=f"of this dialect, use {known}"
        if known
        else "replace it by standard operators, or attach it as a model-local function",
    )


def recognize(model: ir.Model) -> int:
    """Rewrite in place what dialects write with standard operators; returns how many values were rewritten."""
    return sum(each.recognize(model) for each in DIALECTS if each.recognize is not None)


def _of(domain: str) -> list[Dialect]:
    return [each for each in DIALECTS if domain in each.domains]
