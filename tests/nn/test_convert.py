from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize

from qcompiler import nn as q
from qcompiler.errors import UsageError
from qcompiler.nn.convert import LayerBits, quantize_model


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1, groups=2, padding_mode="reflect"),
        nn.BatchNorm2d(6),
        nn.ReLU6(),
        nn.Flatten(),
        nn.Linear(54, 8),
        nn.LeakyReLU(),
        nn.Linear(8, 3),
    )


class Residual(nn.Module):
    """One ReLU module in two places, as in torchvision's ResNet, and nested names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.body = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4), self.relu, nn.Conv1d(4, 4, 1))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.stem(x))
        return self.head(self.relu(self.body(x) + x).mean(2))


def types(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model]


def test_every_layer_but_the_first_and_last() -> None:
    model = quantize_model(lenet(), act_bit=1, w_bits=1)
    assert types(model) == [
        "Conv2d", "BatchNorm2d", "QActivation", "QConv2d", "BatchNorm2d", "QActivation", "Flatten", "QLinear",
        "QActivation", "Linear",
    ]  # fmt: skip
    assert isinstance(model[3].weight_quantizer, q.Binarize) and isinstance(model[3].input_quantizer, nn.Identity)
    assert isinstance(model[2].quantizer, q.Binarize)
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (False, False)])
def test_first_and_last_layer(first: bool, last: bool) -> None:
    found = types(quantize_model(lenet(), skip_first=first, skip_last=last))
    assert (found[0], found[-1]) == ("Conv2d" if first else "QConv2d", "Linear" if last else "QLinear")


@pytest.mark.parametrize(("act_bit", "w_bits"), [(2, 4), (16, 16), (32, 1), (8, 32)])
def test_widths(act_bit: int, w_bits: int) -> None:
    model = quantize_model(lenet(), act_bit=act_bit, w_bits=w_bits)
    assert type(model[2]) is (nn.ReLU if act_bit == 32 else q.QActivation)
    assert type(model[3]) is (nn.Conv2d if w_bits == 32 else q.QConv2d)
    if act_bit != 32:
        assert model[2].quantizer.bits == act_bit
    if w_bits != 32:
        assert model[3].weight_quantizer.bits == w_bits


def test_the_result_computes_with_the_settings_and_weights_of_the_original() -> None:
    model = lenet().eval()
    converted = quantize_model(model, act_bit=32, w_bits=16)
    x = torch.randn(2, 4, 7, 7)
    with torch.no_grad():
        weight = converted[3].weight_quantizer(model[3].weight)
        expected = functional.conv2d(
            functional.pad(x, (1, 1, 1, 1), mode="reflect"), weight, model[3].bias, stride=2, groups=2
        )
        torch.testing.assert_close(converted[3](x), expected)
        torch.testing.assert_close(converted[0](x[:, :1]), model[0](x[:, :1]))
    assert repr(model[3])[len("Conv2d(") : -1] in repr(converted[3])


def test_the_original_is_untouched_and_shares_nothing() -> None:
    model = lenet()
    state = copy.deepcopy(model.state_dict())
    before = types(model)
    converted = quantize_model(model)
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.zero_()
    assert types(model) == before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_state_dict_names_and_order_of_parameters_stay() -> None:
    model = lenet()
    converted = quantize_model(model)
    assert list(converted.state_dict()) == list(model.state_dict())
    converted.load_state_dict(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in converted.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_mode_dtype_and_frozen_parameters_are_kept(training: bool) -> None:
    model = lenet().double().train(training)
    model[3].weight.requires_grad_(False)
    converted = quantize_model(model)
    assert all(module.training is training for module in converted.modules())
    assert converted[3].weight.dtype == torch.float64 and converted[7].bias.dtype == torch.float64
    assert not converted[3].weight.requires_grad and converted[7].weight.requires_grad


def test_shared_modules_stay_shared() -> None:
    model = quantize_model(Residual(), act_bit=2)
    assert isinstance(model.relu, q.QActivation) and model.body[2] is model.relu
    assert isinstance(model.stem, nn.Conv1d) and not isinstance(model.stem, q.QConv1d)
    assert isinstance(model.body[0], q.QConv1d) and isinstance(model.body[3], q.QConv1d)
    assert model(torch.randn(2, 2, 5)).shape == (2, 2)
    shared = nn.Linear(4, 4)
    twice = quantize_model(nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(), shared, nn.Linear(4, 2)))
    assert isinstance(twice[1], q.QLinear) and twice[1] is twice[3]


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[3].weight = model[2].weight
    converted = quantize_model(model)
    assert isinstance(converted[2], q.QLinear) and converted[3].weight is converted[2].weight


def test_rule_decides_by_name_and_module() -> None:
    asked = []

    def rule(name: str, module: nn.Module) -> LayerBits | None:
        asked.append((name, type(module)))
        if name == "body.0":
            return LayerBits(w_bits=4, act_bit=2)
        return LayerBits(act_bit=3) if isinstance(module, nn.ReLU) else None

    model = quantize_model(Residual(), rule=rule)
    assert asked == [("relu", nn.ReLU), ("body.0", nn.Conv1d), ("body.3", nn.Conv1d)]
    assert model.body[0].weight_quantizer.bits == 4 and model.body[0].input_quantizer.bits == 2
    assert model.relu.quantizer.bits == 3
    assert type(model.body[3]) is nn.Conv1d


def test_rule_may_take_first_and_last_when_they_are_not_skipped() -> None:
    model = quantize_model(lenet(), skip_first=False, skip_last=False, rule=lambda *_: LayerBits(8, 8))
    assert model[0].weight_quantizer.bits == 8 and model[9].input_quantizer.bits == 8


def test_rule_of_32_bits_keeps_the_module() -> None:
    bits = {"3": LayerBits(w_bits=2), "7": LayerBits(32, 32), "2": LayerBits(act_bit=32)}
    model = quantize_model(lenet(), rule=lambda name, _: bits.get(name))
    assert types(model)[2:8:5] == ["ReLU", "Linear"] and type(model[3]) is q.QConv2d


def test_a_lone_layer() -> None:
    model = quantize_model(nn.Linear(3, 2), act_bit=32, skip_first=False, skip_last=False)
    assert isinstance(model, q.QLinear)


def test_quantized_layers_are_left_and_count_as_first() -> None:
    model = nn.Sequential(q.QLinear(4, 4, w_bits=4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    converted = quantize_model(model)
    assert converted[0].weight_quantizer.bits == 4
    assert types(converted) == ["QLinear", "QLinear", "QActivation", "Linear"]


def test_subclasses_with_a_forward_of_their_own_stay() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Linear(4, 4))
    model[1].dropout.p = 0.0
    converted = quantize_model(model, act_bit=32)
    assert isinstance(converted[1].linear1, q.QLinear)
    assert not isinstance(converted[1].self_attn.out_proj, q.QLinear)
    assert converted.train()(torch.randn(2, 3, 4)).shape == (2, 3, 4)


def test_the_converted_model_trains_and_freezes() -> None:
    torch.manual_seed(1)
    model = quantize_model(lenet(), act_bit=2, w_bits=1)
    x, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 3
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert torch.equal(q.freeze(model)(x), model.eval()(x))


@pytest.mark.parametrize("bits", [0, 33, -1, 1.0, True, "2"])
def test_widths_out_of_range(bits: Any) -> None:
    for keyword in ("act_bit", "w_bits"):
        with pytest.raises(UsageError, match=f"{keyword} is .*1 to 31.*32"):
            quantize_model(lenet(), **{keyword: bits})
        with pytest.raises(UsageError, match=keyword):
            LayerBits(**{keyword: bits})


def reparametrized(how: str) -> nn.Sequential:
    model = lenet()
    if how == "quantizer":
        parametrize.register_parametrization(model[3], "weight", q.Ternarize())
    else:
        parametrizations.weight_norm(model[3])
    return model


@pytest.mark.parametrize("how", ["quantizer", "weight norm"])
def test_layers_whose_weight_is_computed(how: str) -> None:
    with pytest.raises(UsageError, match=r"node '3'.*computed from other parameters.*remove"):
        quantize_model(reparametrized(how))
    kept = quantize_model(reparametrized(how), rule=lambda name, _: None if name == "3" else LayerBits(1, 1))
    assert isinstance(kept[7], q.QLinear)


def test_lazy_layers() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(4), nn.Linear(4, 4))
    with pytest.raises(UsageError, match="node '0'.*one batch"):
        quantize_model(model)
    model(torch.randn(2, 3))
    assert isinstance(quantize_model(model)[2], q.QLinear)


def test_hooks_are_not_lost_in_silence() -> None:
    model = lenet()
    handle = model[3].register_forward_hook(lambda *_: None)
    with pytest.raises(UsageError, match="node '3'.*hooks"):
        quantize_model(model)
    handle.remove()
    quantize_model(model)


def test_nothing_to_quantize() -> None:
    with pytest.raises(UsageError, match="2 Conv1d.*skip_first=False"):
        quantize_model(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    with pytest.raises(UsageError, match="0 Conv1d"):
        quantize_model(nn.Sequential(nn.ReLU()))
    with pytest.raises(UsageError, match="rule quantizes no module"):
        quantize_model(lenet(), rule=lambda *_: None)


def test_activations_that_are_functions_are_not_missed_in_silence() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(UsageError, match=r"no ReLU.*torch\.nn\.ReLU.*act_bit=32"):
        quantize_model(model)
    assert isinstance(quantize_model(model, act_bit=32)[1], q.QLinear)


def test_a_rule_that_returns_something_else() -> None:
    with pytest.raises(UsageError, match="node '2'.*returned 4.*LayerBits"):
        quantize_model(lenet(), rule=lambda *_: 4)  # type: ignore[arg-type, return-value]
