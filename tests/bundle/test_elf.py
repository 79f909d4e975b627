from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qcompiler.bundle import elf
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
