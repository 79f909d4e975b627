"""A picture file as the one input of a network: read with distrust, converted as the bundle or the user says."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qcompiler.bundle.tensors import describe
from qcompiler.errors import InvalidData, QCompilerError, UsageError
from qcompiler.ir.pixels import LAYOUTS, Pixels, channels_of, fits, size_of
from qcompiler.ir.program import TensorInfo
from qcompiler.options import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[Any]
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
# pixels of a file; chosen
MAX_PIXELS = 64 * 2**20
_MODES = {1: "L", 3: "RGB"}
_NAMES = {"L": "grey", "RGB": "RGB"}


def picture_input(asked: Picture, inputs: Sequence[TensorInfo], recorded: Pixels | None) -> dict[str, Array]:
    """The network's inputs, made of a picture: float32 or uint8 in the shape of its one input.

    recorded: what the bundle says of pixels, which the user's words replace. Raises UsageError where the picture or
    what is said of it does not fit the input, InvalidData where the file is damaged.
    """
    tensor = _single(inputs)
    pixels = _pixels(asked, tensor, recorded)
    picture = _read(asked, size_of(tensor, pixels.layout), _MODES[len(pixels.mean)])
    return {tensor.name: _converted(picture, pixels, tensor)}


def _single(inputs: Sequence[TensorInfo]) -> TensorInfo:
    tensor = inputs[0]
    if len(inputs) > 1 or tensor.dtype not in ("float32", "uint8") or not _layouts(tensor) or tensor.shape[0] != 1:
        raise UsageError(
            f"no picture becomes {', '.join(map(describe, inputs))}: expected one input of one picture, grey or RGB",
            remedy="give arrays with --inputs",
        )
    return tensor


def _layouts(tensor: TensorInfo) -> list[str]:
    """The layouts in which the input may be a picture."""
    return [layout for layout in LAYOUTS if channels_of(tensor, layout) is not None]


def _pixels(asked: Picture, tensor: TensorInfo, recorded: Pixels | None) -> Pixels:
    layout = asked.layout or (recorded.layout if recorded is not None else _only_layout(tensor))
    channels = channels_of(tensor, layout)
    if channels is None:
        raise UsageError(f"--layout {layout}: input {describe(tensor)} has no 1 or 3 channels there")
    mean, scale = ((), ()) if recorded is None else (recorded.mean, recorded.scale)
    mean, scale = asked.mean or mean or (0.0,), asked.scale or scale
    if not scale and tensor.dtype == "uint8":
        scale = (1.0,)
    if not scale:
        raise UsageError(
            "the bundle does not say how pixels become numbers",
            remedy="give --scale and --mean: the input is (pixel - mean) * scale, pixels are 0 to 255",
        )
    found = Pixels(_each("--mean", mean, channels), _each("--scale", scale, channels), layout)
    assert fits(found, tensor)
    return found


def _only_layout(tensor: TensorInfo) -> str:
    layouts = _layouts(tensor)
    if len(layouts) > 1:
        raise UsageError(
            f"channels of input {describe(tensor)} may be in two places", remedy="say --layout nchw or nhwc"
        )
    return layouts[0]


def _each(option: str, numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(numbers) not in (1, channels):
        raise UsageError(f"{option} has {len(numbers)} numbers, the network takes pictures of {channels} channels")
    return numbers * channels if len(numbers) == 1 else numbers


def _read(asked: Picture, size: tuple[int, int], mode: str) -> Image:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise QCompilerError("pictures need the package pillow", remedy="pip install 'qcompiler[images]'") from error
    with _readable(asked.path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(asked.path, formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise UsageError(
                    f"'{asked.path}' has {file.width}x{file.height} pixels, at most {MAX_PIXELS} are read",
                    remedy="give a smaller picture",
                )
            picture: Image.Image = ImageOps.exif_transpose(file)
    if asked.fit:
        return picture.convert(mode).resize(size)
    _check(asked.path, picture, size, mode)
    return picture.convert(mode)


def _check(path: Path, picture: Image, size: tuple[int, int], mode: str) -> None:
    remedy = "let it be resized and converted with --fit"
    if picture.size != size:
        (width, height), (wanted, high) = picture.size, size
        raise UsageError(f"'{path}' has {width}x{height} pixels, the network takes {wanted}x{high}", remedy=remedy)
    # black and white is grey, too
    if picture.mode not in ((mode, "1") if mode == "L" else (mode,)):
        raise UsageError(
            f"'{path}' is a picture of mode {picture.mode}, the network takes {_NAMES[mode]}", remedy=remedy
        )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file becomes one line."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:
        raise InvalidData(f"'{path}' is no picture", remedy=f"give one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"'{path}' has too many pixels", remedy="give a smaller picture") from error
    except OSError as error:
        if error.strerror:
            raise UsageError(f"cannot read '{path}': {error.strerror}") from error
        raise InvalidData(f"'{path}' is damaged ({error})", remedy="save it again") from error
    except (SyntaxError, ValueError, EOFError, IndexError, OverflowError, struct.error, zlib.error) as error:
        raise InvalidData(f"'{path}' is damaged ({error})", remedy="save it again") from error


def _converted(picture: Image, pixels: Pixels, tensor: TensorInfo) -> Array:
    """The input, computed in float64 and rounded once."""
    values = np.asarray(picture, np.float64).reshape(picture.height, picture.width, len(pixels.mean))
    values = (values - np.array(pixels.mean)) * np.array(pixels.scale)
    if np.abs(values).max() > np.finfo(np.float32).max:
        raise UsageError("--scale makes numbers beyond float32", remedy="give a smaller one")
    if tensor.dtype == "uint8" and not np.array_equal(values, np.clip(np.rint(values), 0, 255)):
        raise UsageError(
            f"input {describe(tensor)} takes integers from 0 to 255", remedy="leave out --mean and --scale"
        )
    axes = values.transpose(2, 0, 1) if pixels.layout == "nchw" else values
    return np.ascontiguousarray(axes[np.newaxis], tensor.dtype)
