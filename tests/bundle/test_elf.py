from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qcompiler.bundle import elf
from qcompiler.ir.storage import Buffer
from qcompiler.targets import get
from qcompiler.targets.problem import Map2d, Operation
from tests.bundle import programs


@pytest.fixture(scope="module")
def library(pristine: Path) -> bytes:
    return (pristine / "libtiny.so").read_bytes()


def test_machines(library: bytes) -> None:
    assert elf.machine(library) == elf.machine(programs.compiled(programs.KERNELS)) == "x86_64"
    assert elf.machine(b"\x7fELF") is None and elf.machine(b"!<arch>\n" + bytes(60)) is None


def test_whole_libraries(library: bytes) -> None:
    assert elf.is_whole_library(library, "x86_64")
    assert not elf.is_whole_library(library, "aarch64")
    assert not elf.is_whole_library(programs.compiled(programs.KERNELS), "x86_64")


@pytest.mark.parametrize("size", [0, 3, 30, 60, 100, 600, 4000, 12_000])
def test_parts_are_not_whole(library: bytes, size: int) -> None:
    assert not elf.is_whole_library(library[:size], "x86_64")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([(39, 255)])
@given(st.lists(st.tuples(st.integers(4, 400), st.integers(0, 255)), max_size=8))
def test_damaged_headers_are_judged_without_error(library: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(library)
    for position, value in changes:
        damaged[position] = value
    assert elf.is_whole_library(bytes(damaged), "x86_64") in (True, False)


@pytest.fixture(scope="module")
def object_for_board() -> bytes:
    """A kernel for a Cortex-M4."""
    (variant,) = get("cortex-m").variants(("m4",))
    floats = Buffer(1, 2, 3, 4, "float32")
    (kernel,) = variant.kernels(Map2d(floats, (Operation("store", into=floats),)))
    return variant.platform.compile({"kernel": kernel.build("kernel")}, variant.tvm_target)


def test_microcontrollers_are_told_from_other_arms(object_for_board: bytes) -> None:
    assert elf.machine(object_for_board) == "cortex-m"
    (variant,) = get("arm").variants(("armv7",))
    floats = Buffer(1, 2, 3, 4, "float32")
    (kernel,) = variant.kernels(Map2d(floats, (Operation("store", into=floats),)))
    code = variant.platform.compile({"kernel": kernel.build("kernel")}, variant.tvm_target)
    assert elf.machine(code) == "arm"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(4, 8000), st.integers(0, 255)), max_size=8), size=st.integers(0, 8000))
def test_damaged_attributes_are_read_without_error(
    object_for_board: bytes, changes: list[tuple[int, int]], size: int
) -> None:
    damaged = bytearray(object_for_board)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    assert elf.machine(bytes(damaged[:size])) in {None, "arm", "cortex-m", "x86_64", "aarch64"}
