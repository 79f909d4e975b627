"""Batches: every example at most once an epoch, in an order of the seed and the epoch alone, shared by processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import UsageError
from qcompiler.train.batches import Batches


def batches(count: int, size: int, seed: int = 0, rank: int = 0, processes: int = 1) -> Batches:
    images = torch.arange(count).to(torch.uint8).reshape(-1, 1, 1, 1)
    return Batches(images, torch.arange(count), size, seed, rank, processes)


@given(count=st.integers(1, 60), size=st.integers(1, 60), seed=st.integers(0, 2**31 - 1), epoch=st.integers(1, 10**5))
def test_epoch_is_a_choice_of_whole_batches(count: int, size: int, seed: int, epoch: int) -> None:
    if size > count:
        with pytest.raises(UsageError, match=f"expected 1 to the {count} training images"):
            batches(count, size)
        return
    chosen = batches(count, size, seed)
    labels = []
    for images, each in chosen.epoch(epoch):
        assert images.flatten().tolist() == each.tolist()
        assert len(each) == size
        labels += each.tolist()
    assert len(labels) == len(set(labels)) == len(chosen) * size
    assert count - len(labels) < size


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([labels for _, labels in batches(50, 10, seed).epoch(epoch)]).tolist()

    first = order(3, 7)
    torch.manual_seed(1)
    assert order(3, 7) == first
    assert order(3, 8) != first
    assert order(4, 7) != first
    # not an epoch of the seed before either
    assert all(order(4, epoch) != first for epoch in range(1, 10))


def test_processes_share_every_batch() -> None:
    whole = [labels.tolist() for _, labels in batches(40, 12).epoch(2)]
    parts = [[labels.tolist() for _, labels in batches(40, 12, rank=rank, processes=3).epoch(2)] for rank in range(3)]
    assert [sum(shares, []) for shares in zip(*parts, strict=True)] == whole


def test_batch_that_cannot_be_shared() -> None:
    with pytest.raises(UsageError, match="batch_size 10 cannot be shared evenly by 4 processes"):
        batches(40, 10, processes=4)
