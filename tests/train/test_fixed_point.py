import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils import parametrize

from qcompiler.errors import UsageError
from qcompiler.nn import Binarize, QActivation, QConv2d, QConvTranspose2d, QLinear, XnorConv2d, freeze
from qcompiler.train.fixed_point import Format, Formats, fixed_point, saturation_table


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@given(
    st.lists(st.floats(-3000, 3000, width=32), min_size=1, max_size=50),
    st.integers(1, 20),
    st.integers(0, 12),
)
def test_rounding_is_to_the_nearest_step_and_saturates(values, bits, integer_bits):
    form = Format(bits, integer_bits)
    x = torch.tensor(values)
    rounded = form.round(x)
    steps = rounded.double() * form.scale
    assert torch.equal(steps, steps.round())
    assert steps.abs().max() <= 2**bits - 1
    fits = x.double().abs() * form.scale <= 2**bits - 1
    assert ((rounded - x).double().abs() * form.scale)[fits].le(0.5).all()
    assert form.saturated(x) == int(((x.double() * form.scale).round().abs() > 2**bits - 1).sum())


def test_published_formats():
    formats = Formats()
    x = torch.tensor([-1.5, -1.0, 1.0, 0.1])
    assert formats.of("input").round(x).tolist() == [-1.0, -1.0, 127 / 128, 13 / 128]
    assert formats.of("input").saturated(x) == 2
    assert Format(7, 0).round(x).tolist() == [-127 / 128, -127 / 128, 127 / 128, 13 / 128]
    assert (formats.linear.scale, formats.norm.scale, formats.last.scale) == (32.0, 4096.0, 8.0)


@pytest.mark.parametrize("bits", [0, 25])
def test_a_width_that_float32_cannot_hold_is_refused(bits):
    with pytest.raises(UsageError, match=f"{bits} bits.*1 to 24"):
        Format(bits, 0)


def binary_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        QActivation(1),
        QConv2d(16, 16, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(16),
        QActivation(1),
        nn.Flatten(),
        QLinear(16 * 16, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.LeakyReLU(),
        nn.Linear(64, 10),
    )


def xnor_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        XnorConv2d(16, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 16, 10),
        nn.BatchNorm1d(10),
    )


def four_bit_cnn():
    return nn.Sequential(
        QConv2d(1, 16, 3, padding=1, w_bits=4, bias=False),
        nn.BatchNorm2d(16),
        QActivation(4),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 16, 10, bias=False),
        nn.BatchNorm1d(10),
    )


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    return x[:1000], torch.tensor(labels[:1000]), x[1000:], torch.tensor(labels[1000:])


@pytest.mark.parametrize("build", [binary_cnn, xnor_cnn, four_bit_cnn])
def test_a_trained_network_keeps_its_accuracy(build, digits):
    x, labels, test, test_labels = digits
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(7):
        for batch in torch.randperm(len(x)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), labels[batch]).backward()
            optimizer.step()
    model.eval()
    fixed = fixed_point(model, x[:200])
    expected = model(test).argmax(1)
    found = fixed(test).argmax(1)
    accuracy = [(each == test_labels).float().mean().item() for each in (expected, found)]
    assert accuracy[0] > 0.9
    # one image of 797 is 0.13 points
    assert accuracy[0] - accuracy[1] <= 0.003
    # only what is larger than everything in the 200 images
    rare = {each.layer: each.saturated / each.values for each in fixed.saturations() if each.layer}
    assert max(rare.values()) <= 0.01, rare


def test_outputs_lie_on_the_grid_and_the_model_stays_as_it_was():
    model = binary_cnn().eval()
    before = copy.deepcopy(model.state_dict())
    x = torch.rand(3, 1, 8, 8) * 2 - 1
    fixed = fixed_point(model, formats=Formats(last=Format(6, 3)))
    steps = fixed(x) * 8
    assert torch.equal(steps, steps.round())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model[3]._forward_hooks


def test_batch_norm_becomes_scale_and_offset():
    norm = nn.BatchNorm1d(4, eps=0.1).eval()
    with torch.no_grad():
        for each in (norm.weight, norm.bias, norm.running_mean):
            each.copy_(torch.randn(4))
        norm.running_var.copy_(torch.rand(4) + 0.5)
    fixed = fixed_point(nn.Sequential(norm), formats=Formats(input=Format(7, 0)))
    x = torch.randint(-127, 128, (50, 4)) / 128
    assert (fixed(x) - norm(x)).abs().max() < 3 * 2.0**-12


def test_scale_and_offset_are_rounded_to_the_parameter_bits():
    norm = nn.BatchNorm2d(3).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.3, -1.7, 0.9]))
        norm.bias.copy_(torch.tensor([5.3, 0.1, -0.7]))
    (merged,) = fixed_point(nn.Sequential(norm), formats=Formats(parameter_bits=6)).network
    # the largest need 1 and 3 integer bits: steps of 1/32 and of 1/8
    assert (merged.scale * 32).tolist() == [10, -54, 29]
    assert (merged.offset * 8).tolist() == [42, 1, -6]


def test_narrow_formats_saturate_and_say_where():
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.fill_(0.5)
    fixed = fixed_point(model, formats=Formats(linear=Format(4, 1), activation=Format(4, 0)))
    fixed(torch.full((5, 4), 0.5))
    report = {each.layer: each for each in fixed.saturations()}
    assert report["0"].kind == "linear" and report["2"].kind == "last"
    # |w| * 4 = 2 needs the one integer bit there is; 1.0 fits it, but not the activation's 15/16
    assert (report["0"].saturated, report["0"].values) == (0, 15)
    assert (report["1"].saturated, report["1"].values) == (15, 15)
    assert report[""].saturated == 0
    assert saturation_table(fixed.saturations()).row_count == 4


def test_passes_are_counted_together():
    fixed = fixed_point(nn.Sequential(nn.Linear(4, 3)))
    for peak in (2.0, 0.5):
        fixed(torch.full((5, 4), peak))
    counted = fixed.saturations()[0]
    assert (counted.values, counted.saturated) == (40, 20)


def test_a_layer_used_twice_is_calibrated_for_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)
            self.last = nn.Linear(2, 1)

        def forward(self, x):
            return self.last(self.layer(self.layer(x)))

    model = Twice()
    with torch.no_grad():
        model.layer.weight.copy_(torch.eye(2) / 8)
    formats = {each.layer: each.format for each in fixed_point(model, torch.full((1, 2), 32.0)).saturations()}
    # 4, then 0.5
    assert formats["layer"] == Format(15, 3)


def test_a_model_in_training_is_simulated_as_it_will_run():
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train()
    fixed = fixed_point(model)
    x = torch.rand(50, 4)
    assert torch.equal(fixed(x), fixed(x))
    assert model.training


def test_an_activation_at_the_end_is_not_rounded():
    model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    assert [each.layer for each in fixed_point(model).saturations()] == ["", "0"]


def test_the_fan_in_moves_the_binary_point():
    model = nn.Sequential(QConv2d(128, 8, 3, bias=False), nn.Flatten(), nn.Linear(8, 10))
    formats = {each.layer: each.format for each in fixed_point(model).saturations()}
    # 1152 products of +-1 need 11 integer bits, more than the published 8
    assert formats["0"] == Format(15, 11)
    assert formats["2"] == Format(20, 17)


def test_a_bias_moves_the_binary_point():
    layer = nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.fill_(-2000)
    model = nn.Sequential(layer, nn.Linear(1, 1))
    assert fixed_point(model).saturations()[1].format == Format(15, 11)


def test_calibration_images_set_the_binary_points():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2) * 3)
        model[1].weight.fill_(0.01)
    fixed = fixed_point(model, torch.tensor([[0.5, -0.5]]))
    formats = {each.layer: each.format for each in fixed.saturations()}
    # 1.5 is below 2; the second layer gives 0
    assert formats["0"] == Format(15, 1)
    assert formats["1"] == Format(20, 17)
    # nothing of the calibration is left
    assert [len(each._forward_hooks) for each in fixed.network] == [1, 1]


def test_weights_are_the_quantized_ones_rounded_to_the_parameter_bits():
    layer = QConv2d(2, 3, 1, bias=False, weight_quantizer=Binarize(scale="channel"))
    fixed = fixed_point(nn.Sequential(layer), formats=Formats(parameter_bits=6))
    steps = fixed.network[0].weight * 64
    assert torch.equal(steps, steps.round())
    assert torch.equal(fixed.network[0].weight.sign(), layer.weight_quantizer(layer.weight).sign())


def test_parametrized_and_frozen_networks_agree_with_plain_ones():
    plain = nn.Sequential(QConv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)).eval()
    other = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)).eval()
    other[0].weight.data.copy_(plain[0].weight.data)
    parametrize.register_parametrization(other[0], "weight", Binarize())
    x = torch.rand(2, 2, 5, 5) * 2 - 1
    expected = fixed_point(plain)(x)
    assert torch.equal(fixed_point(other)(x), expected)
    assert torch.equal(fixed_point(freeze(plain))(x), expected)
    assert torch.equal(other(x), plain(x))


@pytest.mark.parametrize("groups", [1, 2])
def test_fixed_point_holds_the_largest_sum_of_a_transposed_convolution(groups: int) -> None:
    """Weights of 1 and inputs of 1: an output is at most the sum over the inputs of its group and the kernel."""
    layer = QConvTranspose2d(64, 4, 3, groups=groups, bias=False, weight_quantizer=Binarize())
    with torch.no_grad():
        layer.weight.fill_(1)
    model = fixed_point(nn.Sequential(layer, nn.Flatten(), nn.Linear(4 * 49, 2)), formats=Formats(conv=Format(15, 0)))
    model(torch.full((1, 64, 5, 5), 127 / 128))
    place = next(each for each in model.saturations() if each.kind == "conv")
    assert place.saturated == 0 and place.format.integer_bits == (10 if groups == 1 else 9)
