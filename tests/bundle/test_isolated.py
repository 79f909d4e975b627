"""Code that does what no code may do, in the process of an isolated bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompiler.bundle import guarded
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import checked_manifest, load
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.bundle.write import write
from qcompiler.errors import QCompilerError, UsageError, VerificationFailed
from qcompiler.ir.program import Argument, Call, Items, Program, StepInfo, StoredValue, TensorInfo, VariantCode
from tests.bundle import programs

# not a multiple of the alignment: 36 bytes
ELEMENTS = 9
ITEMS = 4


def network(
    body: str, items: int = ITEMS, compiled: Callable[..., bytes] = programs.compiled, constants: bytes = b""
) -> Program:
    """Two steps: y = x in the workspace, then `body` with x, z (the output), w (y) and a range of `items`."""
    source = f"""
        #include <stdint.h>
        #include <stdlib.h>
        #include <unistd.h>
        static __attribute__((noinline)) void use_up_the_stack(void) {{
            volatile char deep[1 << 26];
            for (int i = 0; i < 1 << 26; i += 512) deep[i] = 1;
        }}
        int32_t copy(const float *x, float *w, int32_t begin, int32_t end) {{
            for (int i = begin; i < end; i++) w[i] = x[i];
            return 0;
        }}
        int32_t check(const volatile float *x, volatile float *w, volatile float *z, int32_t begin, int32_t end) {{
            for (int i = 0; i < {ELEMENTS}; i++) z[i] = x[i];
            {body}
            return 0;
        }}"""
    x, w, z = Argument("input", 0), Argument("workspace", 64), Argument("output", 0)
    calls = (Call("copy", "copy_c", (x, w), Items(ELEMENTS)), Call("check", "check_c", (x, w, z), Items(items)))
    code = VariantCode("plain", (), (compiled(source, "-w", "-fno-builtin"),), calls)
    tensor = TensorInfo("x", (1, ELEMENTS), "float32")
    return Program(
        name="suspect",
        target="x86",
        inputs=(tensor,),
        outputs=(replace(tensor, name="z"),),
        workspace_bytes=128,
        constants=constants,
        steps=(
            StepInfo(("/copy",), "Identity", 32, 32, 0, 0),
            StepInfo(
                ("/suspect",), "Relu", 32, 32, 0, 0, values=(StoredValue("z", z, (1, ELEMENTS), "dense", "float32"),)
            ),
        ),
        variants=(code,),
    )


def opened(body: str, folder: Path, seconds: int = 0, items: int = ITEMS) -> IsolatedBundle:
    write(network(body, items), folder / "out")
    return IsolatedBundle(folder / "out", load(folder / "out").manifest, seconds=seconds)


def numbers(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((1, ELEMENTS)).astype(np.float32)}


WORKSPACE_FLOATS = 128 // 4
MISDEEDS = {
    "z[ELEMENTS] = 1;": "writes 1 bytes past the end of output 'z'|dies of SIGSEGV, touching 1 bytes past",
    "z[16] = 1;": "past the end of output 'z'",
    "z[-1] = 1;": "before output 'z'",
    "z[-20] = 1;": "before output 'z'",
    "((float *)x)[3] = 1;": "dies of SIGSEGV, touching input 'x'",
    "w[WORKSPACE - 16] = 1;": "past the end of the workspace",
    "w[-17] = 1;": "before the workspace",
    "z[0] = w[1 << 14];": "dies of SIGSEGV, touching [0-9]+ bytes past the end of the workspace",
    "z[0] = x[-4000];": "dies of SIGSEGV, touching [0-9]+ bytes before input 'x'",
    "*(volatile int *)8 = 1;": "dies of SIGSEGV",
    "__builtin_trap();": "dies of SIG(ILL|TRAP)",
    "z[0] = 77 / (int)(w[0] * 0);": "dies of SIGFPE",
    "use_up_the_stack();": "dies of SIGSEGV",
    "abort();": "dies of SIGABRT",
    "_exit(3);": "ends its process with status 3",
}


READS = {
    "z[0] = z[ELEMENTS + 16];": "dies of SIGSEGV",
    "z[0] = z[-16];": "dies of SIGSEGV",
    "z[0] = x[ELEMENTS + 16];": "dies of SIGSEGV",
    "z[0] = x[-1];": "dies of SIGSEGV",
}
DEEDS = {**MISDEEDS, **READS}


@pytest.fixture(scope="module")
def suspect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IsolatedBundle]:
    """A network whose second step does deed number x[0]."""
    cases = "".join(f"case {number}: {{ {body} break; }}\n" for number, body in enumerate(DEEDS))
    cases = cases.replace("ELEMENTS", str(ELEMENTS)).replace("WORKSPACE", str(WORKSPACE_FLOATS))
    with opened(f"if (begin == 0) switch ((int)x[0]) {{ {cases} }}", tmp_path_factory.mktemp("suspect")) as bundle:
        yield bundle


def doing(body: str) -> dict[str, np.ndarray]:
    return {"x": np.full((1, ELEMENTS), list(DEEDS).index(body), np.float32)}


@pytest.mark.parametrize("body", MISDEEDS)
def test_misdeeds_are_found_and_named(body: str, suspect: IsolatedBundle) -> None:
    # in one of two runs the buffers begin with their pages, in the other they end with them
    for _ in range(2):
        with pytest.raises(VerificationFailed, match=MISDEEDS[body]) as caught:
            suspect.run(doing(body))
        assert re.match("node '/suspect': step 1 .Relu. ", str(caught.value))
    stepper = suspect.stepper(doing(body))
    stepper.run_steps(0, 1)
    with pytest.raises(VerificationFailed, match=MISDEEDS[body]) as caught:
        stepper.run_steps(1, 2)
    assert re.match("node '/suspect': step 1 .Relu. ", str(caught.value))


@pytest.mark.parametrize("body", READS)
def test_a_read_outside_is_found_in_one_of_two_runs(body: str, suspect: IsolatedBundle) -> None:
    failures = []
    for _ in range(2):
        try:
            suspect.run(doing(body))
        except VerificationFailed as error:
            failures.append(str(error))
    assert len(failures) == 1
    assert READS[body] in failures[0]


def test_well_behaved_code_is_left_alone(tmp_path: Path) -> None:
    with opened("", tmp_path) as bundle:
        for number in range(6):
            given = numbers(number)
            for threads in (1, 2, 3):
                np.testing.assert_array_equal(bundle.run(given, threads)["z"], given["x"])
            stepper = bundle.stepper(given)
            stepper.run_steps(0, 2)
            np.testing.assert_array_equal(stepper.value("z"), given["x"])


def test_code_that_hangs_is_ended(tmp_path: Path) -> None:
    with opened("if (x[0] == 7) for (;;);", tmp_path, seconds=1) as bundle:
        bundle.run(numbers())
        given = {"x": np.full((1, ELEMENTS), 7, np.float32)}
        with pytest.raises(VerificationFailed, match="node '/suspect': step 1 .Relu. does not end"):
            bundle.run(given)
        with pytest.raises(VerificationFailed, match="step 1 .Relu. on 2 threads does not end"):
            bundle.run(given, threads=2)
        bundle.run(numbers())


def test_memory_starts_as_other_garbage_in_every_run(tmp_path: Path) -> None:
    with opened("for (int i = 0; i < 9; i++) z[i] = w[i - 16];", tmp_path) as bundle:
        found = {bundle.run(numbers())["z"].tobytes() for _ in range(3)}
    assert len(found) == 3
    assert bytes(36) not in found


def test_a_worker_thread_that_dies_is_found(tmp_path: Path) -> None:
    with opened("if (end == 4 && begin > 0) *(volatile int *)8 = 1;", tmp_path) as bundle:
        bundle.run(numbers())
        with pytest.raises(VerificationFailed, match="a run of steps 0 to 1 on 2 threads dies of SIGSEGV"):
            bundle.run(numbers(), threads=2)


def test_a_failing_kernel_is_an_error_and_no_crash(tmp_path: Path) -> None:
    write(programs.failing(), tmp_path / "out")
    given = programs.inputs()
    given["features/x:0"][...] = 1
    with (
        IsolatedBundle(tmp_path / "out", load(tmp_path / "out").manifest) as bundle,
        pytest.raises(QCompilerError, match="failed: a kernel failed"),
    ):
        bundle.run(given)


def test_results_are_those_of_the_loaded_library(pristine: Path) -> None:
    loaded = load(pristine)
    with IsolatedBundle(pristine, loaded.manifest) as bundle:
        for bundle.variant in (-1, *(i for i in range(2) if bundle.supports(i))):
            for threads in (1, 2):
                given = programs.inputs(threads)
                found = bundle.run(given, threads)
                for name, expected in loaded.run(given).items():
                    np.testing.assert_array_equal(found[name], expected)


def test_a_variant_that_the_processor_lacks(tmp_path: Path) -> None:
    write(programs.impossible(), tmp_path / "out")
    with IsolatedBundle(tmp_path / "out", checked_manifest(tmp_path / "out")) as bundle:
        assert not bundle.supports(0)
        with pytest.raises(QCompilerError, match="the CPU has none of the instruction sets"):
            bundle.run(programs.inputs())


def test_a_run_ends_where_the_next_one_starts(tmp_path: Path) -> None:
    with opened("", tmp_path) as bundle:
        stepper = bundle.stepper(numbers())
        stepper.run_steps(0, 1)
        bundle.run(numbers())
        with pytest.raises(UsageError, match="this run is over"):
            stepper.run_steps(1, 2)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with opened("", tmp_path) as bundle:
        bundle.run(numbers())
        process = bundle._workers[0]._process
        assert process is not None and process.poll() is None
    assert process.poll() is not None
    assert not list((tmp_path / "tmp").iterdir())


def test_addresses_are_described() -> None:
    first, second = guarded.plan([("a", 100, 64), ("b", 5000, 4)])
    assert (first.pages, second.pages) == (guarded.PAGE, 2 * guarded.PAGE)
    assert first.slack == (guarded.PAGE - 100) // 64 * 64
    assert second.slack == 2 * guarded.PAGE - 5000
    memory = guarded.GuardedMemory((first, second))
    assert memory.describe(first.address - 1) == "1 bytes before a"
    assert memory.describe(first.address + guarded.PAGE) == "1 bytes past the end of a"
    assert memory.describe(second.address - 3) == "3 bytes before b"
    assert memory.describe(second.address + 10) == "b"
    memory.close()


@pytest.mark.skipif(emulator_for("x86_64") is None, reason="missing Debian package: qemu-user")
def test_the_same_under_an_emulator(tmp_path: Path) -> None:
    emulator = emulator_for("x86_64")
    assert emulator is not None
    for name, body, message in (("a", "z[16] = 1;", "past the end of output 'z'"), ("b", "for (;;);", "does not end")):
        folder = tmp_path / name
        write(network(body), folder)
        with IsolatedBundle(folder, load(folder).manifest, emulator, seconds=1) as bundle:
            for number in range(2):
                with pytest.raises(VerificationFailed, match=f"node '/suspect': step 1 .*{message}"):
                    bundle.run(numbers(number))
