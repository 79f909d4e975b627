import json
from dataclasses import replace

import pytest

from qcompiler.errors import InvalidData, UsageError
from qcompiler.train import record
from qcompiler.train.config import shipped_configs
from qcompiler.train.record import read_record
from qcompiler.train.results import PUBLISHED, TWINS, find_runs, main, results
from qcompiler.train.runlog import EpochRecord, RunLog

EPOCH = EpochRecord(epoch=1, loss=0.5, train_accuracy=0.9, validation_accuracy=0.95, lr=0.01, seconds=3.0)
LOG = RunLog(
    name="mnist_mlp",
    config={"lr": 0.01},
    network="binarynet_mlp",
    seed=0,
    hardware={"cpu": "A CPU | fast", "cores": 4, "threads": 2, "device": "cpu", "processes": 1},
    versions={"python": "3.11", "torch": "2.13.0"},
    data={"name": "mnist", "version": "1998", "sha256": "ab" * 32},
    parameters=1234567,
    wall_s=90.0,
    epochs=[EPOCH, replace(EPOCH, epoch=2)],
    best_epoch=2,
    validation_accuracy=0.97,
    test={"accuracy": 0.98, "images": 10000},
)
DEPLOYED = {
    "onnx_bytes": 54321,
    "images": 10000,
    "same_class_onnxruntime": 10000,
    "onnxruntime_us_per_image": 123.4,
    "quantized_layers": 3,
    "same_class_bundle": 9999,
    "library_bytes": 77000,
    "weight_bytes": 66000,
    "exact": True,
    "us_per_image": 5678.9,
    "lacks": None,
}


def row(text, heading, start):
    """The cells of the row that starts so, below a heading."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {start} |")]
    return line.strip("| ").split(" | ")


@pytest.fixture
def runs(tmp_path):
    for seed, accuracy in enumerate((0.98, 0.981, 0.985)):
        log = replace(LOG, seed=seed, test={"accuracy": accuracy, "images": 10000})
        if seed == 0:
            log = replace(log, fixed={"accuracy": 0.978}, baseline={"test_accuracy": 0.99}, deploy=DEPLOYED)
        log.write(tmp_path / "mnist_mlp" / f"seed{seed}")
    cifar = replace(LOG, name="cifar", network="moons", config={"epochs": 200}, wall_s=7200.0, test=None)
    replace(cifar, data={**LOG.data, "name": "cifar10"}).write(tmp_path / "cifar" / "seed0")
    return tmp_path


def test_the_page_tells_mean_deviation_and_every_seed(runs):
    text = results([read_record(path) for path in find_runs([runs])])
    assert row(text, "Accuracy", "mnist_mlp")[2:] == [
        "mnist",
        "98.20 ± 0.26 [98.00, 98.10, 98.50]",
        "97.00 ± 0.00 [97.00, 97.00, 97.00]",
        "99.00 [99.00, -, -]",
        "97.80 [97.80, -, -], at most 0.20 lost",
    ]
    assert row(text, "Accuracy", "cifar")[3:] == ["-", "97.00", "-", "-"]
    assert row(text, "Runs", "mnist_mlp")[1:] == [
        "0, 1, 2",
        "1,234,567",
        "2, 2, 2",
        "2, 2, 2",
        "1.5 min, 1.5 min, 1.5 min",
        r"A CPU \| fast, 2 of 4 cores",
        "2.13.0",
    ]
    # how far a run came that is not finished
    assert (row(text, "Runs", "cifar")[3], row(text, "Runs", "cifar")[5]) == ("2 of 200", "2.0 h")
    assert f"| mnist | 1998 | `{'ab' * 32}` |" in text


def test_the_largest_loss_of_fixed_point_is_told(tmp_path):
    for seed, fixed in enumerate((0.979, 0.975, 0.981)):
        replace(LOG, seed=seed, fixed={"accuracy": fixed}).write(tmp_path / str(seed))
    text = results([read_record(path) for path in find_runs([tmp_path])])
    assert row(text, "Accuracy", "mnist_mlp")[-1] == "97.83 ± 0.31 [97.90, 97.50, 98.10], at most 0.50 lost"


def test_one_name_on_two_data_sets_makes_two_rows(tmp_path):
    LOG.write(tmp_path / "a")
    replace(LOG, data={**LOG.data, "name": "fashion_mnist"}).write(tmp_path / "b")
    text = results([read_record(path) for path in find_runs([tmp_path])])
    assert [line.split(" | ")[2] for line in text.splitlines() if line.startswith("| mnist_mlp | binarynet")] == [
        "fashion_mnist", "mnist"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "hardware, expected",
    [
        ({"processes": 2}, "2 x A CPU \\| fast, 2 of 4 cores"),
        ({"device": "A GPU"}, "A GPU"),
        ({"device": "A GPU", "processes": 4}, "4 x A GPU"),
    ],
)
def test_the_machine_is_told(tmp_path, hardware, expected):
    replace(LOG, hardware={**LOG.hardware, **hardware}).write(tmp_path)
    text = results([read_record(tmp_path / "run.json")])
    assert row(text, "Runs", "mnist_mlp")[6] == expected


def test_a_network_that_is_not_exact_says_so(tmp_path):
    replace(LOG, deploy={**DEPLOYED, "exact": False}).write(tmp_path)
    assert row(results([read_record(tmp_path / "run.json")]), "Compiled", "mnist_mlp")[4] == "no"


def test_the_page_tells_of_the_compiled_network(runs):
    text = results([read_record(path) for path in find_runs([runs])])
    assert row(text, "Compiled", "mnist_mlp")[1:] == [
        "10,000 of 10,000", "9,999 of 10,000", "3", "yes", "54.3", "77.0", "66.0", "5,679", "123", "-"
    ]  # fmt: skip
    assert "| cifar |" not in text.split("## Compiled")[1].split("##")[0]


def test_what_the_compiler_lacks_is_said(tmp_path):
    lacking = {**dict.fromkeys(DEPLOYED), "images": 10, "same_class_onnxruntime": 10, "lacks": "w4a3 (2 layers)"}
    replace(LOG, deploy=lacking).write(tmp_path)
    text = results([read_record(tmp_path / "run.json")])
    assert row(text, "Compiled", "mnist_mlp")[1:3] == ["10 of 10", "-"]
    assert row(text, "Compiled", "mnist_mlp")[-1] == "w4a3 (2 layers)"


def test_without_deployments_the_page_has_no_table_of_them(tmp_path):
    LOG.write(tmp_path)
    assert "Compiled" not in results([read_record(tmp_path / "run.json")])


def test_the_order_of_the_arguments_does_not_matter(runs, tmp_path):
    paths = find_runs([runs])
    assert len(paths) == 4
    forth = results([read_record(path) for path in paths])
    assert results([read_record(path) for path in reversed(paths)]) == forth
    assert find_runs([runs, *reversed(paths)]) == paths


def test_float_twins_are_no_runs_of_their_own(runs):
    replace(LOG, network="float_mlp").write(runs / "mnist_mlp" / "seed0" / "baseline")
    assert len(find_runs([runs])) == 4


def test_the_command_writes_the_page(runs, tmp_path, capsys):
    output = tmp_path / "docs" / "results.md"
    assert main([str(runs), "-o", str(output)]) == 2 and not output.parent.exists()
    assert "choose a writable place" in capsys.readouterr().err
    output.parent.mkdir()
    assert main([str(runs), "-o", str(output)]) == 0
    assert main([str(runs)]) == 0
    assert capsys.readouterr().out == output.read_text()


def test_two_runs_of_one_seed_are_refused(tmp_path):
    LOG.write(tmp_path / "a")
    LOG.write(tmp_path / "b")
    with pytest.raises(UsageError, match="both mnist_mlp with seed 0"):
        results([read_record(path) for path in find_runs([tmp_path])])
    replace(LOG, seed=1, network="lenet").write(tmp_path / "b")
    with pytest.raises(UsageError, match="not the network"):
        results([read_record(path) for path in find_runs([tmp_path])])


def test_no_runs_are_said_to_be_none(tmp_path, capsys):
    with pytest.raises(UsageError, match="no run at .*absent"):
        find_runs([tmp_path / "absent"])
    with pytest.raises(UsageError, match="no run.json in"):
        find_runs([tmp_path])
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no run.json in")


CHANGES = {
    "schema": ({"schema": 2}, "schema 2, expected 1"),
    "no schema": ({"schema": None}, "schema None, expected 1"),
    "name": ({"name": 3}, "name is 3, expected str"),
    "accuracy": ({"test": {"accuracy": 98.2}}, r"test.accuracy is 98.2, expected a share"),
    "test": ({"test": 0.98}, "test is 0.98, expected dict"),
    "nan": ({"validation_accuracy": float("nan")}, "validation_accuracy is nan, expected a number"),
    "seed": ({"seed": True}, "seed is True, expected int"),
    "negative": ({"parameters": -1}, "parameters is -1"),
    "data": ({"data": {"name": "mnist", "version": "1"}}, "data.sha256 is missing, expected str"),
    "exact": ({"deploy": {"exact": "yes"}}, "deploy.exact is 'yes', expected bool"),
    "lacks": ({"deploy": {"lacks": []}}, "deploy.lacks is"),
    "size": ({"deploy": {"onnx_bytes": "5"}}, "deploy.onnx_bytes is '5', expected int or float"),
    "hardware": ({"hardware": []}, "hardware is"),
    "epochs": ({"epochs": 3}, "epochs is 3, expected list"),
}


@pytest.mark.parametrize("change, message", CHANGES.values(), ids=CHANGES)
def test_a_log_of_another_form_is_refused(tmp_path, change, message):
    LOG.write(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidData, match=message):
        read_record(path)


def test_a_log_of_another_schema_is_not_resumed(tmp_path):
    LOG.write(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(InvalidData, match="another schema than 1"):
        RunLog.read(tmp_path)


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    LOG.write(tmp_path)
    monkeypatch.setattr(record, "MAX_BYTES", 100)
    with pytest.raises(InvalidData, match="larger than 100 bytes"):
        read_record(tmp_path / "run.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_a_damaged_log_is_refused(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(InvalidData, match="run.json"):
        read_record(path)


def test_recipes_of_published_networks_stand_beside_what_was_published(runs):
    records = [read_record(path) for path in find_runs([runs])]
    assert "published" not in results(records)
    named = [replace(each, name="cifar10_resnet18", test=0.8712) for each in records if each.network == "moons"]
    text = results([*records, *named])
    cells = row(text, "Beside published accuracies", "cifar10_resnet18")
    assert cells[1:] == ["87.12", "97.00", "86", "binary ResNet-18, 64 to 512 filters", "BMXNet, 2017"]
    not_run = text.split("## Published, not run")[1].split("\n## ")[0]
    assert "| cifar10_resnet18 |" not in not_run
    assert row(text, "Published, not run", "cifar10_xnornet")[1::3] == ["86.2", "a GPU"]
    assert row(text, "Published, not run", "mnist_xnornet")[-1] == "hours on a CPU"


def test_a_recipe_stands_beside_its_twin_of_the_same_data(tmp_path):
    for name, accuracy, data in (
        ("mnist_keras_nbit_small", 0.97, "a"),
        ("mnist_keras_small", 0.96, "a"),
        ("cifar10_lsq_2bit_small", 0.5, "a"),
        ("cifar10_resnet18_2bit_small", 0.4, "b"),
    ):
        test = {"accuracy": accuracy, "images": 10000}
        replace(LOG, name=name, test=test, data={**LOG.data, "sha256": data * 64}).write(tmp_path / name)
    text = results([read_record(path) for path in find_runs([tmp_path])])
    cells = row(text, "Beside their twins", "mnist_keras_nbit_small")
    assert cells[1:] == ["97.00", "97.00", "2", "mnist_keras_small", "96.00", "97.00", "2"]
    assert "cifar10" not in text.split("## Beside their twins")[1].split("\n## ")[0]


def test_recipes_that_the_page_knows_are_shipped():
    assert {*PUBLISHED, *TWINS, *TWINS.values()} <= set(shipped_configs())
