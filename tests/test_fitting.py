"""What is said of a network that does not fit a microcontroller."""

from __future__ import annotations

import pytest

from qcompiler.bundle.footprint import Footprint
from qcompiler.errors import UnsupportedModel
from qcompiler.fitting import Memory, check_fits, size
from qcompiler.ir.program import Allocation, Argument, Call, Items, Program, StepInfo, TensorInfo, VariantCode

FIRST, SECOND = StepInfo(("stem",), "Conv", 32, 32, 9, 64), StepInfo(("middle",), "IntegerConv", 1, 1, 9, 64)
CALLS = tuple(
    Call(f"k{index}", "kernel", (Argument("input", 0),), Items(1), constant_bytes=nbytes)
    for index, nbytes in enumerate((300, 5000))
)
PROGRAM = Program(
    name="net",
    target="cortex-m",
    inputs=(TensorInfo("x", (1, 4), "float32"),),
    outputs=(TensorInfo("y", (1, 4), "float32"),),
    workspace_bytes=4096,
    constants=bytes(5300),
    steps=(FIRST, SECOND),
    variants=(VariantCode("cortex_m4", (), (b"",), CALLS),),
    allocations=(Allocation(0, 4000, 0, 0), Allocation(0, 1000, 0, 1)),
)
NEEDED = Footprint("cortex_m4", code=2000, constants=5300, static=4, workspace=4096, inputs=16, outputs=16)


def refusal(memory: Memory, needed: Footprint = NEEDED) -> str:
    with pytest.raises(UnsupportedModel) as raised:
        check_fits(memory, [needed], PROGRAM)
    return str(raised.value)


def test_what_fits_exactly_fits() -> None:
    check_fits(Memory(flash=7300, ram=4132), [NEEDED], PROGRAM)
    check_fits(Memory(), [NEEDED], PROGRAM)


def test_constants_of_the_largest_layer_are_named() -> None:
    assert refusal(Memory(flash=7299)) == (
        "cortex-m4 needs 7.1 KiB of flash, --flash allows 7.1 KiB; largest is node 'middle' with 4.9 KiB of constants; "
        "give it fewer channels"
    )


def test_code_can_be_largest() -> None:
    assert "largest is the code (8.8 KiB)" in refusal(
        Memory(flash=2**13), NEEDED.__class__("m", 9000, 5300, 4, 1, 1, 1)
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "the workspace (4.0 KiB), which is full at node 'stem'; give it fewer channels"),
        ({"inputs": 9000}, "the inputs (8.8 KiB); make them smaller"),
        ({"stack": 5000}, "the stack of kernels (4.9 KiB)"),
    ],
)
def test_the_largest_array_is_named(changed: dict[str, int], expected: str) -> None:
    needed = Footprint(**{**vars(NEEDED), **changed})
    assert f"; largest is {expected}" in refusal(Memory(ram=1000), needed)


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1 << 20, "1024.0 KiB")]
)
def test_sizes(nbytes: int, text: str) -> None:
    assert size(nbytes) == text
