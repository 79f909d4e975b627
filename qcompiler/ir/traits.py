"""The one table of what ops do to elements: standard ONNX ops and those of the `qcompiler` domain.

Whoever needs to know whether an op moves, rounds, compares or accumulates asks this table, so that a new op is one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Flag, auto

import onnx_ir as ir

from qcompiler.ir.ops import DOMAIN


class Trait(Flag):
    """What holds of an op, whatever its attributes; where they matter, an analysis looks at the node."""

    RENAMES = auto()
    """The result has the elements of the first operand in the same order, under another shape."""
    RESHAPES = auto()
    """It renames, and does nothing but change the shape."""
    MOVES = auto()
    """Every element of the first result is an element of the first operand: codes stay codes, levels stay levels."""
    JOINS = auto()
    """Every element of the result is one of some operand, or a number that fills what lies outside."""
    POINTWISE = auto()
    """Every element of the result depends on one element of each operand; operands broadcast."""
    ROUNDED_ONCE = auto()
    """A choice, or a single operation of IEEE arithmetic: exact operands give one result, to the bit."""
    CHAINS = auto()
    """One rounding per element, and monotone in one operand where the others are constants; see monotone.py."""
    RISES = auto()
    """A function of one argument that keeps order, but for its rounding."""
    JUMPS = auto()
    """The result changes all at once where the first operand passes some number."""
    COMPARES = auto()
    """The same at equal operands."""
    LANDS = auto()
    """The result is one of a few numbers, whichever side of a jump was taken."""
    REDUCES = auto()
    """A reduction over `axes`, an attribute or the second operand."""
    AVERAGES = auto()
    """Means of elements of the first operand."""
    SLIDES = auto()
    """A window slides over all axes but the first two."""
    CONVOLVES = auto()
    """A layer: sums of products with weights [O, I, ...]; channels are axis 1."""
    MULTIPLIES = auto()
    """A layer: sums of products with a matrix; channels are the last axis."""


_NONE = Trait(0)
_RENAMES = Trait.RENAMES | Trait.MOVES
_POINT = Trait.POINTWISE
_ONCE = Trait.POINTWISE | Trait.ROUNDED_ONCE
_CHAIN = _ONCE | Trait.CHAINS
_RISES = Trait.POINTWISE | Trait.RISES
_ROUNDS = Trait.POINTWISE | Trait.JUMPS | Trait.LANDS

_STANDARD = {
    "Reshape Flatten Squeeze Unsqueeze": _RENAMES | Trait.RESHAPES,
    "Identity": _RENAMES | _CHAIN,
    "Transpose DepthToSpace SpaceToDepth Expand Tile Slice Split Gather GatherElements GatherND": Trait.MOVES,
    "MaxPool GlobalMaxPool": Trait.MOVES | Trait.SLIDES,
    "ReduceMax ReduceMin": Trait.MOVES | Trait.REDUCES,
    "Concat Pad": Trait.JOINS,
    "Add Sub Mul Div Max Min Relu Clip Neg PRelu LeakyRelu": _CHAIN,
    "Abs Sqrt Reciprocal Where And Or Not Xor Cast": _ONCE,
    "DequantizeLinear": Trait.ROUNDED_ONCE,
    "Mod": _ONCE | Trait.COMPARES,
    "Tanh Sigmoid Erf Exp Softplus Softsign": _RISES,
    "Elu Gelu HardSigmoid HardSwish Log Mean Mish Pow Selu Sum": _POINT,
    "Sign Round Floor Ceil": _ROUNDS,
    "QuantizeLinear DynamicQuantizeLinear ArgMax ArgMin Hardmax TopK NonZero IsInf": Trait.JUMPS,
    "Shrink ThresholdedRelu": _POINT | Trait.JUMPS,
    "Greater GreaterOrEqual Less LessOrEqual Equal": _POINT | Trait.COMPARES,
    "ReduceSum ReduceProd ReduceL1 ReduceL2": Trait.REDUCES,
    "ReduceMean": Trait.REDUCES | Trait.AVERAGES,
    "AveragePool GlobalAveragePool": Trait.AVERAGES | Trait.SLIDES,
    "Conv": Trait.CONVOLVES | Trait.SLIDES,
    "ConvTranspose": Trait.SLIDES,
    "MatMul": Trait.MULTIPLIES,
}
_OWN = {
    "Binarize Quantize Threshold": _ROUNDS,
    "RoundTo": _ONCE | Trait.JUMPS,
    "IntegerConv": Trait.CONVOLVES | Trait.SLIDES,
    "IntegerMatMul": Trait.MULTIPLIES,
    "IntegerProduct": _NONE,
    "RoundedMatMul": Trait.JUMPS,
    "IntegerMaxPool": Trait.MOVES | Trait.SLIDES,
}


def _rows(table: Mapping[str, Trait], domain: str) -> Iterator[tuple[tuple[str, str], Trait]]:
    for names, traits in table.items():
        yield from (((domain, name), traits) for name in names.split())


TABLE: Mapping[tuple[str, str], Trait] = dict([*_rows(_STANDARD, ""), *_rows(_OWN, DOMAIN)])
"""Traits by (domain, name)."""

LAYER = Trait.CONVOLVES | Trait.MULTIPLIES


def channel_axis(layer: ir.Node, rank: int) -> int:
    """The negative axis of a layer's operand and result, of `rank` axes, along which channels lie."""
    return 1 - rank if has(layer, Trait.CONVOLVES) else -1


def weight_axis(layer: ir.Node) -> int:
    """The axis of a layer's weights along which its output channels lie."""
    return 0 if has(layer, Trait.CONVOLVES) else -1


def traits_of(node: ir.Node | None) -> Trait:
    """The traits of a node; none for an unknown op, and for no node."""
    if node is None:
        return _NONE
    return TABLE.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type), _NONE)


def has(node: ir.Node | None, *traits: Trait) -> bool:
    """Whether the node has any of the traits."""
    found = traits_of(node)
    return any(found & trait for trait in traits)
