"""The table of CUDA's kernel families."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir.storage import Halo
from qcompiler.targets.cuda.float_conv import float_convolutions
from qcompiler.targets.cuda.machine import Gpu
from qcompiler.targets.cuda.mma_conv import mma_convolutions
from qcompiler.targets.cuda.pool_map import maps, pools
from qcompiler.targets.cuda.product import products
from qcompiler.targets.cuda.rounded_product import rounded_products
from qcompiler.targets.cuda.word_conv import word_convolutions
from qcompiler.targets.offers import Family, offered
from qcompiler.targets.problem import Problem, outputs_of, tensors_of
from qcompiler.targets.target import Kernel

KERNELS: tuple[Family[Gpu], ...] = (
    mma_convolutions,
    word_convolutions,
    products,
    rounded_products,
    float_convolutions,
    pools,
    maps,
)


def offers(gpu: Gpu, problem: Problem) -> Sequence[Kernel]:
    """Every kernel for a problem, cheapest first: none where a buffer has a halo or tables, which nobody asks for."""
    buffers = (problem.x, *tensors_of(problem), *outputs_of(problem))
    if any(buffer.halo != Halo() or buffer.in_tables for buffer in buffers):
        return ()
    return offered(KERNELS, gpu, problem)
