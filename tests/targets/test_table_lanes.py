"""Codes stored in tables of sums of four, and read from them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer
from qcompiler.targets.problem import Map2d, Operation
from qcompiler.targets.x86 import X86Variant
from tests.targets.problems import RUNNABLE, results

CODES = [Codes(0, 15), Codes(-32, 31), Codes(0, 255), Codes(-50, 49)]
TABLES: tuple[Literal["flips"], Literal["subsets"]] = ("flips", "subsets")


@pytest.mark.parametrize("variant", RUNNABLE, ids=lambda variant: variant.name)
@pytest.mark.parametrize("packing", TABLES)
@pytest.mark.parametrize("codes", CODES, ids=lambda codes: codes.label)
def test_stored_and_loaded(codes: Codes, packing: Literal["flips", "subsets"], variant: X86Variant) -> None:
    in_bytes = Buffer(1, 3, 5, 42, codes, packing="bytes")
    in_tables = Buffer(1, 3, 5, 42, codes, packing=packing)
    for source, target in ((in_bytes, in_tables), (in_tables, in_bytes)):
        problem = Map2d(source, (Operation("store_codes", into=target),))
        kernel = variant.kernels(problem)[0]
        for got, expected in results(kernel, variant, problem, 0):
            np.testing.assert_array_equal(got, expected)
