"""Random problems, constants and data for kernel tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Element, Halo, Packing
from qcompiler.targets import reference
from qcompiler.targets.architecture import host_features
from qcompiler.targets.problem import (
    Channel,
    Conv2d,
    Map2d,
    Operation,
    Pool2d,
    Problem,
    Scalar,
    ScalarOperation,
    Tensor,
)
from qcompiler.targets.target import Array, Constants, Kernel, Variant
from qcompiler.targets.vector.conv import DirectConv2d
from qcompiler.targets.vector.kernel_runner import KernelRunner, aligned, empty_outputs
from qcompiler.targets.vector.reduction import Reduction
from qcompiler.targets.x86 import TARGET
from qcompiler.targets.x86.machine import supports

RUNNABLE = [variant for variant in TARGET.variants(()) if supports(variant.isa, host_features())]

small = st.integers(1, 3)
packings = st.sampled_from(["planes", "bytes"])


def any_packing(held: Codes) -> st.SearchStrategy[Packing]:
    """Tables hold sums of four numbers in bytes."""
    return st.sampled_from(["planes", "bytes", "flips", "subsets"]) if held.levels <= 64 else packings


@st.composite
def halos(draw: st.DrawFn) -> Halo:
    return Halo(*(draw(st.integers(0, 2)) for _ in range(4)))


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@st.composite
def floats(draw: st.DrawFn, n: int, h: int, w: int, c: int, halo: Halo | None = None) -> Buffer:
    order = draw(st.sampled_from(["nhwc", "nchw"]))
    halo = draw(halos()) if halo is None else halo
    return Buffer(n, h, w, c, "float32", order, halo, draw(st.sampled_from([0.0, -1.5, float("-inf")])))


@st.composite
def codes(draw: st.DrawFn) -> Codes:
    low, step = draw(st.integers(-9, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    ours = Codes(low, low + step * draw(st.integers(1, 9)), step)
    return draw(st.sampled_from([ours, BINARY, Codes(0, 1), Codes(0, 3), Codes(-2, 1), Codes(-1, 1), Codes(-3, 3, 2)]))


WIDE = [Codes(0, 255), Codes(-128, 127), Codes(-127, 127), Codes(0, 15), Codes(-255, 255, 2)]


@st.composite
def packed(
    draw: st.DrawFn, n: int, h: int, w: int, c: int, groups: int = 1, counts: bool = False, pooled: bool = False
) -> Buffer:
    """Codes in any packing; counts: only few, which thresholds can give; pooled: not in tables."""
    held = draw(codes() if counts else st.one_of(codes(), codes(), st.sampled_from(WIDE)))
    value = float(held.low + held.step * draw(st.integers(0, held.levels - 1)))
    return Buffer(
        n, h, w, c, held, "nhwc", draw(halos()), value, groups, draw(packings if pooled else any_packing(held))
    )


@st.composite
def bits(draw: st.DrawFn, n: int, h: int, w: int, c: int, groups: int = 1) -> Buffer:
    fill = draw(st.sampled_from([-1.0, 1.0]))
    return Buffer(n, h, w, c, BINARY, "nhwc", draw(halos()), fill, groups, draw(any_packing(BINARY)))


@st.composite
def scalar_operations(draw: st.DrawFn) -> tuple[ScalarOperation, ...]:
    """What an operand goes through."""
    with_number = st.builds(ScalarOperation, st.sampled_from(["mul", "add", "sub", "div", "max", "min", "prelu"]),
                            st.sampled_from([Scalar(0.3), Scalar(-1.7), Scalar(3.0)]))  # fmt: skip
    alone = st.builds(ScalarOperation, st.sampled_from(["round", "sign"]))
    return tuple(draw(st.lists(st.one_of(with_number, with_number, alone), max_size=3)))


@st.composite
def epilogues(
    draw: st.DrawFn, n: int, h: int, w: int, c: int, threshold: bool, wide: bool = False
) -> tuple[Operation, ...]:
    groups = draw(st.sampled_from([1, 1, *divisors(c)]))
    if threshold and draw(st.booleans()):
        into = draw(packed(n, h, w, c, groups, counts=True) if wide else bits(n, h, w, c, groups))
        return (Operation("threshold", into=into),)
    operations: list[Operation] = []
    for op in draw(st.lists(st.sampled_from(["mul", "add", "sub", "div", "max", "min", "prelu"]), max_size=5)):
        scalar = Scalar(draw(st.sampled_from([0.0, 0.1, -1.7, 3.0])) if op != "div" else 1.7)
        pixel = Tensor(draw(floats(n, h, w, 1)))
        held = Tensor(draw(packed(n, h, w, c, groups)), draw(scalar_operations()))
        operand = draw(st.sampled_from([Channel(), scalar, Tensor(draw(floats(n, h, w, c))), pixel, held]))
        operations.append(Operation(op, operand))
        if draw(st.integers(0, 3)) == 0:
            operations.append(Operation("store", into=draw(floats(n, h, w, c))))
    if draw(st.integers(0, 2)) == 0:
        into = draw(packed(n, h, w, c, groups))
        operations += draw(landings(into))
    if draw(st.booleans()):
        zero = draw(st.booleans())
        operations.append(Operation("store_bits", into=draw(bits(n, h, w, c, groups)), zero_is_positive=zero))
    if not any(operation.into for operation in operations) or draw(st.booleans()):
        operations.append(Operation("store", into=draw(floats(n, h, w, c))))
    return tuple(operations)


@st.composite
def landings(draw: st.DrawFn, into: Buffer) -> list[Operation]:
    """Steps that make codes of any value and store them: clipped before or behind rounding and a sum, or twice.

    Codes with a step are multiples of others, or put together around the rounding.
    """
    held = into.codes
    assert held is not None
    if held.low % held.step == 0 and held.step != 1 and draw(st.booleans()):
        steps = draw(landings(dataclasses.replace(into, element=Codes(held.low // held.step, held.high // held.step))))
        return [*steps[:-1], Operation("mul", Scalar(held.step)), Operation("store_codes", into=into)]
    if held.step != 1:
        scaling = [Operation("add", Scalar(-held.low)), Operation("div", Scalar(held.step)), Operation("round")]
        back = [Operation("mul", Scalar(held.step)), Operation("add", Scalar(held.low))]
        return [*scaling, *back, *clipping(held.low, held.high), Operation("store_codes", into=into)]
    shift, wider = draw(st.integers(-3, 3)), draw(st.sampled_from([0.0, 0.25, 7.0]))
    ahead = clipping(held.low - shift - wider, held.high - shift + wider)
    exact = clipping(held.low - shift, held.high - shift)
    sums = (
        []
        if shift == 0
        else [draw(st.sampled_from([Operation("add", Scalar(shift)), Operation("sub", Scalar(-shift))]))]
    )
    behind = [*clipping(held.low - wider, held.high + wider), *clipping(held.low, held.high)]
    steps = draw(
        st.sampled_from(
            [
                [Operation("round"), *sums, *behind],
                [*exact, Operation("round"), *sums],
                [*ahead, Operation("round"), *exact, *sums],
                [*ahead, *exact, Operation("round"), *sums],
            ]
        )
    )
    return [*steps, Operation("store_codes", into=into)]


def clipping(low: float, high: float) -> list[Operation]:
    """Two steps between which numbers lie."""
    return [Operation("max", Scalar(low)), Operation("min", Scalar(high))]


@st.composite
def convolutions(draw: st.DrawFn, element: Element | None) -> Conv2d:
    """Convolutions of an element; None: of any codes."""
    wide = element is None
    any_codes = st.one_of(codes(), codes(), st.sampled_from(WIDE))
    held = draw(any_codes) if element is None else element
    weights = draw(any_codes) if wide else BINARY
    groups = draw(st.sampled_from([1, 1, 1, 2, 3, 5]))
    per_group = draw(st.one_of(st.integers(1, 70), st.integers(97, 160)) if held != "float32" else st.integers(1, 20))
    kind = draw(st.sampled_from(["any", "any", "any", "depthwise", "point"]))
    channels, outputs = groups * per_group, groups * draw(st.integers(1, 40))
    if kind == "depthwise":
        channels = outputs = groups = draw(st.integers(2, 40))
    kernel, strides, dilations = ((draw(small), draw(small)) for _ in range(3))
    pads = tuple(draw(st.integers(0, 2)) for _ in range(4))
    if kind == "point":
        kernel, strides, pads = (1, 1), (1, 1), (0, 0, 0, 0)
    pad_value = draw(st.sampled_from([0.0, 0.0, -1.0, 1.0])) if held != "float32" else 0.0
    fill = pad_value
    if isinstance(held, Codes) and held.index(pad_value) is None:
        fill = float(held.low)
    extra = draw(st.sampled_from([(0, 0, 0, 0), (1, 0, 2, 1)]))
    halo = Halo(*(p + e for p, e in zip(pads, extra, strict=True)))
    fits = [max(1, (k - 1) * d + 1) for k, d in zip(kernel, dilations, strict=True)]
    h, w = (f + draw(st.integers(0, 9)) for f in fits)
    n = draw(st.integers(1, 2))
    if held != "float32":
        apart = draw(st.sampled_from([groups, groups, 1, *(groups * d for d in divisors(channels // groups))]))
        x = Buffer(n, h, w, channels, held, "nhwc", halo, fill, apart, draw(packings) if wide else "planes")
    else:
        x = Buffer(n, h, w, channels, "float32", draw(st.sampled_from(["nhwc", "nchw"])), halo, 0.0)
    problem = Conv2d(x, outputs, kernel, strides, pads, dilations, groups, pad_value)
    operations = draw(epilogues(n, *problem.out_hw, outputs, threshold=held != "float32", wide=wide))
    centred = wide and x.in_bytes and weights.low in (-weights.high, -weights.high - 1) and draw(st.booleans())
    return dataclasses.replace(problem, epilogue=operations, weights=weights, centred=centred)


@st.composite
def pools(draw: st.DrawFn) -> Pool2d:
    kind = draw(st.sampled_from(["max", "sum", "average", "average_include_pad", "codes"]))
    kernel, strides, dilations = ((draw(small), draw(small)) for _ in range(3))
    pads = tuple(draw(st.integers(0, (k - 1) * d)) for k, d in zip(kernel * 2, dilations * 2, strict=True))
    h, w = ((k - 1) * d + 1 + draw(st.integers(0, 6)) for k, d in zip(kernel, dilations, strict=True))
    c, n, ceil = draw(st.integers(1, 80)), draw(st.integers(1, 2)), draw(st.booleans())
    spans = [
        size + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1 for i, size in enumerate((h, w))
    ]  # fmt: skip
    oh, ow = ((span + (s - 1 if ceil else 0)) // s + 1 for span, s in zip(spans, strides, strict=True))
    if kind == "codes":
        groups = draw(st.sampled_from(divisors(c)))
        x = draw(packed(n, h, w, c, groups, pooled=True))
        into = Buffer(n, oh, ow, c, x.element, "nhwc", draw(halos()), x.halo_value, groups, x.packing)
        return Pool2d(x, kind, kernel, strides, pads, (oh, ow), dilations, (), into)
    operations = draw(epilogues(n, oh, ow, c, threshold=False))
    x = draw(st.one_of(floats(n, h, w, c), packed(n, h, w, c, draw(st.sampled_from([1, *divisors(c)])))))
    return Pool2d(x, kind, kernel, strides, pads, (oh, ow), dilations, operations, through=draw(scalar_operations()))


@st.composite
def maps(draw: st.DrawFn) -> Map2d:
    n, h, w, c = draw(small), draw(st.integers(1, 6)), draw(st.integers(1, 20)), draw(st.integers(1, 70))
    groups = draw(st.sampled_from([1, *divisors(c)]))
    x = draw(st.one_of(floats(n, h, w, c), bits(n, h, w, c, groups), packed(n, h, w, c, groups)))
    problem = Map2d(x, draw(epilogues(n, h, w, c, threshold=False)))
    return draw(st.sampled_from([problem, all_planes(problem)]))


def all_planes(problem: Map2d) -> Map2d:
    """The same chain with every buffer one plane per channel, and without packed outputs."""
    if problem.x.packed:
        return problem
    operations = []
    for operation in problem.epilogue:
        if isinstance(operation.operand, Tensor):
            plane = dataclasses.replace(operation.operand.buffer, element="float32", order="nchw", groups=1)
            operation = dataclasses.replace(operation, operand=dataclasses.replace(operation.operand, buffer=plane))
        if operation.into is not None:
            plane = dataclasses.replace(operation.into, element="float32", order="nchw", groups=1)
            operation = dataclasses.replace(operation, op="store", into=plane)
        operations.append(operation)
    return Map2d(dataclasses.replace(problem.x, order="nchw"), tuple(operations))


def values(rng: np.random.Generator, buffer: Buffer, whole: bool = False) -> Array:
    """A stored array with zeros of both signs among its floats; small integers if `whole`."""
    logical = rng.normal(size=(buffer.n, buffer.c, buffer.h, buffer.w)).astype(np.float32)
    if whole:
        logical = np.round(logical * 4)
    if buffer.codes is not None:
        logical = drawn(rng, buffer.codes, logical.shape)
    else:
        logical[rng.random(logical.shape) < 0.1] = rng.choice([0.0, -0.0])
    return reference.store(buffer, logical)


def constants(rng: np.random.Generator, problem: Problem) -> Constants:
    """Weights, thresholds with some out of reach, both directions, and channel operands."""
    c = problem.out_channels if isinstance(problem, Conv2d) else problem.x.c
    channels = tuple(
        rng.normal(size=c).astype(np.float32)
        for operation in problem.epilogue
        if isinstance(operation.operand, Channel)
    )
    signs = rng.choice([-1.0, 1.0], size=c).astype(np.float32)
    if not isinstance(problem, Conv2d):
        return Constants(channels=channels, flip=signs)
    shape = (c, problem.x.c // problem.groups, *problem.kernel)
    weights = np.round(rng.normal(size=shape) * 4).astype(np.float32)  # sums stay exact in any order
    if not problem.x.packed:
        return Constants(weights, None, None, channels)
    weights = drawn(rng, problem.weights, shape)
    if problem.centred:
        weights += rng.integers(-127, 128, (c, 1, 1, 1)).astype(np.float32)
    return Constants(weights, thresholds(rng, problem, signs), signs, channels)


def thresholds(rng: np.random.Generator, problem: Conv2d, signs: Array) -> Array | None:
    """Sorted the way of their channel's direction, [levels - 1, channels]."""
    into = problem.epilogue[0].into
    if into is None or into.codes is None:
        return None
    products = problem.x.c // problem.groups * problem.kernel[0] * problem.kernel[1]
    reach = products * largest(problem.x.codes) * largest(problem.weights) + 1
    limit = reach if rng.random() < 0.3 else 4
    found = np.sort(rng.integers(-limit, limit + 1, (into.codes.levels - 1, problem.out_channels)), axis=0)
    return np.where(signs > 0, found, found[::-1]).astype(np.float32)


def largest(held: Codes | None) -> int:
    assert held is not None
    return max(abs(held.low), abs(held.high))


def drawn(rng: np.random.Generator, held: Codes, shape: tuple[int, ...]) -> Array:
    """float32 codes."""
    return (held.low + held.step * rng.integers(0, held.levels, shape)).astype(np.float32)


def results(
    kernel: Kernel,
    variant: Variant,
    problem: Problem,
    seed: int,
    cuts: tuple[int, ...] = (),
    offset: int = 4,
    made: Constants | None = None,
    make_runner: Callable[[Kernel, Variant, Constants], Any] = KernelRunner,
) -> list[tuple[Array, Array]]:
    """(computed, expected) per output; the work is cut at `cuts`, and run-time arrays are misaligned by `offset`."""
    rng = np.random.default_rng(seed)
    made = made or constants(rng, problem)
    x = aligned(values(rng, problem.x, whole=isinstance(problem, Conv2d)), offset=offset)
    buffers = [operation.operand.buffer for operation in problem.epilogue if isinstance(operation.operand, Tensor)]
    tensors = [aligned(values(rng, b), offset=offset) for b in buffers]
    outputs = [guarded(a, offset) for a in empty_outputs(problem)]
    runner = make_runner(kernel, variant, made)
    edges = sorted({0, runner.items, *(cut % (runner.items + 1) for cut in cuts)})
    pointers = runner.bind(x, tensors, [inner for _, inner in outputs])
    for begin, end in reversed(list(zip(edges, edges[1:], strict=False))):
        runner.call(pointers, begin, end)
    for whole, inner in outputs:
        assert (whole[:64] == 0xA5).all() and (whole[64 + offset + inner.nbytes :] == 0xA5).all(), "wrote past a buffer"
    expected = reference.run(problem, x, made, tensors)
    return list(zip([inner for _, inner in outputs], expected, strict=True))


def compiled(runner: KernelRunner) -> Callable[[Kernel, Variant, Constants], KernelRunner]:
    """For `results`: the kernel of a runner, without compiling it again."""
    return lambda _kernel, _variant, constants: runner.with_constants(constants)


def guarded(like: Array, offset: int) -> tuple[Array, Array]:
    """Bytes with a fence on either side, and the array inside, filled with a pattern that is never a result."""
    whole = aligned(np.full(like.nbytes + 128 + offset, 0xA5, np.uint8))
    inner = whole[64 + offset : 64 + offset + like.nbytes].view(like.dtype).reshape(like.shape)
    return whole, inner


def by_reduction(variant: Variant, problem: Problem, reduction: type[Reduction]) -> list[DirectConv2d]:
    """The kernels for a problem whose registers are filled in a way."""
    found = [each for each in variant.kernels(problem) if isinstance(each, DirectConv2d)]
    return [each for each in found if isinstance(each.reduction, reduction)]


def check_one(offered: Sequence[Kernel], variant: Variant, problem: Problem, seed: int) -> None:
    """One of the kernels that are offered for a drawn problem gives what numpy does, in up to three pieces of work."""
    assume(offered)
    kernel = offered[seed % len(offered)]
    with np.errstate(all="ignore"):
        for got, expected in results(kernel, variant, problem, seed, cuts=(seed, seed // 7)):
            np.testing.assert_array_equal(got, expected, err_msg=kernel.name)
