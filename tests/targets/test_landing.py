"""Rounding and clipping at the end of an epilogue, in few operations, next to what they stand for one by one."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets import reference
from qcompiler.targets.problem import Channel, Map2d, Operation, OperationName, Scalar
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.vector.landing import landing
from tests.targets.problems import RUNNABLE

HELD = Codes(-3, 12)
X = Buffer(1, 1, 8, 64, "float32")
INTO = Buffer(1, 1, 8, 64, HELD, packing="bytes")
STORE = Operation("store_codes", into=INTO)
STORE_THIRDS = Operation("store_codes", into=Buffer(1, 1, 8, 64, Codes(-9, 36, 3), packing="bytes"))


def op(name: OperationName, value: float | None = None) -> Operation:
    return Operation(name, None if value is None else Scalar(value))


def numbers() -> np.ndarray:
    """float32 [1, 64, 1, 8]: halves, their neighbours, numbers far away, and none."""
    halves = np.arange(-8.5, 20, 0.5, dtype=np.float32)
    near = [np.nextafter(halves, np.float32(sign * np.inf)) for sign in (-1, 1)]
    far = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e30, -1e30, 2**22 + 1, 2**23 + 1, 1e-30])
    every = np.concatenate([halves, *near, far])
    return np.resize(every, (1, 64, 1, 8)).astype(np.float32)


TAILS = {
    "clipped behind": [op("round"), op("max", -3), op("min", 12)],
    "clipped ahead": [op("max", -3), op("min", 12), op("round")],
    "a zero point": [op("max", -8), op("min", 7), op("round"), op("add", 5)],
    "a zero point, clipped behind": [op("round"), op("sub", -5), op("max", -3), op("min", 12)],
    "a wide clip ahead": [op("max", -100.5), op("round"), op("max", -3), op("min", 12)],
    "scaled": [Operation("mul", Channel()), op("round"), op("max", -3), op("min", 12)],
    "multiples": [op("max", -8), op("round"), op("add", 5), op("max", -3), op("min", 12), op("mul", 3)],
}


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("tail", TAILS.values(), ids=TAILS)
def test_codes_are_those_of_every_step_by_itself(variant, tail) -> None:
    problem = Map2d(X, (*tail, STORE_THIRDS if tail[-1].op == "mul" else STORE))
    found = landing(problem.epilogue)
    assert found is not None and len(found.before) == sum(isinstance(each.operand, Channel) for each in tail)
    used = any(isinstance(each.operand, Channel) for each in tail)
    made = Constants(channels=(np.linspace(-2, 2, 64).astype(np.float32),) if used else ())
    data, (out,) = aligned(reference.store(X, numbers())), empty_outputs(problem)
    runner = KernelRunner(variant.kernels(problem)[0], variant, made)
    runner.call(runner.bind(data, [], [out]), 0, runner.items)
    np.testing.assert_array_equal(out, *reference.run(problem, data, made))


@pytest.mark.parametrize(
    "tail",
    [
        [op("max", -3), op("min", 12)],
        [op("round"), op("mul", 2)],
        [op("round"), op("add", 0.5)],
        [op("round"), op("max", 0), op("min", 12)],
        [op("round"), op("add", 2.0**30)],
    ],
    ids=["no rounding", "a product behind it", "a sum that is no integer", "clipped to fewer codes", "a large sum"],
)
def test_other_ends_are_left(tail) -> None:
    assert landing([*tail, STORE]) is None
    assert landing([op("round"), STORE, op("add", 1)]) is None
    for product in (op("mul", 2), op("add", 3), Operation("mul", Channel())):
        assert landing([op("round"), product, STORE_THIRDS]) is None
    assert landing([STORE_THIRDS]) is None


def test_clips_that_say_more_stay_ahead() -> None:
    found = landing([op("max", 0.25), op("min", 13), op("round"), STORE])
    assert found is not None and [each.op for each in found.before] == ["max"]
    found = landing([op("min", 13), op("max", -7), op("round"), STORE])
    assert found is not None and not found.before
