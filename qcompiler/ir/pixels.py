"""What a network expects of a picture."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.ir.program import TensorInfo

LAYOUTS = ("nchw", "nhwc")
# grey, or red, green and blue
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Pixels:
    """How a picture becomes an input: (pixel - mean) * scale for each channel, where pixels are integers up to 255.

    mean, scale: one number for each channel. layout: "nchw" or "nhwc", the order of axes of the input.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    layout: str


def channels_of(tensor: TensorInfo, layout: str) -> int | None:
    """Channels of the pictures that an input of 4 axes takes in a layout; None if it takes none."""
    if len(tensor.shape) != 4:
        return None
    channels = tensor.shape[1 if layout == "nchw" else 3]
    return channels if channels in CHANNELS else None


def size_of(tensor: TensorInfo, layout: str) -> tuple[int, int]:
    """Width and height of the pictures that an input takes."""
    height, width = tensor.shape[2:] if layout == "nchw" else tensor.shape[1:3]
    return width, height


def fits(pixels: Pixels, tensor: TensorInfo) -> bool:
    """Whether pictures can become this input."""
    return channels_of(tensor, pixels.layout) == len(pixels.mean) == len(pixels.scale)
