"""Configs: files, overrides, and a named error for everything that is wrong in them."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train.config import (
    _OF_THE_DATA,
    _OTHER_NAMES,
    SHIPPED,
    TrainConfig,
    find_config,
    from_flat,
    load_config,
    parse_override,
    shipped_configs,
    to_flat,
)
from qcompiler.train.networks import NETWORKS

MOONS = {"name": "run", "network": "moons"}


def write(path: Path, **values: Any) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_load(name: str) -> None:
    config, network = load_config(name)
    assert config.name == name and type(network) is NETWORKS[config.network]
    # Every key of the file arrives.
    flat = to_flat(config, network)
    written = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    assert {key: flat[key] for key in written} == {
        key: float(value) if isinstance(flat[key], float) else value for key, value in written.items()
    }


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_train_on_small_data(name: str) -> None:
    """On another data set than theirs, too: the number of validation images is left open, or fits the smallest."""
    assert load_config(name)[0].validation <= 200


def test_some_configs_are_shipped() -> None:
    assert {"mnist_lenet", "cifar10_moons"} <= set(shipped_configs())


@pytest.mark.parametrize("source", ["mnist_lenet", "mnist_lenet.yaml", "configs/mnist_lenet.yaml"])
def test_shipped_config_is_found_by_name(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(source) == SHIPPED / "mnist_lenet.yaml"
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs" / "mnist_lenet.yaml", network="moons")
    mine = source == "configs/mnist_lenet.yaml"
    assert (find_config(source) == Path(source)) == mine


def test_directory_of_a_run(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", **MOONS, epochs=3)
    assert load_config(tmp_path)[0].epochs == 3


def test_name_is_that_of_the_file(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "mine.yaml", network="moons"))[0].name == "mine"
    assert load_config(write(tmp_path / "mine.yaml", network="moons", name="other"))[0].name == "other"


def test_overrides(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", network="moons", lr=0.5, abits=2)
    config, network = load_config(
        path, ["lr=0.01", "wbits=4", "network_type=full-qnn", "compile=true", "lr_final=1e-5", "epochs = 7", "wbits=5"]
    )
    assert (config.lr, config.lr_final, config.epochs, config.compile) == (0.01, 1e-5, 7, True)
    assert (network.wbits, network.abits, network.network_type) == (5, 2, "full-qnn")


def test_override_of_the_network_brings_its_keys(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", network="moons")
    assert load_config(path, ["network=lenet", "filters=8"])[1].filters == 8
    with pytest.raises(UsageError, match="unknown key 'filters'"):
        load_config(path, ["filters=8"])


@pytest.mark.parametrize("text", ["lr", "=3", "", " =1"])
def test_override_without_key_or_value(text: str) -> None:
    with pytest.raises(UsageError, match=r"override '.*': expected KEY=VALUE"):
        parse_override(text)


def test_value_may_contain_equal_signs() -> None:
    assert parse_override("data_dir=/a=b") == ("data_dir", "/a=b")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("wbit", "wbits"),
        ("w_bits", "wbits"),
        ("bach_size", "batch_size"),
        ("Epochs", "epochs"),
        ("num_epochs", "epochs"),
        ("learning_rate", "lr"),
        ("Learning-Rate", "lr"),
        ("LR", "lr"),
        ("batch", "batch_size"),
        ("optim", "optimizer"),
        ("random_seed", "seed"),
    ],
)
def test_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_flat({**MOONS, key: 1})
    assert str(caught.value) == f"config: unknown key '{key}'; did you mean '{nearest}'?"


@pytest.mark.parametrize("key", ["dim", "channels", "classes", "num_classes", "input_shape", "Num-Classes"])
@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_data_set_tells_is_left_out(key: str, network: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_flat({"name": "a", "network": network, key: 3})
    assert str(caught.value) == f"config: unknown key '{key}'; it is read from the data set; leave it out"


def test_key_that_is_near_to_none_names_all() -> None:
    with pytest.raises(UsageError, match="unknown key 'colour'; valid are name, network, .*, nfc"):
        from_flat({**MOONS, "colour": 1})


def test_other_names_are_of_keys_and_no_keys() -> None:
    """None of them hides a key of the run or of a network."""
    mine = {field.name for field in dataclasses.fields(TrainConfig)}
    theirs = {field.name for network in NETWORKS.values() for field in dataclasses.fields(network)}
    assert {*_OTHER_NAMES.values()} <= mine
    assert not (_OTHER_NAMES.keys() | _OF_THE_DATA) & (mine | theirs)


def test_what_the_command_line_gives_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", network="moons", bach_size=4)
    with pytest.raises(UsageError, match=rf"^{path}: unknown key 'bach_size'"):
        load_config(path, ["epochs=3"])
    write(path, network="moons")
    for wrong in ("bach_size=4", "network=moon", "lr=fast", "wbits=four"):
        with pytest.raises(UsageError, match=f"^command line: .*{wrong.split('=')[0]}"):
            load_config(path, [wrong])


def test_keys_of_a_network_that_was_replaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", network="moons", nla=2)
    with pytest.raises(UsageError, match=rf"^{path}: key 'nla' is of another network \(moons\), lenet has none"):
        load_config(path, ["network=lenet"])


def test_keys_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("network: lenet\nw_bits: 1\nw_bits: 2\n")
    with pytest.raises(InvalidData, match="a.yaml' is not valid YAML .key 'w_bits' again in line 3"):
        load_config(path)


def test_a_choice_that_is_near_to_none() -> None:
    with pytest.raises(UsageError, match="network_type is 'foo', expected one of float, qnn, .*full-bnn$"):
        from_flat({**MOONS, "network_type": "foo"})


def test_limits_are_written_out() -> None:
    with pytest.raises(UsageError, match="seed=-1: expected an integer from 0 to 2147483647$"):
        from_flat({**MOONS, "seed": -1})


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown network 'binary_mlp'; did you mean 'binarynet_mlp'"):
        from_flat({"network": "binary_mlp"})
    with pytest.raises(UsageError, match="key 'network' is missing; set it to one of .*moons"):
        from_flat({"name": "a"})
    with pytest.raises(UsageError, match="unknown network"):
        from_flat({"name": "a", "network": ["moons"]})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("epochs", "many", "an integer from 1 to 100000"),
        ("epochs", 0, "an integer from 1"),
        ("epochs", 1.5, "an integer from 1"),
        ("epochs", True, "an integer from 1"),
        ("epochs", None, "an integer from 1"),
        ("epochs", 10**30, "an integer from 1"),
        ("seed", -1, "an integer from 0"),
        ("batch_size", "0x", "an integer"),
        ("lr", "fast", "a finite number from 1e-12 to 100"),
        ("lr", "nan", "a finite number"),
        ("lr", float("inf"), "a finite number"),
        ("lr", 0, "a finite number"),
        ("lr", -0.1, "a finite number"),
        ("momentum", 1.1, "a finite number from 0 to 1"),
        ("compile", "perhaps", "true or false"),
        ("dataset", "imagenet", "one of mnist, fashion_mnist, cifar10, svhn, digits, images"),
        ("schedule", "linear", "one of constant, exponential, cosine, step, onecycle"),
        ("amp", "fp8", "one of none, bf16, fp16"),
        ("wbits", "four", "an integer"),
        ("wbits", float("nan"), "an integer"),
        ("nla", 2.5, "an integer"),
    ],
)
def test_bad_value_is_named(key: str, value: object, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_flat({**MOONS, key: value})
    assert str(caught.value).startswith(f"config: {key}={value}: expected {expected}")


def test_numbers_of_a_network_are_finite() -> None:
    with pytest.raises(UsageError, match="config: dropout_in=nan: expected a finite number"):
        from_flat({"name": "a", "network": "binarynet_mlp", "dropout_in": "nan"})


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_widths_out_of_range(bits: int) -> None:
    with pytest.raises(UsageError, match=f"wbits is {bits}, expected"):
        from_flat({**MOONS, "wbits": bits})


def test_one_bit_where_the_formula_degenerates() -> None:
    with pytest.raises(UsageError, match="abits is 1, expected"):
        from_flat({**MOONS, "network_type": "full-qnn", "abits": 1})


@pytest.mark.parametrize("value", [[1], {"a": 1}, "${oc.env:HOME}", "${lr}"])
def test_only_plain_values(value: object) -> None:
    with pytest.raises(UsageError, match="key 'data_dir' is not a plain value; give text"):
        from_flat({**MOONS, "data_dir": value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr_final": 0, "schedule": "exponential"}, "lr_final=0: schedule=exponential never gets there"),
        ({"lr": 0.001, "lr_final": 0.1}, "lr_final=0.1 is above lr=0.001"),
        ({"name": "a/b"}, "name='a/b': expected the name of a directory"),
        ({"name": ".."}, r"name='\.\.': expected the name of a directory"),
        ({"name": ""}, "name='': expected the name of a directory"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_flat({**MOONS, **values})


def test_a_schedule_may_end_at_zero_or_ignore_the_end() -> None:
    assert from_flat({**MOONS, "lr_final": 0, "schedule": "cosine"})[0].lr_final == 0
    assert from_flat({**MOONS, "lr": 1e-7, "schedule": "constant"})[0].lr == 1e-7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "is not a mapping"),
        ("just text", "is not a mapping"),
        ("1: 2", "is not a mapping"),
        ("a: [", "is not valid YAML"),
        ("a: !!python/object/apply:os.system [echo]", "is not valid YAML"),
        ("a: \x00", "is not valid YAML"),
        ("a: " + "x" * 70_000, "is larger than 65536 bytes"),
        ("a: " + "[" * 2000, "is not valid YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(InvalidData, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_nested_aliases_take_no_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "network: moons"]))
    with pytest.raises(UsageError, match="unknown key 'a0'"):
        load_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("\n".join([*lines, "network: moons"]).replace("a0:", "lr:", 1))
    with pytest.raises(UsageError):
        load_config(tmp_path / "a.yaml")


def test_no_such_config(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="config 'mnist_lenett' does not exist; did you mean 'mnist_lenet'"):
        load_config("mnist_lenett")
    with pytest.raises(UsageError, match="is not a file"):
        load_config(tmp_path)


def test_keys_of_networks_are_their_own() -> None:
    """Beside those of the run, so that a flat file says which is meant; all are scalars."""
    mine = {field.name for field in dataclasses.fields(TrainConfig)}
    for name, network in NETWORKS.items():
        hints = typing.get_type_hints(network)
        for field in dataclasses.fields(network):
            assert field.name not in mine, f"{name}: {field.name}"
            assert hints[field.name] in (int, float, bool, str)


@settings(max_examples=15, deadline=None)
@given(
    network=st.sampled_from(sorted(NETWORKS)),
    lr=st.floats(1e-5, 1),
    epochs=st.integers(1, 1000),
    compiled=st.booleans(),
    output=st.text(st.characters(blacklist_characters="$", blacklist_categories=["Cs", "Cc"])).filter("null".__ne__),
)
def test_flat_settings_come_back(network: str, lr: float, epochs: int, compiled: bool, output: str) -> None:
    config, own = from_flat(
        {"network": network, "name": "a", "lr": lr, "epochs": epochs, "compile": compiled, "output": output}
    )
    assert (config.lr, config.epochs, config.compile, config.output) == (lr, epochs, compiled, output)
    assert from_flat(to_flat(config, own)) == (config, own)
    # Also through a file, and as text.
    assert from_flat(yaml.safe_load(yaml.safe_dump(to_flat(config, own)))) == (config, own)
    assert from_flat({key: str(value) for key, value in to_flat(config, own).items()}) == (config, own)
