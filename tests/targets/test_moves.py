"""Moves of codes against numpy, on every variant that runs here, and on ARM under emulation."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets import reference
from qcompiler.targets.arm import TARGET as ARM
from qcompiler.targets.problem import Box, Move2d
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs, object_code
from tests.targets.emulated import EmulatedRunner
from tests.targets.moves import moves
from tests.targets.problems import RUNNABLE, values
from tests.targets.test_arm import per_variant


def check(problem: Move2d, variant, seed: int, runner=KernelRunner) -> None:
    rng = np.random.default_rng(seed)
    sources = [aligned(values(rng, buffer), offset=4) for buffer in problem.sources]
    (kernel,) = variant.kernels(problem)
    made = runner(kernel, variant, Constants())
    (out,) = empty_outputs(problem)
    middle = seed % (kernel.items + 1)
    pointers = made.bind(sources[0], sources[1:], [out])
    for begin, end in ((middle, kernel.items), (0, middle)):
        made.call(pointers, begin, end)
    np.testing.assert_array_equal(out, *reference.run(problem, sources[0], Constants(), sources[1:]))


@settings(max_examples=25, deadline=None)
@given(problem=moves(), variant=st.sampled_from(RUNNABLE), seed=st.integers(0, 99))
def test_moves(problem: Move2d, variant, seed: int) -> None:
    check(problem, variant, seed)


@per_variant
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=moves(), seed=st.integers(0, 99))
def test_moves_on_arm(variant, problem: Move2d, seed: int) -> None:
    check(problem, variant, seed, EmulatedRunner)


def plain_copy() -> Move2d:
    """What would become calls of memcpy and memset: whole rows, a border and channels filled."""
    x = Buffer(1, 8, 8, 16, Codes(0, 255), packing="bytes")
    into = Buffer(1, 8, 8, 35, Codes(0, 255), "nhwc", Halo(1, 1, 1, 1), 0.0, packing="bytes")
    rows = tuple(tuple(range(0, 8 * step, step)) for step in (128, 16))
    boxes = (
        Box((0, 0, 0, 0), (1, 8, 8, 16), 0, ((0,), *rows, tuple(range(16)))),
        Box((0, 0, 0, 16), (1, 8, 8, 18), None, (), 7),
        Box((0, 0, 0, 34), (1, 8, 8, 1), None, (), 0),
    )
    return Move2d((x,), into, boxes)


@pytest.mark.parametrize("variant", [*RUNNABLE, *ARM.variants(())], ids=lambda v: v.name)
def test_objects_call_nothing(variant, tmp_path: Path) -> None:
    path = object_code(variant.kernels(plain_copy())[0], variant, tmp_path / "k.o", "some_name")
    listing = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
    assert not [line for line in listing.splitlines() if line.split()[-2] in "UwvBb"]
