"""Trained networks from checkpoints and from packed files are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qcompiler.errors import InvalidData, UsageError
from qcompiler.nn.export import export_onnx
from qcompiler.train.checkpoint import Checkpoint
from qcompiler.train.config import from_flat, shipped_configs, to_flat
from qcompiler.train.data import noise, to_input
from qcompiler.train.evaluate import evaluate, evaluate_fixed
from qcompiler.train.networks import NETWORKS
from qcompiler.train.pack import pack
from qcompiler.train.trained import is_trained, load_trained
from tests.train.tiny import CLASSES, SHAPE, data
from tests.train.tiny import config as tiny_config

SMALL = {"nla": 1, "nfa": 6, "nlb": 1, "nfb": 5, "nlc": 1, "nfc": 4}
NETS = {
    "binary": NETWORKS["moons"](network_type="full-bnn", **SMALL),
    "4 bits": NETWORKS["moons"](network_type="full-qnn", wbits=4, abits=4, **SMALL),
    "float": NETWORKS["moons"](network_type="float", **SMALL),
    "ternary": NETWORKS["keras_mlp"](weights="ternary", hidden=11, layers=1),
    "xnor": NETWORKS["xnornet_mlp"](hidden=9),
    "scales of channels": NETWORKS["bireal18"](width=3),
}


@pytest.mark.parametrize("network", NETS.values(), ids=NETS)
def test_both_files_hold_the_same_network(network, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = network.build(SHAPE, CLASSES)
    with torch.no_grad():
        model.train()(to_input(data().train.images))
    config = tiny_config(tmp_path, network, seed=7)
    flat = to_flat(config, network)
    state = Checkpoint(flat, SHAPE, CLASSES, "", 1, model.eval().state_dict(), {"epoch": 1, "accuracy": 0.5}, [], 1.0)
    state.save(tmp_path / "net.pt")
    pack(model, tmp_path / "net.qcw", network, SHAPE, CLASSES, config)
    files = [tmp_path / "net.pt", tmp_path / "net.qcw"]
    first, second = found = [load_trained(path) for path in files]
    images = to_input(data().test.images)
    with torch.no_grad():
        assert torch.equal(first.model(images), second.model(images))
    assert all((each.network, each.shape, each.classes) == (network, SHAPE, CLASSES) for each in found)
    assert first.config == config
    assert second.config == from_flat({**flat, "data_dir": "", "output": "runs"})[0]
    test, calibration = data().test, data().train.images
    assert evaluate(files[0], test) == evaluate(files[1], test)
    assert evaluate_fixed(files[0], test, calibration) == evaluate_fixed(files[1], test, calibration)
    for each in found:
        export_onnx(each.model, to_input(noise(SHAPE)), tmp_path / f"{each.path.name}.onnx")
    assert (tmp_path / "net.pt.onnx").read_bytes() == (tmp_path / "net.qcw.onnx").read_bytes()


def test_what_is_a_trained_network(tmp_path: Path) -> None:
    network = NETS["float"]
    pack(network.build(SHAPE, CLASSES), tmp_path / "net", network, SHAPE, CLASSES)
    assert is_trained(tmp_path / "net") and load_trained(tmp_path / "net").config is None
    (tmp_path / "zip").write_bytes(b"PK\x03\x04 and more")
    assert is_trained(tmp_path / "zip")
    for name, content in {
        "empty": b"",
        "yaml": b"network: {moons}\n",
        "brace": b"seed: 1{\n",
        "text": b"hello",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert not is_trained(tmp_path / name)
        with pytest.raises(InvalidData):
            load_trained(tmp_path / name)
    for path in (tmp_path, tmp_path / "none"):
        assert not is_trained(path)
        with pytest.raises(UsageError):
            load_trained(path)


@pytest.mark.parametrize("name", shipped_configs())
def test_configs_are_no_trained_networks(name: str) -> None:
    from qcompiler.train.config import find_config

    assert not is_trained(find_config(name))
