"""How much of a microcontroller's flash and RAM a network takes: read from what its library adds to a program."""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qcompiler.bundle.board_files import LIBRARIES
from qcompiler.bundle.manifest import Manifest, bare_library_name, tensor_bytes
from qcompiler.bundle.toolchain import Toolchain, toolchain_for
from qcompiler.targets.boards import BOARDS

# what `size` prints: text, data, bss
_BERKELEY = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s", re.MULTILINE)


@dataclass(frozen=True)
class Footprint:
    """Bytes of one variant.

    code: machine code with what it needs of libm and libgcc. constants: of the network. static: of the library, written
    at run time. workspace, inputs, outputs: the caller's arrays. stack: the deepest of the runs that verified it; 0
    where there were none.
    """

    variant: str
    code: int
    constants: int
    static: int
    workspace: int
    inputs: int
    outputs: int
    stack: int = 0

    @property
    def flash(self) -> int:
        """All that is only read."""
        return self.code + self.constants

    @property
    def ram(self) -> int:
        """All that is written."""
        return self.static + self.workspace + self.inputs + self.outputs + self.stack

    def measured(self, stack: int) -> Footprint:
        """The same where runs have used so much of the stack."""
        return replace(self, stack=stack)

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the sums."""
        return {**asdict(self), "flash": self.flash, "ram": self.ram}


def footprints(directory: Path, manifest: Manifest) -> tuple[Footprint, ...]:
    """One for each variant of a bundle for microcontrollers in `directory`."""
    chain = toolchain_for(manifest.architecture)
    with tempfile.TemporaryDirectory() as folder:
        return tuple(_footprint(chain, directory, manifest, each.name, Path(folder)) for each in manifest.variants)


def _footprint(chain: Toolchain, directory: Path, manifest: Manifest, variant: str, folder: Path) -> Footprint:
    """That of a variant; folder: for a program that calls the network and nothing else."""
    library, run = str(directory.absolute() / bare_library_name(manifest.name, variant)), f"{manifest.name}_run"
    flags = (*BOARDS[variant].flags, "-mthumb", "-nostartfiles", f"-Wl,--gc-sections,-e,{run},-u,{run}")
    chain.run("cc", *flags, library, *LIBRARIES, "-o", "program", folder=folder)
    text, data, bss = _sizes(chain.run("size", "program", folder=folder))
    sections = chain.run("size", "-A", "-d", library, folder=folder)
    (constants,) = re.findall(rf"^\.rodata\.{manifest.name}_constants\s+(\d+)", sections, re.MULTILINE)
    return Footprint(
        variant=variant,
        code=text + data - int(constants),
        constants=int(constants),
        static=data + bss,
        workspace=manifest.workspace_bytes,
        inputs=sum(map(tensor_bytes, manifest.inputs)),
        outputs=sum(map(tensor_bytes, manifest.outputs)),
    )


def _sizes(listing: str) -> tuple[int, int, int]:
    """Bytes of code and read-only data, of data with values, and of data without."""
    (found,) = _BERKELEY.findall(listing)
    text, data, bss = map(int, found)
    return text, data, bss
