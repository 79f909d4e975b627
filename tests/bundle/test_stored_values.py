from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.bundle import stored_values
from qcompiler.bundle.load import Bundle
from qcompiler.errors import UsageError
from qcompiler.ir.program import Argument, StoredValue
from tests.bundle import programs

SIZES = st.integers(1, 5)
HALOS = st.tuples(*[st.integers(0, 2)] * 4)
AT = Argument("workspace", 0)


@st.composite
def drawn_values(draw: st.DrawFn) -> StoredValue:
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 40))
    shape = draw(st.sampled_from([(2, channels, draw(SIZES), draw(SIZES)), (draw(SIZES), channels), (channels,)]))
    layout = draw(st.sampled_from(["bit-nhwc", "float-nhwc", "float-nchw", "dense"]))
    halo = (0, 0, 0, 0) if layout == "dense" else draw(HALOS)
    return StoredValue("v", AT, shape, layout, "float32", halo, groups if layout == "bit-nhwc" else 1)


def slowly(memory: np.ndarray, value: StoredValue) -> np.ndarray:
    """The definition, element by element."""
    shape = value.shape
    n, c, h, w = shape if len(shape) == 4 else (1, shape[-1], 1, int(np.prod(shape[:-1])))
    top, left, bottom, right = value.halo
    height, width = top + h + bottom, left + w + right
    words, floats = memory.view(np.uint32), memory.view(np.float32)
    per_group = c // value.groups
    group_words = -(-per_group // 32)
    result = np.empty((n, c, h, w), np.float32)
    for i, k, y, x in np.ndindex(n, c, h, w):
        pixel = (i * height + top + y) * width + left + x
        if value.layout == "bit-nhwc":
            group, channel = divmod(k, per_group)
            word = words[pixel * value.groups * group_words + group * group_words + channel // 32]
            result[i, k, y, x] = 1 if word >> channel % 32 & 1 else -1
        elif value.layout == "float-nhwc":
            result[i, k, y, x] = floats[pixel * c + k]
        else:
            result[i, k, y, x] = floats[((i * c + k) * height + top + y) * width + left + x]
    return (result if len(shape) == 4 else result[0, :, 0].T).reshape(shape)


@settings(max_examples=60, deadline=None)
@given(drawn_values(), st.integers(0, 2**32 - 1))
def test_decode_and_encode(value: StoredValue, seed: int) -> None:
    random = np.random.default_rng(seed)
    memory = random.integers(0, 100, stored_values.stored_bytes(value) // 4, dtype=np.int32).view(np.uint8)
    if value.layout != "dense":
        np.testing.assert_array_equal(stored_values.decode(memory, value), slowly(memory, value))
    before = memory.copy()
    logical = random.choice(np.array([-1, 1], np.float32), value.shape)
    stored_values.encode(memory, value, logical)
    np.testing.assert_array_equal(stored_values.decode(memory, value), logical)
    stored_values.encode(memory, value, stored_values.decode(before, value))
    if value.layout != "bit-nhwc":
        np.testing.assert_array_equal(memory, before)


def test_stepping(bundle: Bundle) -> None:
    given_ = programs.inputs(3)
    stepper = bundle.stepper(given_)
    stepper.run_steps(0, 2)
    features = given_["features/x:0"]
    np.testing.assert_array_equal(stepper.value("bits/x"), np.where(features >= 0, 1, -1))
    scaled = features * programs.SCALE[:, None, None] + given_["bias"][:, None, None]
    np.testing.assert_array_equal(stepper.value(programs.SCALED), scaled)
    stepper.run_steps(2, 4)
    for name, expected in programs.expected(given_).items():
        np.testing.assert_array_equal(stepper.outputs()[name], expected)


def test_overwriting_changes_what_follows(bundle: Bundle) -> None:
    stepper = bundle.stepper(programs.inputs())
    stepper.run_steps(0, 1)
    codes = np.full((1, programs.C, programs.H, programs.W), -1)
    codes[0, 7, 1, 2] = codes[0, 31, 0, 0] = 1
    stepper.overwrite("bits/x", codes)
    stepper.run_steps(3, 4)
    assert stepper.outputs()["count"] == 2


def test_a_stepper_does_not_touch_the_callers_arrays(bundle: Bundle) -> None:
    given_ = programs.inputs()
    stepper = bundle.stepper(given_)
    given_["features/x:0"][...] = 0
    stepper.run_steps(0, 4)
    np.testing.assert_array_equal(stepper.outputs()["count"], programs.expected(programs.inputs())["count"])


def test_refusals(bundle: Bundle) -> None:
    stepper = bundle.stepper(programs.inputs())
    with pytest.raises(UsageError, match="no step stores the value 'nothing'; stored: bits/x, scaled"):
        stepper.value("nothing")
    with pytest.raises(UsageError, match=r"steps 3 to 5, expected a range within 0 to 4"):
        stepper.run_steps(3, 5)
    with pytest.raises(UsageError, match="has shape"):
        stepper.overwrite("bits/x", np.ones((1, 2)))
    outside = StoredValue("far", Argument("workspace", 2**30), (4,), "dense", "float32")
    with pytest.raises(UsageError, match="outside of its buffer"):
        stepper.value(outside)
    with pytest.raises(UsageError, match="constant"):
        stepper.value(StoredValue("c", Argument("constant", 0), (4,), "dense", "float32"))
