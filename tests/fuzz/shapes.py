"""What moves elements: aliases, transposes, shuffles, joins, cuts, paddings, resizes."""

from __future__ import annotations

from math import prod

import numpy as np

from tests.fuzz.draws import Draw, a_value, chance, choice, number
from tests.fuzz.grid import Grid, joined
from tests.fuzz.net import Net, Rejected, Value


def reshape(draw: Draw, net: Net) -> Value:
    """A Reshape that merges, splits or exchanges extents."""
    x = a_value(draw, net)
    shape = list(choice(draw, _shapes(x)))
    written = list(shape)
    if chance(draw, 3):
        written[number(draw, 0, len(written) - 1)] = -1
    if -1 not in written and shape[:1] == list(x.shape[:1]) and chance(draw, 4):
        written[0] = 0
    return net.alike("Reshape", x, np.int64(written))


def flatten(draw: Draw, net: Net) -> Value:
    """Flatten at any axis."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    axis = choice(draw, (1, *range(2, x.rank + 1), 0, -1))
    return net.alike("Flatten", x, axis=axis)


def squeeze(draw: Draw, net: Net) -> Value:
    """Squeeze of one axis of extent 1."""
    x = a_value(draw, net, lambda value: value.rank >= 2 and 1 in value.shape)
    axis = choice(draw, [axis for axis in reversed(range(x.rank)) if x.shape[axis] == 1])
    return net.alike("Squeeze", x, np.int64([axis]))


def unsqueeze(draw: Draw, net: Net) -> Value:
    """Unsqueeze at any axis."""
    x = a_value(draw, net, lambda value: value.rank <= 4)
    return net.alike("Unsqueeze", x, np.int64([number(draw, -1, x.rank)]))


def nothing(draw: Draw, net: Net) -> Value:
    """A node that changes nothing: Identity, Dropout, Cast to the same type."""
    x = a_value(draw, net)
    op = choice(draw, ("Identity", "Dropout", "Cast"))
    return net.alike(op, x, **({"to": 1} if op == "Cast" else {}))


def transpose(draw: Draw, net: Net) -> Value:
    """Any permutation; those between channels first and last are drawn more often."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    usual = {4: [(0, 2, 3, 1), (0, 3, 1, 2), (0, 1, 3, 2)], 3: [(0, 2, 1)]}.get(x.rank, [])
    perm = choice(draw, usual) if usual and not chance(draw, 4) else draw_permutation(draw, x.rank)
    return net.alike("Transpose", x, perm=list(perm))


def draw_permutation(draw: Draw, rank: int) -> tuple[int, ...]:
    """A permutation of `rank` axes."""
    left = list(range(rank))
    return tuple(left.pop(number(draw, 0, len(left) - 1)) for _ in range(rank))


def channel_shuffle(draw: Draw, net: Net) -> Value:
    """Reshape, Transpose, Reshape, as ShuffleNet has it."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4) and value.shape[1] > 3)
    groups = choice(draw, [n for n in (2, 3, 4, 8) if x.shape[1] % n == 0] or [1])
    split = net.alike("Reshape", x, np.int64([x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]]))
    turned = net.alike("Transpose", split, perm=[0, 2, 1, *range(3, x.rank + 1)])
    return net.alike("Reshape", turned, np.int64(x.shape))


def concat(draw: Draw, net: Net) -> Value:
    """A join of two or three values, along the channels in most cases."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    axis = 1 if not chance(draw, 4) else number(draw, 0, x.rank - 1)
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])

    def fits(value: Value) -> bool:
        return value.rank == x.rank and (*value.shape[:axis], *value.shape[axis + 1 :]) == rest

    parts = [x, *(a_value(draw, net, fits) for _ in range(number(draw, 1, 2)))]
    clear = all(part.has_sign for part in parts)
    return net.add("Concat", *parts, grid=joined(*(part.grid for part in parts)), clear=clear, axis=axis)


def split(draw: Draw, net: Net) -> Value:
    """Two parts of one value, both of which may be read."""
    x = a_value(draw, net, lambda value: value.rank >= 2 and max(value.shape[1:]) > 1)
    axis = choice(draw, [axis for axis in range(1, x.rank) if x.shape[axis] > 1])
    first = number(draw, 1, x.shape[axis] - 1)
    names = net.node("Split", x, np.int64([first, x.shape[axis] - first]), outputs=2, axis=axis)
    parts = [net.keep(name, x.grid, clear=x.clear) for name in names]
    return parts[-1]


def cut(draw: Draw, net: Net) -> Value:
    """A Slice with any start, end and step, also backwards."""
    x = a_value(draw, net, lambda value: value.rank >= 2 and max(value.shape[1:]) > 1)
    axis = choice(draw, [axis for axis in range(1, x.rank) if x.shape[axis] > 1])
    start, step = number(draw, 0, x.shape[axis] - 1), choice(draw, (1, 2, -1))
    end = x.shape[axis] if step > 0 else choice(draw, (-(2**31), 0))
    if step < 0:
        start = max(start, 1)
    return net.alike("Slice", x, *(np.int64([item]) for item in (start, end, axis, step)))


def pad(draw: Draw, net: Net) -> Value:
    """Pad of the last axes with zeros, another constant, or what lies at the edge."""
    x = a_value(draw, net, lambda value: value.rank >= 3)
    spatial = x.rank - 2
    if chance(draw, 6):
        spatial = x.rank - 1
    before, after = ([number(draw, 0, 2) for _ in range(spatial)] for _ in range(2))
    pads = np.int64([*[0] * (x.rank - spatial), *before, *[0] * (x.rank - spatial), *after])
    mode = choice(draw, ("constant", "constant", "edge", "reflect"))
    if mode == "reflect" and any(size <= 2 for size in x.shape[-spatial:]):
        raise Rejected
    if mode != "constant":
        return net.alike("Pad", x, pads, mode=mode)
    number_ = choice(draw, (None, 0.0, 1.0, -1.0))
    if number_ is None:
        return net.add("Pad", x, pads, grid=x.grid, clear=x.clear)
    grid = joined(x.grid, Grid(1.0, 1.0))
    return net.add("Pad", x, pads, np.float32(number_), grid=grid, clear=x.clear)


def resize(draw: Draw, net: Net) -> Value:
    """Nearest-neighbour Resize by whole factors, given as scales or sizes."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4) and value.size <= 1024)
    factors = [1, 1, *(choice(draw, (2, 1, 3)) for _ in range(x.rank - 2))]
    mode = choice(draw, ("asymmetric", "half_pixel", "pytorch_half_pixel"))
    nearest = choice(draw, ("floor", "round_prefer_floor", "round_prefer_ceil"))
    attributes = {"mode": "nearest", "coordinate_transformation_mode": mode, "nearest_mode": nearest}
    if chance(draw):
        sizes = np.int64([size * factor for size, factor in zip(x.shape, factors, strict=True)])
        return net.alike("Resize", x, None, None, sizes, **attributes)
    return net.alike("Resize", x, None, np.float32(factors), **attributes)


def resize_freely(draw: Draw, net: Net) -> Value:
    """Nearest-neighbour Resize along any axes, by factors that need not be whole, in every mode."""
    x = a_value(draw, net, lambda value: 2 <= value.rank <= 4 and value.size <= 1024)
    attributes = {
        "mode": "nearest",
        "coordinate_transformation_mode": choice(
            draw, ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
        ),
        "nearest_mode": choice(draw, ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil")),
    }
    axes = [axis for axis in range(1, x.rank) if chance(draw)]
    if chance(draw):
        sizes = np.int64([number(draw, 1, 9) if axis in axes else size for axis, size in enumerate(x.shape)])
        return net.alike("Resize", x, None, None, sizes, **attributes)
    scales = [choice(draw, (2.0, 1.5, 0.5, 2.5)) if axis in axes else 1.0 for axis in range(x.rank)]
    return net.alike("Resize", x, None, np.float32(scales), **attributes)


def blur(draw: Draw, net: Net) -> Value:
    """Linear Resize by two; its result is rounded."""
    x = a_value(draw, net, lambda value: value.rank == 4 and value.size <= 1024)
    factors = np.float32([1, 1, 2, 2])
    mode = choice(draw, ("half_pixel", "align_corners", "asymmetric"))
    return net.add("Resize", x, None, factors, grid=None, mode="linear", coordinate_transformation_mode=mode)


def expand(draw: Draw, net: Net) -> Value:
    """Expand along axes of extent 1."""
    x = a_value(draw, net, lambda value: 1 in value.shape[1:])
    shape = [size if size > 1 or axis == 0 else choice(draw, (3, 2)) for axis, size in enumerate(x.shape)]
    return net.alike("Expand", x, np.int64(shape))


def gather(draw: Draw, net: Net) -> Value:
    """Elements along an axis by constant indices, some of them negative."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    axis = number(draw, 1, x.rank - 1)
    size = x.shape[axis]
    indices = np.int64([number(draw, -size, size - 1) for _ in range(number(draw, 1, 3))])
    return net.alike("Gather", x, indices[0] if len(indices) == 1 else indices, axis=axis)


def blocks_of_pixels(draw: Draw, net: Net) -> Value:
    """DepthToSpace or SpaceToDepth."""
    x = a_value(draw, net, lambda value: value.rank == 4)
    if x.shape[1] % 4 == 0 and not chance(draw, 3):
        return net.alike("DepthToSpace", x, blocksize=2, mode=choice(draw, ("DCR", "CRD")))
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise Rejected
    return net.alike("SpaceToDepth", x, blocksize=2)


def tile(draw: Draw, net: Net) -> Value:
    """The value repeated along one axis."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    repeats = np.ones(x.rank, np.int64)
    repeats[number(draw, 1, x.rank - 1)] = 2
    return net.alike("Tile", x, repeats)


def computed_reshape(draw: Draw, net: Net) -> Value:
    """x.view(x.size(0), -1) as torch leaves it: a shape that is computed from the value's own."""
    x = a_value(draw, net, lambda value: value.rank >= 2)
    (shape,) = net.node("Shape", x)
    (batch,) = net.node("Gather", shape, np.int64(0), axis=0)
    (first,) = net.node("Unsqueeze", batch, np.int64([0]))
    (wanted,) = net.node("Concat", first, np.int64([-1]), axis=0)
    (name,) = net.node("Reshape", x, wanted, shape=(x.shape[0], x.size // x.shape[0]))
    return net.keep(name, x.grid, clear=x.clear)


def _shapes(x: Value) -> list[tuple[int, ...]]:
    """Shapes that a Reshape may give: merged neighbours, split extents, the batch among them, exchanged extents."""
    shape, found = x.shape, []
    found += [(*shape[:a], shape[a] * shape[a + 1], *shape[a + 2 :]) for a in reversed(range(x.rank - 1))]
    for axis in reversed(range(x.rank)):
        for factor in (2, 3, 4):
            if shape[axis] % factor == 0 and x.rank < 5:
                found.append((*shape[:axis], factor, shape[axis] // factor, *shape[axis + 1 :]))
                found.append((*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :]))
    if x.rank == 2:
        sides = [side for side in (2, 3, 4) if shape[1] % (side * side) == 0]
        found += [(shape[0], shape[1] // side**2, side, side) for side in sides]
        found += [(shape[0], side, side, shape[1] // side**2) for side in sides]
    found += [(1, *shape), (*shape, 1), (prod(shape), 1), (1, prod(shape)), tuple(reversed(shape))]
    if x.rank >= 3:
        found += [(shape[0], prod(shape[1:])), (shape[0] * shape[1], 1, *shape[2:]), (1, prod(shape[:2]), *shape[2:])]
    return [item for item in found if 1 <= len(item) <= 6]
