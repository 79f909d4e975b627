import io
import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn.utils import parametrize

from qcompiler.errors import InvalidData, UsageError
from qcompiler.nn import (
    Binarize,
    QActivation,
    QConv2d,
    QConv3d,
    QConvTranspose2d,
    QLinear,
    XnorLinear,
    freeze,
    input_quantizer,
)
from qcompiler.train.energy import (
    HOROWITZ,
    EnergyConstants,
    by_width,
    cost,
    energy,
    energy_table,
    read_constants,
)
from qcompiler.train.workload import LayerWork, traced_work

UNIT = EnergyConstants("made up", int8_mac=1, int32_mac=16, float_mac=20, float_add=5, local=1, main=10, dram=100)
LAYER = LayerWork("conv", macs=6400, weights=64, w_bits=8, a_bits=8, activations=50, outputs=100)


class Pooled(nn.Module):
    """Functions between the modules, some of which keep values."""

    def __init__(self):
        super().__init__()
        self.quantizer = QActivation(2)
        self.a = QConv2d(3, 4, 3, w_bits=4)
        self.b = QLinear(16, 5, w_bits=1, act_bit=1)
        self.c = nn.Linear(5, 2)

    def forward(self, x):
        x = self.a(nn.functional.max_pool2d(self.quantizer(x), 2))
        return self.c(self.b(torch.flatten(x, 1)))


def test_work_is_counted_for_one_image():
    model = Pooled().train()
    first, second, third = traced_work(model, torch.rand(5, 3, 8, 8))
    # 4x4 pooled, 2x2 after the 3x3 kernel
    assert first == LayerWork("a", 4 * 4 * 27, 4 * 27 + 4, w_bits=4, a_bits=2, activations=48, outputs=16)
    assert second == LayerWork("b", 80, 85, w_bits=1, a_bits=1, activations=16, outputs=5)
    assert third == LayerWork("c", 10, 12, w_bits=32, a_bits=32, activations=5, outputs=2)
    assert model.training


def test_groups_share_no_weights():
    (found,) = traced_work(QConv2d(4, 6, 3, groups=2, bias=False), torch.rand(1, 4, 5, 5))
    assert (found.macs, found.weights) == (9 * 6 * 2 * 9, 6 * 2 * 9)


def test_widths_follow_values_and_end_with_arithmetic():
    mean = nn.Sequential(QActivation(1), nn.AvgPool2d(2), QConv2d(1, 1, 1))
    model = nn.Sequential(mean, QActivation(1), nn.Flatten(), QLinear(4, 2))
    assert [each.a_bits for each in traced_work(model, torch.rand(1, 1, 4, 4))] == [32, 1]


def test_frozen_and_parametrized_networks_count_alike():
    plain = nn.Sequential(input_quantizer(), QLinear(6, 4), QActivation(1), XnorLinear(4, 2))
    other = nn.Sequential(input_quantizer(), nn.Linear(6, 4), QActivation(1), XnorLinear(4, 2))
    parametrize.register_parametrization(other[1], "weight", Binarize())
    x = torch.rand(2, 6)
    expected = traced_work(plain, x)
    assert [(each.w_bits, each.a_bits) for each in expected] == [(1, 8), (1, 1)]
    assert traced_work(other, x) == expected
    assert traced_work(freeze(plain), x) == expected


def test_the_formulas_by_hand():
    (found,) = cost([LAYER], UNIT)
    # 8 bits: 64 * 16 / 8 = 128 units
    reads = 6400 / math.sqrt(128)
    assert found.compute == 6400 + 300
    assert found.weights == pytest.approx(10 * 64 * 8 + 8 * reads)
    assert found.activations == pytest.approx(2 * 10 * 50 * 8 + 8 * reads)
    assert found.dram == 100 * 50 * 8
    assert found.total == pytest.approx(found.compute + found.weights + found.activations + found.dram)


def test_weights_and_activations_have_their_own_widths():
    (found,) = cost([replace(LAYER, w_bits=2, a_bits=8)], UNIT)
    # sqrt(2 * 8) = 4 bits: 256 units, and a quarter of an 8-bit multiplication, as 8 bits are a sixteenth of 32
    assert found.compute == pytest.approx((6400 + 300) / 4)
    assert found.weights == pytest.approx(10 * 64 * 2 + 2 * 6400 / 16)
    assert found.activations == pytest.approx(2 * 10 * 50 * 8 + 8 * 6400 / 16)


def test_only_the_first_layer_reads_the_image():
    narrow = replace(LAYER, a_bits=2)
    # as it comes from the camera, in 8 bits
    assert [each.dram for each in cost([narrow, narrow], UNIT)] == [100 * 50 * 8, 0]


def test_what_does_not_fit_comes_from_dram():
    small = replace(UNIT, weight_memory=LAYER.weights * 8, activation_memory=300)
    first, second = cost([LAYER, LAYER], small)
    # half of the weights, and twice the 100 bits of activations beyond 300
    assert second.dram == 100 * (LAYER.weights * 8 / 2 + 2 * 100)
    assert first.dram == second.dram + 100 * 50 * 8


def test_a_mac_grows_with_the_width_and_passes_the_given_points():
    assert HOROWITZ.mac(8, 8) == pytest.approx(0.23)
    widths = [HOROWITZ.mac(width, width) for width in range(1, 17)]
    assert widths == sorted(widths)
    assert replace(UNIT).mac(16, 16) == pytest.approx(4)
    assert HOROWITZ.mac(2, 8) == HOROWITZ.mac(8, 2) == pytest.approx(HOROWITZ.mac(4, 4))
    assert [UNIT.mac(width, 32) for width in (32, 3, 2, 1)] == [20, 20, 5, 5]
    assert [UNIT.mac(32, width) for width in (32, 3, 2, 1)] == [20, 20, 5, 5]


def test_an_operand_is_read_at_least_once_for_each_mac():
    assert replace(UNIT, units=1).reuse(32, 32) == 1
    assert replace(UNIT, units=1).reuse(1, 1) == 4


def test_the_default_constants_are_those_of_the_table():
    """Picojoules of units (multiply and add) and of 64 bits from 8 KB, from 1 MB, and from DRAM."""
    found = (HOROWITZ.int8_mac, HOROWITZ.int32_mac, HOROWITZ.float_mac, HOROWITZ.float_add)
    assert found == pytest.approx((0.23, 3.2, 4.6, 0.9))
    assert (64 * HOROWITZ.local, 64 * HOROWITZ.main, 64 * HOROWITZ.dram) == (10, 100, 1300)
    assert HOROWITZ.weight_memory + HOROWITZ.activation_memory == 8 * 2**20


def test_fewer_bits_cost_less_and_float_layers_stay():
    model = nn.Sequential(QConv2d(3, 8, 3, act_bit=4, w_bits=4), nn.Flatten(), nn.Linear(8 * 36, 10))
    layers = traced_work(model, torch.rand(1, 3, 8, 8))
    sweep = by_width(layers)
    assert list(sweep) == [1, 2, 4, 8, 16]
    assert list(sweep.values()) == sorted(sweep.values())
    assert sweep[4] == pytest.approx(sum(each.total for each in cost(layers)))
    assert sweep[1] > cost(layers)[1].total


def test_the_table_has_a_row_for_each_layer_and_the_total():
    layers = energy(nn.Sequential(QLinear(64, 32, act_bit=1), QLinear(32, 10, act_bit=1)), torch.rand(1, 64))
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(energy_table(layers))
    text = console.export_text()
    assert "Horowitz" in text and f"{64 * 32 + 320:,}" in text
    assert energy_table(layers).row_count == 2
    json.dumps([each.as_json() for each in layers])


def test_the_table_is_in_nanojoules():
    layers = cost([LAYER, replace(LAYER, name="next", macs=6400 * 10**6)], UNIT)
    table = energy_table(layers, UNIT)
    cells = {column.header: [*column.cells, column.footer] for column in table.columns}
    assert cells["bits w/a"] == ["8/8", "8/8", ""]
    assert cells["MACs"] == ["6,400", "6,400,000,000", "6,400,006,400"]
    assert cells["compute"] == ["6.7", "6,400,000", "6,400,007"]
    assert cells["DRAM"] == ["40", "0", "40"]


def test_constants_come_from_a_file(tmp_path):
    path = tmp_path / "chip.json"
    path.write_text(json.dumps({"source": "our chip", "dram": 5}))
    assert read_constants(path) == replace(HOROWITZ, source="our chip", dram=5)
    path.write_text(json.dumps(asdict(UNIT)))
    assert read_constants(path) == UNIT
    path.write_text("{}")
    assert read_constants(path).source == str(path)


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("{", InvalidData, "not JSON"),
        ("[" * 100_000, InvalidData, "not JSON"),
        ("[1]", UsageError, "no object.*choose from source, int8_mac"),
        ('{"dramm": 1}', UsageError, "choose from"),
        ('{"dram": -1}', UsageError, "'dram' is -1"),
        ('{"dram": "1"}', UsageError, "'dram' is '1'"),
        ('{"dram": NaN}', UsageError, "'dram' is nan"),
        ('{"dram": true}', UsageError, "'dram' is True"),
        ('{"source": 1}', UsageError, "source is no text"),
        (" " * (1 << 20) + "{}", InvalidData, "larger than"),
    ],
)
def test_bad_constants_are_refused(tmp_path, text, error, message):
    path = tmp_path / "chip.json"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_constants(path)


def test_a_missing_file_of_constants_is_named(tmp_path):
    with pytest.raises(UsageError, match="chip.json"):
        read_constants(tmp_path / "chip.json")


def test_the_work_of_a_transposed_convolution_is_that_of_its_inputs() -> None:
    first = QConvTranspose2d(4, 6, 3, stride=2, groups=2, act_bit=1)
    second = QConv3d(4, 6, (1, 2, 3), act_bit=2)
    (work,) = traced_work(first, torch.randn(1, 4, 5, 5))
    assert (work.macs, work.weights, work.w_bits, work.a_bits) == (4 * 25 * 3 * 9, 4 * 3 * 9 + 6, 1, 1)
    (work,) = traced_work(second, torch.randn(1, 4, 3, 3, 3))
    assert (work.macs, work.w_bits, work.a_bits) == (6 * 3 * 2 * 1 * 4 * 6, 2, 2)
