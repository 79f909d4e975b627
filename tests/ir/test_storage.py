"""How codes and floats lie in memory: written down bit by bit here, and packed, unpacked and overwritten again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.ir import storage
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.numerics import pack_bits
from qcompiler.ir.storage import Buffer, Halo

CODES = st.builds(
    lambda low, levels, step: Codes(low, low + step * (levels - 1), step),
    st.integers(-130, 3),
    st.integers(1, 256),
    st.integers(1, 3),
)


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    groups = draw(st.integers(1, 3))
    element = draw(st.one_of(st.just("float32"), st.just(BINARY), CODES))
    halo = Halo(*(draw(st.integers(0, 2)) for _ in range(4)))
    order = draw(st.sampled_from(["nhwc", "nchw"])) if element == "float32" else "nhwc"
    value = 0.5 if element == "float32" else element.low + element.step * draw(st.integers(0, element.levels - 1))
    shape = [draw(st.integers(1, 3)) for _ in range(3)]
    packings = ["planes"] if element == "float32" else ["planes", "pixels", "bytes", "flips", "subsets"]
    packing = draw(st.sampled_from(packings))
    return Buffer(*shape, groups * draw(st.integers(1, 70)), element, order, halo, value, groups, packing)


def tensor(buffer: Buffer, seed: int) -> np.ndarray:
    """float32 [n, c, h, w] of the buffer's element."""
    generator = np.random.default_rng(seed)
    shape = (buffer.n, buffer.c, buffer.h, buffer.w)
    if buffer.codes is None:
        return generator.standard_normal(shape).astype(np.float32)
    index = generator.integers(0, buffer.codes.levels, shape)
    return (buffer.codes.low + buffer.codes.step * index).astype(np.float32)


@given(buffer=buffers(), seed=st.integers(0, 99))
def test_what_is_stored_is_loaded_again(buffer: Buffer, seed: int) -> None:
    logical = tensor(buffer, seed)
    stored = storage.store(buffer, logical)
    assert stored.shape == buffer.storage_shape and stored.dtype == buffer.dtype and stored.nbytes == buffer.nbytes
    np.testing.assert_array_equal(storage.load(buffer, stored), logical, strict=True)


@given(buffer=buffers(), seed=st.integers(0, 99))
def test_overwriting_keeps_the_halo(buffer: Buffer, seed: int) -> None:
    stored = storage.store(buffer, tensor(buffer, seed))
    other = tensor(buffer, seed + 100)
    storage.overwrite(buffer, stored, other)
    np.testing.assert_array_equal(stored, storage.store(buffer, other), strict=True)


@given(codes=CODES, channels=st.integers(1, 70), seed=st.integers(0, 99))
def test_by_pixels_are_the_words_of_planes(codes: Codes, channels: int, seed: int) -> None:
    planes = Buffer(2, 3, 4, channels, codes, halo=Halo(1, 0, 0, 2), halo_value=float(codes.high))
    logical = tensor(planes, seed)
    words = storage.store(planes, logical)
    by_pixels = storage.store(replace(planes, packing="pixels"), logical)
    np.testing.assert_array_equal(by_pixels, words.transpose(0, 3, 1, 2), strict=True)


@given(codes=CODES, channels=st.integers(1, 70), seed=st.integers(0, 99))
def test_planes_bit_by_bit(codes: Codes, channels: int, seed: int) -> None:
    index = np.random.default_rng(seed).integers(0, codes.levels, channels)
    words = storage.pack((codes.low + codes.step * index).astype(np.float32), codes)
    expected = np.zeros((-(-channels // 32), codes.bits), np.uint32)
    for channel, number in enumerate(index):
        for plane in range(codes.bits):
            expected[channel // 32, plane] |= np.uint32((int(number) >> plane & 1) << channel % 32)
    np.testing.assert_array_equal(words, expected.reshape(-1), strict=True)


@given(levels=st.integers(2, 256), flipped=st.booleans(), channels=st.integers(1, 70), seed=st.integers(0, 99))
def test_tables_entry_by_entry(levels: int, flipped: bool, channels: int, seed: int) -> None:
    index = np.random.default_rng(seed).integers(0, levels, channels)
    digits = storage.table_digits(levels)
    words = storage.pack_tables(index, digits, flipped)
    sixteens = -(-channels // 16)
    inputs = np.zeros(sixteens * 16, np.int64)
    inputs[:channels] = index
    tables = words.view(np.uint8).reshape(sixteens, len(digits), 4, 16)
    for sixteen, place, table, entry in np.ndindex(tables.shape):
        four = inputs[16 * sixteen + 4 * table :][:4]
        taken = [int(i) if len(digits) == 1 else int(i) % 16 if place == 0 else int(i) // 16 for i in four]
        chosen = [digits[place] - i if flipped else i for i in taken]
        others = taken if flipped else [0] * 4
        assert tables[sixteen, place, table, entry] == sum(
            one if entry >> k & 1 else other for k, (one, other) in enumerate(zip(chosen, others, strict=True))
        )
    np.testing.assert_array_equal(storage.unpack_tables(words, digits, flipped, channels), index)


def test_tables_of_more_than_six_bits_have_two_digits() -> None:
    assert [storage.table_digits(levels) for levels in (64, 65, 128, 200, 256)] == [
        (63,), (15, 4), (15, 7), (15, 12), (15, 15),
    ]  # fmt: skip


def test_signs_are_one_plane() -> None:
    signs = np.where(np.random.default_rng(0).random((3, 96)) < 0.5, -1, 1).astype(np.float32)
    np.testing.assert_array_equal(storage.pack(signs, BINARY, 2), pack_bits(signs, 2), strict=True)


@pytest.mark.parametrize(("low", "high", "step", "bits"), [(-1, 1, 2, 1), (-1, 1, 1, 2), (0, 255, 1, 8), (4, 4, 1, 1)])
def test_bits_of_codes(low: int, high: int, step: int, bits: int) -> None:
    codes = Codes(low, high, step)
    assert codes.bits == bits and codes.binary == (bits == 1 and low == -1)
    assert codes.index(low) == 0 and codes.index(high) == codes.levels - 1
    assert codes.index(low - step) is None and codes.index(low + 0.5) is None


def test_wider_codes_take_more_memory() -> None:
    signs = Buffer(1, 2, 2, 64, BINARY)
    assert replace(signs, element=Codes(0, 3)).nbytes == 2 * signs.nbytes
