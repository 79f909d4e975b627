"""Symbols as readelf lists them, of every kind and of files that the toolchain makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.bundle.symbols import Symbol, parse
from qcompiler.bundle.toolchain import toolchain_for

LISTING = """
Symbol table '.symtab' contains 8 entries:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND 
     1: 0000000000000000     0 SECTION LOCAL  DEFAULT    1 .text
     2: 0000000000000040   128 FUNC    GLOBAL DEFAULT    1 k0_avx2
     3: 00000000000000c0 0x18000 OBJECT  GLOBAL HIDDEN    5 table
     4: 0000000000000000     0 NOTYPE  GLOBAL DEFAULT  UND expf@GLIBC_2.27 (2)
     5: 0000000000000000     8 OBJECT  WEAK   DEFAULT  COM __TVMFuncCall
     6: 0000000000000000     0 NOTYPE  WEAK   DEFAULT  UND __cxa_finalize@GLIBC_2.2.5 (3)
     7: 0000000000000000    64 FUNC    GLOBAL DEFAULT [VARIANT_PCS]     1 lanes
"""


def test_symbols_of_a_listing():
    assert list(parse(LISTING)) == [
        Symbol("k0_avx2", defined=True, weak=False),
        Symbol("table", defined=True, weak=False),
        Symbol("expf", defined=False, weak=False),
        Symbol("__TVMFuncCall", defined=True, weak=True),
        Symbol("__cxa_finalize", defined=False, weak=True),
        Symbol("lanes", defined=True, weak=False),
    ]


SOURCE = """
extern int needed(int); extern int perhaps(int) __attribute__((weak));
static int inner(int x) { return x * x; }
int a_name_that_is_longer_than_the_column_of_a_table_that_is_eighty_characters_wide(int x) { return inner(needed(x)); }
__attribute__((weak)) int replaceable(int x) { return perhaps ? perhaps(x) : x; }
int counter;
"""


@pytest.mark.parametrize("flags", [(), ("-fcommon",)])
def test_symbols_of_an_object(tmp_path: Path, flags: tuple[str, ...]) -> None:
    chain = toolchain_for("x86_64")
    (tmp_path / "source.c").write_text(SOURCE)
    chain.run_all([chain.compilation("source.c", "object.o", *flags)], tmp_path)
    found = [each for each in chain.symbols("object.o", tmp_path) if each.name != "_GLOBAL_OFFSET_TABLE_"]
    assert sorted(found, key=lambda each: each.name) == [
        Symbol("a_name_that_is_longer_than_the_column_of_a_table_that_is_eighty_characters_wide", True, False),
        Symbol("counter", True, False),
        Symbol("needed", False, False),
        Symbol("perhaps", False, True),
        Symbol("replaceable", True, True),
    ]
