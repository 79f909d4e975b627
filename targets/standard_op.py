"""Standard operators as lowering hands them to a platform, and what comes back: a function and how it is launched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from qcompiler.ir.program import Launch

Expr = Any


@dataclass(frozen=True)
class Parameter:
    """A pointer parameter: element type and extent, and the alignment in bytes that its caller guarantees."""

    name: str
    dtype: str
    elements: int
    align: int


@dataclass(frozen=True)
class Apart:
    """`body(buffers, element)` emits the TIR of one of `elements` independent elements."""

    elements: int
    body: Callable[[list[Expr], Expr], None]


@dataclass(frozen=True)
class ItemLoop:
    """An operator of our own: `body(buffers, item)` emits the TIR of one of `items` independent items.

    buffers: one flat buffer per parameter; item: its int64 number. apart: the same operator in items of one element,
    for machines whose threads lie side by side in memory; None where items are as small as they get.
    """

    parameters: tuple[Parameter, ...]
    items: int
    body: Callable[[list[Expr], Expr], None]
    apart: Apart | None = None


@dataclass(frozen=True)
class TensorFunction:
    """An operator of TVM's: a PrimFunc over tensors, `inputs` of them read and the rest written, in naive loops."""

    function: Any
    inputs: int


StandardOp = ItemLoop | TensorFunction


@dataclass(frozen=True)
class Scheduled:
    """A standard operator as code of a platform.

    function: the PrimFunc over pointers, first those of the operator, then one per temporary, with what a launch adds:
    for `Items` int32 begin and end. temporaries: bytes of memory that the function needs besides, each.
    """

    function: Any
    launch: Launch
    temporaries: tuple[int, ...] = ()


def tensor_bytes(tensor: Any) -> int:
    """Bytes of a tensor of a PrimFunc."""
    dtype = str(tensor.dtype)
    return prod(int(extent) for extent in tensor.shape) * (1 if dtype == "bool" else np.dtype(dtype).itemsize)
