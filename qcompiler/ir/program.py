"""The compiled network as data: what lowering hands to the bundle writer.

A program is a list of steps. A step is one kernel call per variant. On processors all threads of a run execute step i
on disjoint ranges of its work items, then meet at a barrier. On a device steps are launched in order; workspace and
constants lie in its own memory, and steps copy inputs there and outputs back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from qcompiler.ir.codes import BINARY, Codes

# what a bundle holds: inputs and outputs, axes of each, characters of a name; chosen
MAX_TENSORS = 64
MAX_RANK = 16
MAX_TEXT = 2**16


class Fault(IntEnum):
    """How the data of a run can make a step fail; the values are those of the C header."""

    INDEX = 10
    DIVISION = 11


FAULT_TEXTS = {
    Fault.INDEX: "an index lies outside of its axis",
    Fault.DIVISION: "an integer is divided by zero",
}


@dataclass(frozen=True)
class TensorInfo:
    """A network input or output: its name in the ONNX file, static shape and numpy dtype name.

    indices: the extent of the axis into which an input of integers points, 0 where it is no index.
    file_dtype: the type in the ONNX file where `dtype` is float32 instead of it: float16, bfloat16 or float64; else "".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    # what the library says of itself does not hold it
    indices: int = field(default=0, compare=False)
    file_dtype: str = field(default="", compare=False)


@dataclass(frozen=True)
class Argument:
    """A pointer passed to a kernel.

    "input"/"output": `position` is the index in the network's inputs or outputs; "workspace"/"constant": the byte
    offset in the workspace (64-byte aligned) or in the variant's view of the constant blob (64-byte aligned); "fault":
    an int32 of this call alone, 0 before it, where the kernel may leave a `Fault` of the data it met (position 0).
    """

    kind: Literal["input", "output", "workspace", "constant", "fault"]
    position: int


@dataclass(frozen=True)
class Items:
    """A launch on the threads of a processor: int32 symbol(*arguments, begin, end) for disjoint ranges of `count`."""

    count: int


@dataclass(frozen=True)
class Rows:
    """Rows that a kernel computes alike, be they of one run of the network or of several, one behind the other.

    count: of each run. They are computed `tile` at a time, by `columns` workers, `share` of which are a block.
    """

    count: int
    tile: int
    columns: int
    share: int = 1

    @property
    def blocks(self) -> int:
        """Blocks of threads for one run."""
        tiles = -(-self.count // self.tile)
        return -(-tiles * self.columns // self.share)


@dataclass(frozen=True)
class LaunchGrid:
    """A launch on a device: symbol(*arguments) by a grid of blocks of threads, each extent along x, y and z.

    shared_bytes: memory that the threads of a block share. phases: kernels that are launched one behind the other.
    rows: how the blocks of several runs that are launched at once are counted, where the kernel takes their rows
    together; it takes their number, int32, behind its arguments. Without them each run has blocks of its own.
    scratch_bytes: memory of the device, of each run, where phases leave something for those behind them; the last
    argument points to it.
    """

    blocks: tuple[int, int, int]
    threads: tuple[int, int, int]
    shared_bytes: int = 0
    phases: int = 1
    rows: Rows | None = None
    scratch_bytes: int = 0


@dataclass(frozen=True)
class Copy:
    """No code: the `nbytes` of the first argument go to the second, one in memory of the host, one of the device."""

    nbytes: int


Launch = Items | LaunchGrid | Copy

RUN_BYTES = "qcompiler.run_bytes"
"""The attribute of functions for devices that says of each pointer how many bytes lie there for one run of the network,
and 0 where there are the same ones for all: several runs that are launched at once lie one behind the other."""


@dataclass(frozen=True)
class Call:
    """One step of a variant: a kernel and how it is launched; a copy has no symbol.

    constant_bytes: of the constants that it reads. nanoseconds: what it is expected to take, 0 where nothing says so.
    """

    symbol: str
    kernel: str
    arguments: tuple[Argument, ...]
    launch: Launch
    constant_bytes: int = 0
    nanoseconds: float = 0.0

    @property
    def items(self) -> int:
        """Work items of a call on the threads of a processor."""
        assert isinstance(self.launch, Items), self.launch
        return self.launch.count


OBJECTS = "objects"


@dataclass(frozen=True)
class VariantCode:
    """The code of one instruction-set variant, and one call per step.

    objects: relocatable objects for a processor where `code_format` is OBJECTS, else one module that a device loads.
    """

    name: str
    features: tuple[str, ...]
    objects: tuple[bytes, ...]
    calls: tuple[Call, ...]
    code_format: str = OBJECTS


@dataclass(frozen=True)
class StoredValue:
    """Where a step leaves a graph value, for verification and debugging.

    layout is "bit-nhwc", "bit-nchw", "byte-nhwc", "table-nhwc" or "subset-nhwc" (codes in bit planes, bit planes by
    pixels, bytes, tables of flips or of subsets), "float-nhwc", "float-nchw" or "dense" (the ONNX order, dtype
    `dtype`). shape is the ONNX shape; halo is (top, left, bottom, right); groups, and the codes of packed layouts, as
    in ir.storage.Buffer.
    """

    name: str
    argument: Argument
    shape: tuple[int, ...]
    layout: str
    dtype: str
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    codes: Codes = BINARY


@dataclass(frozen=True)
class StepInfo:
    """What the user sees of a step: names of the ONNX nodes it covers and what they became.

    w_bits, a_bits: widths of the layer in it, 32 for real numbers, 0 where there is none. integers: whether it
    multiplies integers. macs: multiply-adds of its layers. bytes: what it writes. faults: how the data of a run can
    make it fail. reads_steps, reads_inputs: numbers of the steps whose results, and of the network inputs, that it
    reads; read_bytes: how much that is.
    """

    nodes: tuple[str, ...]
    op: str
    w_bits: int
    a_bits: int
    macs: int
    bytes: int
    note: str = ""
    values: tuple[StoredValue, ...] = ()
    faults: tuple[Fault, ...] = ()
    integers: bool = False
    reads_steps: tuple[int, ...] = ()
    reads_inputs: tuple[int, ...] = ()
    read_bytes: int = 0


@dataclass(frozen=True)
class Allocation:
    """A piece of the workspace: `nbytes` at byte `offset`, in use from step `first` to step `last`."""

    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Program:
    """A whole compiled network.

    allocations: what the workspace holds when, by offset.
    any_batch: whether runs on parts of a batch, as large as the shapes say, give the parts of the network's results.
    """

    name: str
    target: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    workspace_bytes: int
    constants: bytes
    steps: tuple[StepInfo, ...]
    variants: tuple[VariantCode, ...]
    any_batch: bool = False
    allocations: tuple[Allocation, ...] = ()
