import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from qcompiler.analysis.ranges import Lattice
from qcompiler.analysis.requantization import requantization
from qcompiler.analysis.thresholds import Thresholds
from qcompiler.ir.codes import Codes
from qcompiler.ties import TIE


def lattice(low: int, high: int, step: int, channels: int) -> Lattice:
    whole = np.ones(channels, np.int64)
    return Lattice(whole * low, whole * step, whole * ((high - low) // step + 1))


def integers(reach: Lattice) -> np.ndarray:
    """[integers, C]."""
    return reach.low + reach.step * np.arange(int(reach.count[0]))[:, None]


def exact(scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Which scales are powers of two, or 0, and offsets halves."""
    return (np.frexp(np.abs(scale))[0] % 0.5 == 0) & (offset % 0.5 == 0)


def counted(found: Thresholds, v: np.ndarray) -> np.ndarray:
    """The number of thresholds that v [..., C] reaches."""
    return (found.direction * (v[:, None] - found.thresholds.astype(np.float64)) >= 0).sum(axis=1)


def of_line(scale: np.ndarray, offset: np.ndarray, held: Codes, reach: Lattice) -> Thresholds:
    """The integer thresholds of round(v * scale + offset), clipped, by trying every integer."""
    numbers = integers(reach)
    codes = np.clip(np.rint(numbers * scale + offset), held.low, held.high) - held.low
    direction = np.where(scale < 0, -1.0, 1.0)
    found = np.empty((held.levels - 1, len(scale)))
    for level in range(1, held.levels):
        for c in range(len(scale)):
            reached = numbers[codes[:, c] >= level, c]
            if direction[c] > 0:
                found[level - 1, c] = reached.min() if len(reached) else reach.high[c] + 1
            else:
                found[level - 1, c] = reached.max() if len(reached) else reach.low[c] - 1
    return Thresholds(found.astype(np.float32), direction.astype(np.float32))


SCALES = st.one_of(st.floats(2.0**-9, 1.0), st.integers(0, 9).map(lambda n: 2.0**-n)).flatmap(
    lambda s: st.sampled_from([s, -s, 0.0])
)
OFFSETS = st.one_of(st.floats(-40, 40), st.integers(-80, 80).map(lambda n: n / 2))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(SCALES, OFFSETS), min_size=1, max_size=4),
    st.integers(2, 256),
    st.integers(-600, 0),
    st.integers(1, 600),
    st.sampled_from([1, 2, 3]),
    st.integers(-130, 3),
)
# two bounds meet in the middle of the scales that are left
@example([(-0.763671875, -23.0)], 113, -133, 11, 2, -32)
def test_every_line_is_found_again(lines, levels, low, high, step, least):
    scale, offset = (np.array(part) for part in zip(*lines, strict=True))
    reach = lattice(low, high, step, len(scale))
    codes = Codes(least, least + levels - 1)
    # between two codes lies what rounding errors decide, but where all numbers are exact
    between = np.abs(np.abs(integers(reach) * scale + offset) % 1 - 0.5)
    assume((between[:, ~exact(scale, offset)] > 1e-4).all())
    thresholds = of_line(scale, offset, codes, reach)
    found = requantization(thresholds, reach, codes)
    assert found is not None
    numbers = integers(reach)
    np.testing.assert_array_equal(found(numbers, codes) - least, counted(thresholds, numbers))


@st.composite
def tied(draw):
    """Thresholds where a line turns 1e-6 beside an integer, their lattice and codes, that integer, and the half there.

    For three channels.
    """
    levels, least = draw(st.integers(5, 64)), draw(st.integers(-64, 0))
    scale = np.array([draw(st.floats(2.0**-6, 1)) for _ in range(3)])
    direction = np.array([draw(st.sampled_from([1.0, -1.0])) for _ in range(3)])
    reach = int(2 * levels / scale.min())
    # where other levels are reached, too
    integer = np.array([draw(st.integers(-int(levels / s), int(levels / s))) for s in scale]) * direction
    level = np.array([draw(st.integers(1, levels - 1)) for _ in range(3)])
    beside = np.array([draw(st.sampled_from([-1e-6, 1e-6])) for _ in range(3)])
    turning = integer + direction * (beside + (np.arange(1, levels)[:, None] - level) / scale)
    rounded, side = turning.astype(np.float32), np.sign(direction * beside)
    # to the side that they are on
    away = np.nextafter(rounded, np.where(side > 0, np.float32(np.inf), np.float32(-np.inf)))
    thresholds = Thresholds(np.where(side * (turning - rounded) > 0, away, rounded), direction.astype(np.float32))
    return thresholds, lattice(-reach, reach, 1, 3), Codes(least, least + levels - 1), integer, least + level - 0.5


@settings(max_examples=200, deadline=None)
@given(tied())
def test_sums_that_rounding_errors_decide_are_known_for_ties(drawn):
    thresholds, reach, codes, integer, half = drawn
    found = requantization(thresholds, reach, codes)
    assert found is not None
    numbers = integers(reach)
    np.testing.assert_array_equal(found(numbers, codes) - codes.low, counted(thresholds, numbers))
    at = integer.astype(np.float32) * found.scale + found.offset
    assert (np.abs(at - half) <= TIE * (codes.levels - 1)).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.integers(5, 16), st.integers(-16, 0), st.integers(-20, 20), st.data())
def test_a_line_leans_no_more_than_its_ties_need(apart, levels, least, start, data):
    """Every level is a tie, decided upwards on one side of some level and downwards on the other.

    Of products so small that what float32 rounds between two levels is little at all the others.
    """
    turn, first = data.draw(st.integers(1, levels - 2)), data.draw(st.booleans())
    reached = (np.arange(levels - 1) < turn) == first
    integer = start + apart * np.arange(levels - 1)
    thresholds = np.where(reached, integer, np.nextafter(np.float32(integer), np.float32(np.inf)))[:, None]
    reach, codes = lattice(-1000, 1000, 1, 1), Codes(least, least + levels - 1)
    found = requantization(Thresholds(thresholds.astype(np.float32), np.ones(1, np.float32)), reach, codes)
    assert found is not None
    at = integer.astype(np.float32) * found.scale + found.offset
    assert (np.abs(at - (least + np.arange(levels - 1) + 0.5)) <= TIE * (levels - 1)).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 40))
def test_what_is_found_counts_any_thresholds(seed, levels, reach):
    """Thresholds anywhere, in and out of reach: there is a line for few of them, and that is exact."""
    rng = np.random.default_rng(seed)
    held = lattice(-reach, reach, int(rng.integers(1, 3)), 2)
    drawn = np.sort(rng.integers(-reach - 3, reach + 4, (levels - 1, 2)), axis=0)
    direction = rng.choice([-1.0, 1.0], 2)
    thresholds = Thresholds(
        np.where(direction > 0, drawn, drawn[::-1]).astype(np.float32), direction.astype(np.float32)
    )
    codes = Codes(0, levels - 1)
    found = requantization(thresholds, held, codes)
    if found is not None:
        np.testing.assert_array_equal(found(integers(held), codes), counted(thresholds, integers(held)))


def test_codes_with_gaps_have_none():
    reach = lattice(-9, 9, 1, 1)
    thresholds = of_line(np.array([0.5]), np.array([2.0]), Codes(0, 4), reach)
    assert requantization(thresholds, reach, Codes(0, 8, 2)) is None
    assert requantization(thresholds, reach, Codes(0, 4)) is not None


def test_a_step_that_is_off_by_one_has_none():
    reach = lattice(0, 400, 1, 1)
    thresholds = of_line(np.array([0.1]), np.array([0.0]), Codes(0, 15), reach)
    moved = thresholds.thresholds.copy()
    moved[7] += 2
    assert requantization(Thresholds(moved, thresholds.direction), reach, Codes(0, 15)) is None
