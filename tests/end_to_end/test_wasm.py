"""Models compiled for WebAssembly and run in node through the JavaScript of their package, beside their x86 bundles."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import qcompiler
from qcompiler.bundle.load import Bundle, describe
from qcompiler.errors import QCompilerError, UnsupportedCpu, UsageError
from qcompiler.pipeline import UNVERIFIED
from qcompiler.ties import BOUND, relative_difference
from tests.end_to_end.test_arm import random_inputs
from tests.end_to_end.test_shared_models import MODELS, manifest
from tests.networks import binary_cnn, lenet
from tests.targets.in_node import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

# binary, and 2 by 2 bits
SAMPLE = ("qonnx_zoo.TFC_1W1A", "qonnx_zoo.TFC_2W2A")
VARIANTS = ("simd128", "plain")
_VERIFIED = re.compile(r"(simd128|plain) under node: verified: \d+ codes of \d+ steps equal")
_RUN = """
import { readFileSync, writeFileSync } from "node:fs";
import { inputs, load, outputs } from "./index.js";
const [variant] = process.argv.slice(2);
const read = (tensor, i) => new globalThis[tensor.array](new Uint8Array(readFileSync(`in${i}.bin`)).buffer);
const given = Object.fromEntries(inputs.map((tensor, i) => [tensor.name, read(tensor, i)]));
const network = await load({ variant });
if (network.variant !== variant) throw new Error(network.variant);
const results = network.run(given);
outputs.forEach((tensor, o) => writeFileSync(`out${o}.bin`, results[tensor.name]));
"""


def in_node(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module beside a package's files."""
    (folder / "script.mjs").write_text(script)
    command = ["node", "script.mjs", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def run_in_node(folder: Path, bundle: Bundle, inputs: dict[str, np.ndarray], variant: str) -> dict[str, np.ndarray]:
    for index, tensor in enumerate(bundle.inputs):
        inputs[tensor.name].tofile(folder / f"in{index}.bin")
    done = in_node(folder, _RUN, variant)
    assert done.returncode == 0, done.stderr
    return {
        tensor.name: np.fromfile(folder / f"out{index}.bin", tensor.dtype).reshape(
            -1, *tensor.shape[1:] if tensor.shape else ()
        )
        for index, tensor in enumerate(bundle.outputs)
    }


def check_model(path: Path, folder: Path) -> Bundle:
    """Every step of both variants is verified, and JavaScript gives what the x86 bundle gives."""
    said: list[str] = []
    bundle = qcompiler.compile(path, "wasm", output=folder / "wasm", progress=said.append)
    assert [match[1] for match in map(_VERIFIED.match, said) if match] == list(VARIANTS)
    native = qcompiler.compile(path, "x86", mcpu=("baseline",), output=folder / "x86", verify=False)
    inputs = random_inputs(native.inputs)
    expected = native.run(inputs)
    for variant in VARIANTS:
        found = run_in_node(folder / "wasm", bundle, inputs, variant)
        assert all(relative_difference(found[key], expected[key]) <= BOUND for key in expected)
    return bundle


@pytest.mark.skipif(not MODELS.exists(), reason=f"the model collection {MODELS} is not here")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SAMPLE else [pytest.mark.slow]) for name in manifest()]
)
def test_model_computes_what_its_x86_bundle_computes(name: str, tmp_path: Path) -> None:
    check_model(MODELS / manifest()[name]["file"], tmp_path)


def test_lenet(tmp_path: Path) -> None:
    bundle = check_model(lenet(tmp_path / "lenet.onnx"), tmp_path)
    assert [(step.w_bits, step.a_bits) for step in bundle.steps if step.integers] == [(1, 1)] * 3


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with an open batch."""
    folder = tmp_path_factory.mktemp("package")
    qcompiler.compile(binary_cnn(folder / "cnn.onnx"), "wasm", output=folder / "out", verify=False)
    return folder / "out"


def test_the_package_is_small_and_says_what_it_holds(package: Path) -> None:
    files = {path.name: path.stat().st_size for path in package.iterdir()}
    modules = {"cnn.plain.wasm", "cnn.simd128.wasm"}
    reports = {"manifest.json", "report.json", "report.txt", "report.html"}
    assert set(files) - {"script.mjs"} == {"index.js", "index.d.ts", "package.json", "example.mjs", *modules, *reports}
    assert files["index.js"] < 9 * 1024
    described = json.loads((package / "package.json").read_text())
    assert described["name"] == "cnn" and described["type"] == "module" and "dependencies" not in described
    types = (package / "index.d.ts").read_text()
    assert '"image": Float32Array;' in types and 'variant?: "simd128" | "plain";' in types


def test_it_is_installed_as_an_npm_package(package: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "cnn").symlink_to(package)
    script = 'import { load } from "cnn"; console.log((await load()).variant);'
    assert in_node(tmp_path, script).stdout == "simd128\n"


OPEN = """<ir_version: 10, opset_import: ["" : 21]>
g (float[n, 6] x) => (float[n, 6] y) { y = Relu (x) }"""


def test_a_batch_lies_one_behind_the_other(tmp_path: Path) -> None:
    path = tmp_path / "open.onnx"
    onnx.save(onnx.parser.parse_model(OPEN), path)
    bundle = qcompiler.compile(path, "wasm", mcpu=("plain",), output=tmp_path / "wasm", verify=False)
    x = np.arange(18, dtype=np.float32).reshape(3, 6) - 8
    found = run_in_node(tmp_path / "wasm", bundle, {"x": x}, "plain")["y"]
    np.testing.assert_array_equal(found, np.maximum(x, 0))
    script = """
        import { load } from "./index.js";
        const network = await load();
        try { network.run({ x: new Float32Array(13) }); } catch (error) { console.log(error.message); }"""
    assert (
        "'x' has 13 elements, expected Float32Array of 6 elements, or a multiple,"
        in in_node(tmp_path / "wasm", script).stdout
    )


EMBEDDING = """<ir_version: 10, opset_import: ["" : 21]>
g (int64[4] token, bool[4] known) => (float[4, 3] y, int64[4] next, bool[4] other)
<float[5, 3] table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, int64 one = {1}> {
    y = Gather (table, token)
    next = Add (token, one)
    other = Not (known)
}"""


def test_integers_booleans_and_faults_of_data(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(EMBEDDING), tmp_path / "embedding.onnx")
    qcompiler.compile(tmp_path / "embedding.onnx", "wasm", output=tmp_path / "out")
    script = """
        import { load } from "./index.js";
        const network = await load(), known = Uint8Array.of(0, 1, 1, 0);
        const { y, next, other } = network.run({ token: BigInt64Array.of(4n, 0n, -1n, 2n), known });
        console.log(`${y} | ${next} | ${other}`);
        try {
          network.run({ token: BigInt64Array.of(0n, 0n, 5n, 0n), known });
        } catch (error) {
          console.log(error.message);
        }
        console.log(`${network.run({ token: BigInt64Array.of(0n, 0n, 0n, 0n), known }).y}`);"""
    computed, fault, after = in_node(tmp_path / "out", script).stdout.splitlines()
    assert computed == "12,13,14,0,1,2,12,13,14,6,7,8 | 5,1,0,3 | 1,0,0,1"
    assert re.fullmatch(r"embedding: Gather .*: an index lies outside of its axis", fault)
    assert after == "0,1,2,0,1,2,0,1,2,0,1,2"


MISTAKES: dict[str, str] = {
    "network.run({})": "cnn: input 'image' is Undefined, expected Float32Array of 192 elements [1, 3, 8, 8]",
    "network.run()": "cnn: input 'image' is Undefined, expected Float32Array of 192 elements [1, 3, 8, 8]",
    "network.run({ picture: new Float32Array(192) })": "cnn: no input 'picture', expected image",
    "network.run({ image: new Array(192).fill(0) })": "cnn: input 'image' is Array, expected Float32Array of 192",
    "network.run({ image: new Float64Array(192) })": "cnn: input 'image' is Float64Array, expected Float32Array of",
    "network.run({ image: new Float32Array(191) })": "cnn: input 'image' has 191 elements, expected Float32Array of",
    "network.run({ image: new Float32Array(0) })": "cnn: input 'image' has 0 elements, expected Float32Array of 192",
    "await load({ variant: 'avx2' })": "cnn: no variant 'avx2', expected simd128 or plain",
    "await load({ source: new Uint8Array(8) })": "cnn: cnn.simd128.wasm is damaged or not WebAssembly (",
}


def test_mistakes_end_in_one_line(package: Path) -> None:
    calls = ",\n".join(f"async () => {call}" for call in MISTAKES)
    script = f"""
        import {{ load }} from "./index.js";
        const network = await load();
        for (const call of [{calls}]) {{
          const said = await Promise.resolve().then(call).then(() => "no error", (error) => error.message);
          console.log(said);
        }}"""
    done = in_node(package, script)
    assert done.returncode == 0, done.stderr
    for line, (call, expected) in zip(done.stdout.splitlines(), MISTAKES.items(), strict=True):
        assert line.startswith(expected), call


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "copy the whole file again"),
        (lambda path: path.write_bytes(b"\xff" * path.stat().st_size), "is damaged or not WebAssembly"),
        (lambda path: path.unlink(), "(ENOENT); keep it beside index.js"),
    ],
)
def test_a_damaged_module_is_named(package: Path, tmp_path: Path, change: Any, expected: str) -> None:
    copy = shutil.copytree(package, tmp_path / "copy")
    change(copy / "cnn.simd128.wasm")
    done = subprocess.run(["node", "example.mjs"], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: cnn: .*cnn\.simd128\.wasm.*\n", done.stderr) and expected in done.stderr


def test_an_engine_without_vectors_takes_the_plain_module(package: Path) -> None:
    script = """
        WebAssembly.validate = () => false;
        const { load } = await import("./index.js");
        console.log((await load()).variant);
        await load({ variant: "simd128" }).catch((error) => console.log(error.message));
        delete globalThis.WebAssembly;
        await load().catch((error) => console.log(error.message));"""
    assert in_node(package, script).stdout.splitlines() == [
        "plain",
        "cnn: this engine has no vectors of 128 bits; compile with --mcpu plain",
        "cnn: this browser has no WebAssembly; use one of 2018 or later",
    ]


def test_the_example_reads_files(package: Path) -> None:
    wrong = subprocess.run(
        ["node", "example.mjs", "index.js"], cwd=package, capture_output=True, text=True, check=False
    )
    assert (wrong.returncode, wrong.stderr) == (1, "error: index.js does not hold exactly 768 bytes\n")
    done = subprocess.run(["node", "example.mjs"], cwd=package, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"scores: float32 \[1, 5\]\n.*\n largest at \d\n[\d.]+ µs a run \(simd128\)\n", done.stdout)


def test_a_package_is_described_and_not_run_here(package: Path) -> None:
    with pytest.raises(UnsupportedCpu, match="the bundle is for wasm32, .*; run its example.mjs in node"):
        qcompiler.load(package)
    assert [variant.name for variant in describe(package).variants] == list(VARIANTS)


def test_modules_run_on_one_thread(tmp_path: Path) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    with pytest.raises(UsageError, match="--threads 2: modules for wasm run on one; leave it out"):
        qcompiler.compile(path, "wasm", output=tmp_path / "out", threads=2)


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        ((), r"the tool 'clang', .* is not installed; install the package clang \("),
        (("clang",), r"the tool 'wasm-ld', .* is not installed; install the package lld \("),
    ],
)
def test_missing_tools_are_named(
    tools: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    only(tools, tmp_path / "bin", monkeypatch)
    with pytest.raises(QCompilerError, match=expected) as raised:
        qcompiler.compile(path, "wasm", mcpu=("plain",), output=tmp_path / "out")
    assert raised.value.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_c_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    only(("wasm-ld",), tmp_path / "bin", monkeypatch)
    (tmp_path / "bin" / "clang").write_text("#!/bin/sh\necho libc.a\n")
    (tmp_path / "bin" / "clang").chmod(0o755)
    with pytest.raises(QCompilerError, match="finds no libc.a; install the package wasi-libc"):
        qcompiler.compile(path, "wasm", mcpu=("plain",), output=tmp_path / "out")


def test_without_node_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = binary_cnn(tmp_path / "cnn.onnx")
    only(("clang", "wasm-ld"), tmp_path / "bin", monkeypatch)
    said: list[str] = []
    qcompiler.compile(path, "wasm", mcpu=("plain",), output=tmp_path / "out", progress=said.append)
    assert said[-1] == f"{UNVERIFIED}: it cannot run wasm32 code; install the package nodejs to verify by emulation"


def only(tools: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search path of these tools and nothing else."""
    found = {tool: shutil.which(tool) for tool in tools}
    folder.mkdir()
    for tool, path in found.items():
        (folder / tool).symlink_to(str(path))
    monkeypatch.setenv("PATH", str(folder))
