"""The toy's kernels on random problems, a single launch on the device, against the numpy reference."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY
from qcompiler.ir.program import Argument, Call, Program, VariantCode
from qcompiler.ir.storage import Halo
from qcompiler.lowering.constant_blob import ConstantBlob
from qcompiler.targets import reference
from qcompiler.targets.problem import Conv2d, Problem, outputs_of, tensors_of
from qcompiler.targets.target import Array, Constants, Kernel
from tests.targets.problems import constants, convolutions, maps, pools, values
from tests.targets.toy import TARGET
from tests.targets.toy.device import GARBAGE, Device, Run

quick = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**31)
(VARIANT,) = TARGET.variants(())


def launched(kernel: Kernel, made: Constants, x: Array, tensors: list[Array], **options: Any) -> list[Array]:
    """The outputs of one launch, whose operands were copied to the device; nothing else may be written there."""
    places, end = [], 0
    for nbytes in [x.nbytes, *(t.nbytes for t in tensors), *(b.nbytes for b in kernel.writes)]:
        places.append(end)
        end += -(-nbytes // 64) * 64 + 64
    blob = ConstantBlob()
    packed = [Argument("constant", blob.add(array)) for array in kernel.pack(made)]
    first, *others = [Argument("workspace", place) for place in places]
    call = Call("f", kernel.name, (first, *packed, *others), kernel.launch)
    code = VARIANT.platform.compile({"f": kernel.build("f")}, VARIANT.tvm_target)
    variant = VariantCode("toy1", (), (code,), (call,), VARIANT.platform.code_format)
    run = Run(Device(Program("one", "toy", (), (), end, blob.content(), (), (variant,)), **options), [])
    for place, array in zip(places, (x, *tensors), strict=False):
        run.workspace[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
    before = run.workspace.copy()
    run.run_steps(0, 1)
    outputs = []
    for place, buffer in zip(places[1 + len(tensors) :], kernel.writes, strict=True):
        written = run.workspace[place : place + buffer.nbytes]
        outputs.append(written.copy().view(buffer.dtype).reshape(buffer.storage_shape))
        written[...] = GARBAGE
    assert np.array_equal(run.workspace, before), "wrote past its outputs"
    return outputs


def check(problem: Problem, seed: int, **options: Any) -> None:
    (kernel,) = VARIANT.kernels(problem)
    rng = np.random.default_rng(seed)
    made, x = constants(rng, problem), values(rng, problem.x, whole=isinstance(problem, Conv2d))
    tensors = [values(rng, buffer) for buffer in tensors_of(problem)]
    with np.errstate(all="ignore"):
        expected = reference.run(problem, x, made, tensors)
        for got, right in zip(launched(kernel, made, x, tensors, **options), expected, strict=True):
            np.testing.assert_array_equal(got, right)


def without_halo(problem: Conv2d) -> Conv2d:
    x = dataclasses.replace(problem.x, halo=Halo(), halo_value=0.0)
    return dataclasses.replace(problem, x=x, padding="kernel")


def in_planes(problem: Problem) -> bool:
    return all(
        buffer.in_planes or not buffer.packed for buffer in (problem.x, *tensors_of(problem), *outputs_of(problem))
    )


@quick
@given(problem=st.one_of(convolutions(BINARY), convolutions(None)).filter(in_planes), seed=seeds)
def test_convolution_of_codes(problem: Conv2d, seed: int) -> None:
    check(without_halo(problem), seed)


@quick
@given(problem=convolutions("float32").filter(in_planes), seed=seeds)
def test_float_convolution(problem: Conv2d, seed: int) -> None:
    check(without_halo(problem), seed)


@quick
@given(problem=pools().filter(in_planes), seed=seeds)
def test_pooling(problem: Problem, seed: int) -> None:
    check(problem, seed)


@quick
@given(problem=maps().filter(in_planes), seed=seeds)
def test_map(problem: Problem, seed: int) -> None:
    check(problem, seed)
