"""A bias of whole numbers joins sums of codes before they are rounded to float32, or compared."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import pytest

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets import reference
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from tests.targets.problems import RUNNABLE, drawn, values


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("packing", ["bytes", "planes"])
@pytest.mark.parametrize("compares", [False, True])
def test_a_bias_joins_the_sum(variant, packing: Literal["bytes", "planes"], compares: bool) -> None:
    rng = np.random.default_rng(0)
    x = Buffer(1, 2, 3, 700, Codes(0, 255), packing=packing)
    into = Buffer(1, 2, 3, 20, Codes(0, 3) if compares else "float32", packing=packing)
    operation = Operation("threshold" if compares else "store", into=into)
    problem = Conv2d(x, 20, (1, 1), epilogue=(operation,), weights=Codes(-128, 127))
    bias = rng.integers(-(2**30), 2**30, 20)
    near = np.sort(bias + rng.integers(-(2**21), 2**21, (3, 20)), axis=0).astype(np.float32)
    made = Constants(drawn(rng, problem.weights, (20, 700, 1, 1)), near, np.ones(20, np.float32), bias=bias)
    made = made if compares else dataclasses.replace(made, threshold=None, direction=None)
    data, (out,) = aligned(values(rng, x)), empty_outputs(problem)
    runner = KernelRunner(variant.kernels(problem)[0], variant, made)
    runner.call(runner.bind(data, [], [out]), 0, runner.items)
    np.testing.assert_array_equal(out, *reference.run(problem, data, made))
    assert (out != reference.run(problem, data, dataclasses.replace(made, bias=None))[0]).any()
