"""Augmented images against flips and shifts made one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import UsageError
from qcompiler.train.augment import augment, check_augmentation


def images(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8)


def candidates(image: np.ndarray, kind: str, shift: int) -> list[np.ndarray]:
    """Every image that the augmentation may make of one, [C, H, W]."""
    made = [image, image[:, :, ::-1]] if "flip" in kind else [image]
    if "shift" not in kind:
        return made
    _, height, width = image.shape
    shifted = []
    for each in made:
        padded = np.pad(each, ((0, 0), (shift, shift), (shift, shift)))
        offsets = range(2 * shift + 1)
        shifted += [padded[:, y : y + height, x : x + width] for y in offsets for x in offsets]
    return shifted


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["none", "flip", "shift", "flip_shift"]),
    shift=st.integers(0, 3),
    channels=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_every_result_is_a_candidate(kind: str, shift: int, channels: int, height: int, width: int) -> None:
    originals = images(8, channels, height, width)
    results = augment(originals, kind, shift)
    assert (results.shape, results.dtype) == (originals.shape, originals.dtype)
    for original, result in zip(originals.numpy(), results.numpy(), strict=True):
        assert any(np.array_equal(result, candidate) for candidate in candidates(original, kind, shift))


def test_flips_are_drawn_for_each_image() -> None:
    torch.manual_seed(0)
    original = images(1, 1, 2, 3).expand(1000, -1, -1, -1)
    flipped = (augment(original, "flip", 0) == original.flip(3)).flatten(1).all(1).sum().item()
    assert 440 < flipped < 560


def test_every_shift_is_drawn() -> None:
    torch.manual_seed(0)
    point = torch.zeros(2000, 1, 5, 5, dtype=torch.uint8)
    point[:, :, 2, 2] = 1
    counts = augment(point, "shift", 2).sum(0)[0]
    assert counts.sum() == 2000
    assert counts.min() > 40 and counts.max() < 130


def test_same_seed_same_images() -> None:
    original = images(16, 3, 5, 5)
    torch.manual_seed(3)
    first = augment(original, "flip_shift", 2)
    torch.manual_seed(3)
    assert torch.equal(first, augment(original, "flip_shift", 2))
    assert not torch.equal(first, augment(original, "flip_shift", 2))


def test_unknown_kind_and_negative_shift() -> None:
    with pytest.raises(UsageError, match="unknown augment 'rotate'; choose one of: none, flip, shift, flip_shift"):
        check_augmentation("rotate", 1)
    with pytest.raises(UsageError, match="shift is -1"):
        check_augmentation("shift", -1)
