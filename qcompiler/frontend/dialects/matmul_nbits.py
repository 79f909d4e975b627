"""com.microsoft's product with weights of few bits in blocks.

MatMulNBits<K, N, bits, block_size>(a [..., K], b uint8 [N, blocks, block_size * bits / 8], scales [N, blocks],
zero_points, g_idx, bias [N]) -> y [..., N]:
    y = a * w + bias, w[k, n] = (q[n, k] - zero_points[n, g]) * scales[n, g], the block g = k / block_size or g_idx[k]

Codes q lie in bytes, the first in the lowest bits, K of them in ceil(K / block_size) blocks. Zero points are packed
like them, row by row, or numbers [N, blocks]; 2 ** (bits - 1) where there are none. With accuracy_level = 4, a is
rounded to 8 bits in the blocks of a row before it is multiplied (`frontend/rounded_products.py`); other levels mean
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.dialects.integer_operands import is_given
from qcompiler.frontend.dialects.parameters import FloatArray, floats
from qcompiler.frontend.emitter import Array, Emitter
from qcompiler.frontend.rounded_products import rounds
from qcompiler.frontend.structure import label
from qcompiler.ir.matrices import transposed
from qcompiler.ir.ops import DOMAIN, ROUNDED
from qcompiler.ir.plausible import REMEDY, not_finite

_T = onnx.TensorProto
_WIDTHS = (2, 4, 8)
_SMALLEST_BLOCK = 16


def matmul_nbits(emitter: Emitter, node: onnx.NodeProto) -> None:
    """Add the canonical form of a MatMulNBits: a MatMul with the weights that its codes stand for."""
    layout = _Layout.of(node)
    a = floats(emitter, node, 0)
    if emitter.shape(a)[-1:] != (layout.k,):
        raise InvalidModel(
            f"{node.op_type} has an operand of shape {list(emitter.shape(a))}, expected [..., {layout.k}]",
            node=label(node),
            remedy="export it again",
        )
    weights = emitter.constant(_weights(emitter, node, layout), "weights")
    biased = is_given(node, 5)
    outputs = [] if biased else node.output
    if _rounds(emitter, node, layout):
        product = emitter.op(ROUNDED, [a, weights], outputs, DOMAIN, size=[layout.size], bits=layout.bits)
    else:
        product = emitter.op("MatMul", [a, weights], outputs)
    if not biased:
        return
    bias = _array(emitter, node, 5, "a bias", [(layout.n,)], _NUMBERS).astype(np.float32)
    emitter.op("Add", [product, emitter.constant(bias, "bias")], node.output)


def _rounds(emitter: Emitter, node: onnx.NodeProto, layout: _Layout) -> bool:
    """Whether the left operand is rounded, as onnxruntime's kernels do that have leave to."""
    numbers = is_given(node, 3) and emitter.element_type(node.input[3]) in _NUMBERS
    return not numbers and rounds(node, layout.bits, layout.size)


@dataclass(frozen=True)
class _Layout:
    """How the codes of weights [n, k] lie: blocks of `size` codes of `bits` bits along k."""

    k: int
    n: int
    bits: int
    size: int

    @classmethod
    def of(cls, node: onnx.NodeProto) -> _Layout:
        k, n, bits, size = (attributes.integer(node, name, usual) for name, usual in _ATTRIBUTES.items())
        problem = ""
        if bits not in _WIDTHS:
            problem = f"{bits} bits, expected 2, 4 or 8"
        elif size < _SMALLEST_BLOCK or size & (size - 1):
            problem = f"blocks of {size}, expected a power of two of at least {_SMALLEST_BLOCK}"
        elif min(k, n) < 1:
            problem = f"K = {k} and N = {n}, expected sizes above 0"
        if problem:
            raise InvalidModel(f"{node.op_type} has {problem}", node=label(node), remedy="export it again")
        return cls(k, n, bits, size)

    @property
    def blocks(self) -> int:
        """Blocks in a row of weights."""
        return -(-self.k // self.size)

    @property
    def zero_bytes(self) -> int:
        """Bytes of the packed zero points of a row."""
        return -(-self.blocks * self.bits // 8)

    def unpacked(self, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The codes in rows of bytes, uint8 [N, bytes] -> uint8 [N, bytes * 8 / bits]."""
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)
        return ((rows[:, :, None] >> shifts) & np.uint8(2**self.bits - 1)).reshape(len(rows), -1)


_ATTRIBUTES = {"K": 0, "N": 0, "bits": 4, "block_size": 0}
_BYTES, _NUMBERS, _INDICES = (_T.UINT8,), (_T.FLOAT, _T.FLOAT16), (_T.INT32,)


def _weights(emitter: Emitter, node: onnx.NodeProto, layout: _Layout) -> FloatArray:
    """The weights, float32 [K, N]."""
    n, blocks = layout.n, layout.blocks
    packed = _array(emitter, node, 1, "weights", [(n, blocks, layout.size * layout.bits // 8)], _BYTES)
    codes = layout.unpacked(packed.reshape(n, -1))[:, : layout.k]
    shapes: list[tuple[int, ...]] = [(n, blocks), (n * blocks,)]
    scales = _array(emitter, node, 2, "scales", shapes, _NUMBERS).reshape(n, blocks).astype(np.float32)
    block = _blocks(emitter, node, layout)
    zeros = _zeros(emitter, node, layout)
    return transposed((codes - zeros[:, block]) * scales[:, block])


def _zeros(emitter: Emitter, node: onnx.NodeProto, layout: _Layout) -> FloatArray:
    """The zero points, float32 [N, blocks]."""
    n, blocks = layout.n, layout.blocks
    if not is_given(node, 3):
        return np.full((n, blocks), 2.0 ** (layout.bits - 1), np.float32)
    if emitter.element_type(node.input[3]) in _NUMBERS:
        numbers = _array(emitter, node, 3, "zero points", [(n, blocks), (n * blocks,)], _NUMBERS)
        return numbers.reshape(n, blocks).astype(np.float32)
    if is_given(node, 4):
        raise UnsupportedModel(
            f"{node.op_type} has block indices and packed zero points, which onnxruntime ignores beside them",
            node=label(node),
            remedy="store the zero points as numbers, or sort the rows of the weights by block",
        )
    width = layout.zero_bytes
    packed = _array(emitter, node, 3, "zero points", [(n, width), (n * width,)], _BYTES)
    return layout.unpacked(packed.reshape(n, width))[:, :blocks].astype(np.float32)


def _blocks(emitter: Emitter, node: onnx.NodeProto, layout: _Layout) -> npt.NDArray[np.int64]:
    """The block of each element of a row, int64 [K]."""
    if not is_given(node, 4):
        return np.arange(layout.k) // layout.size
    shapes: list[tuple[int, ...]] = [(layout.k,), (layout.blocks * layout.size,)]
    found = _array(emitter, node, 4, "block indices", shapes, _INDICES)[: layout.k].astype(np.int64)
    if bool(((found < 0) | (found >= layout.blocks)).any()):
        raise InvalidModel(
            f"{node.op_type} has block indices from {found.min()} to {found.max()}, expected 0 to {layout.blocks - 1}",
            node=label(node),
            remedy="export it again",
        )
    return found


def _array(
    emitter: Emitter,
    node: onnx.NodeProto,
    index: int,
    what: str,
    shapes: list[tuple[int, ...]],
    kinds: tuple[int, ...],
) -> Array:
    """A stored operand, which must have one of the shapes and types, and no NaN or infinity."""
    name = node.input[index]
    shape, kind = emitter.shape(name), emitter.element_type(name)
    problem = ""
    if kind not in kinds:
        names = " or ".join(_T.DataType.Name(each).lower() for each in kinds)
        problem = f"{what} of type {_T.DataType.Name(kind).lower()}, expected {names}"
    elif shape not in shapes:
        problem = f"{what} of shape {list(shape)}, expected {list(shapes[0])}"
    value = None if problem else emitter.computed_value(name)
    if value is None and not problem:
        raise UnsupportedModel(
            f"{node.op_type} has {what} that depend on data", node=label(node), remedy="store them in the file"
        )
    problem = problem or not_finite(what, np.asarray(value))
    if problem:
        raise InvalidModel(f"{node.op_type} has {problem}", node=label(node), remedy=REMEDY)
    return np.asarray(value)
