"""Codes behind chains of ops between a quantizer and a layer: a layer on integers, and the same results."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.layers import recorded
from qcompiler.passes.extract_scales import ExtractScales
from qcompiler.passes.fuse_integer_layers import FuseIntegerLayers
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from tests.passes.comparison import apply, graph

HEIGHT = 6
# from [1, C, 6, 6] to [1, C, 6, 6], codes of a scale before and behind
STEPS = {
    "identity": "{y} = Identity ({x})",
    "relu": "{y} = Relu ({x})",
    "negated": "{y} = Neg ({x})",
    "absolute": "{y} = Abs ({x})",
    "halved": "{y} = Mul ({x}, half)",
    "divided": "{y} = Div ({x}, third)",
    "per channel": "{y} = Mul ({x}, powers)",
    "clipped": "{y} = Clip ({x}, nought, large)",
    "transposed": "{y} = Transpose <perm = [0, 1, 3, 2]> ({x})",
    "reshaped": "{y}r = Reshape ({x}, flat)\n{y} = Reshape ({y}r, image)",
    "shuffled": "{y}s = SpaceToDepth <blocksize = 2> ({x})\n{y} = DepthToSpace <blocksize = 2> ({y}s)",
    "gathered": "{y} = Gather <axis = 1> ({x}, order)",
    "resized": '{y}u = Resize <mode = "nearest"> ({x}, , twice)\n{y} = MaxPool <kernel_shape = [7, 7]> ({y}u)',
    "halves": "{y}a, {y}b = Split <axis = 2, num_outputs = 2> ({x})\n{y} = Concat <axis = 2> ({y}b, {y}a)",
    "pooled": "{y} = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> ({x})",
    "means": "{y}p = Pad ({x}, border)\n{y} = AveragePool <kernel_shape = [1, 2]> ({y}p)",
    "doubled": "{y} = Add ({x}, {x})",
    "masked": "{y}m = Greater (v, half)\n{y} = Where ({y}m, {x}, nought)",
    "at run time": "{y} = Div ({x}, loud)",
    "tiled": "{y}t = Tile ({x}, tiles)\n{y} = Slice ({y}t, zero, channels, one)",
}
# their codes may need more than eight bits, or lose their scale
WIDENS = {"means", "doubled", "per channel"}


def constants(channels: int) -> dict[str, np.ndarray]:
    numbers = {"half": 0.5, "third": 0.37, "nought": 0, "large": 1e6, "s": 0.173}
    integers = {
        "flat": [1, -1],
        "image": [1, channels, HEIGHT, HEIGHT],
        "order": np.arange(channels)[::-1],
        "border": [0, 0, 0, 0, 0, 0, 0, 1],
        "tiles": [1, 2, 1, 1],
        "zero": [0],
        "one": [1],
        "channels": [channels],
    }
    return {
        **{name: np.asarray(number, np.float32) for name, number in numbers.items()},
        **{name: np.asarray(number, np.int64) for name, number in integers.items()},
        "powers": 2.0 ** np.arange(channels).astype(np.float32).reshape(channels, 1, 1),
        "twice": np.asarray([1, 1, 2, 2], np.float32),
    }


def between(steps: list[str], zero: int) -> str:
    lines = [STEPS[step].format(x=f"v{i}", y=f"v{i + 1}") for i, step in enumerate(steps)]
    return "\n".join(
        [
            "q = qcompiler.Quantize <low = 0.0, high = 7.0> (v, s, z)",
            "c = Sub (q, z)",
            "v0 = Mul (c, s)",
            "a = Abs (v)",
            "loudest = ReduceMax <keepdims = 1> (a)",
            "loud = Max (loudest, half)",
            *lines,
            f"y = Conv <pads = [1, 1, 1, 1]> (v{len(steps)}, w)",
        ]
    )


def prepared(steps: list[str], zero: int, channels: int, seed: int) -> ir.Model:
    random = np.random.default_rng(seed)
    weights = random.integers(-3, 4, (4, channels, 3, 3)) * random.uniform(0.01, 1, (4, 1, 1, 1))
    given = constants(channels) | {"w": weights.astype(np.float32), "z": np.asarray(zero, np.float32)}
    return graph(f"g (float[1, {channels}, {HEIGHT}, {HEIGHT}] v) => (y) {{ {between(steps, zero)} }}", **given)


def on_integers(model: ir.Model) -> bool:
    FuseIntegerLayers()(model)
    FuseIntegerLayers(wide=True)(model)
    layers = [recorded(node) for node in model.graph if recorded(node) is not None]
    return all(not layer.reason for layer in layers)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("zero", [0, 3])
def test_a_layer_behind_any_step_is_on_integers(step: str, zero: int) -> None:
    model = prepared([step], zero, 4, 0)
    SpellOutShapes()(model)
    assert apply(ExtractScales(), model, exact=False).rewrites == 1
    assert on_integers(model)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=5), st.integers(0, 7), st.integers(1, 5), st.integers(0, 99))
def test_any_chain_gives_the_same_results(steps: list[str], zero: int, channels: int, seed: int) -> None:
    model = prepared(steps, zero, channels, seed)
    SpellOutShapes()(model)
    apply(ExtractScales(), model, seed, exact=False)
    assert on_integers(model) or WIDENS & set(steps)


ROWS = """
    a = Abs (x)
    m = ReduceMax <keepdims = 1> (a, last)
    n = Max (m, tiny)
    r = Div (large, n)
    p = Mul (x, r)
    k = Round (p)
    c = Clip (k, low, high)
    {codes}
    y = MatMul (u, w)"""
RUN_TIME = {
    "divided": "u = Div (c, r)",
    "multiplied": "i = Div (n, large)\nu = Mul (c, i)",
    "twice": "d = Div (c, r)\nu = Mul (d, half)",
    "with a zero point": "t = ReduceMin <keepdims = 1> (c, last)\ne = Sub (c, t)\nu = Div (e, r)",
}


@pytest.mark.parametrize("codes", RUN_TIME.values(), ids=RUN_TIME)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("blocks", [1, 2])
def test_scales_of_rows_go_behind_the_product(codes: str, bits: int, blocks: int) -> None:
    random = np.random.default_rng(bits)
    integers = (
        random.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (64, 5)) if bits > 1 else random.choice([-1, 1], (64, 5))
    )
    scales = np.repeat(random.uniform(0.01, 1, (blocks, 5)), 64 // blocks, axis=0)
    numbers = {"tiny": 1e-5, "large": 127, "low": -128, "high": 127, "half": 0.5}
    given = {name: np.asarray(number, np.float32) for name, number in numbers.items()}
    given |= {"w": (integers * scales).astype(np.float32), "last": np.asarray([-1])}
    model = graph(f"g (float[2, 3, 64] x) => (y) {{ {ROWS.format(codes=codes)} }}", **given)
    assert apply(ExtractScales(), model, exact=False).rewrites == 1
    assert on_integers(model)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(2, 6), st.sampled_from([0.5, 0.25, 0.173, 0.31])), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 99),
)
def test_a_concat_of_any_scales_is_on_integers(parts: list[tuple[int, float]], matrix: bool, seed: int) -> None:
    random, channels = np.random.default_rng(seed), sum(count for count, _ in parts)
    lines, given = [], {"z": np.asarray(0, np.float32)}
    for index, (_, scale) in enumerate(parts):
        given[f"s{index}"] = np.asarray(scale, np.float32)
        lines.append(f"q{index} = qcompiler.Quantize <low = -4.0, high = 3.0> (x{index}, s{index}, z)")
        lines.append(f"m{index} = Mul (q{index}, s{index})")
    lines.append(f"k = Concat <axis = 1> ({', '.join(f'm{index}' for index in range(len(parts)))})")
    lines.append("y = MatMul (k, w)" if matrix else "y = Conv <pads = [1, 1, 1, 1]> (k, w)")
    shape, tail = ((channels, 3), "") if matrix else ((3, channels, 3, 3), ", 4, 4")
    weights = random.integers(-3, 4, shape) * random.uniform(0.1, 1, (1, 3) if matrix else (3, 1, 1, 1))
    inputs = ", ".join(f"float[1, {count}{tail}] x{index}" for index, (count, _) in enumerate(parts))
    model = graph(f"g ({inputs}) => (y) {{ {chr(10).join(lines)} }}", **given, w=weights.astype(np.float32))
    SpellOutShapes()(model)
    apply(ExtractScales(), model, seed, exact=False)
    assert on_integers(model)


OFFSETS = {
    "behind the scale": "u = Add (m, t)",
    "before a scale": "o = Sub (m, t)\nu = Div (o, d)",
    "from a constant": "o = Sub (t, m)\nu = Mul (o, d)",
    "per channel": "o = Sub (m, ts)\nu = Div (o, ds)",
    "of an offset": "o = Sub (m, t)\nu = Sub (d, o)",
    "channels last and back": "o = Sub (m, ts)\np = Transpose <perm = [0, 2, 3, 1]> (o)\n"
    "u = Transpose <perm = [0, 3, 1, 2]> (p)",
    "through a pool": "o = Add (m, t)\nu = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (o)",
}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(OFFSETS)),
    st.integers(1, 8),
    st.floats(-3, 3, width=32),
    st.booleans(),
    st.sampled_from([1, 3]),
    st.integers(0, 99),
)
def test_offsets_of_codes(form: str, bits: int, offset: float, padded: bool, groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.integers(-3, 4, (6, 3 // groups, 3, 3)) * random.uniform(0.1, 1, (6, 1, 1, 1))
    given = {
        "s": 0.173,
        "z": 0,
        "t": offset,
        "d": 0.37,
        "ts": [[[0.1]], [[0.2]], [[-0.3]]],
        "ds": [[[1]], [[2]], [[3]]],
    }
    text = f"""g (float[1, 3, 5, 5] x) => (y) {{
        q = qcompiler.Quantize <low = 0.0, high = {2.0**bits - 1}> (x, s, z)
        m = Mul (q, s)
        {OFFSETS[form]}
        y = Conv <group = {groups}, pads = {[int(padded)] * 4}> (u, w)
    }}"""
    constant = {name: np.asarray(number, np.float32) for name, number in given.items()}
    model = graph(text, **constant, w=weights.astype(np.float32))
    SpellOutShapes()(model)
    apply(ExtractScales(), model, seed, exact=False)
    assert on_integers(model)


def test_scales_of_channels_are_those_of_the_last_axis_behind_a_transpose() -> None:
    random = np.random.default_rng(0)
    given = {"s": 0.173, "z": 0, "ts": [[[0.1]], [[0.2]], [[-0.3]]], "ds": [[[1]], [[2]], [[4]]]}
    text = """g (float[1, 3, 5, 2] x) => (y) {
        q = qcompiler.Quantize <low = 0.0, high = 7.0> (x, s, z)
        m = Mul (q, s)
        o = Sub (m, ts)
        p = Div (o, ds)
        t = Transpose <perm = [0, 2, 3, 1]> (p)
        y = MatMul (t, w)
    }"""
    constant = {name: np.asarray(number, np.float32) for name, number in given.items()}
    model = graph(text, **constant, w=random.integers(-3, 4, (3, 4)).astype(np.float32))
    assert apply(ExtractScales(), model, exact=False).rewrites == 1
    assert on_integers(model)
