"""Augmentation of a batch of images where it lies: random flips and shifts."""

from __future__ import annotations

import torch
from torch import Tensor

from qcompiler.errors import UsageError

KINDS = ("none", "flip", "shift", "flip_shift")


def check_augmentation(kind: str, shift: int) -> None:
    """Raise UsageError for an unknown kind or a negative shift."""
    if kind not in KINDS:
        raise UsageError(f"unknown augment '{kind}'", remedy=f"choose one of: {', '.join(KINDS)}")
    if shift < 0:
        raise UsageError(f"shift is {shift}, expected 0 or more pixels")


def augment(images: Tensor, kind: str, shift: int) -> Tensor:
    """Flip each image left to right with probability 1/2 ("flip"), move it by up to `shift` pixels ("shift"), or both.

    images: [N, C, H, W], any dtype; what a shift uncovers is 0 (black). Randomness comes from the device's generator.
    """
    if kind == "none":
        return images
    count, _, height, width = images.shape
    rows = torch.arange(height, device=images.device).expand(count, height)
    columns = torch.arange(width, device=images.device).expand(count, width)
    if "flip" in kind:
        flipped = torch.rand(count, 1, device=images.device) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    if "shift" in kind and shift:
        images = torch.nn.functional.pad(images, (shift, shift, shift, shift))
        rows = rows + _offsets(count, shift, images.device)
        columns = columns + _offsets(count, shift, images.device)
    return _take(images, rows, columns)


def _offsets(count: int, shift: int, device: torch.device) -> Tensor:
    return torch.randint(0, 2 * shift + 1, (count, 1), device=device)


def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixel (rows[n, i], columns[n, j]) of image n at [n, :, i, j]; the result lies channels last."""
    examples = torch.arange(len(images), device=images.device).reshape(-1, 1, 1)
    return images.permute(0, 2, 3, 1)[examples, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)
