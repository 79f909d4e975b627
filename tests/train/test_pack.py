import errno
import hashlib
import json
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from qcompiler.errors import InvalidData, UsageError
from qcompiler.nn import LSQ, Binarize, DoReFaWeight, MoonsWeight, QConv2d, QLinear, Ternarize, freeze
from qcompiler.train import pack as pack_module
from qcompiler.train.container import read_container, write_container
from qcompiler.train.networks import NETWORKS
from qcompiler.train.pack import PackedSize, pack, unpack

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def shaken(model):
    """The model with statistics that training would have left in it."""
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.rand(8, *SHAPE) * 2 - 1)
    return model.eval()


SMALL = {"nla": 1, "nfa": 6, "nlb": 1, "nfb": 5, "nlc": 1, "nfc": 4}
NETS = {
    "binary": NETWORKS["moons"](network_type="full-bnn", **SMALL),
    "4 bits": NETWORKS["moons"](network_type="full-qnn", wbits=4, abits=4, **SMALL),
    "3 bits": NETWORKS["moons"](network_type="qnn", wbits=3, **SMALL),
    "float": NETWORKS["moons"](network_type="float", **SMALL),
    "ternary": NETWORKS["binarynet_mlp"](weights="ternary", hidden=11),
    "xnor": NETWORKS["xnornet_mlp"](hidden=9),
    "scales of channels": NETWORKS["bireal18"](width=3),
    "24 bits": NETWORKS["resnet18"](width=2, w_bits=24, a_bits=24),
    "25 bits": NETWORKS["resnet18"](width=2, w_bits=25, a_bits=25),
    "31 bits": NETWORKS["resnet18"](width=2, w_bits=31, a_bits=31),
}


@pytest.mark.parametrize("network", NETS.values(), ids=NETS)
def test_the_unpacked_network_computes_the_same_bits(network, tmp_path):
    path = tmp_path / "net.safetensors"
    model = shaken(network.build(SHAPE, 10))
    size = pack(model, path, network, SHAPE, 10)
    assert size.bytes == path.stat().st_size
    x = torch.rand(5, *SHAPE) * 2 - 1
    unpacked = unpack(path)
    with torch.no_grad():
        assert torch.equal(unpacked(x), model(x))
    expected, found = freeze(model).state_dict(), unpacked.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


@pytest.mark.parametrize("bits", [2, 8, 24, 25, 31])
def test_codes_that_float32_does_not_hold_are_not_packed(bits, tmp_path):
    network = NETWORKS["resnet18"](width=2, w_bits=bits, a_bits=2)
    pack(network.build(SHAPE, 10), tmp_path / "net", network, SHAPE, 10)
    _, description = read_container(tmp_path / "net")
    assert {each["bits"] for each in description["packed"].values()} == ({bits} if bits <= 24 else set())


def test_lenet_is_as_small_as_bmxnets(tmp_path):
    network = NETWORKS["lenet"]()
    model = network.build((1, 28, 28), 10)
    size = pack(model, tmp_path / "lenet", network, (1, 28, 28), 10)
    assert size.float_bytes == sum(each.numel() * each.element_size() for each in model.state_dict().values())
    assert size.ratio == size.float_bytes / (tmp_path / "lenet").stat().st_size
    # published: 206 kB against 4.6 MB
    assert 200_000 < size.bytes < 215_000
    assert 4_500_000 < size.float_bytes < 4_700_000
    assert str(PackedSize(206_000, 4_600_000)) == "206 kB packed, 4,600 kB in float32: 22.3x"


@given(
    st.sampled_from([Binarize(), Binarize(scale="channel"), Ternarize(threshold="mean", scale="channel"), *(
        make(bits) for make in (MoonsWeight, DoReFaWeight, LSQ) for bits in (2, 3, 5, 8, 16)
    )]),
    st.integers(1, 5),
    st.integers(1, 9),
)  # fmt: skip
@settings(deadline=None)
def test_codes_survive_at_every_width(quantizer, rows, columns):
    layer = QLinear(columns, rows, weight_quantizer=quantizer).eval()
    frozen = freeze(layer)
    ((name, grid),) = pack_module._grids(frozen)
    stream = pack_module._stream(frozen.weight.detach(), grid)
    assert stream.nbytes == -(-rows * columns * quantizer.bits // 8)
    assert torch.equal(pack_module._weight(None, name, stream, frozen.weight.shape, grid), frozen.weight)


def test_bits_run_from_the_lowest():
    layer = QLinear(3, 1, bias=False, weight_quantizer=MoonsWeight(3))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-1.0, 0.75, 0.0]]))
    frozen = freeze(layer)
    ((_, grid),) = pack_module._grids(frozen)
    # codes less -4: 0, 7, 4
    stream = pack_module._stream(frozen.weight.detach(), grid)
    assert np.unpackbits(stream, bitorder="little")[:9].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1]


def test_a_weight_off_its_grid_stays_float():
    layer = freeze(QConv2d(1, 2, 3, weight_quantizer=MoonsWeight(2)))
    ((_, grid),) = pack_module._grids(layer)
    assert pack_module._stream(torch.full((2, 1, 3, 3), 0.3), grid) is None


def test_parametrized_weights_are_found():
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", Binarize())
    assert [name for name, _ in pack_module._grids(freeze(nn.Sequential(layer)))] == [
        "0.parametrizations.weight.original"
    ]


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "net.safetensors"
    network = NETS["4 bits"]
    pack(shaken(network.build(SHAPE, 10)), path, network, SHAPE, 10)
    return path


def test_the_header_is_that_of_safetensors(tmp_path):
    path, network = tmp_path / "net", NETS["3 bits"]
    pack(network.build(SHAPE, 10), path, network, SHAPE, 10)
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert all(isinstance(value, str) for value in header.pop("__metadata__").values())
    ends = sorted(entry["data_offsets"] for entry in header.values())
    assert ends[0][0] == 0 and ends[-1][1] == len(content) - 8 - length
    assert all(before[1] == after[0] for before, after in zip(ends, ends[1:], strict=False))
    elements = {"F32": 4, "I64": 8, "U8": 1}
    assert {entry["dtype"] for entry in header.values()} == {*elements}
    assert all(entry["data_offsets"][0] % elements[entry["dtype"]] == 0 for entry in header.values())


def test_every_truncation_is_noticed(packed):
    content = packed.read_bytes()
    for length in [*range(0, 20), *range(20, len(content), 97), len(content) - 1]:
        packed.write_bytes(content[:length])
        with pytest.raises(InvalidData, match="no whole packed network"):
            unpack(packed)


def test_every_changed_byte_is_noticed(packed):
    content = packed.read_bytes()
    for place in [*range(0, len(content), 97), len(content) - 1]:
        packed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(InvalidData):
            unpack(packed)


def test_the_checksum_covers_the_description(packed):
    content = packed.read_bytes()
    changed = content.replace(rb"\"nla\": 1", rb"\"nla\": 2")
    assert changed != content
    packed.write_bytes(changed)
    with pytest.raises(InvalidData, match="its checksum is wrong"):
        unpack(packed)


def test_a_full_disk_leaves_the_file_before(packed, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = packed.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_container(packed, {}, {})
    assert packed.read_bytes() == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot read.*absent"):
        unpack(tmp_path / "absent")


CHANGES = {
    "schema": ({"schema": 2}, "schema 2, expected 1"),
    "network": ({"network": "mlp"}, "network 'mlp'.*known are binarynet_mlp"),
    "network type": ({"network": ["moons"]}, "network"),
    "parameters": ({"parameters": {"nfa": 6, "colour": 3}}, "refuses"),
    "width": ({"parameters": {**SMALL, "wbits": 17, "network_type": "full-qnn"}}, "refuses"),
    "type": ({"parameters": {**SMALL, "nfa": "6"}}, "refuses"),
    "other weights": ({"parameters": {**SMALL, "network_type": "float"}}, "other weights are packed"),
    "other size": ({"parameters": {**SMALL, "nfa": 7}}, "does not fit"),
    "huge": ({"parameters": {**SMALL, "nfa": 10**12}}, "1000000000000"),
    "wide": ({"parameters": {**SMALL, "nfa": 5000, "nfb": 5000}}, "would have .* weights"),
    "classes": ({"classes": "10"}, "'10' classes"),
    "shape": ({"shape": [1, 8]}, r"images \[1, 8\]"),
    "packed": ({"packed": []}, "other weights"),
    "unpacked": ({"packed": {}}, "does not fit"),
}


@pytest.mark.parametrize("change, message", CHANGES.values(), ids=CHANGES)
def test_a_header_of_another_network_is_refused(packed, change, message):
    tensors, description = read_container(packed)
    write_container(packed, tensors, {**description, **change})
    with pytest.raises(InvalidData, match=message):
        unpack(packed)


def test_tensors_of_another_kind_or_size_are_refused(packed):
    tensors, description = read_container(packed)
    name = min(description["packed"])
    changes = [{name: tensors[name][:-1]}, {name: tensors[name].astype(np.float32)}, {"stray": np.zeros(3, "f4")}]
    plain = next(each for each in tensors if each.endswith("running_mean"))
    changes += [{plain: tensors[plain].astype(np.int64)}, {plain: tensors[plain][:-1]}]
    for change in changes:
        write_container(packed, {**tensors, **change}, description)
        with pytest.raises(InvalidData, match="does not fit the network in its header"):
            unpack(packed)


def raw(header, body=b"", length=None):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded) if length is None else length) + encoded + body


def signed(entries, body):
    """A file whose checksum is right and whose entries are as given."""
    digest = hashlib.sha256(body + b"{}").hexdigest()
    return raw({**entries, "__metadata__": {"qcompiler": "{}", "sha256": digest}}, body)


HOSTILE = {
    "huge header": raw({}, length=2**63),
    "no JSON": raw(b"{"),
    "deep JSON": raw(b"[" * 200_000),
    "list": raw([]),
    "no metadata": raw({}),
    "bare metadata": raw({"__metadata__": {"qcompiler": 1, "sha256": "0"}}),
    "overlap": signed({name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for name in "ab"}, b"1234"),
    "gap": signed({"a": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]}}, b"1234"),
    "beyond": signed({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"1234"),
    "rest": signed({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, b"1234"),
    "negative": signed({"a": {"dtype": "U8", "shape": [-2, -2], "data_offsets": [0, 4]}}, b"1234"),
    "fraction": signed({"a": {"dtype": "U8", "shape": [4.0], "data_offsets": [0, 4]}}, b"1234"),
    "dtype": signed({"a": {"dtype": "F8", "shape": [4], "data_offsets": [0, 4]}}, b"1234"),
    "no object": signed({"a": 3}, b""),
    "mixed": signed({"a": {"data_offsets": "x"}, "b": {"data_offsets": 3}}, b""),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(tmp_path, content):
    path = tmp_path / "hostile"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match="no whole packed network"):
        unpack(path)


def test_a_double_cannot_be_packed(tmp_path):
    with pytest.raises(UsageError, match="'a' is float64"):
        write_container(tmp_path / "file", {"a": np.zeros(2)}, {})
    assert not list(tmp_path.iterdir())


def test_no_directory_is_made_for_it(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*missing/net.qcw': No such file.*; choose a writable place"):
        write_container(tmp_path / "missing" / "net.qcw", {}, {})
    assert not list(tmp_path.iterdir())
