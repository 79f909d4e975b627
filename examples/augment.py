"""Random shifts of training images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shifted(images: Tensor, reach: int, background: float) -> Tensor:
    """Each image of [N, C, H, W] moved on its own by up to `reach` pixels in x and y."""
    height, width = images.shape[2:]
    padded = nn.functional.pad(images, (reach,) * 4, value=background)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    dy, dx = torch.randint(0, 2 * reach + 1, (2, len(images)))
    return windows[torch.arange(len(images)), :, dy, dx]
