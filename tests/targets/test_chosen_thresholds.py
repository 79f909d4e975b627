"""Sums with codes of few bits as thresholds: limits against the operations they stand for, and kernels with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo, load, store
from qcompiler.targets import reference
from qcompiler.targets.problem import (
    Channel,
    Conv2d,
    Map2d,
    Operation,
    OperationName,
    Scalar,
    ScalarOperation,
    Tensor,
)
from qcompiler.targets.target import Constants
from qcompiler.targets.vector.blocks import Blocks
from qcompiler.targets.vector.chosen_thresholds import ChosenThresholds, chosen_thresholds
from qcompiler.targets.vector.conv import DirectConv2d
from tests.targets.problems import RUNNABLE, constants, halos, results

WIDE = [variant for variant in RUNNABLE if variant.isa.vector_bytes == 64 and variant.isa.vbmi]
wide = pytest.mark.skipif(not WIDE, reason="the processor has no AVX-512 VBMI")

STORED = [BINARY, Codes(0, 1), Codes(0, 3), Codes(-2, 1), Codes(-3, 3, 2), Codes(0, 6, 2)]
ADDED = [BINARY, Codes(0, 1), Codes(0, 2), Codes(0, 3), Codes(-2, 1), Codes(-3, 3, 2), Codes(-9, 0, 3)]
THROUGH = [(), (ScalarOperation("mul", Scalar(0.5)),), (ScalarOperation("mul", Scalar(-1.7)),),
           (ScalarOperation("mul", Scalar(0.3)), ScalarOperation("add", Scalar(-0.4)))]  # fmt: skip
ODD = np.float32([np.nan, np.inf, -np.inf, 0, -0.0, 1e38, -1e38, 1e-40, -1, 1])


def op(name: OperationName, value: float | None = None) -> Operation:
    return Operation(name, None if value is None else Scalar(value))


def landed(into: Buffer, scale: float, relu: bool) -> tuple[Operation, ...]:
    """What makes codes of sums."""
    held = into.codes
    assert held is not None
    clip = [op("max", held.low / held.step), op("min", held.high / held.step)]
    # codes that are odd are not multiples of their step
    steps = [op("round"), *clip] if held.low % held.step == 0 else [op("round"), op("sub", -0.5), *clip]
    back = [] if held.step == 1 else [op("mul", held.step)]
    return (*([op("max", 0.0)] if relu else []), op("div", scale), *steps, *back, Operation("store_codes", into=into))


def summed(
    added: Buffer, into: Buffer, through: tuple[ScalarOperation, ...] = (), scale: float = 1.0, relu: bool = False,
    head: tuple[Operation, ...] = (Operation("mul", Channel()), Operation("add", Channel())),
    name: OperationName = "add",
) -> tuple[Operation, ...]:  # fmt: skip
    return (*head, Operation(name, Tensor(added, through)), *landed(into, scale, relu))


TWO_BITS = Codes(0, 3)


def layer(added: Codes = TWO_BITS, into: Codes = TWO_BITS, channels: int = 64) -> Conv2d:
    x = Buffer(1, 2, 5, 64, Codes(0, 3))
    planes = [Buffer(1, 2, 5, channels, held) for held in (added, into)]
    return Conv2d(x, channels, (1, 1), epilogue=summed(*planes), weights=Codes(-2, 1))


@st.composite
def epilogues(draw: st.DrawFn, added: Buffer, into: Buffer) -> tuple[Operation, ...]:
    heads = [
        (Operation("mul", Channel()), Operation("add", Channel())),
        (op("mul", 0.015625), Operation("add", Channel())),
        (op("mul", -0.5), Operation("div", Channel()), op("sub", 0.25)),
        (op("div", 3.0), op("round"), Operation("mul", Channel())),
        (),
    ]
    head, through = draw(st.sampled_from(heads)), draw(st.sampled_from(THROUGH))
    scale, name = draw(st.sampled_from([1.0, 0.7, -2.0, 8.0])), draw(st.sampled_from(["add", "sub"]))
    relu = into.codes is not None and into.codes.low >= 0 and scale > 0 and draw(st.booleans())
    return summed(added, into, through, scale, relu, head, name)


def expected(problem: Conv2d, made: Constants, accumulators: np.ndarray) -> np.ndarray:
    """Numbers of the codes stored, [choices, accumulators, channels]: of every accumulator with every code added."""
    found = chosen_thresholds(problem, Blocks(problem.out_channels))
    assert found is not None
    added, stored = found.chooser.buffer.codes, problem.epilogue[-1].into
    assert added is not None and stored is not None and stored.codes is not None
    size = {"n": 1, "h": added.levels, "w": len(accumulators), "c": problem.out_channels, "halo": Halo()}
    operand = dataclasses.replace(found.chooser.buffer, **size)
    into = dataclasses.replace(stored, **size, halo_value=float(stored.codes.low))
    epilogue = list(problem.epilogue)
    epilogue[found.place] = dataclasses.replace(epilogue[found.place], operand=Tensor(operand, found.chooser.through))
    epilogue[-1] = Operation("store_codes", into=into)
    shape = (1, problem.out_channels, added.levels, len(accumulators))
    codes = added.low + added.step * np.arange(added.levels, dtype=np.float32)[:, None]
    x = Buffer(element="float32", **size)
    given_x = store(x, np.broadcast_to(accumulators.astype(np.float32), shape))
    (out,) = reference.run(Map2d(x, tuple(epilogue)), given_x, made, [store(operand, np.broadcast_to(codes, shape))])
    numbers = (load(into, out)[0] - stored.codes.low) / stored.codes.step
    return numbers.transpose(1, 2, 0).astype(np.int64)


def check_limits(problem: Conv2d, made: Constants) -> None:
    """Count the limits that accumulators reach: near limits, near zero, and at the ends of 32 bits."""
    found = chosen_thresholds(problem, Blocks(problem.out_channels))
    assert found is not None
    limits, rising = found.limits(made)
    near = np.unique(np.concatenate([limits.ravel() + shift for shift in (-1, 0, 1)]))[::5]
    spread = np.random.default_rng(0).integers(-(2**31), 2**31, 30)
    every = np.concatenate([near, spread, np.arange(-300, 300), [-(2**31), 2**31 - 1]])
    accumulators = np.unique(np.clip(every, -(2**31), 2**31 - 1))
    counts = (accumulators[:, None] >= limits[:, :, None]).sum(axis=1)
    numbers = np.where(rising, counts, limits.shape[1] - counts)
    wanted = expected(problem, made, accumulators)
    np.testing.assert_array_equal(numbers[: len(wanted)], wanted)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_limits_are_those_of_the_operations(data: st.DataObject) -> None:
    problem = layer(data.draw(st.sampled_from(ADDED)), data.draw(st.sampled_from(STORED)), 16)
    added, into = (Buffer(1, 2, 5, 16, data.draw(st.sampled_from(held))) for held in (ADDED, STORED))
    problem = dataclasses.replace(problem, epilogue=data.draw(epilogues(added, into)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    made = constants(random, problem)
    odd = tuple(np.where(random.random(16) < 0.3, random.choice(ODD, 16), each) for each in made.channels)
    check_limits(problem, dataclasses.replace(made, channels=odd))


def test_halves_are_rounded_to_even() -> None:
    problem, ones = layer(), np.ones(64, np.float32)
    made = Constants(np.ones((64, 64, 1, 1), np.float32), channels=(ones / 4, ones * 0.5))
    found = chosen_thresholds(problem, Blocks(64))
    assert found is not None
    # from 0.5 to 1.5, both included, numbers are rounded to 0 and 2 at their ends: acc / 4 + 0.5 > 0.5, >= 1.5, > 2.5
    assert found.limits(made)[0][0, :, 0].tolist() == [1, 4, 9]
    check_limits(problem, made)


def left(*operations: Operation) -> Conv2d:
    return dataclasses.replace(layer(), epilogue=operations)


HEAD, ADD, (*TAIL, STORE) = layer().epilogue[:2], layer().epilogue[2], layer().epilogue[3:]
FLOATS = Operation("add", Tensor(Buffer(1, 2, 5, 64, "float32")))


@pytest.mark.parametrize(
    "problem",
    [
        layer(into=Codes(0, 2)),
        layer(into=Codes(0, 7)),
        layer(added=Codes(0, 7)),
        left(*HEAD, FLOATS, *TAIL, STORE),
        left(*HEAD, ADD, ADD, *TAIL, STORE),
        left(*HEAD, *TAIL, STORE),
        left(*HEAD, ADD, Operation("mul", Channel()), *TAIL, STORE),
        left(*HEAD, op("max", 0.0), ADD, *TAIL, STORE),
        left(*HEAD, dataclasses.replace(ADD, op="mul"), *TAIL, STORE),
        left(op("mul", 1e38), *HEAD, ADD, *TAIL, STORE),
        left(op("mul", 0.0), *HEAD, ADD, *TAIL, STORE),
        left(*HEAD, ADD, op("mul", 0.0), *TAIL, STORE),
        left(*HEAD, ADD, op("add", float("nan")), *TAIL, STORE),
        left(*HEAD, ADD, op("prelu", -1.0), *TAIL, STORE),
        left(*HEAD, ADD, op("max", 1.0), *TAIL, STORE),
        left(*HEAD, ADD, Operation("store", into=Buffer(1, 2, 5, 64, "float32")), *TAIL, STORE),
    ],
    ids=["three levels", "three bits", "three bits added", "floats", "two sums", "no sum", "a product of sums",
         "a maximum ahead", "a product with codes", "beyond float32", "a product with 0", "all the same", "no number",
         "a factor that turns", "never the lowest", "two outputs"],
)  # fmt: skip
def test_other_epilogues_are_left(problem: Conv2d) -> None:
    assert chosen_thresholds(layer(), Blocks(64)) is not None
    assert chosen_thresholds(problem, Blocks(64)) is None


def test_bits_that_lie_elsewhere_and_many_classes_are_left() -> None:
    apart = Buffer(1, 2, 5, 64, Codes(0, 3), groups=8)
    assert chosen_thresholds(left(*HEAD, Operation("add", Tensor(apart)), *TAIL, STORE), Blocks(64)) is None
    x = Buffer(1, 9, 9, 64, Codes(-3, 3, 2), halo=Halo(3, 3, 3, 3), halo_value=-3.0)
    seven = dataclasses.replace(layer(), x=x, kernel=(7, 7), pads=(3, 3, 3, 3))
    assert chosen_thresholds(seven, Blocks(64)) is None


def check_kernel(problem: Conv2d, kernel: DirectConv2d, seed: int) -> None:
    """Channels of scales that use all codes."""
    made = constants(np.random.default_rng(seed), problem)
    scaled = tuple(each / 8 if place == 0 else each for place, each in enumerate(made.channels))
    for got, wanted in results(kernel, WIDE[0], problem, seed, made=dataclasses.replace(made, channels=scaled)):
        np.testing.assert_array_equal(got, wanted, err_msg=kernel.name)


@wide
@settings(max_examples=16, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_layer(data: st.DataObject) -> None:
    x = data.draw(st.sampled_from([Codes(0, 3), Codes(-2, 1), Codes(-3, 3, 2)]))
    pads, outputs = data.draw(st.sampled_from([0, 1])), data.draw(st.sampled_from([60, 64, 80, 96, 100, 128, 200]))
    image = Buffer(1, 4, 6, data.draw(st.sampled_from([20, 64, 96])), x, "nhwc", Halo(*[pads] * 4), float(x.low))
    weights = data.draw(st.sampled_from([BINARY, Codes(-2, 1), Codes(-1, 1)]))
    problem = Conv2d(image, outputs, (2, 3), (1, 1), (pads,) * 4, pad_value=0.0, weights=weights)
    groups = data.draw(st.sampled_from([1, 1, 2] if outputs % 32 == 0 else [1]))
    added, into = (
        Buffer(1, *problem.out_hw, outputs, held, "nhwc", data.draw(halos()), float(held.low), g)
        for held, g in ((data.draw(st.sampled_from(ADDED)), groups), (data.draw(st.sampled_from(STORED)), 1))
    )
    problem = dataclasses.replace(problem, epilogue=data.draw(epilogues(added, into)))
    kernel = data.draw(st.sampled_from([each for each in WIDE[0].kernels(problem) if "lookup_" in each.name]))
    assert isinstance(kernel, DirectConv2d) and kernel.finish.compares(kernel.frame)
    check_kernel(problem, kernel, data.draw(st.integers(0, 99)))


@wide
@pytest.mark.parametrize("channels, groups", [(80, 1), (96, 2)], ids=["an odd number of blocks", "odd groups"])
def test_two_blocks_may_lie_in_two_words(channels: int, groups: int) -> None:
    problem = layer(channels=channels)
    added = Operation("add", Tensor(Buffer(1, 2, 5, channels, Codes(0, 3), groups=groups)))
    problem = dataclasses.replace(problem, epilogue=(*problem.epilogue[:2], added, *problem.epilogue[3:]))
    for kernel in [each for each in WIDE[0].kernels(problem) if "lookup_" in each.name][:3]:
        assert isinstance(kernel, DirectConv2d) and kernel.finish.compares(kernel.frame)
        check_kernel(problem, kernel, 1)


@wide
def test_a_limit_off_by_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, limits = layer(channels=128), ChosenThresholds.limits
    kernel = next(each for each in WIDE[0].kernels(problem) if "lookup_" in each.name)
    assert isinstance(kernel, DirectConv2d)
    check_kernel(problem, kernel, 0)

    def wrong(self: ChosenThresholds, made: Constants) -> tuple[np.ndarray, np.ndarray]:
        reached, rising = limits(self, made)
        return reached + (np.arange(4) == 2)[:, None, None], rising

    monkeypatch.setattr(ChosenThresholds, "limits", wrong)
    with pytest.raises(AssertionError):
        check_kernel(problem, kernel, 0)
