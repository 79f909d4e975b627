"""A library of one kernel that any place can load: the kernel, and c/trial.c around it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tvm_ffi import libinfo

from qcompiler.bundle import toolchain
from qcompiler.targets.target import Kernel, Variant

_SOURCE = "trial.c"


def library(kernel: Kernel, variant: Variant, pointers: int, folder: Path, name: str) -> Path:
    """Compile a kernel, which takes so many pointers, into `folder`/`name`.so; the shim is made once per folder.

    Raises what the code generator raises, and QCompilerError where tools of the C compiler fail.
    """
    chain = toolchain.toolchain_for(variant.architecture.name)
    code, shim, target = f"{name}.o", f"trial{pointers}.o", f"{name}.so"
    (folder / code).write_bytes(variant.platform.compile({"kernel": kernel.build("kernel")}, variant.tvm_target))
    if not (folder / shim).exists():
        (folder / _SOURCE).write_bytes((resources.files(__package__) / "c" / _SOURCE).read_bytes())
        arguments = ", ".join(f"p[{index}]" for index in range(pointers))
        found = [f"-I{path}" for path in headers()]
        chain.run_all([chain.compilation(_SOURCE, shim, "-std=gnu11", f"-DARGUMENTS={arguments}", *found)], folder)
    chain.run_all([chain.shared_link([shim, code], target)], folder)
    (folder / code).unlink()
    return folder / target


def headers() -> tuple[str, ...]:
    """Folders of the headers that c/trial.c includes."""
    return libinfo.find_include_path(), libinfo.find_dlpack_include_path()
