"""One kernel call before any machine is chosen: a problem, its constants, and symbolic memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from qcompiler.lowering.call import GenericCall
from qcompiler.lowering.forms import Form
from qcompiler.targets.problem import Problem
from qcompiler.targets.target import Constants


@dataclass(eq=False)
class Slot:
    """A piece of workspace of `nbytes` that holds something between the steps that write and read it."""

    nbytes: int


@dataclass(frozen=True)
class External:
    """Memory of the caller: network input or output number `position`."""

    kind: str
    position: int


Location = Slot | External


@dataclass(frozen=True)
class Stored:
    """A graph value in one of its forms at a location."""

    value: ir.Value
    form: Form
    location: Location


@dataclass(frozen=True)
class KernelWork:
    """A call of one of our kernels."""

    problem: Problem
    constants: Constants
    reads: tuple[Location, ...]
    writes: tuple[Location, ...]
    stored: tuple[Stored, ...]
    nodes: tuple[ir.Node, ...]
    op: str


@dataclass(frozen=True)
class GenericWork:
    """A call of a function that TVM made; a read may be a constant array."""

    call: GenericCall
    reads: tuple[Location | npt.NDArray[Any], ...]
    writes: tuple[Location, ...]
    temporaries: tuple[Slot, ...]
    stored: tuple[Stored, ...]
    nodes: tuple[ir.Node, ...]
    op: str


Work = KernelWork | GenericWork
