"""The order of instructions in inner loops for ARM cores that keep to it, read from the assembly."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from benchmarks.inner_loops import InnerLoop, assembly, inner_loops
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.targets.arm import TARGET, ArmVariant
from qcompiler.targets.arm.machine import ISAS, Isa
from qcompiler.targets.problem import Conv2d, Operation
from qcompiler.targets.vector.conv import DirectConv2d
from tests.targets.test_reductions import layer

HALO = Halo(1, 1, 1, 1)
SIGNS = Buffer(1, 16, 16, 128, BINARY, halo=HALO, halo_value=-1.0)
ROWS = Conv2d(SIGNS, 128, (3, 3), pads=(1,) * 4, epilogue=(Operation("threshold", into=SIGNS),))
PLANES = layer(128, 32, 16, 16, 3, Codes(0, 1), Codes(-2, 1))
BYTES = layer(128, 32, 16, 16, 3, Codes(0, 15), Codes(-8, 7), "bytes")
LONG_BYTES = layer(128, 32, 16, 16, 3, Codes(0, 255), Codes(-128, 127), "bytes")
# cycles of a vector instruction, of which one begins in every cycle: of Cortex-A53, and of A55 at most
LATENCIES = {"generic": 6, "cortex-a53": 6, "dotprod": 4, "cortex-a55": 4}


def level(name: str) -> ArmVariant:
    (variant,) = TARGET.variants([name])
    return variant


def main_loop(problem: Conv2d, variant: ArmVariant, family: str) -> InnerLoop:
    """The longest inner loop of the first kernel of a family."""
    kernels = [each for each in variant.kernels(problem) if isinstance(each, DirectConv2d)]
    kernel = next(each for each in kernels if each.reduction.family == family)
    return max(inner_loops(assembly(kernel, variant)), key=lambda loop: len(loop.instructions))


def distances(loop: InnerLoop, user: str, maker: str) -> Iterator[int]:
    """Vector instructions from one that makes an operand to its first user, for all users of that kind."""
    made: dict[str, tuple[str, int]] = {}
    vectors = [instruction for instruction in loop.instructions if re.match(r"\w+\s+v\d", instruction)]
    for place, instruction in enumerate(vectors):
        name, operands = instruction.split(None, 1)
        into, *read = re.findall(r"v(\d+)", operands)
        for register in read if name == user else []:
            if made.get(register, ("", 0))[0] == maker:
                yield place - made[register][1]
        made[into] = name, place


@pytest.mark.parametrize("name", LATENCIES)
@pytest.mark.parametrize(("problem", "family", "logic"), [(ROWS, "row_conv2d", "eor"),
                                                          (PLANES, "byte_planes_conv2d", "and")],
                         ids=["rows", "planes"])  # fmt: skip
def test_bits_are_counted_in_batches(problem: Conv2d, family: str, logic: str, name: str) -> None:
    loop = main_loop(problem, level(name), family)
    assert loop.spills == 0
    counted, added = list(distances(loop, "cnt", logic)), list(distances(loop, "add", "cnt"))
    assert len(counted) == len(added) == loop.count("cnt") >= 48
    assert min(counted + added) >= LATENCIES[name]


def test_a_load_at_a_time_between_products_of_bytes() -> None:
    loop = main_loop(BYTES, level("cortex-a55"), "bytes_element_conv2d")
    names = [instruction.split()[0] for instruction in loop.instructions]
    between = [name for name in names[names.index("sdot") :] if name in ("sdot", "ldr")]
    assert between.count("ldr") >= 14 and ("ldr", "ldr") not in zip(between, between[1:], strict=False)
    # with their offsets in registers
    loads = [instruction for instruction in loop.instructions if instruction.startswith("ld")]
    assert all(re.fullmatch(r"ldr\s+q\d+, \[x\d+, x\d+\]", instruction) for instruction in loads)
    assert loop.spills == 0


@pytest.mark.parametrize("problem", [BYTES, LONG_BYTES], ids=["16 bits", "32 bits"])
@pytest.mark.parametrize("name", ["generic", "cortex-a72", "cortex-a53"])
def test_weights_of_bytes_do_not_change_places(problem: Conv2d, name: str) -> None:
    loop = main_loop(problem, level(name), "bytes_word_conv2d")
    made = loop.count("smlal") + loop.count("smlal2") + loop.count("smull") + loop.count("smull2")
    assert made == 8 * loop.count("dup") >= 128
    assert loop.spills == 0 and not any(re.match("zip|uzp|trn|ext|tbl", each) for each in loop.instructions)
    assert loop.count("sadalp") == (made if problem is LONG_BYTES else 0)


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa.wide], ids=lambda isa: isa.name)
def test_no_level_asks_for_instructions_that_it_does_not_promise(isa: Isa) -> None:
    promised = {"asimd": "+neon", "asimddp": "+dotprod", "i8mm": "+i8mm"}
    tuning = {"+slow-paired-128"} if isa.dotprod else set()
    assert set(isa.mattr) == {promised[feature] for feature in isa.cpuinfo} | tuning
    assert isa.mcpu == "generic" or isa.name.replace("_", "-") == isa.mcpu
