from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qcompiler.lowering.memory import ALIGNMENT, interference, lifetimes, plan
from qcompiler.lowering.work import Slot

spans = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 5)).map(
        lambda item: (Slot(item[0]), (item[1], item[1] + item[2]))
    ),
    max_size=25,
).map(dict)


@given(spans)
def test_slots_alive_together_never_overlap(slots: dict[Slot, tuple[int, int]]) -> None:
    offsets, total = plan(slots)
    assert offsets.keys() == slots.keys()
    placed = list(slots.items())
    for index, (a, (first, last)) in enumerate(placed):
        assert offsets[a] % ALIGNMENT == 0
        assert offsets[a] + a.nbytes <= total
        for b, (start, end) in placed[:index]:
            if start <= last and first <= end:
                assert offsets[a] + a.nbytes <= offsets[b] or offsets[b] + b.nbytes <= offsets[a]


@given(spans)
def test_interference_is_overlap_of_lifetimes(slots: dict[Slot, tuple[int, int]]) -> None:
    graph = interference(slots)
    for a, (first, last) in slots.items():
        for b, (start, end) in slots.items():
            assert a is b or graph.has_edge(a, b) == (start <= last and first <= end)


def test_memory_is_reused() -> None:
    chain = [Slot(1000) for _ in range(8)]
    steps = [((), chain[:1])] + [((a,), (b,)) for a, b in zip(chain, chain[1:], strict=False)]
    _, total = plan(lifetimes(steps))
    assert total == 2 * 1024


def test_a_lifetime_runs_from_the_first_to_the_last_step() -> None:
    a, b = Slot(1), Slot(2)
    assert lifetimes([((), (a,)), ((a,), (b,)), ((b, a), ())]) == {a: (0, 2), b: (1, 2)}
