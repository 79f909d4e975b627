"""Code that does what no code may do, in a module of an isolated bundle."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import describe
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.bundle.write import write
from qcompiler.errors import QCompilerError, VerificationFailed
from qcompiler.ir.program import Program
from tests.bundle.suspects import check_does_not_end, check_right_after_wrong, doing, one_of
from tests.bundle.test_isolated import network
from tests.targets.in_node import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

MISDEEDS = {
    "z[ELEMENTS] = 1;": "writes .* past the end of output 'z'",
    "z[16] = 1;": "writes .* past the end of output 'z'",
    "z[-1] = 1;": "writes .* before output 'z'",
    "z[-20] = 1;": "writes .* before output 'z'",
    "((float *)x)[3] = 1;": "writes input 'x'",
    "w[WORKSPACE - 16] = 1;": "writes .* past the end of the workspace",
    "w[-17] = 1;": "writes .* before the workspace",
    "*(volatile int *)(1 << 20) = 1;": "writes .* before input 'x'",
    "z[0] = w[1 << 26];": r"traps \(memory access out of bounds\)",
    "__builtin_trap();": r"traps \(unreachable\)",
    "z[0] = 77 / (int)(w[0] * 0);": r"traps \(divide by zero\)",
    "use_up_the_stack();": r"traps \(memory access out of bounds\)",
}
HANGS = "while (x[0]) {}"
DEEDS = [*MISDEEDS, HANGS]


def compiled(source: str, *flags: str) -> bytes:
    """A relocatable WebAssembly object."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "kernels.c").write_text(source)
        command = ["clang", "--target=wasm32-wasi", "-O1", *flags, "-c", "kernels.c", "-o", "kernels.o"]
        subprocess.run(command, cwd=folder, check=True)
        return (folder / "kernels.o").read_bytes()


def program(body: str) -> Program:
    return replace(network(body, compiled=compiled), target="wasm")


def opened(body: str, folder: Path, seconds: int = 0) -> IsolatedBundle:
    write(program(body), folder / "out")
    return IsolatedBundle(folder / "out", describe(folder / "out").manifest, emulator_for("wasm32") or "", seconds)


@pytest.fixture(scope="module")
def suspect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedBundle]:
    """A network whose second step does deed number x[0]."""
    with opened(one_of(DEEDS), tmp_path_factory.mktemp("suspect"), seconds=2) as bundle:
        yield bundle


@pytest.mark.parametrize("body", MISDEEDS)
def test_misdeeds_are_found_and_named(body: str, suspect: IsolatedBundle) -> None:
    # in one of two runs the buffers begin with their pages, in the other they end with them
    for _ in range(2):
        with pytest.raises(VerificationFailed, match=f"node '/suspect': step 1 .Relu. {MISDEEDS[body]}"):
            suspect.run(doing(DEEDS, body))


def test_code_that_does_not_end(suspect: IsolatedBundle) -> None:
    check_does_not_end(suspect, doing(DEEDS, HANGS))


def test_right_code_passes_after_wrong_code(suspect: IsolatedBundle) -> None:
    check_right_after_wrong(suspect, doing(DEEDS, "__builtin_trap();"))


def test_a_variant_that_is_no_module_is_not_supported(tmp_path: Path) -> None:
    write(program(""), tmp_path / "out")
    manifest = describe(tmp_path / "out").manifest
    with IsolatedBundle(tmp_path / "out", manifest, emulator_for("wasm32") or "") as bundle:
        assert bundle.supports(0)
    (tmp_path / "out" / manifest.library).write_bytes(b"\0asm\1\0\0\0\xff")
    with IsolatedBundle(tmp_path / "out", manifest, emulator_for("wasm32") or "") as bundle:
        assert not bundle.supports(0)


def test_calls_of_the_runtime_and_of_the_host_are_refused(tmp_path: Path) -> None:
    named = compiled("int TVMBackendAllocWorkspace(void); int kernel(void) { return TVMBackendAllocWorkspace(); }")
    whole = program("")
    changed = replace(whole, variants=(replace(whole.variants[0], objects=(named,)),))
    with pytest.raises(QCompilerError, match="call TVM's runtime: TVMBackendAllocWorkspace"):
        write(changed, tmp_path / "out")
    with pytest.raises(QCompilerError, match="needs functions of its host"):
        write(program("_exit(1);"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
