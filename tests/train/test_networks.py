from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qcompiler.errors import UsageError
from qcompiler.nn import (
    LSQ,
    FixedPoint,
    MoonsReLU,
    QActivation,
    QConv2d,
    QLinear,
    Quantizer,
    XnorConv2d,
    XnorLinear,
    freeze,
    quantized_weights,
)
from qcompiler.train.config import TrainConfig, from_flat, load_config, shipped_configs
from qcompiler.train.networks import NETWORKS, Network, Shape

DIGITS: Shape = (1, 28, 28)
COLOUR: Shape = (3, 32, 32)
PHOTO: Shape = (3, 224, 224)
LAYERS = (nn.Conv2d, nn.Linear)

# every network and every kind of it, small, with an image that it takes
SMALL: list[tuple[str, dict[str, Any], Shape]] = [
    ("binarynet_mlp", {"hidden": 16}, DIGITS),
    ("binarynet_mlp", {"hidden": 16, "weights": "ternary", "threshold": "mean"}, DIGITS),
    ("binarynet_mlp", {"hidden": 16, "stochastic": True, "layers": 1}, DIGITS),
    ("binarynet_mlp", {"hidden": 16, "weights": "float"}, DIGITS),
    ("binarynet_mlp", {"hidden": 16, "activation": "relu"}, DIGITS),
    ("binarynet_vgg", {"width": 8, "hidden": 16}, COLOUR),
    ("binarynet_vgg", {"width": 8, "hidden": 16, "weights": "ternary"}, DIGITS),
    ("xnornet_mlp", {"hidden": 16}, DIGITS),
    ("xnornet_mlp", {"hidden": 16, "k_map": False}, DIGITS),
    ("xnornet_mlp", {"hidden": 16, "real_first": True}, DIGITS),
    ("xnornet_vgg", {"width": 8, "hidden": 16}, COLOUR),
    ("xnornet_vgg", {"width": 8, "hidden": 16, "k_map": False}, DIGITS),
    ("xnornet_alexnet", {"width": 6, "hidden": 16}, (3, 64, 126)),
    ("moons", {"network_type": "float", "nfa": 8, "nfb": 8, "nfc": 8}, COLOUR),
    ("moons", {"network_type": "qnn", "nfa": 8, "nfb": 8, "nfc": 8}, COLOUR),
    ("moons", {"network_type": "full-qnn", "nfa": 8, "nfb": 8, "nfc": 8, "wbits": 2, "abits": 2}, COLOUR),
    ("moons", {"network_type": "bnn", "nfa": 8, "nfb": 8, "nfc": 8}, COLOUR),
    ("moons", {"network_type": "full-bnn", "nfa": 8, "nfb": 9, "nfc": 10, "nla": 2, "nlb": 3}, DIGITS),
    ("lenet", {"filters": 8, "hidden": 16}, DIGITS),
    ("lenet", {"filters": 8, "hidden": 16, "w_bits": 2, "a_bits": 3}, COLOUR),
    ("resnet18", {"width": 8}, COLOUR),
    ("resnet18", {"width": 8, "w_bits": 4, "a_bits": 4}, (3, 64, 64)),
    ("bireal18", {"width": 8}, COLOUR),
    ("bireal18", {"width": 8}, (3, 65, 70)),
    ("reactnet18", {"width": 8}, COLOUR),
    ("reactnet18", {"width": 8}, (3, 65, 70)),
    ("lsq_resnet18", {"width": 8}, COLOUR),
    ("lsq_resnet18", {"width": 8, "w_bits": 4, "a_bits": 3}, (3, 64, 64)),
    ("quicknet", {"size": "small"}, COLOUR),
    ("keras_mlp", {"hidden": 16}, DIGITS),
    ("keras_mlp", {"hidden": 16, "weights": "ternary"}, DIGITS),
    ("keras_mlp", {"hidden": 16, "weights": "nbit", "wbits": 3, "abits": 2}, DIGITS),
    ("keras_cnn", {"width": 8, "hidden": 16}, DIGITS),
    ("keras_cnn", {"width": 8, "hidden": 16, "weights": "ternary"}, COLOUR),
    ("scratch_mlp", {"hidden": 16}, DIGITS),
    ("scratch_mlp", {"hidden": 16, "stochastic": True, "dropout_hidden": 0.5, "head": "batchnorm"}, DIGITS),
    ("scratch_mlp", {"hidden": 16, "activation": "sign"}, DIGITS),
]
IDS = [f"{name}-{'-'.join(str(value) for value in options.values())}" for name, options, _ in SMALL]
each_small = pytest.mark.parametrize(("name", "options", "shape"), SMALL, ids=IDS)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def pixels(batch: int, shape: Shape) -> torch.Tensor:
    return torch.randint(0, 256, (batch, *shape)) / 128 - 1


def built_without_memory(network: Network, shape: Shape, classes: int) -> nn.Module:
    with torch.device("meta"):
        return network.build(shape, classes)


def count(model: nn.Module, but: tuple[type[nn.Module], ...] = ()) -> int:
    """Parameters, without those of modules of the types `but`."""
    owners = [layer for layer in model.modules() if not isinstance(layer, but)]
    return sum(each.numel() for layer in owners for each in layer.parameters(recurse=False))


def filters(*channels: int) -> int:
    """Weights of 3x3 convolutions from one of `channels` to the next."""
    return sum(9 * inputs * outputs for inputs, outputs in zip(channels, channels[1:], strict=False))


def kinds(model: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in model]


def weight_widths(model: nn.Module) -> list[int]:
    """Of every layer in order, 32 for a float one."""
    return [
        getattr(getattr(layer, "weight_quantizer", None), "bits", 32)
        for layer in model.modules()
        if isinstance(layer, LAYERS)
    ]


VGG = filters(3, 128, 128, 256, 256, 512, 512)
HALF_VGG = filters(3, 64, 64, 128, 128, 256, 256)


def test_all_networks_of_the_issue_are_there() -> None:
    assert sorted(NETWORKS) == [
        "binarynet_mlp", "binarynet_vgg", "bireal18", "keras_cnn", "keras_mlp", "lenet", "lsq_resnet18", "moons",
        "quicknet", "reactnet18", "resnet18", "scratch_mlp", "xnornet_alexnet", "xnornet_mlp", "xnornet_vgg",
    ]  # fmt: skip
    assert {name for name, _, _ in SMALL} == set(NETWORKS)


@each_small
def test_scores_have_one_column_per_class(name: str, options: dict[str, Any], shape: Shape) -> None:
    scores = NETWORKS[name](**options).build(shape, 7).eval()(pixels(2, shape))
    assert scores.shape == (2, 7)
    assert scores.isfinite().all()


@each_small
def test_gradients_reach_every_parameter(name: str, options: dict[str, Any], shape: Shape) -> None:
    model = NETWORKS[name](**options).build(shape, 5)
    scores = model(pixels(8, shape))
    nn.functional.cross_entropy(scores, torch.arange(8) % 5).backward()
    without = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert without == []


@each_small
def test_the_baseline_is_float_and_as_large(name: str, options: dict[str, Any], shape: Shape) -> None:
    network = NETWORKS[name](**options)
    twin = network.baseline()
    model = twin.build(shape, 5)
    assert (twin.w_bits, twin.a_bits) == (32, 32)
    assert not [layer for layer in model.modules() if isinstance(layer, Quantizer)]
    assert count(model) == count(network.build(shape, 5), but=(LSQ,))
    assert model.eval()(pixels(2, shape)).shape == (2, 5)


@each_small
def test_inner_layers_have_the_widths_that_the_network_names(name: str, options: dict[str, Any], shape: Shape) -> None:
    network = NETWORKS[name](**options)
    model = network.build(shape, 5)
    assert set(weight_widths(model)) <= {network.w_bits, 32}
    assert network.w_bits in weight_widths(model)
    activations = {
        # n bits of Moons' ReLU are n - 1 bits of codes
        quantizer.bits + isinstance(quantizer, MoonsReLU)
        for layer in model.modules()
        for quantizer in [getattr(layer, "quantizer", getattr(layer, "input_quantizer", None))]
        if isinstance(quantizer, Quantizer)
    }
    assert activations == ({network.a_bits} if network.a_bits != 32 else set())


@each_small
def test_freezing_changes_nothing(name: str, options: dict[str, Any], shape: Shape) -> None:
    model = NETWORKS[name](**options).build(shape, 5).eval()
    images = pixels(2, shape)
    assert torch.equal(freeze(model)(images), model(images))


@each_small
def test_a_quantized_first_layer_announces_8_bit_pixels(name: str, options: dict[str, Any], shape: Shape) -> None:
    model = NETWORKS[name](**options).build(shape, 5)
    first = next(layer for layer in model.modules() if isinstance(layer, LAYERS))
    announced = isinstance(model[0], FixedPoint) and model[0].bits == 8
    # XNOR-Net's first layer, where it is binary, takes the sign of the pixels
    expected = isinstance(first, QConv2d | QLinear) and not isinstance(first, XnorLinear)
    assert announced == expected
    if announced:
        images = pixels(2, shape)
        assert torch.equal(model[0](images), images)


@pytest.mark.parametrize(
    ("name", "options", "shape", "classes", "expected"),
    [
        # 784 -> 4096 -> 4096 -> 4096 -> 10, two BatchNorm parameters per unit
        ("binarynet_mlp", {}, DIGITS, 10, 784 * 4096 + 2 * 4096**2 + 40960 + 2 * (3 * 4096 + 10)),
        # Courbariaux et al. count 14 M for CIFAR-10
        ("binarynet_vgg", {}, COLOUR, 10, VGG + 8192 * 1024 + 1024**2 + 10240 + 2 * (1792 + 2048 + 10)),
        ("binarynet_vgg", {"width": 64}, COLOUR, 10, HALF_VGG + 4096 * 1024 + 1024**2 + 10240 + 2 * (896 + 2058)),
        ("xnornet_mlp", {}, DIGITS, 10, 784 * 4096 + 2 * 4096**2 + 40970 + 2 * (2 * 4096 + 10)),
        ("xnornet_vgg", {}, COLOUR, 10, VGG + 8192 * 1024 + 1024**2 + 10250 + 2 * (1792 + 2048)),
        # Larq Zoo's summary of XNORNet: 58,236,928 binary and 4,150,176 others; its last layer has no bias
        ("xnornet_alexnet", {}, PHOTO, 1000, 58_236_928 + 4_150_176 + 1000),
        ("moons", {}, COLOUR, 10, filters(3, 64, 64, 64) + 1024 * 10 + 2 * (3 * 64 + 10)),
        (
            "moons", {"nla": 2, "nlb": 3, "nfb": 128, "nlc": 3, "nfc": 128}, DIGITS, 10,
            filters(1, 64, 64, *[128] * 6) + 3 * 3 * 128 * 10 + 2 * (2 * 64 + 6 * 128 + 10),
        ),
        # BMXNet: 4.6 MB in float
        ("lenet", {}, DIGITS, 10, 1600 + 64 + 64 * 64 * 25 + 1024 * 1000 + 10010 + 2 * (64 + 64 + 1000)),
        # Larq Zoo's summary of BiRealNet: 10,985,472 binary and 704,040 others
        ("bireal18", {}, PHOTO, 1000, 10_985_472 + 704_040),
        ("keras_mlp", {}, DIGITS, 10, 784 * 2048 + 2 * 2048**2 + 20480 + 2 * (3 * 2048 + 10)),
        ("keras_cnn", {}, DIGITS, 10, filters(1, 128, 128, 256, 256) + 12544 * 1024 + 10240 + 2 * (768 + 1024 + 10)),
        ("scratch_mlp", {}, DIGITS, 10, 784 * 1024 + 2 * 1024**2 + 10240 + 2 * 3 * 1024),
    ],
)  # fmt: skip
def test_published_sizes(name: str, options: dict[str, Any], shape: Shape, classes: int, expected: int) -> None:
    assert count(built_without_memory(NETWORKS[name](**options), shape, classes)) == expected


@pytest.mark.parametrize(("size", "published"), [("small", 12_655_688), ("medium", 13_234_088), ("large", 23_342_248)])
def test_quicknet_has_the_sizes_that_larq_zoo_gives(size: str, published: int) -> None:
    # larq counts the constant blur kernels, and two numbers per channel of the BatchNorm without parameters
    model = built_without_memory(NETWORKS["quicknet"](size=size), PHOTO, 1000)
    constants = sum(buffer.numel() for name, buffer in model.named_buffers() if name.endswith("kernel"))
    bare = sum(2 * layer.num_features for layer in model.modules() if getattr(layer, "affine", True) is False)
    assert count(model) + constants + bare == published


def test_resnet18_of_bmxnet_has_a_shortcut_convolution_in_every_stage() -> None:
    # torchvision's 11,689,512 for 1000 classes, plus 64 x 64 of the first stage's shortcut; a BatchNorm precedes each
    # inner convolution and none follows a shortcut
    model = built_without_memory(NETWORKS["resnet18"](), PHOTO, 1000)
    convolutions = 9408 + 9 * (4 * 64**2 + 64 * 128 + 3 * 128**2 + 128 * 256 + 3 * 256**2 + 256 * 512 + 3 * 512**2)
    shortcuts = 64 * 64 + 64 * 128 + 128 * 256 + 256 * 512
    norms = 64 + (4 * 64) + (64 + 3 * 128) + (128 + 3 * 256) + (256 + 3 * 512) + 512
    assert count(model) == convolutions + shortcuts + 2 * norms + 513_000


@pytest.mark.parametrize("name", ["lenet", "resnet18", "bireal18", "quicknet", "xnornet_vgg", "xnornet_alexnet"])
def test_the_first_and_the_last_layer_are_real(name: str) -> None:
    widths = weight_widths(built_without_memory(NETWORKS[name](), PHOTO, 10))
    assert (widths[0], widths[-1]) == (32, 32)
    assert 1 in widths[1:-1]


@pytest.mark.parametrize("name", ["binarynet_mlp", "binarynet_vgg", "keras_mlp", "keras_cnn"])
def test_every_layer_is_binary_and_batchnorm_is_last(name: str) -> None:
    model = built_without_memory(NETWORKS[name](), COLOUR, 10)
    assert set(weight_widths(model)) == {1}
    assert kinds(model)[-1] == "BatchNorm1d"


def test_binarynet_mlp_layer_by_layer() -> None:
    model = built_without_memory(NETWORKS["binarynet_mlp"](layers=1), DIGITS, 10)
    assert kinds(model) == [
        "FixedPoint", "Flatten", "Dropout", "QLinear", "BatchNorm1d", "QActivation", "Dropout",
        "QLinear", "BatchNorm1d",
    ]  # fmt: skip
    assert (model[2].p, model[6].p, model[4].eps) == (0.2, 0.5, 1e-4)


@pytest.mark.parametrize(("name", "steps"), [("binarynet_vgg", 6), ("keras_cnn", 4)])
def test_every_second_convolution_pools_before_its_batchnorm(name: str, steps: int) -> None:
    model = built_without_memory(NETWORKS[name](), COLOUR, 10)
    pair = ["QConv2d", "BatchNorm2d", "QActivation", "QConv2d", "MaxPool2d", "BatchNorm2d", "QActivation"]
    dense = ["QLinear", "BatchNorm1d", "QActivation"]
    hidden = dense * (weight_widths(model).count(1) - steps - 1)
    assert kinds(model) == ["FixedPoint", *pair * (steps // 2), "Flatten", *hidden, "QLinear", "BatchNorm1d"]


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 2), ("bireal18", 4)])
def test_residual_stages_halve_the_image_after_the_first(name: str, blocks: int) -> None:
    model = NETWORKS[name](width=2).build(COLOUR, 10).eval()
    rows: list[int] = []
    for block in model:
        if hasattr(block, "body"):
            block.register_forward_hook(lambda layer, inputs, output: rows.append(output.shape[2]))
    model(pixels(1, COLOUR))
    assert rows == [size for size in (32, 16, 8, 4) for _ in range(blocks)]


def test_moons_blocks_end_in_a_pool_and_the_last_layer_is_float() -> None:
    model = built_without_memory(NETWORKS["moons"](nla=2), COLOUR, 10)
    step = ["QConv2d", "BatchNorm2d", "QActivation"]
    assert kinds(model) == [
        "FixedPoint", *step, *step, "MaxPool2d", *step, "MaxPool2d", *step, "MaxPool2d",
        "Flatten", "Linear", "BatchNorm1d",
    ]  # fmt: skip
    assert model[-2].bias is None


@pytest.mark.parametrize(
    ("network_type", "w_bits", "a_bits", "activation"),
    [
        ("float", 32, 32, nn.LeakyReLU), ("qnn", 3, 32, nn.LeakyReLU), ("full-qnn", 3, 5, QActivation),
        ("bnn", 1, 32, nn.LeakyReLU), ("full-bnn", 1, 1, QActivation),
    ],
)  # fmt: skip
def test_network_types_of_moons(network_type: str, w_bits: int, a_bits: int, activation: type) -> None:
    network = NETWORKS["moons"](network_type=network_type, wbits=3, abits=5)
    model = built_without_memory(network, COLOUR, 10)
    assert (network.w_bits, network.a_bits) == (w_bits, a_bits)
    assert sum(isinstance(layer, activation) for layer in model) == 3
    assert weight_widths(model) == [w_bits] * 3 + [32]


def test_xnornet_normalises_before_the_sign_and_pools_after_the_convolution() -> None:
    model = built_without_memory(NETWORKS["xnornet_vgg"](), COLOUR, 10)
    assert kinds(model)[:7] == [
        "Conv2d", "BatchNorm2d", "XnorConv2d", "MaxPool2d", "BatchNorm2d", "XnorConv2d", "BatchNorm2d",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["xnornet_mlp", "xnornet_vgg", "xnornet_alexnet"])
@pytest.mark.parametrize("k_map", [True, False])
def test_the_k_map_can_be_switched_off(name: str, k_map: bool) -> None:
    model = built_without_memory(NETWORKS[name](k_map=k_map), PHOTO, 10)
    assert {layer.k_map for layer in model.modules() if isinstance(layer, XnorConv2d | XnorLinear)} == {k_map}


def test_stochastic_weights_are_drawn_while_training_only() -> None:
    # no dropout, so that only the weights can differ from one pass to the next
    network = NETWORKS["binarynet_mlp"](hidden=16, stochastic=True, dropout_in=0.0, dropout_hidden=0.0)
    model = network.build(DIGITS, 10)
    images = pixels(8, DIGITS)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_latent_weights_of_binarynet_start_uniform_in_their_range() -> None:
    model = NETWORKS["binarynet_mlp"](hidden=200, layers=1).build(DIGITS, 10)
    _, weight, _ = next(quantized_weights(model))
    assert 0.99 < weight.abs().max() <= 1
    assert abs(weight.std() - 3**-0.5) < 0.01


def test_the_dropout_of_keras_style_keeps_signs() -> None:
    model = NETWORKS["keras_mlp"](hidden=16, layers=1).build(DIGITS, 10)
    dropped = model[6](torch.ones(100, 16))
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert 0.3 < dropped.mean() < 0.7


def test_quicknet_pads_binary_convolutions_with_ones() -> None:
    model = built_without_memory(NETWORKS["quicknet"](), PHOTO, 10)
    bodies = [block.body for block in model if hasattr(block, "body")]
    assert len(bodies) == 16
    for body in bodies:
        assert kinds(body) == ["QActivation", "ConstantPad2d", "QConv2d", "ReLU", "BatchNorm2d"]
        assert (body[1].value, body[2].padding) == (1.0, (0, 0))


def test_bireal_uses_the_polynomial_gradient_and_alpha() -> None:
    model = built_without_memory(NETWORKS["bireal18"](), PHOTO, 10)
    binary = [layer for layer in model.modules() if isinstance(layer, QConv2d)]
    assert len(binary) == 16
    assert {layer.input_quantizer.estimator.name for layer in binary} == {"polynomial"}
    assert {layer.weight_quantizer.scale for layer in binary} == {"channel"}


@pytest.mark.parametrize("name", ["bireal18", "resnet18"])
@pytest.mark.parametrize(("shape", "rows"), [(COLOUR, 32), ((3, 64, 64), 16)])
def test_small_images_enter_without_losing_rows(name: str, shape: Shape, rows: int) -> None:
    model = NETWORKS[name](width=8).build(shape, 10).eval()
    seen: list[int] = []
    inner = next(layer for layer in model.modules() if isinstance(layer, QConv2d))
    inner.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape[2]))
    model(pixels(1, shape))
    assert seen == [rows]


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([("binarynet_vgg", 8), ("xnornet_vgg", 8), ("moons", 8), ("lenet", 16), ("keras_cnn", 4)]),
    st.integers(0, 13), st.integers(0, 13), st.integers(1, 3),
)  # fmt: skip
def test_convolutional_networks_take_any_image_that_is_large_enough(
    case: tuple[str, int], more_rows: int, more_columns: int, channels: int
) -> None:
    name, least = case
    shape = (channels, least + more_rows, least + more_columns)
    small = {"moons": {"nfa": 2, "nfb": 2, "nfc": 2}, "lenet": {"filters": 2, "hidden": 3}}
    model = NETWORKS[name](**small.get(name, {"width": 2, "hidden": 3})).build(shape, 4)
    assert model.eval()(pixels(2, shape)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "least"),
    [("binarynet_vgg", 8), ("xnornet_vgg", 8), ("xnornet_alexnet", 63), ("moons", 8), ("lenet", 16), ("quicknet", 29)],
)
def test_images_that_are_too_small_are_refused(name: str, least: int) -> None:
    network = NETWORKS[name]()
    with pytest.raises(UsageError, match=f"{name}: images are .* expected at least {least} x {least}"):
        network.build((3, least, least - 1), 10)
    with torch.device("meta"):
        model = network.build((3, least, least), 10).eval()
        assert model(torch.zeros(2, 3, least, least)).shape == (2, 10)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_class_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: 1 classes"):
        NETWORKS[name]().build(PHOTO, 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("moons", {"abits": 1}, r"abits is 1, expected 2 to 16; .*constant zero.*network_type=full-bnn"),
        ("moons", {"wbits": 1}, r"wbits is 1, expected 2 to 16"),
        ("moons", {"wbits": 0, "network_type": "qnn"}, r"wbits is 0"),
        ("moons", {"wbits": 17}, r"wbits is 17"),
        ("moons", {"network_type": "ful-qnn"}, r"network_type is 'ful-qnn'.*did you mean 'full-qnn'"),
        (
            "moons",
            {"network_type": "binary"},
            r"network_type is 'binary', expected one of float, qnn, full-qnn, bnn, full-bnn",
        ),
        ("moons", {"nlb": 0}, r"nlb is 0"),
        ("moons", {"nfc": -1}, r"nfc is -1"),
        ("binarynet_mlp", {"weights": "binery"}, r"weights is 'binery'.*did you mean 'binary'"),
        ("binarynet_mlp", {"threshold": "0.7"}, r"threshold is '0.7', expected one of 0.5, 0.05, mean"),
        ("binarynet_mlp", {"activation": "tanh"}, r"activation is 'tanh'"),
        ("binarynet_mlp", {"hidden": 0}, r"hidden is 0, expected an integer of at least 1"),
        ("binarynet_mlp", {"layers": True}, r"layers is True"),
        ("binarynet_mlp", {"dropout_in": 1.0}, r"dropout_in is 1.0"),
        ("binarynet_mlp", {"dropout_hidden": float("nan")}, r"dropout_hidden is nan"),
        ("binarynet_mlp", {"stochastic": True, "weights": "ternary"}, r"stochastic is True.*ternary"),
        ("binarynet_vgg", {"width": 0}, r"width is 0"),
        ("xnornet_mlp", {"dropout_hidden": -0.1}, r"dropout_hidden is -0.1"),
        ("xnornet_vgg", {"width": 0}, r"width is 0"),
        ("xnornet_alexnet", {"width": 95}, r"width is 95, expected a multiple of 3"),
        ("lenet", {"a_bits": 0}, r"a_bits is 0, expected 1 to 31 or 32"),
        ("lenet", {"w_bits": 33}, r"w_bits is 33"),
        ("lenet", {"filters": 0}, r"filters is 0"),
        ("resnet18", {"width": 0}, r"width is 0"),
        ("resnet18", {"a_bits": 40}, r"a_bits is 40"),
        ("bireal18", {"width": 0}, r"width is 0"),
        ("quicknet", {"size": "meduim"}, r"size is 'meduim'.*did you mean 'medium'"),
        ("keras_mlp", {"weights": "nbit", "abits": 1}, r"abits is 1, expected 2 to 16"),
        ("keras_mlp", {"weights": "nbit", "wbits": 1}, r"wbits is 1, expected 2 to 16"),
        ("keras_cnn", {"width": 0}, r"width is 0"),
        ("scratch_mlp", {"head": "softmax"}, r"head is 'softmax', expected one of sigmoid, batchnorm"),
        ("scratch_mlp", {"stochastic": True, "weights": "float"}, r"stochastic is True"),
        ("scratch_mlp", {"baseline_dropout": 1.0}, r"baseline_dropout is 1.0, expected a share"),
    ],
)
def test_wrong_parameters_are_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: {message}"):
        NETWORKS[name](**options)


@pytest.mark.parametrize(
    ("own", "of_the_twin", "expected"), [(0.0, 0.0, []), (0.0, 0.5, [0.5] * 3), (0.2, 0.0, [0.2] * 3)]
)
def test_the_float_twin_has_a_dropout_of_its_own(own: float, of_the_twin: float, expected: list[float]) -> None:
    network = NETWORKS["scratch_mlp"](hidden=8, dropout_hidden=own, baseline_dropout=of_the_twin)
    shares = [
        [layer.p for layer in each.build(DIGITS, 10).modules() if isinstance(layer, torch.nn.Dropout)]
        for each in (network, network.baseline())
    ]
    assert shares == [[own] * 3 if own else [], expected]
    assert network.baseline().baseline() == network.baseline()


def test_one_bit_fields_that_a_type_does_not_read_are_no_error() -> None:
    assert NETWORKS["moons"](network_type="full-bnn", wbits=1, abits=1).a_bits == 1
    assert NETWORKS["moons"](network_type="qnn", abits=1).a_bits == 32
    assert NETWORKS["keras_mlp"](wbits=1, abits=1).w_bits == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_scalars_under_names_of_their_own(name: str) -> None:
    fields = dataclasses.fields(NETWORKS[name])
    assert {type(field.default) for field in fields} <= {int, float, str, bool}
    assert not {field.name for field in fields} & {field.name for field in dataclasses.fields(TrainConfig)}
    config, network = from_flat({"network": name, "name": "run"})
    assert network == NETWORKS[name]()


def test_every_network_has_a_recipe() -> None:
    recipes = {name: load_config(name) for name in shipped_configs()}
    assert {config.network for config, _ in recipes.values()} == set(NETWORKS)
    for name, (config, network) in recipes.items():
        assert NETWORKS[config.network] is type(network)
        assert name.startswith("imagenet" if config.dataset == "images" else config.dataset)


def test_an_unknown_recipe_key_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown key 'abit'.*'abits'"):
        load_config("cifar10_moons.yaml", ["abit=4"])
    with pytest.raises(UsageError, match="moons: abits is 1"):
        load_config("cifar10_moons.yaml", ["abits=1"])


def test_recipes_say_binary_layers_scale_their_updates_as_binarynet_does() -> None:
    for name in ("mnist_binarynet", "cifar10_binarynet", "svhn_binarynet", "mnist_xnornet", "cifar10_xnornet"):
        config, _ = load_config(name)
        assert config.scale_updates and config.clip_weights, name
        assert config.schedule == "exponential", name
