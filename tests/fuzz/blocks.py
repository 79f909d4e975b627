"""Groups of nodes that belong together in real networks; drawn one by one they would seldom meet."""

from __future__ import annotations

from math import prod

import numpy as np

from tests.fuzz import layers, normalisation, signs
from tests.fuzz.draws import Draw, a_value, chance, choice
from tests.fuzz.grid import joined, mean, product, total
from tests.fuzz.net import Net, Value
from tests.fuzz.weights import weights


def binary_layer(draw: Draw, net: Net) -> Value:
    """Sign, convolution or matrix product, BatchNormalization or nothing."""
    x = a_value(draw, net, lambda value: value.has_sign and value.rank >= 2)
    codes = signs.sign(draw, net, x)
    if x.rank in (3, 4) and not chance(draw, 4):
        result = layers.conv(draw, net, codes)
    elif x.rank == 2 and chance(draw):
        result = layers.gemm(draw, net, codes)
    else:
        result = layers.matmul(draw, net, codes)
    return normalisation.batch_norm(draw, net, result) if result.rank <= 4 and chance(draw) else result


def two_signs(draw: Draw, net: Net) -> Value:
    """One value whose sign is read by two layers of their own geometries."""
    x = a_value(draw, net, lambda value: value.has_sign and value.rank in (3, 4))
    first = signs.sign(draw, net, x)
    left = layers.conv(draw, net, first)
    right = layers.conv(draw, net, first if chance(draw) else signs.sign(draw, net, x))
    if left.shape == right.shape:
        return net.add("Add", left, right, grid=total(left.grid, right.grid))
    return right


def dense(draw: Draw, net: Net) -> Value:
    """A convolution whose result is joined to what it read, as in DenseNet."""
    x = a_value(draw, net, lambda value: value.rank in (3, 4) and value.shape[1] <= 40)
    shape = (choice(draw, (3, 8, 16)), x.shape[1], *[3] * (x.rank - 2))
    made = weights(draw, net, shape, 0)
    grid = made.sums(range(1, x.rank), x.grid)
    grown = net.add("Conv", x, made.name, grid=grid, pads=[1] * 2 * (x.rank - 2))
    parts = (x, grown) if not chance(draw) else (grown, x)
    return net.add("Concat", *parts, grid=joined(x.grid, grown.grid), axis=1)


def squeeze_excite(draw: Draw, net: Net) -> Value:
    """Channels scaled by a function of their means or maxima."""
    x = a_value(draw, net, lambda value: value.rank == 4 and 1 < value.shape[1] <= 64)
    pooled = net.add("GlobalAveragePool", x, grid=mean(x.grid, prod(x.shape[2:])))
    hidden = max(1, x.shape[1] // 4)
    if chance(draw):
        down = weights(draw, net, (hidden, x.shape[1], 1, 1), 0)
        small = net.add("Conv", pooled, down.name, grid=down.sums([1, 2, 3], pooled.grid))
        up = weights(draw, net, (x.shape[1], hidden, 1, 1), 0)
        large = net.add("Conv", net.add("Relu", small, grid=small.grid), up.name, grid=up.sums([1, 2, 3], small.grid))
    else:
        flat = net.alike("Flatten", pooled)
        up = weights(draw, net, (x.shape[1], x.shape[1]), 1)
        product_ = net.add("MatMul", flat, up.name, grid=up.sums([0], flat.grid))
        large = net.alike("Reshape", product_, np.int64([x.shape[0], x.shape[1], 1, 1]))
    gate = net.add(choice(draw, ("Sigmoid", "HardSigmoid")), large, grid=None)
    return net.add("Mul", *((x, gate) if not chance(draw) else (gate, x)), grid=None)


def attention(draw: Draw, net: Net) -> Value:
    """Queries, keys and values of a sequence, with heads in some cases, signs of queries and keys in others."""
    x = a_value(draw, net, lambda value: value.rank == 3 and value.shape[2] <= 40)
    batch, length, width = x.shape
    heads = choice(draw, (1, 2))
    size = heads * choice(draw, (4, 8))
    made = [weights(draw, net, (width, size), 1) for _ in range(3)]
    q, k, v = (net.add("MatMul", x, item.name, grid=item.sums([0], x.grid)) for item in made)
    if chance(draw) and q.has_sign and k.has_sign:
        q, k = signs.sign(draw, net, q), signs.sign(draw, net, k)
    split = np.int64([batch, length, heads, size // heads])
    if heads > 1:
        q, k, v = (net.alike("Reshape", item, split) for item in (q, k, v))
        q, v = (net.alike("Transpose", item, perm=[0, 2, 1, 3]) for item in (q, v))
        k = net.alike("Transpose", k, perm=[0, 2, 3, 1])
    else:
        k = net.alike("Transpose", k, perm=[0, 2, 1])
    scores = net.add("MatMul", q, k, grid=total(*[product(q.grid, k.grid)] * (size // heads)))
    scaled = net.add("Clip", scores, np.float32(-8), np.float32(8), grid=None)
    mixed = net.add("MatMul", net.add("Softmax", scaled, grid=None, axis=-1), v, grid=None)
    if heads > 1:
        mixed = net.alike("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = net.alike("Reshape", mixed, np.int64([batch, length, size]))
    return mixed


def channels_last(draw: Draw, net: Net) -> Value:
    """A convolution between the transposes that larq's converter leaves."""
    x = a_value(draw, net, lambda value: value.rank == 4 and value.shape[3] <= 64)
    turned = net.alike("Transpose", x, perm=[0, 3, 1, 2])
    codes = signs.sign(draw, net, turned) if turned.has_sign and chance(draw) else turned
    result = layers.conv(draw, net, codes)
    return net.alike("Transpose", result, perm=[0, 2, 3, 1])
