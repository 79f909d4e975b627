from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.ir.codes import BINARY
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.lowering.forms import (
    Form,
    Read,
    as_view,
    merge,
    natural,
    of_buffer,
    packed,
    plain,
    serves,
    through_alias,
)

IMAGE = Buffer(2, 5, 6, 40, "float32")
BITS = replace(IMAGE, element=BINARY)
PLANES = replace(IMAGE, order="nchw")


NO_HALO = Halo()


def value(*shape: int, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name="v", shape=ir.Shape(shape), type=ir.TensorType(dtype))


VALUE = value(2, 40, 5, 6)


def image(buffer: Buffer, halo: Halo = NO_HALO, fill: float = 0.0) -> Form:
    return of_buffer(replace(buffer, halo=halo, halo_value=fill), matrix=False)


def reads(*forms: Form, exact: bool = False) -> list[Read]:
    return [Read(VALUE, form, exact) for form in forms]


def test_halos_of_equal_value_grow_together() -> None:
    one, two = image(BITS, Halo(1, 1, 1, 1), -1.0), image(BITS, Halo(0, 2, 0, 2), -1.0)
    asked = reads(one, two, image(BITS))
    merged = merge(asked)
    assert merged == [image(BITS, Halo(1, 2, 1, 2), -1.0)]
    assert all(serves(merged[0], read) for read in asked)


def test_halos_of_other_values_stay_apart() -> None:
    assert len(merge(reads(image(BITS, Halo(1, 1, 1, 1), -1.0), image(BITS, Halo(1, 1, 1, 1), 1.0)))) == 2


@pytest.mark.parametrize("other", [replace(BITS, groups=2), PLANES, IMAGE, replace(BITS, c=8)])
def test_other_layouts_stay_apart(other: Buffer) -> None:
    assert len(merge(reads(image(BITS), image(other)))) == 2
    assert not serves(image(BITS), Read(VALUE, image(other)))


def test_what_is_not_ours_reads_no_halo() -> None:
    wide, bare = image(IMAGE, Halo(1, 1, 1, 1)), image(IMAGE)
    assert merge([*reads(wide), *reads(bare, exact=True)]) == [wide, bare]
    assert not serves(wide, Read(VALUE, bare, exact=True))
    assert serves(wide, Read(VALUE, bare))
    # a kernel of ours that wants no halo takes either
    assert merge([*reads(bare), *reads(bare, exact=True)]) == [bare]


def test_natural_forms() -> None:
    assert image(PLANES).is_natural
    assert not image(IMAGE).is_natural
    assert not image(PLANES, Halo(1, 0, 0, 0)).is_natural
    assert image(replace(IMAGE, h=1, w=1)).is_natural
    assert image(replace(IMAGE, c=1)).is_natural
    assert of_buffer(Buffer(1, 1, 7, 40, "float32"), matrix=True).is_natural
    assert not image(Buffer(1, 1, 7, 40, "float32")).is_natural
    assert not image(BITS).is_natural
    assert natural(value(3, 2, dtype=ir.DataType.INT64)).nbytes == 48


def test_natural_forms_of_equal_size_serve_each_other() -> None:
    single = replace(IMAGE, h=1, w=1)
    assert serves(image(single), Read(VALUE, image(replace(single, order="nchw"))))
    assert not serves(image(IMAGE), Read(VALUE, image(PLANES)))


def test_a_view_of_other_axes_exists_of_natural_forms_only() -> None:
    assert as_view(natural(VALUE), VALUE, True) == plain(VALUE, True)
    assert as_view(plain(VALUE, True), VALUE, False) == natural(VALUE)
    assert as_view(packed(VALUE, False, BINARY), VALUE, True) is None
    assert as_view(plain(VALUE, False), VALUE, True) is None


@pytest.mark.parametrize(
    ("alias", "source", "matrix", "found"),
    [
        ((6, 40), (6, 40, 1, 1), True, Buffer(6, 1, 1, 40, BINARY)),
        ((6, 40, 1, 1), (6, 40), False, Buffer(1, 1, 6, 40, BINARY)),
        ((2, 3, 40), (6, 40), True, Buffer(1, 1, 6, 40, BINARY)),
        ((2, 40, 3, 4), (2, 40, 1, 12), False, Buffer(2, 1, 12, 40, BINARY)),
        ((2, 40), (2, 10, 4), True, None),
        ((2, 40), (2, 10, 2, 2), True, None),
        ((2, 40, 1, 6), (2, 40, 6), False, None),
        ((1, 64), (2, 32), True, Buffer(1, 1, 2, 32, BINARY)),
        ((1, 20), (2, 10), True, None),
    ],
)
def test_packed_forms_through_aliases(
    alias: tuple[int, ...], source: tuple[int, ...], matrix: bool, found: Buffer | None
) -> None:
    through = through_alias(packed(value(*alias), matrix, BINARY), value(*source))
    assert (through.buffer if through else None) == found


def test_a_halo_goes_through_an_alias_only_where_it_stays_one() -> None:
    haloed = image(Buffer(1, 4, 4, 8, "float32"), Halo(1, 1, 1, 1))
    assert through_alias(haloed, value(1, 8, 4, 4)) == haloed
    assert through_alias(haloed, value(1, 8, 2, 8)) is None
    assert through_alias(haloed, value(1, 8, 16)) is None


@given(st.permutations([2, 3, 4]), st.sampled_from([(24,), (1, 24), (6, 4), (4, 6), (1, 2, 3, 4), (1, 4, 6, 1)]))
def test_natural_forms_go_through_every_alias(source: list[int], alias: tuple[int, ...]) -> None:
    assert through_alias(natural(value(*alias)), value(*source)) == natural(value(*source))
