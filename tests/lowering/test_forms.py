from __future__ import annotations

from dataclasses import replace

import pytest

from qcompiler.lowering.forms import Form, is_natural, merge, of_buffer, satisfies
from qcompiler.targets.problem import Buffer, Halo

IMAGE = Buffer(2, 5, 6, 40, "float32")
BITS = replace(IMAGE, dtype="bit")
PLANES = replace(IMAGE, order="nchw")


NO_HALO = Halo()


def image(buffer: Buffer, halo: Halo = NO_HALO, value: float = 0.0) -> Form:
    return of_buffer(replace(buffer, halo=halo, halo_value=value), matrix=False)


def test_halos_of_equal_value_grow_together() -> None:
    one, two = image(BITS, Halo(1, 1, 1, 1), -1.0), image(BITS, Halo(0, 2, 0, 2), -1.0)
    merged = merge([one, two, image(BITS)])
    assert merged == [image(BITS, Halo(1, 2, 1, 2), -1.0)]
    assert all(satisfies(merged[0], demand) for demand in (one, two, image(BITS)))


def test_halos_of_other_values_stay_apart() -> None:
    assert len(merge([image(BITS, Halo(1, 1, 1, 1), -1.0), image(BITS, Halo(1, 1, 1, 1), 1.0)])) == 2


@pytest.mark.parametrize("other", [replace(BITS, groups=2), PLANES, IMAGE, replace(BITS, c=8)])
def test_other_layouts_stay_apart(other: Buffer) -> None:
    assert len(merge([image(BITS), image(other)])) == 2
    assert not satisfies(image(BITS), image(other))


def test_natural_forms() -> None:
    assert is_natural(image(PLANES))
    assert not is_natural(image(IMAGE))
    assert not is_natural(image(PLANES, Halo(1, 0, 0, 0)))
    assert is_natural(image(replace(IMAGE, h=1, w=1)))
    assert is_natural(image(replace(IMAGE, c=1)))
    assert is_natural(of_buffer(Buffer(1, 1, 7, 40, "float32"), matrix=True))
    assert not is_natural(image(Buffer(1, 1, 7, 40, "float32")))
    assert not is_natural(image(BITS))


def test_natural_forms_of_equal_size_serve_each_other() -> None:
    single = replace(IMAGE, h=1, w=1)
    assert satisfies(image(single), image(replace(single, order="nchw")))
    assert not satisfies(image(IMAGE), image(PLANES))
