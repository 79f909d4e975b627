"""Runs a kernel for another processor family under an emulator, in memory shared through a file."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.bundle.toolchain import Toolchain, emulator_for, missing_c_library
from qcompiler.targets.architecture import named
from qcompiler.targets.target import Array, Constants, Kernel, Variant
from qcompiler.targets.vector.kernel_runner import object_code

FENCE = 0xA5


def cross_chain(architecture: str) -> Toolchain:
    return Toolchain(named(architecture), cross=True)


def missing(architecture: str) -> str:
    """The Debian packages that are needed to run code for `architecture` and not installed; empty if none."""
    chain = cross_chain(architecture)
    packages = [chain.architecture.cross_package]
    if shutil.which(chain.compiler):
        package = missing_c_library(chain)
        packages = [package] if package else []
    return ", ".join(packages + ([] if emulator_for(architecture) else ["qemu-user"]))


@functools.cache
def driver(architecture: str, pointers: int) -> str:
    """The path of an object whose `main` calls a kernel: SIZE OFFSET... FILE BEGIN END, an offset for each pointer."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    arguments = "".join(f"memory + atol(argv[{2 + place}]), " for place in range(pointers))
    (folder / "main.c").write_text(f"""
        #include <fcntl.h>
        #include <stdlib.h>
        #include <sys/mman.h>
        extern int kernel({"void *, " * pointers}int, int);
        int main(int argc, char **argv) {{
            if (argc != {5 + pointers})
                return 1;
            char **last = argv + {2 + pointers};
            char *memory = mmap(0, atol(argv[1]), PROT_READ | PROT_WRITE, MAP_SHARED, open(last[0], O_RDWR), 0);
            return kernel({arguments}atoi(last[1]), atoi(last[2]));
        }}""")
    subprocess.run([cross_chain(architecture).compiler, "-O1", "-c", "main.c"], cwd=folder, check=True)
    return str(folder / "main.o")


class EmulatedRunner:
    """Like `runner.Runner`: `bind` places the arrays in the shared file, `call` runs and copies all of them back."""

    def __init__(self, kernel: Kernel, variant: Variant, constants: Constants) -> None:
        self.items = kernel.items
        self._constants = list(kernel.pack(constants))
        self._architecture = variant.architecture.name
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name)
        object_code(kernel, variant, self._path / "kernel.o")

    def bind(self, x: Array, tensors: Sequence[Array], outputs: Sequence[Array]) -> list[tuple[Array, int]]:
        """Arrays and where they lie: constants aligned to 64 bytes, the others as they are in this process."""
        placed, end = [], 64
        for array in (x, *self._constants, *tensors, *outputs):
            misaligned = 0 if any(array is constant for constant in self._constants) else array.ctypes.data % 64
            placed.append((array, -(-end // 64) * 64 + misaligned))
            end = placed[-1][1] + array.nbytes + 64
        self._file = np.memmap(self._path / "memory", np.uint8, "w+", shape=(end,))
        self._file[...] = FENCE
        self._command = self._build([offset for _, offset in placed], end)
        return placed

    def _build(self, offsets: Sequence[int], size: int) -> list[str]:
        """Build the program; the command that runs it, without the last arguments: the file, and the work items."""
        command = [cross_chain(self._architecture).compiler, "-static", driver(self._architecture, len(offsets))]
        subprocess.run([*command, "kernel.o", "-o", "main"], cwd=self._path, check=True)
        emulator = emulator_for(self._architecture)
        assert emulator is not None
        processor = named(self._architecture).emulator_cpu
        return [emulator, "-cpu", processor, str(self._path / "main"), str(size), *map(str, offsets)]

    def call(self, pointers: Sequence[tuple[Array, int]], begin: int, end: int) -> None:
        """Run the work items [begin, end)."""
        used = np.zeros(self._file.shape, bool)
        for array, offset in pointers:
            self._file[offset : offset + array.nbytes] = array.reshape(-1).view(np.uint8)
            used[offset : offset + array.nbytes] = True
        subprocess.run([*self._command, str(self._path / "memory"), str(begin), str(end)], check=True)
        assert (self._file[~used] == FENCE).all(), "wrote past a buffer"
        for array, offset in pointers:
            array.reshape(-1).view(np.uint8)[...] = self._file[offset : offset + array.nbytes]
