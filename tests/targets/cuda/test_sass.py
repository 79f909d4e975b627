"""What nvcc makes of the kernels for each architecture: native instructions, no spills, within what a block has."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from qcompiler.bundle import cuda_link, glue
from qcompiler.bundle.load import checked_manifest
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.program import LaunchGrid
from qcompiler.ir.storage import Buffer
from qcompiler.ir.weight_grids import WeightGrid
from qcompiler.targets.cuda import TARGET, CudaVariant
from qcompiler.targets.cuda.mma_conv import MmaConv2d
from qcompiler.targets.cuda.mma_tiling import Multiplied
from qcompiler.targets.problem import Conv2d, Map2d, Operation, Problem
from qcompiler.targets.target import Kernel
from tests.targets.cuda.launching import missing

TOOLS = ("nvcc", "cuobjdump", "nvdisasm")
# what an idle thread of a block of 128 leaves to the others on every architecture
MOST_REGISTERS = 255
ARCHITECTURES = [
    pytest.param(
        variant, id=variant.name, marks=[pytest.mark.slow] if variant.name in ("sm_86", "sm_89", "sm_100") else []
    )
    for variant in TARGET.variants(())
]


pytestmark = pytest.mark.skipif(bool(missing(*TOOLS)), reason=missing(*TOOLS))


def layer(weights: Codes, inputs: Codes, groups: int = 1) -> Conv2d:
    """In bit planes; `fastest` puts the inputs into bytes where these are faster."""
    x = Buffer(8, 28, 28, 128, inputs, groups=groups)
    stores = (Operation("threshold", into=replace(x, groups=1)),)
    shape = {"kernel": (3, 3), "pads": (1, 1, 1, 1), "groups": groups, "padding": "kernel"}
    return Conv2d(x, 128, **shape, weights=weights, pad_value=0, epilogue=stores)


TOGETHER = "w1a1 by four warps"
SLICED = "bytes of long rows, over blocks"
AMPERE: dict[str, Multiplied] = {
    "w1a1": "and",
    "w1a1 in groups": "and",
    "w4a4": "nibbles",
    "w8a8": "bytes",
    "w1a1 of a few pixels": "and",
}
CONSUMER = {**AMPERE, "w2a2": "and"}
ON_BYTES: dict[str, Multiplied] = dict.fromkeys([*CONSUMER], "bytes")
MULTIPLIED: dict[str, dict[str, Multiplied]] = {
    "sm_75": {**AMPERE, "w1a1": "xor", "w1a1 in groups": "xor", "w1a1 of a few pixels": "xor", "w2a2": "nibbles"},
    "sm_80": {**AMPERE, "w2a2": "nibbles"},
    "sm_86": CONSUMER,
    "sm_89": CONSUMER,
    "sm_90a": {**CONSUMER, "w4a4": "bytes", TOGETHER: "wide and"},
    "sm_100": ON_BYTES,
    "sm_120": ON_BYTES,
}
"""By what the fastest kernel multiplies: 2 bits tie with 4 where both have their published rates."""

ASSEMBLED: dict[Multiplied, str] = {
    "wide and": r"BGMMA\.64x64x256\.AND",
    "and": r"BMMA\.168256\.AND",
    "xor": r"BMMA\.88128\.XOR",
    "nibbles": r"IMMA\.\d+\.U4\.U4",
    "bytes": r"IMMA\.\d+\.U8\.U8",
}


BY_NAME = {
    "wide_bits": ASSEMBLED["wide and"],
    "bits": f"{ASSEMBLED['and']}|{ASSEMBLED['xor']}",
    "nibbles": ASSEMBLED["nibbles"],
    "bytes": ASSEMBLED["bytes"],
}
"""By what kernels multiply, by their names."""

OWN = ("mma_", "popc_", "dot_", "float_conv2d", "rounded_product", "map2d", "pool2d")
"""How names of our own kernels begin."""


def few() -> Conv2d:
    """A product whose pixels warps share."""
    x = Buffer(1, 1, 2, 2048, BINARY)
    stores = (Operation("store", into=Buffer(1, 1, 2, 1024, "float32")),)
    return Conv2d(x, 1024, (1, 1), padding="kernel", epilogue=stores)


def few_long_rows() -> Conv2d:
    """A product whose sums several blocks of threads share."""
    stores = (Operation("store", into=Buffer(1, 1, 2, 10, "float32")),)
    x = Buffer(1, 1, 2, 16384, Codes(0, 63), packing="bytes")
    return Conv2d(x, 10, (1, 1), padding="kernel", weights=Codes(-8, 7), epilogue=stores)


FLOATS = Buffer(1, 28, 28, 64, "float32")
PROBLEMS: dict[str, Problem] = {
    "w1a1": layer(BINARY, BINARY),
    "w2a2": layer(Codes(-1, 1), Codes(0, 3)),
    "w4a4": layer(Codes(-8, 7), Codes(0, 15)),
    "w8a8": layer(Codes(-128, 127), Codes(0, 255)),
    "w1a1 in groups": layer(BINARY, BINARY, groups=2),
    "w1a1 of a few pixels": few(),
    "rounded floats": replace(
        Conv2d(Buffer(1, 1, 1, 4096, "float32"), 64, (1, 1), grid=WeightGrid(4, 32, 8), rounded=True),
        epilogue=(Operation("store", into=Buffer(1, 1, 1, 64, "float32")),),
    ),
    "floats": Conv2d(
        FLOATS, 64, (3, 3), pads=(1, 1, 1, 1), padding="kernel", epilogue=(Operation("store", into=FLOATS),)
    ),
    "signs": Map2d(FLOATS, (Operation("store_bits", into=Buffer(1, 28, 28, 64, BINARY)),)),
}


def assembled(variant: CudaVariant, kernels: dict[str, Kernel], folder: Path) -> tuple[str, str]:
    """What ptxas says, and the assembly."""
    functions = {name: kernel.build(name) for name, kernel in kernels.items()}
    source = variant.platform.compile(functions, variant.tvm_target).decode()
    (folder / "kernels.cu").write_text(f'#include "instructions.h"\n{source}')
    (folder / "instructions.h").write_text(glue.template_text("cuda/instructions.h"))
    flags = [*cuda_link.KERNEL_FLAGS, *cuda_link.code_for(variant.name), "-Xptxas", "-v", "-cubin"]
    command = [cuda_link.compiler(), *flags, "kernels.cu", "-o", "kernels.cubin"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr, shown(folder, "kernels.cubin")


def shown(folder: Path, file: str) -> str:
    """The assembly of a library or an object."""
    cuobjdump, nvdisasm = (cuda_link.tool(name, ()) for name in ("cuobjdump", "nvdisasm"))
    path = f"{Path(nvdisasm).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run([cuobjdump, "-sass", file], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fastest(variant: CudaVariant, problem: Problem) -> Kernel:
    """The cheapest kernel, in the storage of the input that it reads fastest."""
    problems = [problem]
    if isinstance(problem, Conv2d) and problem.x.packed:
        problems.append(replace(problem, x=replace(problem.x, packing="bytes")))
    return min((kernel for each in problems for kernel in variant.kernels(each)), key=lambda kernel: kernel.cost)


def operations(text: str) -> Counter[str]:
    """The instructions of a function, without what is behind the first point."""
    return Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(\w+)", text, re.MULTILINE))


def check_assembly(bundle: Path) -> int:
    """Hold all kernels of our own in a written bundle against what is asked of assembly; how many there are.

    Tensor cores multiply by what the kernel's name says, by nothing that stands for it; no register goes to memory.
    """
    described, found = checked_manifest(bundle), 0
    functions = by_function(shown(bundle, described.library))
    for number, variant in enumerate(described.variants):
        source = (bundle / f"{described.name}.{variant.name}.cu").read_text()
        parts = re.split(r"^static cudaError_t step_(\d+)\(", source, flags=re.MULTILINE)[1:]
        for index, text in zip(parts[0::2], parts[1::2], strict=True):
            name = described.steps[int(index)].kernels[number]
            if not name.startswith(OWN):
                continue
            symbols = re.findall(r"QC_LAUNCH\((\w+),", text)
            assembly = "".join(functions[symbol] for symbol in symbols)
            assert symbols and not {"LDL", "STL"} & set(operations(assembly)), (variant.name, name)
            used = set(re.findall(r"\b[BIG]+MMA\.[\w.]+", assembly))
            kind = next((key for key in BY_NAME if name.startswith(f"mma_{key}_")), None)
            assert bool(used) == (kind is not None), (variant.name, name, used)
            assert all(re.match(BY_NAME[kind], each) for each in used if kind), (variant.name, name, used)
            found += 1
    return found


def by_function(sass: str) -> dict[str, str]:
    return dict(re.findall(r"Function : (\w+)\n(.*?)(?=\n\s*Function :|\Z)", sass, re.DOTALL))


@pytest.mark.parametrize("variant", ARCHITECTURES)
def test_kernels_are_native_and_keep_to_their_registers(variant: CudaVariant, tmp_path: Path) -> None:
    symbols = {name.replace(" ", "_"): name for name in PROBLEMS}
    kernels = {symbol: fastest(variant, PROBLEMS[name]) for symbol, name in symbols.items()}
    assert isinstance(shared := kernels["w1a1_of_a_few_pixels"], MmaConv2d) and shared.splits > 1
    if variant.gpu.wide_bits:
        symbols[symbol := TOGETHER.replace(" ", "_")] = TOGETHER
        offered = [each for each in variant.kernels(PROBLEMS["w1a1"]) if isinstance(each, MmaConv2d)]
        (kernels[symbol],) = [each for each in offered if each.wide]
    symbols[long := "long_rows"] = SLICED
    offered = [each for each in variant.kernels(few_long_rows()) if isinstance(each, MmaConv2d)]
    kernels[long] = next(each for each in offered if each.slices > 1 and each.by == "bytes")
    said, sass = assembled(variant, kernels, tmp_path)
    spilled = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert len(spilled) == len(kernels) + 1 and {number for each in spilled for number in each} == {"0"}
    assert all(int(count) <= MOST_REGISTERS for count in re.findall(r"Used (\d+) registers", said))
    functions = by_function(sass)
    assert set(functions) == {*kernels, f"{long}_1"}
    for name, text in functions.items():
        assert operations(text), name
        assert not {"LDL", "STL"} & set(operations(text))
        used = set(re.findall(r"\b[BIG]+MMA\.[\w.]+", text))
        wanted = MULTIPLIED[variant.name].get(key := symbols[name.removesuffix("_1")])
        if key == SLICED and name == long:
            wanted = "bytes"
        # an instruction that is emulated is others of bytes
        assert key != "rounded floats" or "IDP.4A.S8.U8" in text
        assert bool(used) == (wanted is not None), (key, used)
        assert all(re.match(ASSEMBLED[wanted], each) for each in used if wanted), (key, used)
    for kernel in kernels.values():
        assert isinstance(kernel.launch, LaunchGrid)
        assert kernel.launch.shared_bytes <= min(48 * 1024, variant.gpu.shared_bytes)
