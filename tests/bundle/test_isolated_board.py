"""Code that does what no code may do, on an emulated board."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import describe
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.bundle.write import write
from qcompiler.errors import QCompilerError, VerificationFailed
from qcompiler.ir.program import Program
from qcompiler.targets.architecture import CORTEX_M
from qcompiler.targets.boards import BOARDS
from tests.bundle.suspects import check_does_not_end, check_right_after_wrong, doing, one_of
from tests.bundle.test_isolated import network, numbers
from tests.targets.on_board import missing

# memory is protected in two ways, by numbers and by bounds
CORES = ("cortex_m4", "cortex_m55")

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

MISDEEDS = {
    "z[ELEMENTS] = 1;": "(writes|faults, touching) .* past the end of output 'z'",
    "z[16] = 1;": "(writes|faults, touching) .* past the end of output 'z'",
    "z[-1] = 1;": "(writes|faults, touching) .* before output 'z'",
    "z[-20] = 1;": "(writes|faults, touching) .* before output 'z'",
    "((float *)x)[3] = 1;": "(writes|faults, touching) input 'x'",
    "w[WORKSPACE - 16] = 1;": "(writes|faults, touching) .* past the end of the workspace",
    "w[-17] = 1;": "(writes|faults, touching) .* before the workspace",
    "*(volatile int *)FLASH = 1;": r"traps \(fault 0x\w+ at 0x\w+\)",
    "z[0] = w[1 << 26];": r"traps \(fault 0x\w+ at 0x\w+\)",
    '__asm__ volatile("udf #0");': r"traps \(fault 0x\w+\)",
    "use_up_the_stack();": "traps|dies of SIGABRT",
}
READS = {
    "z[0] = z[-16];": "faults, touching 64 bytes before output 'z'",
    "z[0] = z[ELEMENTS + 16];": "faults, touching 6. bytes past the end of output 'z'",
    "z[0] = w[WORKSPACE];": "faults, touching .* past the end of the workspace",
    "z[0] = x[-1];": "faults, touching 4 bytes before input 'x'",
}
HANGS = "while (x[0]) {}"
DEEDS = [*MISDEEDS, *READS, HANGS]


def compiled(source: str, *flags: str, core: str = "cortex_m4") -> bytes:
    """A relocatable object for a core."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "kernels.c").write_text(source.replace("#include <unistd.h>", ""))
        command = ["arm-none-eabi-gcc", "-mthumb", *BOARDS[core].flags, "-O1", *flags, "-c", "kernels.c"]
        subprocess.run([*command, "-o", "kernels.o"], cwd=folder, check=True)
        return (folder / "kernels.o").read_bytes()


def program(body: str, core: str = "cortex_m4") -> Program:
    made = network(body, compiled=partial(compiled, core=core))
    return replace(made, target="cortex-m", variants=(replace(made.variants[0], name=core),))


def opened(body: str, folder: Path, seconds: int = 0, core: str = "cortex_m4") -> IsolatedBundle:
    write(program(body, core), folder / "out")
    manifest = describe(folder / "out").manifest
    return IsolatedBundle(folder / "out", manifest, emulator_for(CORTEX_M.name) or "", seconds)


@pytest.fixture(scope="module", params=CORES)
def suspect(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedBundle]:
    """A network whose second step does deed number x[0]."""
    body = one_of(DEEDS).replace("FLASH", f"{BOARDS[request.param].flash.origin + 512:#x}")
    folder = tmp_path_factory.mktemp("suspect")
    with opened(body, folder, seconds=2, core=request.param) as bundle:
        yield bundle


@pytest.mark.parametrize("body", MISDEEDS)
def test_misdeeds_are_found_and_named(body: str, suspect: IsolatedBundle) -> None:
    # in one of two runs the buffers begin with their pages, in the other they end with them
    for _ in range(2):
        with pytest.raises(VerificationFailed, match=f"node '/suspect': step 1 .Relu. ({MISDEEDS[body]})"):
            suspect.run(doing(DEEDS, body))


@pytest.mark.parametrize("body", READS)
def test_reads_beyond_a_buffer_are_found_on_one_side(body: str, suspect: IsolatedBundle) -> None:
    said = []
    for _ in range(2):
        try:
            suspect.run(doing(DEEDS, body))
        except VerificationFailed as error:
            said.append(str(error))
    (only,) = said
    assert re.search(f"node '/suspect': step 1 .Relu. {READS[body]}", only)


def test_code_that_does_not_end(suspect: IsolatedBundle) -> None:
    check_does_not_end(suspect, doing(DEEDS, HANGS))


def test_right_code_passes_after_wrong_code(suspect: IsolatedBundle) -> None:
    check_right_after_wrong(suspect, doing(DEEDS, "z[16] = 1;"))


def test_the_stack_is_measured(tmp_path: Path) -> None:
    deep = "volatile char deep[3000]; for (int i = 0; i < 3000; i++) deep[i] = 1;"
    found = []
    for name, body in (("flat", ""), ("deep", deep)):
        (tmp_path / name).mkdir()
        with opened(body, tmp_path / name) as bundle:
            bundle.run(numbers())
            found.append(bundle.stack_bytes(0))
    assert 0 < found[0] < 600 and 3000 <= found[1] - found[0] < 3100


def test_calls_of_the_runtime_are_refused(tmp_path: Path) -> None:
    named = compiled("int TVMBackendAllocWorkspace(void); int kernel(void) { return TVMBackendAllocWorkspace(); }")
    whole = program("")
    changed = replace(whole, variants=(replace(whole.variants[0], objects=(named,)),))
    with pytest.raises(QCompilerError, match="call TVM's runtime: TVMBackendAllocWorkspace"):
        write(changed, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
