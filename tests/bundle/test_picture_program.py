"""The C program of a bundle that reads a picture: compiled strictly, and asked for the wrong things."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle import glue
from qcompiler.bundle.load import Bundle
from qcompiler.ir.pixels import Pixels
from qcompiler.ir.program import TensorInfo
from tests.bundle import programs
from tests.bundle.test_c_programs import SANITIZE, STRICT, sh

HEIGHT, WIDTH = 3, 5
NETWORKS = {
    ("P5", "nchw"): (1, HEIGHT, WIDTH),
    ("P6", "nchw"): (3, HEIGHT, WIDTH),
    ("P6", "nhwc"): (HEIGHT, WIDTH, 3),
}
TEXT = """<ir_version: 10, opset_import: ["" : 21]>
net (float[1, {shape}] x) => (float[1, {size}] scores) {{ flat = Flatten (x) scores = Neg (flat) }}"""

Array = npt.NDArray[np.uint8]


def compiled(folder: Path, kind: str, layout: str) -> Bundle:
    shape = NETWORKS[kind, layout]
    text = TEXT.format(shape=", ".join(map(str, shape)), size=int(np.prod(shape)))
    onnx.save(onnx.parser.parse_model(text), folder / "net.onnx")
    pixels = (
        Pixels((128.0,), (1 / 128,), layout)
        if kind == "P5"
        else Pixels((10.5, 0.0, 200.0), (0.1, 1 / 255, 3.0), layout)
    )
    bundle = qcompiler.compile(
        folder / "net.onnx", mcpu=("baseline",), output=folder / "net", pixels=pixels, verify=False
    )
    sh(bundle.directory, "cc", *STRICT, *SANITIZE, "picture.c", "libnet.a", "-lm", "-o", "picture")
    return bundle


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("grey"), "P5", "nchw").directory


def asked(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["./picture", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def netpbm(path: Path, pixels: Array, kind: str) -> Path:
    height, width = pixels.shape[:2]
    path.write_bytes(f"{kind} # made\n#\n{width}\t{height} 255\n".encode() + pixels.tobytes())
    return path


@pytest.mark.parametrize(("kind", "layout"), NETWORKS)
def test_it_gives_the_scores_of_qrun(tmp_path: Path, kind: str, layout: str) -> None:
    from qcompiler.options import Picture
    from qcompiler.pictures import picture_input

    bundle = compiled(tmp_path, kind, layout)
    shape = (HEIGHT, WIDTH) if kind == "P5" else (HEIGHT, WIDTH, 3)
    path = netpbm(tmp_path / "p", np.random.default_rng(5).integers(0, 256, shape, np.uint8), kind)
    (scores,) = bundle.run(picture_input(Picture(path), bundle.inputs, bundle.manifest.pixels))["scores"]
    expected = [f"{index} {scores[index]:.6g}" for index in np.argsort(-scores, kind="stable")[:5]]
    assert [line.strip() for line in asked(bundle.directory, path).stdout.splitlines()] == expected
    names = tmp_path / "names.txt"
    names.write_text("".join(f"class {index}\n" for index in range(len(scores))))
    assert asked(bundle.directory, path, names).stdout.splitlines() == [
        f"{line} class {line.split()[0]}" for line in expected
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P5 5 3 255\n" + bytes(14), "is cut off"),
        (b"P5 5 4 255\n" + bytes(20), "has 5x4 pixels, expected 5x3"),
        (b"P5 4294967301 3 255\n" + bytes(15), "has -1x3 pixels, expected 5x3"),
        (b"P5 5 3 65535\n" + bytes(30), "has other values than 0 to 255"),
        (b"P6 5 3 255\n" + bytes(45), "is no grey picture, expected PGM (P5)"),
        (b"P2 5 3 255\n1 2 3", "is no grey picture"),
        (b"\x89PNG", "is no grey picture"),
        (b"P5", "has -1x-1 pixels"),
        (b"P5 # no end", "has -1x-1 pixels"),
        (b"", "is no grey picture"),
    ],
)
def test_wrong_pictures_are_refused(grey: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p").write_bytes(content)
    done = asked(grey, tmp_path / "p")
    assert done.returncode == 2 and message in done.stderr and done.stdout == "" and done.stderr.count("\n") == 1


def test_other_mistakes_are_refused(grey: Path, tmp_path: Path) -> None:
    path = netpbm(tmp_path / "p", np.zeros((HEIGHT, WIDTH), np.uint8), "P5")
    names = tmp_path / "names"
    names.write_text("one\n" * 14)
    for arguments, message in (
        ((), "expected a picture"),
        ((tmp_path / "none",), "cannot be opened"),
        ((path, tmp_path / "none"), "cannot be opened"),
        ((path, names), "has fewer names than the network has classes"),
    ):
        done = asked(grey, *arguments)
        assert done.returncode == 2 and message in done.stderr and done.stdout == ""
    names.write_text("one\n\n" + "three\n" * 12 + "last")
    assert asked(grey, path, names).stdout.startswith("0 1 one\n1 1 \n2 1 three\n")


def test_only_networks_that_classify_a_picture_have_it(grey: Path) -> None:
    program = programs.tiny()
    assert not glue.classifies(program), "two outputs"
    scores = TensorInfo("scores", (1, 10), "float32")
    one = replace(program, outputs=(scores,))
    assert glue.classifies(one)
    for other in (replace(scores, shape=(2, 10)), replace(scores, shape=(1, 1)), replace(scores, dtype="int64")):
        assert not glue.classifies(replace(one, outputs=(other,)))
    assert "picture.c" in qcompiler.load(grey).manifest.files
