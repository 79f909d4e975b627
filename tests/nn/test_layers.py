"""Layers against torch's own with the quantized weight, and what torch does with modules around training."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from qcompiler import nn as q

quick = settings(max_examples=25, deadline=None)
PADDING_MODES = ["zeros", "reflect", "replicate", "circular"]


def with_quantized_weight(layer: nn.Module, torch_layer: nn.Module) -> nn.Module:
    """`torch_layer` with the quantized weight and the bias of `layer`."""
    with torch.no_grad():
        torch_layer.weight.copy_(layer.weight_quantizer(layer.weight))
        if layer.bias is not None:
            torch_layer.bias.copy_(layer.bias)
    return torch_layer


@quick
@given(
    dimensions=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same", "valid"]),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    mode=st.sampled_from(PADDING_MODES),
    w_bits=st.sampled_from([1, 2, 4, 16, 31, 32]),
    act_bit=st.sampled_from([None, 1, 4, 32]),
)
def test_convolutions_take_the_arguments_of_torch(
    dimensions: int,
    groups: int,
    kernel: int,
    stride: int,
    padding: int | str,
    dilation: int,
    bias: bool,
    mode: str,
    w_bits: int,
    act_bit: int | None,
) -> None:
    ours, theirs = ((q.QConv1d, nn.Conv1d), (q.QConv2d, nn.Conv2d), (q.QConv3d, nn.Conv3d))[dimensions - 1]
    stride = 1 if padding == "same" else stride
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    layer = ours(4, 6, kernel, **options, padding_mode=mode, w_bits=w_bits, act_bit=act_bit)
    expected = with_quantized_weight(layer, theirs(4, 6, kernel, **options, padding_mode=mode))
    x = torch.randn(2, 4, *[7] * dimensions)
    seen = {None: x, 32: x, 1: torch.where(x >= 0, 1.0, -1.0), 4: (x.clamp(0, 1) * 15).round() / 15}[act_bit]
    torch.testing.assert_close(layer(x), expected(seen))
    assert isinstance(layer, theirs)


def by_output_channel(layer: q.QConvTranspose2d, quantizer: nn.Module) -> torch.Tensor:
    """The weight that torch shall compute with: the quantizer is shown one row an output channel, in a loop."""
    weight, groups = layer.weight.detach(), layer.groups
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    places = [(slice(g * inputs, (g + 1) * inputs), o) for g in range(groups) for o in range(outputs)]
    rows = quantizer(torch.stack([weight[place] for place in places]))
    expected = torch.empty_like(weight)
    for place, row in zip(places, rows, strict=True):
        expected[place] = row
    return expected


TRANSPOSED: dict[str, Callable[[], nn.Module]] = {
    "binary": q.Binarize,
    "scale of the tensor": lambda: q.Binarize(scale="tensor"),
    "scale of channels": lambda: q.Binarize(scale="channel", centre=True),
    "ternary": lambda: q.Ternarize(threshold="mean", scale="channel"),
    "moons": lambda: q.MoonsWeight(3),
    "dorefa": lambda: q.DoReFaWeight(4),
    "lsq": lambda: q.LSQ(4, channels=6),
}


@pytest.mark.parametrize("name", TRANSPOSED)
@quick
@given(
    groups=st.sampled_from([1, 2]),
    kernel=st.sampled_from([1, 2, 3, (2, 3)]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    act_bit=st.sampled_from([None, 1]),
)
def test_transposed_convolutions(
    name: str, groups: int, kernel: int, stride: int, padding: int, dilation: int, bias: bool, act_bit: int | None
) -> None:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    options["output_padding"] = max(stride, dilation) - 1
    layer = q.QConvTranspose2d(4, 6, kernel, **options, weight_quantizer=TRANSPOSED[name](), act_bit=act_bit)
    x = torch.randn(2, 4, 5, 6)
    layer(x)
    layer.eval()
    expected = nn.ConvTranspose2d(4, 6, kernel, **options)
    with torch.no_grad():
        expected.weight.copy_(by_output_channel(layer, layer.weight_quantizer))
        if bias:
            expected.bias.copy_(layer.bias)
        seen = x if act_bit is None else torch.where(x >= 0, 1.0, -1.0)
        found = layer(x)
        torch.testing.assert_close(found, expected(seen))
        assert torch.equal(q.freeze(layer)(x), found)
    assert isinstance(layer, nn.ConvTranspose2d)


def test_transposed_convolutions_take_a_size() -> None:
    layer = q.QConvTranspose2d(2, 3, 3, stride=2)
    x = torch.randn(1, 2, 4, 4)
    assert layer(x).shape == (1, 3, 9, 9) and layer(x, output_size=[10, 9]).shape == (1, 3, 10, 9)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_weights_are_centred_over_their_inputs(groups: int) -> None:
    quantizer = q.Binarize(scale="channel", centre=True)
    layer = q.QConvTranspose2d(4, 6, 3, groups=groups, weight_quantizer=quantizer)
    with torch.no_grad():
        layer.weight.uniform_(-2, 2)

    def centred(rows: torch.Tensor) -> torch.Tensor:
        return (rows - rows.mean(1, keepdim=True)).clamp(-1, 1)

    expected = by_output_channel(layer, centred)
    q.clip_weights_(layer)
    torch.testing.assert_close(layer.weight.detach(), expected)
    (group,) = q.scaled_parameter_groups(q.QConvTranspose2d(4, 6, 3, groups=groups, bias=False), 1.0)
    assert group["lr_factor"] == pytest.approx(((6 + 4 // groups) * 9 / 1.5) ** 0.5)


LAYERS: dict[str, Callable[..., nn.Module]] = {
    "QConv1d": lambda **options: q.QConv1d(2, 3, 2, **options),
    "QConv2d": lambda **options: q.QConv2d(2, 3, 2, **options),
    "QConv3d": lambda **options: q.QConv3d(2, 3, 2, **options),
    "QConvTranspose2d": lambda **options: q.QConvTranspose2d(2, 3, 2, **options),
    "QLinear": lambda **options: q.QLinear(2, 3, **options),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("act_bit", [None, *range(1, 33)])
def test_weights_have_the_width_of_the_inputs_where_theirs_is_left_out(name: str, act_bit: int | None) -> None:
    bits = 1 if act_bit in (None, 32) else act_bit
    assert LAYERS[name](act_bit=act_bit).weight_quantizer.bits == bits
    assert LAYERS[name](act_bit=act_bit, w_bits=3).weight_quantizer.bits == 3
    assert isinstance(LAYERS[name](act_bit=act_bit, w_bits=32).weight_quantizer, nn.Identity)


@pytest.mark.parametrize("shape", [(4,), (2, 4), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_takes_the_arguments_of_torch(shape: tuple[int, ...], bias: bool) -> None:
    layer = q.QLinear(4, 3, bias, w_bits=4, act_bit=1)
    x = torch.randn(shape)
    torch.testing.assert_close(
        layer(x), with_quantized_weight(layer, nn.Linear(4, 3, bias))(torch.where(x >= 0, 1.0, -1.0))
    )


def test_given_quantizers_take_precedence() -> None:
    weights, inputs = q.Ternarize(), q.PACT(3)
    layer = q.QLinear(2, 2, w_bits=4, act_bit=4, weight_quantizer=weights, input_quantizer=inputs)
    assert layer.weight_quantizer is weights and layer.input_quantizer is inputs
    assert q.QActivation(4, quantizer=inputs).quantizer is inputs


@pytest.mark.parametrize(("bits", "kind"), [(1, q.Binarize), (2, q.DoReFaActivation), (31, q.DoReFaActivation)])
def test_widths_of_activations(bits: int, kind: type) -> None:
    layer = q.QActivation(bits)
    assert type(layer.quantizer) is kind and layer.quantizer.bits == bits
    x = torch.randn(3)
    assert torch.equal(q.QActivation(32)(x), x)


def k_map(x: np.ndarray, layer: q.XnorConv2d) -> np.ndarray:
    """Mean of |x| over channels and window, position by position, padding counted as zeros."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    magnitude = np.pad(np.abs(x).mean(1), [(0, 0), (ph, ph), (pw, pw)])
    rows = (magnitude.shape[1] - dh * (kh - 1) - 1) // sh + 1
    columns = (magnitude.shape[2] - dw * (kw - 1) - 1) // sw + 1
    result = np.empty((x.shape[0], 1, rows, columns))
    for i, j in np.ndindex(rows, columns):
        window = magnitude[:, i * sh : i * sh + dh * kh : dh, j * sw : j * sw + dw * kw : dw]
        result[:, 0, i, j] = window.mean((1, 2))
    return result


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": 2, "padding": (0, 2)},
        {"kernel_size": 2, "dilation": 2, "bias": False},
    ],
)
def test_xnor_convolution_is_sign_times_k_times_alpha(options: dict[str, object]) -> None:
    layer = q.XnorConv2d(3, 5, **options)
    x = torch.randn(2, 3, 7, 8)
    weight = layer.weight.detach()
    signs = functional.conv2d(x.sign(), weight.sign(), None, layer.stride, layer.padding, layer.dilation)
    alpha = weight.abs().mean((1, 2, 3)).reshape(1, -1, 1, 1)
    expected = signs.numpy() * k_map(x.numpy(), layer) * alpha.numpy()
    if layer.bias is not None:
        expected = expected + layer.bias.detach().numpy().reshape(1, -1, 1, 1)
    np.testing.assert_allclose(layer(x).detach(), expected, rtol=1e-4, atol=1e-5)


def test_xnor_linear_is_sign_times_mean_times_alpha() -> None:
    layer = q.XnorLinear(6, 4)
    x = torch.randn(3, 6)
    weight = layer.weight.detach()
    expected = x.sign() @ weight.sign().T * x.abs().mean(1, keepdim=True) * weight.abs().mean(1) + layer.bias
    torch.testing.assert_close(layer(x), expected)
    plain = q.XnorLinear(6, 4, k_map=False)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(plain(x), x.sign() @ weight.sign().T * weight.abs().mean(1) + layer.bias)


QUANTIZERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "binary": (q.Binarize, q.Binarize),
    "xnor": (lambda: q.Binarize(scale="channel", centre=True), q.Binarize),
    "ternary": (q.Ternarize, q.Ternarize),
    "moons": (lambda: q.MoonsWeight(4), lambda: q.MoonsReLU(4)),
    "dorefa": (lambda: q.DoReFaWeight(2), lambda: q.DoReFaActivation(2)),
    "learned": (lambda: q.LSQ(4), lambda: q.LSQ(4, signed=False)),
    "pact": (lambda: q.LSQ(4, channels=6), lambda: q.PACT(4, alpha=0.5)),
}


def network(name: str) -> nn.Sequential:
    weight, activation = QUANTIZERS[name]
    model = nn.Sequential(
        q.QConv2d(2, 6, 3, bias=False, weight_quantizer=weight()),
        nn.BatchNorm2d(6),
        q.QActivation(quantizer=activation()),
        nn.Flatten(),
        q.QLinear(24, 6, weight_quantizer=weight()),
    )
    for layer in (model[0], model[4]):
        # torch's own start lies below the ternary threshold: all weights would be zero
        nn.init.uniform_(layer.weight, -1, 1)
    return model


def train_a_little(model: nn.Module, steps: int = 2) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x, target = torch.randn(8, 2, 4, 4), torch.randn(8, 6)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", QUANTIZERS)
def test_state_dict_round_trip_through_a_file(name: str) -> None:
    model, other = network(name), network(name)
    train_a_little(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(other.eval()(x), model.eval()(x))


def test_a_float_layer_loads_into_a_quantized_one() -> None:
    layer = q.QConv2d(2, 3, 3, w_bits=4, act_bit=4)
    layer.load_state_dict(nn.Conv2d(2, 3, 3).state_dict())


@pytest.mark.parametrize("name", QUANTIZERS)
def test_deepcopy_and_pickle_are_independent_copies(name: str) -> None:
    model = network(name)
    train_a_little(model)
    x = torch.randn(3, 2, 4, 4)
    expected = model.eval()(x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x), expected)
        train_a_little(twin.train())
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    model = network(name)
    train_a_little(model, 1)
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("name", QUANTIZERS)
def test_bf16_autocast(name: str) -> None:
    model = network(name)
    train_a_little(model, 1)
    x = torch.randn(8, 2, 4, 4)
    expected = model(x)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        loss = out.float().square().mean()
    loss.backward()
    assert out.dtype == torch.bfloat16 and model[0].weight.grad.dtype == torch.float32
    assert all(torch.isfinite(each.grad).all() for each in model.parameters())
    # an activation near a threshold may fall on its other side, hence the mean
    assert (out - expected).abs().mean() < 0.15 * expected.abs().mean()


@pytest.mark.parametrize("name", ["binary", "moons", "dorefa"])
def test_float64_models(name: str) -> None:
    model = network(name).double()
    assert model(torch.randn(3, 2, 4, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("quantizer", [q.Binarize, q.Ternarize, lambda: q.MoonsWeight(3), lambda: q.LSQ(3)])
def test_parametrized_torch_layer_trains_like_the_drop_in(quantizer: Callable[[], nn.Module]) -> None:
    layer, ours = nn.Conv2d(3, 4, 3), q.QConv2d(3, 4, 3, weight_quantizer=quantizer())
    ours.load_state_dict(layer.state_dict(), strict=False)
    parametrize.register_parametrization(layer, "weight", quantizer())
    x = torch.randn(2, 3, 5, 5)
    for each in (layer, ours):
        each(x).square().sum().backward()
    assert torch.equal(layer(x), ours(x))
    assert torch.equal(layer.parametrizations.weight.original.grad, ours.weight.grad)


def test_quantized_weights_names_parameters() -> None:
    model = nn.Sequential(q.QConv2d(2, 3, 3), nn.Linear(3, 3), nn.Linear(3, 3), q.QLinear(3, 3, w_bits=32))
    parametrize.register_parametrization(model[1], "weight", q.Ternarize())
    found = list(q.quantized_weights(model))
    parameters = dict(model.named_parameters())
    assert [name for name, _, _ in found] == ["0.weight", "1.parametrizations.weight.original"]
    assert all(parameters[name] is parameter for name, parameter, _ in found)
    assert [type(quantizer) for _, _, quantizer in found] == [q.Binarize, q.Ternarize]
    assert [name for name, _, _ in q.quantized_weights(q.QLinear(2, 2))] == ["weight"]


def compiled_and_eager(model: nn.Module, x: torch.Tensor, backend: str) -> None:
    """Two steps each, because the second one runs without the start of learned scales."""
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend=backend)
    for _ in range(2):
        out, expected = compiled(x), model(x)
        torch.testing.assert_close(out, expected)
        out.square().sum().backward()
        expected.square().sum().backward()
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_torch_compile_traces_the_quantizers() -> None:
    model = nn.Sequential(
        q.QConv2d(2, 4, 3, weight_quantizer=q.Binarize(scale="channel", estimator="polynomial")),
        q.QActivation(4),
        nn.Flatten(),
        q.QLinear(16, 3, weight_quantizer=q.LSQ(4), input_quantizer=q.Binarize()),
    )
    compiled_and_eager(model, torch.randn(4, 2, 4, 4), "aot_eager")


@pytest.mark.slow
def test_torch_compile_with_code_generation() -> None:
    model = nn.Sequential(q.QLinear(4, 8, w_bits=1), nn.BatchNorm1d(8), q.QActivation(1), q.QLinear(8, 3, w_bits=4))
    compiled_and_eager(model, torch.randn(6, 4), "inductor")
