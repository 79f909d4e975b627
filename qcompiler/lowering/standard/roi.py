"""RoiAlign: bilinear samples of regions of interest; the image of a region is an index that is checked."""

from __future__ import annotations

import onnx_ir as ir
from tvm.script.ir_builder import tirx as T

from qcompiler.ir.program import Fault
from qcompiler.ir.view import dtype_of, integer, number, shape_of, text
from qcompiler.lowering.call import StandardCall
from qcompiler.lowering.standard.skeleton import kernel, loop, operand, refuse, variable, when, within
from qcompiler.targets.vector.emit import Expr, i64, split, write


def roi_align(node: ir.Node) -> StandardCall:
    """An item is one channel of one region."""
    x, rois, images = node.inputs[:3]
    mode = text(node, "mode", "avg")
    if dtype_of(x).name != "float32" or mode not in ("avg", "max"):
        raise refuse(node, f"of {dtype_of(x).name} with mode {mode} is not known", "use float32 and avg or max")
    return _RoiAlign(node).call()


class _RoiAlign:
    def __init__(self, node: ir.Node) -> None:
        self.node = node
        self.images, self.channels, self.height, self.width = shape_of(node.inputs[0])
        _, _, self.rows, self.columns = shape_of(node.outputs[0])
        self.ratio = integer(node, "sampling_ratio", 0)
        self.scale = T.float32(number(node, "spatial_scale", 1.0))
        self.half_pixel = text(node, "coordinate_transformation_mode", "half_pixel") == "half_pixel"
        self.largest = text(node, "mode", "avg") == "max"

    def call(self) -> StandardCall:
        """The kernel over x [N, C, H, W], rois [R, 4] and the image of each region [R]."""
        node = self.node
        items = shape_of(node.inputs[1])[0] * self.channels
        reads = [operand(value) for value in node.inputs[:3]]

        def body(buffers: list[Expr], item: Expr) -> None:
            source, rois, images, target, fault = buffers
            region, channel = split(item, self.channels)
            plane = self.height * self.width
            index = [(images[region], self.images, self.channels * plane)]

            def run(at: Expr) -> None:
                self._region(source, rois, target, item, region, at + channel * plane)

            within(fault, index, run, from_end=False)

        return kernel(node, reads, [operand(node.outputs[0])], items, body, faults=[Fault.INDEX])

    def _region(self, source: Expr, rois: Expr, target: Expr, item: Expr, region: Expr, plane: Expr) -> None:
        offset = T.float32(0.5 if self.half_pixel else 0.0)
        x0, y0, x1, y1 = (T.bind(rois[region * 4 + i] * self.scale - offset) for i in range(4))
        tall, wide = T.bind(self._size(y1 - y0)), T.bind(self._size(x1 - x0))
        bin_y, bin_x = T.bind(tall / T.float32(self.rows)), T.bind(wide / T.float32(self.columns))
        count_y, count_x = T.bind(self._samples(bin_y, self.height)), T.bind(self._samples(bin_x, self.width))
        with loop(self.rows) as row, loop(self.columns) as column:
            total = variable("float32", T.float32(0))
            with T.serial(i64(0), count_y) as i, T.serial(i64(0), count_x) as j:
                y = T.bind(y0 + _f(row) * bin_y + (_f(i) + T.float32(0.5)) * bin_y / _f(count_y))
                x = T.bind(x0 + _f(column) * bin_x + (_f(j) + T.float32(0.5)) * bin_x / _f(count_x))
                self._sample(source, plane, y, x, total, T.And(i == i64(0), j == i64(0)))
            many = T.max(count_y * count_x, i64(1))
            value = total[0] if self.largest else total[0] / _f(many)
            write(target, value, (item * self.rows + row) * self.columns + column)

    def _size(self, extent: Expr) -> Expr:
        return extent if self.half_pixel else T.max(extent, T.float32(1))

    def _samples(self, extent: Expr, limit: int) -> Expr:
        """Samples of a bin along one axis; those beyond any that hit the image are left out of a huge region."""
        if self.ratio > 0:
            return i64(self.ratio)
        return T.Cast("int64", T.max(T.min(T.ceil(extent), T.float32(MOST_SAMPLES)), T.float32(0)))

    def _sample(self, source: Expr, plane: Expr, y: Expr, x: Expr, total: Expr, first: Expr) -> None:
        """One bilinear sample, 0 beyond a border of one pixel."""
        near_y = T.And(y >= T.float32(-1), y <= T.float32(self.height))
        near_x = T.And(x >= T.float32(-1), x <= T.float32(self.width))
        found = variable("float32", T.float32(0))
        when(T.And(near_y, near_x), lambda: write(found, self._bilinear(source, plane, y, x), i64(0)))
        if not self.largest:
            write(total, total[0] + found[0], i64(0))
            return
        write(total, T.Select(T.Or(first, found[0] > total[0]), found[0], total[0]), i64(0))

    def _bilinear(self, source: Expr, plane: Expr, y: Expr, x: Expr) -> Expr:
        top, bottom, down = _between(y, self.height)
        left, right, along = _between(x, self.width)
        one = T.float32(1)
        corners = [
            (top, left, (one - down) * (one - along)),
            (top, right, (one - down) * along),
            (bottom, left, down * (one - along)),
            (bottom, right, down * along),
        ]
        parts = [weight * source[plane + row * self.width + column] for row, column, weight in corners]
        if self.largest:
            return T.max(T.max(parts[0], parts[1]), T.max(parts[2], parts[3]))
        return parts[0] + parts[1] + parts[2] + parts[3]


# along an axis of a bin; chosen
MOST_SAMPLES = 4096


def _f(value: Expr) -> Expr:
    return T.Cast("float32", value)


def _between(position: Expr, extent: int) -> tuple[Expr, Expr, Expr]:
    """The pixels on both sides of a position that is near the image, and how far it is from the first."""
    clipped = T.bind(T.max(position, T.float32(0)))
    low = T.bind(T.max(T.min(T.Cast("int64", clipped), i64(extent - 1)), i64(0)))
    high = T.bind(T.min(low + 1, i64(extent - 1)))
    return low, high, T.bind(T.Select(low >= i64(extent - 1), T.float32(0), clipped - _f(low)))
