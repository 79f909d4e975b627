"""The commands as the user meets them: exit statuses, one-line errors, files and JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qcompiler.bundle.write import write
from qcompiler.cli import parse_bits, parse_shape, parse_size
from qcompiler.errors import UsageError
from qcompiler.version import version
from tests.bundle import programs

ROOT = Path(__file__).resolve().parents[1]
PROCESSORS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "out"
    write(programs.tiny(), folder, threads=2)
    return folder


def command(name: str, *arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; from qcompiler.cli import {name}; sys.argv[0] = {name!r}; {name}()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def qrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    return command("qrun", *arguments)


def assert_error(done: subprocess.CompletedProcess[str], status: int, message: str) -> None:
    assert done.returncode == status, done.stderr
    assert message in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.fixture
def in_npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "in.npz", **programs.inputs(2))
    return tmp_path / "in.npz"


@pytest.mark.parametrize("threads", [[], ["--threads", 3]])
def test_inputs_to_outputs(out: Path, in_npz: Path, tmp_path: Path, threads: list[object]) -> None:
    done = qrun(out, "--inputs", in_npz, "--outputs", tmp_path / "out.npz", *threads)
    assert done.returncode == 0 and done.stderr == ""
    expected = programs.expected(programs.inputs(2))
    assert "scores/out:0" in done.stdout and f"│ {expected['scores/out:0'].argmax()} " in done.stdout
    with np.load(tmp_path / "out.npz") as written:
        assert sorted(written.files) == sorted(expected)
        for name, array in expected.items():
            np.testing.assert_array_equal(written[name], array)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]


def test_json(out: Path, in_npz: Path) -> None:
    done = qrun(out, "--inputs", in_npz, "--json", "--benchmark", "--profile", "--variant", "plain")
    data = json.loads(done.stdout)
    assert data["outputs"]["scores/out:0"]["shape"] == [1, 40]
    expected = programs.expected(programs.inputs(2))
    assert data["outputs"]["scores/out:0"]["classes"] == [int(expected["scores/out:0"].argmax())]
    assert data["outputs"]["count"]["max"] == expected["count"][0]
    assert data["benchmark"]["variant"] == "plain" and data["benchmark"]["threads"] == min(2, PROCESSORS)
    assert [step["nodes"][0] for step in data["profile"]["steps"]][:2] == ["/sign", "/scale"]


def test_tables(out: Path) -> None:
    done = qrun(out, "--benchmark", "--profile", "--threads", 1)
    assert "median" in done.stdout and "runs/s" in done.stdout and "1 thread, variant avx2" in done.stdout
    assert "binarize_c" in done.stdout and "/sign +1" in done.stdout and "all steps" in done.stdout
    assert "random inputs" in qrun(out).stdout


def test_usage_errors(out: Path, tmp_path: Path, in_npz: Path) -> None:
    assert_error(qrun(), 2, "Missing argument 'BUNDLE'. (see qrun --help)")
    assert_error(qrun(out, "--speed"), 2, "No such option: --speed")
    assert_error(qrun(out, "--threads", "many"), 2, "Invalid value for '--threads'")
    assert_error(qrun(out, "--threads", 0), 2, "--threads 0: expected a number from 1 to 128")
    assert_error(qrun(out, "--variant", "neon"), 2, "no variant 'neon'; it has avx2, plain")
    assert_error(qrun(out, "--outputs", tmp_path / "out.npz"), 2, "--outputs needs --inputs")
    assert_error(qrun(out, "--inputs", tmp_path / "none.npz"), 2, "cannot read")
    assert_error(qrun(out, "--inputs", in_npz, "--outputs", tmp_path / "no" / "o.npz"), 2, "; choose a writable place")
    assert_error(qrun(out, "--remote", "board"), 2, "--remote board: expected HOST:PORT")
    assert_error(qrun(out, "--remote-key", "key"), 2, "--remote-key needs --remote")
    assert_error(qrun(out, "--report", tmp_path / "page.html"), 2, "--report needs --profile; ")
    there = ("--profile", "--report")
    assert_error(qrun(out, *there, out / "report.html"), 2, "is inside of the bundle; its files are fixed")
    assert_error(qrun(out, *there, tmp_path / "no" / "page.html"), 2, "; choose a writable place")
    assert_error(qrun(out, *there, tmp_path / "page.html"), 4, "report.json has no 'rows'")
    assert_error(qrun(tmp_path / "none"), 2, "there is no directory")
    assert_error(qrun(tmp_path), 2, "is not a bundle")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz"]


def test_bad_arrays(out: Path, tmp_path: Path) -> None:
    path = tmp_path / "in.npz"
    path.write_text("text")
    assert_error(qrun(out, "--inputs", path), 2, "is not a valid .npz file")
    given = programs.inputs()
    np.savez(path, **{**given, "bias": given["bias"].astype("f8")})
    assert_error(qrun(out, "--inputs", path), 2, "input 'bias' has dtype float64, expected float32")
    np.savez(path, **{**given, "bias": given["bias"][:5]})
    assert_error(qrun(out, "--inputs", path), 2, "input 'bias' has shape [5], expected [40]")
    np.savez(path, bias=given["bias"])
    assert_error(qrun(out, "--inputs", path), 2, "input 'features/x:0' is missing; the network takes")
    np.savez(path, **{**given, "bias": np.array([{}], object)})
    assert_error(qrun(out, "--inputs", path), 2, "array 'bias' has dtype object, expected numbers")


def test_damaged_bundles(out: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(out, tmp_path / "out")
    (folder / "tiny.h").write_text("")
    assert_error(qrun(folder), 4, "tiny.h has 0 bytes")
    (folder / "manifest.json").write_text("{}")
    assert_error(qrun(folder), 4, "not the manifest of a bundle")


def test_an_unsupported_cpu(tmp_path: Path) -> None:
    write(programs.impossible(), tmp_path / "out")
    assert_error(qrun(tmp_path / "out"), 3, "this CPU cannot run the variants of 'tiny': all (lacks ")


def test_debug_shows_where(out: Path) -> None:
    done = qrun(out, "--variant", "neon", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: the bundle has no variant")


def test_a_closed_pipe_is_quiet(out: Path) -> None:
    code = "from qcompiler.cli import qrun; qrun()"
    for arguments in (["--json"], ["--profile"]):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(out), *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout and process.stderr
        process.stdout.close()
        errors = process.stderr.read()
        process.stderr.close()
        assert process.wait(30) != 0 and errors == b""


def test_help_teaches() -> None:
    for name in ("qrun", "qcompile"):
        done = command(name, "--help")
        assert done.returncode == 0 and "Examples:" in done.stdout and "Exit status:" in done.stdout


@pytest.mark.parametrize("name", ["qrun", "qcompile"])
def test_the_version(name: str) -> None:
    done = command(name, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"qcompiler {version()}\n", "")


def test_qrun_imports_no_compiler(out: Path) -> None:
    code = """
import atexit, sys
names = ("onnx", "onnx_ir", "onnxscript", "onnxruntime", "tvm", "torch", "networkx")
atexit.register(lambda: print([name for name in names if name in sys.modules], file=sys.stderr))
from qcompiler.cli import qrun
qrun()
"""
    command_ = [sys.executable, "-c", code, str(out), "--profile"]
    done = subprocess.run(command_, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"


def test_parse_size() -> None:
    assert [parse_size("--ram", text) for text in ("", "4096", "64K", "2m")] == [None, 4096, 65536, 2**21]
    for text in ("0", "K", "1.5M", "-1", "64KiB", "٣", "9" * 12):
        with pytest.raises(UsageError, match=f"--ram {text}: expected a size such as 65536, 64K or 2M"):
            parse_size("--ram", text)


def test_parse_shape() -> None:
    assert parse_shape("input=1x3x224x224") == ("input", (1, 3, 224, 224))
    assert parse_shape("a/b:0=7") == ("a/b:0", (7,))
    assert parse_shape("a=b=2x2") == ("a=b", (2, 2))
    for text in ("input", "input=", "=1x2", "x=1x", "x=0x2", "x=-1x2", "x=axb", "x=1,2", "x=99999999999"):
        with pytest.raises(UsageError, match="expected NAME=1x3x224x224"):
            parse_shape(text)


def test_parse_bits() -> None:
    assert parse_bits("auto") == "auto" and [parse_bits(str(n)) for n in range(1, 9)] == list(range(1, 9))
    for text in ("0", "9", "x", "", "-1", "1.0", "²"):
        with pytest.raises(UsageError, match="expected auto or a number from 1 to 8"):
            parse_bits(text)


def test_qcompile_usage_errors(tmp_path: Path) -> None:
    def qcompile(*arguments: object) -> subprocess.CompletedProcess[str]:
        return command("qcompile", *arguments, cwd=tmp_path)

    assert_error(qcompile(), 2, "Missing argument 'MODEL.onnx'. (see qcompile --help)")
    assert_error(qcompile("m.onnx", "--bits", "9"), 2, "--bits 9: expected auto or a number from 1 to 8")
    assert_error(qcompile("m.onnx", "--shape", "x"), 2, "--shape x: expected NAME=1x3x224x224")
    assert_error(qcompile("m.onnx", "--tunes", "9"), 2, "No such option: --tunes")
    assert_error(qcompile("m.onnx", "--threads", "129"), 2, "--threads 129: expected a number from 1 to 128")
    assert_error(qcompile("m.onnx"), 2, "there is no file 'm.onnx'")
    assert_error(qcompile("m.onnx", "--target", "vax"), 2, "unknown target 'vax'; choose one of: x86, arm")
    assert_error(qcompile("m.onnx", "-o", "no/out"), 2, "cannot write 'no/out': No such file or directory; choose a")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "m.onnx").write_bytes(b"")
    assert_error(qcompile("m.onnx"), 4, "'m.onnx' is empty")
    (tmp_path / "m.onnx").write_bytes(b"model")
    assert_error(qcompile("m.onnx", "--inputs", "none.npz"), 2, "cannot read 'none.npz'")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_qrun_of_a_model(model: Path) -> None:
    assert_error(qrun(model), 2, f"'{model}' is a model, expected a bundle; compile it first: qcompile {model}")


MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[1, 64] x) => (float[1, 8] scores)
{
    codes = Sign (x)
    scores = MatMul (codes, w)
}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnx.numpy_helper
    import onnx.parser

    proto = onnx.parser.parse_model(MODEL)
    weights = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (64, 8))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = tmp_path_factory.mktemp("models") / "tiny-net.onnx"
    proto.graph.node[1].name = "classify"
    onnx.save(proto, path)
    return path


def test_qcompile_then_qrun(model: Path, tmp_path: Path) -> None:
    arguments = (model, "--mcpu", "baseline", "--explain", "--threads", 2)
    done = command("qcompile", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verified: " in done.stderr and "Traceback" not in done.stderr
    assert "wrote tiny-net.qc/: libtiny_net.a (" in done.stdout and "\nclassify" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny-net.qc"]
    ran = qrun(tmp_path / "tiny-net.qc", "--json")
    assert json.loads(ran.stdout)["outputs"]["scores"]["shape"] == [1, 8]
    again = command("qcompile", *arguments, cwd=tmp_path)
    assert_error(again, 2, "output 'tiny-net.qc' is a bundle already; replace it with --force")
    assert command("qcompile", *arguments, "--force", "--no-verify", cwd=tmp_path).returncode == 0


def test_a_profile_becomes_a_page(model: Path, tmp_path: Path) -> None:
    folder, path = tmp_path / "net", tmp_path / "page.html"
    done = command("qcompile", model, "-o", folder, "--mcpu", "baseline", "--no-verify")
    assert done.returncode == 0, done.stderr
    before = (folder / "report.html").read_text()
    done = qrun(folder, "--profile", "--report", path, "--threads", 2)
    assert done.returncode == 0 and f"wrote {path}" in done.stdout and done.stderr == ""
    assert '"measured":null' in before and '"measured":null' not in path.read_text()
    measured = f'"measured":{{"variant":"baseline","threads":{min(2, PROCESSORS)},"repeats":50,"seconds":['
    assert measured in path.read_text()
    data = json.loads(qrun(folder, "--profile", "--report", path, "--json").stdout)
    assert len(data["profile"]["steps"]) > 1
    assert sorted(each.name for each in tmp_path.iterdir() if each != model) == ["net", "page.html"]


PICTURES = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[1, 1, 4, 6] x) => (float[1, 24] scores)
{
    flat = Flatten (x)
    scores = Neg (flat)
}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose scores are its pixels below 0, and which says how they become numbers."""
    import onnx.parser

    import qcompiler
    from qcompiler.ir.pixels import Pixels

    folder = tmp_path_factory.mktemp("pictures")
    onnx.save(onnx.parser.parse_model(PICTURES), folder / "net.onnx")
    pixels = Pixels((128.0,), (1 / 128,), "nchw")
    qcompiler.compile(folder / "net.onnx", mcpu=("baseline",), output=folder / "net", pixels=pixels, verify=False)
    return folder / "net"


def test_a_picture_in_and_names_out(pictures: Path, tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(4, 6)[::-1, ::-1] * 5
    Image.fromarray(values).save(tmp_path / "digit.png")
    (tmp_path / "names.txt").write_text("".join(f"[class] {index}\n" for index in range(24)))
    arguments = (pictures, "--image", tmp_path / "digit.png")
    done = qrun(*arguments, "--labels", tmp_path / "names.txt", "--top", 2, "--outputs", tmp_path / "o.npz")
    assert done.returncode == 0 and done.stderr == ""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert rows == [["scores", "0", "23", "[class] 23", "1"], ["scores", "0", "22", "[class] 22", "0.960938"]]
    with np.load(tmp_path / "o.npz") as written:
        np.testing.assert_array_equal(written["scores"][0], 1 - values.astype(np.float32).ravel() / 128)
    data = json.loads(qrun(*arguments, "--json", "--mean", "0", "--scale", "1/2,").stdout or "{}")
    assert data == {}, "a comma too many"
    data = json.loads(qrun(*arguments, "--json", "--mean", "0", "--scale", "1/2").stdout)
    assert [guess["index"] for guess in data["top"]["scores"][0]] == [23, 22, 21, 20, 19]
    assert data["top"]["scores"][0][1] == {"index": 22, "name": "", "score": -2.5}


def test_pictures_that_are_none(pictures: Path, tmp_path: Path, out: Path, in_npz: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "rgb.png")
    Image.new("L", (7, 4)).save(tmp_path / "wide.png")
    Image.new("L", (6, 4)).save(tmp_path / "right.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)).save(tmp_path / "cut.png")
    os.truncate(tmp_path / "cut.png", 50)
    (tmp_path / "names.txt").write_text("zero\none\n")
    image = ("--image", tmp_path / "right.png")
    assert_error(qrun(pictures, "--image", tmp_path / "none.png"), 2, "none.png': No such file or directory")
    assert_error(qrun(pictures, "--image", tmp_path / "rgb.png"), 2, "mode RGB, the network takes grey; let it be")
    assert_error(qrun(pictures, "--image", tmp_path / "wide.png"), 2, "has 7x4 pixels, the network takes 6x4; let")
    assert_error(qrun(pictures, "--image", tmp_path / "cut.png"), 4, "cut.png' is")
    assert_error(
        qrun(pictures, *image, "--labels", tmp_path / "names.txt"), 2, "2 labels, output 'scores' has 24 classes"
    )
    assert_error(qrun(pictures, *image, "--scale", "fast"), 2, "--scale fast: expected numbers such as 0.5 or 1/255")
    assert_error(qrun(pictures, *image, "--scale", "1/0"), 2, "--scale 1/0: expected numbers")
    assert_error(qrun(pictures, *image, "--scale", "1e999999999"), 2, "--scale 1e999999999: expected numbers")
    assert_error(qrun(pictures, *image, "--layout", "chw"), 2, "--layout chw: expected nchw or nhwc")
    assert_error(qrun(pictures, *image, "--top", 0), 2, "--top 0: expected at least 1")
    assert_error(qrun(pictures, *image, "--inputs", in_npz), 2, "--inputs and --image both say what to run on")
    assert_error(qrun(pictures, "--mean", 3), 2, "--mean needs --image; name the picture")
    assert_error(qrun(out, *image), 2, "no picture becomes 'features/x:0' float32")
    assert "right.png" not in qrun(pictures, "--image", tmp_path / "rgb.png", "--fit").stdout


def test_pictures_need_pillow(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError('not here')")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = command("qrun", pictures, "--image", tmp_path / "digit.png", PYTHONPATH=path)
    assert_error(done, 1, "pictures need the package pillow; pip install 'qcompiler[images]'")


def test_qcompile_refuses_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    done = command("qcompile", "m.onnx", cwd=tmp_path)
    assert done.returncode == 4 and done.stderr.splitlines()[-1].startswith("error: 'm.onnx' is not an ONNX file")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
