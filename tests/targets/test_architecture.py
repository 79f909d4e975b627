"""One record per architecture: what compilers, file formats, systems and CPU tests say of it agree with it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from qcompiler import targets
from qcompiler.bundle.glue import known_features
from qcompiler.bundle.toolchain import machine_of
from qcompiler.errors import QCompilerError, UsageError
from qcompiler.ir.storage import Buffer
from qcompiler.targets.architecture import ARCHITECTURES, IOS, X86_64_CUDA, family, host, named
from qcompiler.targets.problem import Map2d, Operation
from qcompiler.targets.target import Variant
from qcompiler.targets.vector.kernel_runner import object_code

SELECTIONS = [("x86", ()), ("arm", ()), ("arm", ("armv7",)), ("wasm", ()), ("cortex-m", ()), ("rv64", ())]
SELECTIONS.append(("arm", ("ios",)))
VARIANTS = [variant for name, mcpu in SELECTIONS for variant in targets.get(name).variants(mcpu)]
FLOATS = Buffer(1, 2, 3, 4, "float32")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_code_of_a_variant_is_what_its_architecture_says(variant: Variant, tmp_path: Path) -> None:
    (kernel,) = variant.kernels(Map2d(FLOATS, (Operation("store", into=FLOATS),)))
    code = object_code(kernel, variant, tmp_path / "kernel.o").read_bytes()
    assert machine_of(code) == variant.architecture.name
    assert variant.architecture.file_format != "elf" or (code[4] == 2) == variant.architecture.wide
    # Apple's systems run code of a processor family that has a record of its own
    processor = "aarch64" if variant.architecture is IOS else variant.architecture.name
    assert family(variant.tvm_target["mtriple"].partition("-")[0]) == processor
    assert {feature.name for feature in variant.features} <= known_features(variant.architecture.name)
    # of a triple without a vendor LLVM takes the system for the vendor, and passes floats to helpers in wrong registers
    assert variant.tvm_target["mtriple"].split("-")[1] in ("unknown", "apple")


def test_every_architecture_has_code() -> None:
    assert {variant.architecture for variant in VARIANTS} == {each for each in ARCHITECTURES if not each.host_name}
    assert {variant.architecture for variant in targets.get("cuda").variants(())} == {X86_64_CUDA}


def test_code_for_ios_shares_no_bundle() -> None:
    assert {variant.architecture for variant in targets.get("arm").variants(["ios"])} == {IOS}
    with pytest.raises(UsageError, match="--mcpu ios shares no bundle with others; make two bundles"):
        targets.get("arm").variants(["generic", "ios"])


@pytest.mark.parametrize(
    ("system", "name"),
    [("x86_64", "x86_64"), ("amd64", "x86_64"), ("arm64", "aarch64"), ("aarch64", "aarch64"),
     ("armv7l", "arm"), ("armv8l", "arm"), ("thumbv7a", "arm"), ("arm", "arm"), ("riscv64", "riscv64"),
     ("wasm32", "wasm32"), ("thumbv6m", "cortex-m"), ("thumbv7em", "cortex-m"), ("thumbv8.1m.main", "cortex-m")],
)  # fmt: skip
def test_names_of_systems_and_compilers(system: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert family(system) == name
    monkeypatch.setattr(platform, "machine", lambda: system)
    assert host() == name


def test_32_bit_processes_on_64_bit_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr("struct.calcsize", lambda _: 4)
    assert host() == "arm"


def test_no_name_stands_for_two() -> None:
    for one in ARCHITECTURES:
        names = [one.name, *(alias.replace("*", "7") for alias in one.aliases)]
        assert {other.name for other in ARCHITECTURES for name in names if other.is_called(name)} == {one.name}
    processors = [one for one in ARCHITECTURES if one.file_format == "elf"]
    assert len({(one.elf_machine, one.bare) for one in processors}) == len(processors)
    assert all(named(one.host_name).elf_machine == one.elf_machine for one in ARCHITECTURES if one.host_name)


def test_unknown_architectures_are_named() -> None:
    assert all(named(each.name) is each for each in ARCHITECTURES)
    with pytest.raises(QCompilerError, match="unknown architecture 'z80'; known: x86_64, aarch64, arm, wasm32"):
        named("z80")
