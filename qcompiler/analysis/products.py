"""Numbers that sums of products with constant weights take with positive probability, where they are no lattice.

Coarse weights are integers of few bits over a unit. A progression of activations b + i * u then gives the progression
sum(w) * b + j * (unit * u), with another sum(w) at each border of zeros. Activations out of several progressions give
multiples of what divides all their numbers. Where nothing divides them, or nothing is known of the activations, such
sums can be any number. Sums with trained weights are 0 only where all that they weigh is 0.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.atoms import Atoms, Progression, common, point
from qcompiler.analysis.borders import layer_of_constant
from qcompiler.analysis.levels import DoubleArray
from qcompiler.analysis.sums import aligned, columns_of, grains, pads_zero
from qcompiler.ir.view import text

Weights = npt.NDArray[np.generic]

# pixels whose constants differ; chosen
_MOST_PLACES = 16


def product_of(node: ir.Node, weights: Weights, source: Atoms, axis: int, has_zero: bool) -> list[Progression] | None:
    """Progressions per output channel of a layer on `source`, whose channels lie along `axis`; None for any number.

    has_zero: whether 0 is among the activations.
    """
    columns = columns_of(node, weights)
    unit, coarse = grains(columns)
    blank = point(np.where(~columns.any(axis=1).all(axis=0) | np.bool_(has_zero), 0.0, np.nan))
    coarse = coarse & columns.any(axis=(0, 1))
    if source.none or not coarse.any():
        return [blank]
    found = _of_one(node, weights, source, axis) or _of_several(source)
    if found is None:
        return None
    size = max(_largest(piece) for piece in source.pieces) * np.abs(columns).sum(1).max(0)
    bases = [np.where(coarse, base, np.nan) for base, _ in found]
    units = [np.where(coarse, unit * step, 0) for _, step in found]
    return [*(Progression(base, step, size) for base, step in zip(bases, units, strict=True)), blank]


def _of_one(node: ir.Node, weights: Weights, source: Atoms, axis: int) -> list[tuple[DoubleArray, float]] | None:
    """Bases [O] and the step over the weights' unit, if `source` is one progression that holds in every channel."""
    if len(source.pieces) != 1 or (source.by_channel and source.axis != axis):
        return None
    (piece,) = source.pieces
    step = _divisor(piece.unit)
    sums = None if np.isnan(piece.base).any() else _base_sums(node, weights, piece.base)
    return None if sums is None or step is None else [(base, step) for base in sums]


def _base_sums(node: ir.Node, weights: Weights, base: DoubleArray) -> DoubleArray | None:
    """What the layer makes of the bases, at all kinds of places: float64 [places, O]; None if it is not known."""
    if not base.any():
        return np.zeros((1, 1))
    products = weights.astype(np.float64) * aligned(node, base, weights)
    if not pads_zero(node):
        return np.unique(columns_of(node, products).sum(1), axis=0)
    if products.ndim != 4 or text(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    image = layer_of_constant(node, products)
    places = np.unique(image.reshape(image.shape[1], -1), axis=1).T
    return places if len(places) <= _MOST_PLACES else None


def _of_several(source: Atoms) -> list[tuple[DoubleArray, float]] | None:
    """Multiples of what divides all numbers of all progressions, where anything does."""
    numbers = [part.reshape(-1) for piece in source.pieces for part in (piece.base, piece.unit)]
    step = _divisor(np.concatenate(numbers)) if numbers else None
    return None if step is None else [(np.zeros(()), step)]


def _divisor(numbers: DoubleArray) -> float | None:
    """What divides all numbers but NaN; 0 if all are 0, None if nothing does."""
    sizes = np.unique(np.abs(numbers[~np.isnan(numbers)]))
    step = reduce(common, sizes, np.zeros(()))
    return None if np.isnan(step) else float(step)


def _largest(piece: Progression) -> float:
    return float(np.nanmax(np.maximum(piece.size, np.abs(piece.base))))
