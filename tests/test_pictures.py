"""Pictures in, names out: what a picture becomes, and one line for each that cannot be one."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from qcompiler.classes import guesses, read_names
from qcompiler.errors import InvalidData, QCompilerError, UsageError
from qcompiler.ir.pixels import Pixels
from qcompiler.ir.program import TensorInfo
from qcompiler.options import Picture
from qcompiler.pictures import picture_input

GREY = TensorInfo("image", (1, 1, 4, 6), "float32")
COLOUR = TensorInfo("image", (1, 3, 4, 6), "float32")
HALF = Pixels((128.0,), (1 / 128,), "nchw")
RNG = np.random.default_rng(3)
PIXELS = {"L": RNG.integers(0, 256, (4, 6), np.uint8), "RGB": RNG.integers(0, 256, (4, 6, 3), np.uint8)}


def saved(folder: Path, mode: str = "L", name: str = "p.png", size: tuple[int, int] = (6, 4)) -> Path:
    base = Image.fromarray(PIXELS["RGB" if mode.startswith("RGB") else "L"])
    base.convert(mode).resize(size).save(folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["p.png", "p.bmp", "p.pgm"])
def test_a_picture_becomes_numbers(tmp_path: Path, name: str) -> None:
    array = picture_input(Picture(saved(tmp_path, name=name)), [GREY], HALF)["image"]
    assert array.dtype == np.float32 and array.flags.c_contiguous
    np.testing.assert_array_equal(array, PIXELS["L"].astype(np.float32)[None, None] / 128 - 1)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("name", ["p.png", "p.ppm"])
def test_channels_have_numbers_of_their_own(tmp_path: Path, layout: str, name: str) -> None:
    mean, scale = (1.0, 2.5, 3.0), (1 / 255, 0.5, 2.0)
    shape = (1, 3, 4, 6) if layout == "nchw" else (1, 4, 6, 3)
    asked = Picture(saved(tmp_path, "RGB", name), mean, scale)
    array = picture_input(asked, [TensorInfo("image", shape, "float32")], None)["image"]
    expected = ((PIXELS["RGB"].astype(np.float64) - mean) * scale).astype(np.float32)
    np.testing.assert_array_equal(array[0], expected.transpose(2, 0, 1) if layout == "nchw" else expected)


def test_the_user_has_the_last_word(tmp_path: Path) -> None:
    path = saved(tmp_path)
    array = picture_input(Picture(path, mean=(0.0,)), [GREY], HALF)["image"]
    np.testing.assert_array_equal(array[0, 0], PIXELS["L"] / np.float32(128))
    (array,) = picture_input(Picture(path), [TensorInfo("x", (1, 1, 4, 6), "uint8")], None).values()
    np.testing.assert_array_equal(array[0, 0], PIXELS["L"])


def test_training_and_running_agree(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from qcompiler.train.data import pixels_of, to_input

    array = picture_input(Picture(saved(tmp_path, "RGB")), [COLOUR], pixels_of(3))["image"]
    images = torch.from_numpy(PIXELS["RGB"].transpose(2, 0, 1)[None].copy())
    np.testing.assert_array_equal(array, to_input(images).numpy())
    assert pixels_of(4) is None


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_fit_takes_any_picture(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("p.png" if mode != "CMYK" else "p.jpg")
    image = Image.fromarray(PIXELS["L"].astype(np.uint16) * 257) if mode == "I;16" else Image.new(mode, (30, 20))
    image.save(path)
    array = picture_input(Picture(path, fit=True), [COLOUR], Pixels((0.0,) * 3, (1.0,) * 3, "nchw"))["image"]
    assert array.shape == (1, 3, 4, 6) and array.min() >= 0 and array.max() <= 255
    if mode == "I;16":
        assert array.max() > 128


REFUSED: dict[str, tuple[Callable[[Path], Picture], TensorInfo, str]] = {
    "size": (
        lambda p: Picture(saved(p, size=(5, 4))),
        GREY,
        r"has 5x4 pixels, the network takes 6x4; let it be .*--fit",
    ),
    "mode": (lambda p: Picture(saved(p, "RGB")), GREY, "is a picture of mode RGB, the network takes grey; let it be"),
    "grey": (lambda p: Picture(saved(p), (0.0,), (1.0,)), COLOUR, "is a picture of mode L, the network takes RGB"),
    "alpha": (lambda p: Picture(saved(p, "RGBA"), (0.0,), (1.0,)), COLOUR, "mode RGBA, the network takes RGB"),
    "missing": (lambda p: Picture(p / "none.png"), GREY, "cannot read '.*none.png': No such file"),
    "folder": (lambda p: Picture(p), GREY, "cannot read '.*': Is a directory"),
    "numbers": (lambda p: Picture(saved(p), (0.0, 1.0)), GREY, "--mean has 2 numbers, .* pictures of 1 channels"),
    "layout": (lambda p: Picture(saved(p), layout="nhwc"), GREY, "--layout nhwc: .* has no 1 or 3 channels there"),
    "scale": (lambda p: Picture(saved(p), scale=(1e300,)), GREY, "--scale makes numbers beyond float32"),
    "rank": (lambda p: Picture(saved(p)), TensorInfo("x", (1, 24), "float32"), "no picture becomes 'x' .*--inputs"),
    "batch": (lambda p: Picture(saved(p)), TensorInfo("x", (2, 1, 4, 6), "float32"), "no picture becomes 'x'"),
    "dtype": (lambda p: Picture(saved(p)), TensorInfo("x", (1, 1, 4, 6), "int64"), "no picture becomes 'x'"),
    "bytes": (
        lambda p: Picture(saved(p), scale=(0.3,)),
        TensorInfo("x", (1, 1, 4, 6), "uint8"),
        "takes integers from 0 to 255; leave out",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    make, tensor, message = REFUSED[case]
    recorded = HALF if tensor is GREY else None
    with pytest.raises(UsageError, match=message):
        picture_input(make(tmp_path), [tensor], recorded)


def test_what_pixels_mean_is_never_guessed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(UsageError, match=r"does not say how pixels become numbers; give --scale and --mean"):
        picture_input(Picture(path), [GREY], None)
    either = TensorInfo("x", (1, 3, 6, 3), "float32")
    with pytest.raises(UsageError, match="may be in two places; say --layout nchw or nhwc"):
        picture_input(Picture(path, scale=(1.0,)), [either], None)
    with pytest.raises(UsageError, match="expected one input of one picture"):
        picture_input(Picture(path), [GREY, GREY], HALF)


def png(name: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS["L"].repeat(20, 0).repeat(20, 1)).save(stream, name)
    return stream.getvalue()


FILES = {name: png(name) for name in ("PNG", "JPEG", "BMP", "PPM")}
LARGE = TensorInfo("image", (1, 1, 80, 120), "float32")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(sorted(FILES)),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, kept: float, changes: list[tuple[float, int]]) -> None:
    """Any part of a picture, with any bytes changed: read as some picture, or refused in the project's words."""
    content = bytearray(FILES[name][: int(len(FILES[name]) * kept)])
    for place, value in changes:
        if content:
            content[int((len(content) - 1) * place)] = value
    path = tmp_path / "p"
    path.write_bytes(content)
    try:
        picture_input(Picture(path), [LARGE], HALF)
    except QCompilerError as error:
        assert str(error).count("\n") == 0 and str(path) in str(error)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_png_is_an_invalid_file(tmp_path: Path, part: float) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(FILES["PNG"][: int(len(FILES["PNG"]) * part)])
    with pytest.raises(InvalidData, match=r"is damaged \(|is no picture"):
        picture_input(Picture(path), [LARGE], HALF)


def test_a_small_file_of_many_pixels_is_not_unpacked(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (12_000, 100_000):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
        (tmp_path / "p.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        )
        with pytest.raises(UsageError, match="pixels.*give a smaller picture"):
            picture_input(Picture(tmp_path / "p.png", fit=True), [LARGE], HALF)


def test_names_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffzero\r\n eins \nÜ\n\n".encode())
    assert read_names(path) == ("zero", "eins", "Ü")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidData, match="is no text in UTF-8"):
        read_names(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_names(tmp_path)


def test_the_likeliest_classes() -> None:
    scores = {"s": np.array([[1.0, 3.0, 3.0], [5.0, -1.0, 0.0]], np.float32), "mask": np.zeros((1, 2, 2), np.float32)}
    found = guesses(scores, ("a", "b", "c"), 2)
    assert [[(each.index, each.name) for each in row] for row in found["s"]] == [
        [(1, "b"), (2, "c")],
        [(0, "a"), (2, "c")],
    ]
    assert found.keys() == {"s"} and found["s"][0][0].score == 3.0
    assert len(guesses(scores, None, 9)["s"][0]) == 3
    for names in ((), ("a", "b"), ("a",) * 4):
        with pytest.raises(UsageError, match=rf"there are {len(names)} labels, output 's' has 3 classes; give one"):
            guesses(scores, names, 1)
    with pytest.raises(UsageError, match="no output of the network is scores"):
        guesses({"mask": scores["mask"]}, None, 1)
