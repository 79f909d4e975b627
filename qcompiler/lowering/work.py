"""One kernel call before any machine is chosen: a problem, its constants, and symbolic memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.lowering.call import ScheduledCall
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
    """A call of one of our kernels.

    reads: the main operand, then the run-time operands of the epilogue, each in the form in which the kernel reads it;
    writes: in the order of the epilogue's stores, in the forms in which the kernel writes them. temporaries: memory of
    a device that kernels need besides, at most one piece.
    """

    problem: Problem
    constants: Constants
    reads: tuple[Stored, ...]
    writes: tuple[Stored, ...]
    nodes: tuple[ir.Node, ...]
    op: str
    temporaries: tuple[Slot, ...] = ()


@dataclass(frozen=True)
class GenericWork:
    """A call of a function for standard operators; a read may be a constant; slots hold what is no graph value."""

    call: ScheduledCall
    reads: tuple[Stored | Slot | npt.NDArray[Any], ...]
    writes: tuple[Stored | Slot, ...]
    temporaries: tuple[Slot, ...]
    nodes: tuple[ir.Node, ...]
    op: str


@dataclass(frozen=True)
class CopyWork:
    """A copy between memory of the caller and memory of a device, in the one form that both have: ONNX's own."""

    reads: tuple[Stored]
    writes: tuple[Stored]
    nodes: tuple[ir.Node, ...] = ()
    op: str = "transfer"


Work = KernelWork | GenericWork | CopyWork


def place_of(item: Stored | Slot) -> Location:
    """Where something is."""
    return item.location if isinstance(item, Stored) else item


def written(work: Work) -> tuple[Stored, ...]:
    """The graph values that a work stores."""
    return tuple(item for item in work.writes if isinstance(item, Stored))


def size_of(item: Stored | Slot) -> int:
    """Bytes of something."""
    return item.form.nbytes if isinstance(item, Stored) else item.nbytes


def reads_of(work: Work) -> tuple[Stored | Slot, ...]:
    """What a work reads at run time, without its constants."""
    return tuple(item for item in work.reads if not isinstance(item, np.ndarray))


def slots_of(work: Work) -> tuple[list[Slot], list[Slot]]:
    """The slots that a work reads, and those that it writes or scratches."""
    read = [place_of(item) for item in reads_of(work)]
    touched = [place_of(item) for item in work.writes]
    if not isinstance(work, CopyWork):
        touched += work.temporaries
    return [p for p in read if isinstance(p, Slot)], [p for p in touched if isinstance(p, Slot)]
