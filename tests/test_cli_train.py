"""The command qtrain as the user meets it, on a small data set in MNIST's format."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx.parser
import pytest
import torch
from torch import Tensor

import qcompiler
from qcompiler.cli_train import Asked, qtrain, split_words
from qcompiler.errors import UsageError
from qcompiler.train import evaluate
from qcompiler.train.checkpoint import SCHEMA
from qcompiler.train.container import read_container, write_container
from qcompiler.train.data import Split, load_data, to_input
from qcompiler.train.fixed_point import fixed_point
from qcompiler.train.plots import CURVES, FILTERS, PREDICTIONS
from tests.train import files

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("hidden=16", "layers=1", "validation=10", "batch_size=10", "threads=1", "device=cpu")


class Done:
    """What a command left: its status and what it printed."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


class Command:
    """qtrain in a directory, within this process so that torch is loaded once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["qtrain", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            qtrain()
        out, err = self._capfd.readouterr()
        return Done(int(left.value.code or 0), out, err)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setenv("COLUMNS", "100")
    return Command(monkeypatch, capfd)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with data/ and a trained network of two epochs, run/seed0/."""
    folder = tmp_path_factory.mktemp("qtrain")
    files.write_mnist(folder / "data")
    done = in_process(
        "mnist_binarynet", "-o", "epochs=2", "name=run", "output=.", *SMALL, "--data-dir", "data", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout and "wrote run/seed0/" in done.stdout and "epoch 2/2" in done.stderr
    return folder


@pytest.fixture(autouse=True)
def inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "place" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("place"))


def in_process(
    *arguments: str, cwd: Path = ROOT, before: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Qtrain in a process of its own; `before` is run first."""
    code = f"import sys; sys.argv[0] = 'qtrain'; {before}\nfrom qcompiler.cli_train import qtrain; qtrain()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_error(done: Done, status: int, message: str) -> None:
    assert done.status == status, done.err
    assert message in done.err and done.err.startswith("error: ") and done.err.count("\n") == 1
    assert done.out == ""


def test_run_is_recorded(place: Path) -> None:
    log = json.loads(Path("run/seed0/run.json").read_text())
    assert log["name"] == "run" and len(log["epochs"]) == 2
    assert log["config"]["hidden"] == 16 and not {"data_dir", "output"} & log["config"].keys()
    assert log["data"]["version"] == "MNIST format, not the published files"
    assert log["test"]["images"] == 20 and log["fixed"] is None and log["deploy"] is None
    # what the command adds to the directory of a run for people to look at
    assert all(Path("run/seed0", name).exists() for name in (CURVES, FILTERS, PREDICTIONS))


def test_a_second_run_does_not_overwrite_the_first(place: Path, command: Command) -> None:
    before = Path("run/seed0/run.json").read_text()
    drawn = Path("run/seed0", CURVES).stat().st_mtime_ns
    assert_error(command("run/seed0"), 2, "'run/seed0' holds a run already; go on with --resume")
    done = command("run/seed0", "--resume")
    assert done.status == 0 and "finished before: run/seed0/" in done.out
    assert Path("run/seed0/run.json").read_text() == before
    assert Path("run/seed0", CURVES).stat().st_mtime_ns == drawn


def test_an_interrupt_keeps_whole_epochs(place: Path, command: Command) -> None:
    settings = ["mnist_binarynet", "name=long", "output=.", "data_dir=data", "epochs=100000", *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "qcompiler.cli_train", *settings],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not Path("long/seed0/last.pt").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.endswith("interrupted; whole epochs are kept, go on with --resume\n") and "Traceback" not in err
    # Nothing of it has been tested yet, but its best model can be.
    assert json.loads(Path("long/seed0/run.json").read_text())["test"] is None
    assert command("long/seed0", "--test").status == 0


def test_test(place: Path, command: Command) -> None:
    log = json.loads(Path("run/seed0/run.json").read_text())
    done = command("run/seed0", "--test")
    assert done.status == 0
    assert done.out == f"test accuracy {log['test']['accuracy']:.2%} on 20 images (run/seed0/best.pt, float)\n"
    same = command("mnist_binarynet", "-o", "name=run", "output=.", "data_dir=data", *SMALL, "--test")
    assert same.out == done.out
    named = command("run/seed0", "--test", "--checkpoint", "run/seed0/last.pt")
    assert named.status == 0 and "(run/seed0/last.pt, float)" in named.out


@pytest.mark.parametrize("mode", ["float", "fixed"])
@pytest.mark.parametrize("count", [1, 7, 20])
def test_the_first_images(place: Path, command: Command, mode: str, count: int) -> None:
    test = load_data("mnist", "data", 10).test
    network, _ = evaluate.load_network(Path("run/seed0/best.pt"))
    if mode == "fixed":
        network = fixed_point(network, to_input(load_data("mnist", "data", 10).train.images))
    with torch.no_grad():
        right = network(to_input(test.images[:count])).argmax(1) == test.labels[:count]
    before = Path("run/seed0/run.json").read_text()
    done = command("run/seed0", "--test", "--mode", mode, "--images", count)
    expected = f"test accuracy {float(right.double().mean()):.2%} on {count} images (run/seed0/best.pt, {mode})"
    assert (done.status, done.out.splitlines()[-1]) == (0, expected)
    # a part of the images is not the run's result
    assert Path("run/seed0/run.json").read_text() == before


def test_a_checkpoint_says_what_it_is_of(place: Path, command: Command) -> None:
    expected = command("run/seed0", "--test").out
    assert command("run/seed0/best.pt", "--test").out == expected
    assert command("--test", "--checkpoint", "run/seed0/best.pt").out == expected
    assert command("run/seed0/best.pt", "--test", "-o", "data_dir=data", "batch_size=7", "device=cpu").out == expected
    fixed = command("run/seed0", "--test", "--mode", "fixed").out
    assert command("run/seed0/best.pt", "--test", "--mode", "fixed").out == fixed


def test_a_packed_network_takes_the_place_of_its_checkpoint(place: Path, command: Command) -> None:
    assert command("run/seed0", "--pack", "net.qcw").status == 0
    for mode in ("float", "fixed"):
        expected = command("run/seed0", "--test", "--mode", mode).out.replace("run/seed0/best.pt", "net.qcw")
        assert command("run/seed0", "--test", "--mode", mode, "--checkpoint", "net.qcw").out == expected
        assert command("net.qcw", "--data-dir", "data", "--test", "--mode", mode).out == expected
    assert command("run/seed0/best.pt", "--export", "of_checkpoint.onnx").status == 0
    # the images are not needed
    assert command("net.qcw", "--export", "of_packed.onnx", "--pack", "again.qcw", "--energy").status == 0
    assert Path("of_packed.onnx").read_bytes() == Path("of_checkpoint.onnx").read_bytes()
    assert Path("again.qcw").read_bytes() == Path("net.qcw").read_bytes()


def test_a_packed_network_keeps_no_place_of_this_machine(place: Path, command: Command) -> None:
    assert command("run/seed0", "--pack", "net.qcw").status == 0
    _, description = read_container(Path("net.qcw"))
    assert description["run"]["name"] == "run" and not {"data_dir", "output"} & description["run"].keys()


def test_a_packed_network_without_its_run(place: Path, command: Command) -> None:
    assert command("run/seed0", "--pack", "net.qcw").status == 0
    tensors, description = read_container(Path("net.qcw"))
    del description["run"]
    write_container(Path("old.qcw"), tensors, description)
    expected = command("run/seed0", "--test").out.replace("run/seed0/best.pt", "old.qcw")
    assert command("run/seed0", "--test", "--checkpoint", "old.qcw").out == expected
    message = "'old.qcw' does not hold the settings of its run; name its config too: qtrain CONFIG --checkpoint FILE"
    assert_error(command("old.qcw", "--test"), 2, message)


def test_a_packed_network_of_another(place: Path, command: Command) -> None:
    assert command("run/seed0", "--pack", "net.qcw").status == 0
    assert_error(
        command("run/seed0", "hidden=32", "--test", "--checkpoint", "net.qcw"),
        2,
        "'net.qcw' is of another network: hidden=16, the config says hidden=32; set hidden=16",
    )
    assert_error(command("net.qcw", "layers=2", "--export", "b.onnx"), 2, "layers=1, the config says layers=2")
    assert_error(
        command("mnist_lenet", "--export", "b.onnx", "--checkpoint", "net.qcw"),
        2,
        "network=binarynet_mlp, the config says network=lenet",
    )
    assert not Path("b.onnx").exists()


def test_trained_networks_that_cannot_be_read(place: Path, command: Command) -> None:
    content = Path("run/seed0/best.pt").read_bytes()
    Path("cut.pt").write_bytes(content[:1000])
    assert_error(command("cut.pt", "--test"), 4, "'cut.pt' is not a whole checkpoint")
    torch.save({**torch.load("run/seed0/best.pt"), "schema": SCHEMA + 1}, "new.pt")
    assert_error(
        command("new.pt", "--test"), 4, "checkpoint 'new.pt' is of a newer version: its schema is 2, this one reads 1"
    )
    assert command("run/seed0", "--pack", "net.qcw").status == 0
    Path("cut.qcw").write_bytes(Path("net.qcw").read_bytes()[:-9])
    assert_error(command("cut.qcw", "--test"), 4, "'cut.qcw' is no whole packed network")
    tensors, description = read_container(Path("net.qcw"))
    write_container(Path("new.qcw"), tensors, {**description, "schema": 2})
    assert_error(command("new.qcw", "--test"), 4, "'new.qcw' has schema 2, expected 1; update qcompiler")
    write_container(Path("odd.qcw"), tensors, {**description, "run": {**description["run"], "lr": "fast"}})
    assert_error(command("odd.qcw", "--test"), 4, "lr=fast: expected a finite number")


def test_a_trained_network_is_not_trained_on(place: Path, command: Command) -> None:
    for words in (["run/seed0/best.pt"], ["run/seed0/best.pt", "--resume"], ["--checkpoint", "run/seed0/best.pt"]):
        assert_error(command(*words), 2, "the command would train one; add --test")
    both = command("run/seed0/best.pt", "--test", "--checkpoint", "run/seed0/last.pt")
    assert_error(both, 2, "'run/seed0/best.pt' and --checkpoint run/seed0/last.pt both name a trained network")


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, "--images 0: expected at least 1; leave it out for all test images"),
        (-1, "--images -1: expected at least 1"),
        (21, "--images 21: the data set has 20 test images; ask for at most as many, or leave it out for all"),
    ],
)
def test_numbers_of_images_that_there_are_not(place: Path, command: Command, count: int, message: str) -> None:
    for mode in ("float", "fixed"):
        assert_error(command("run/seed0", "--test", "--mode", mode, f"--images={count}"), 2, message)


QUADRANT = """
<ir_version: 8, opset_import: ["": 17]>
quadrants (float[3, 1, 28, 28] image) => (float[3, 4] scores)
{
    pooled = AveragePool <kernel_shape = [14, 14], strides = [14, 14]> (image)
    scores = Flatten (pooled)
}
"""


def test_the_first_images_in_a_bundle(place: Path, command: Command) -> None:
    onnx.save(onnx.parser.parse_model(QUADRANT), "quadrant.onnx")
    qcompiler.compile("quadrant.onnx", target="x86", mcpu=["x86-64"], output="quadrant.qc", force=True)
    test = load_data("mnist", "data", 10).test
    pixels = test.images.double().reshape(20, 2, 14, 2, 14).mean((2, 4)).reshape(20, 4)
    for count in (1, 5, 20):
        expected = (pixels.argmax(1) == test.labels)[:count].double().mean()
        done = command("run/seed0", "--test", "--bundle", "quadrant.qc", "--images", count)
        assert done.out == f"test accuracy {float(expected):.2%} on {count} images (quadrant.qc, float)\n", done.err
    # a trained network says which data they are
    for trained in (["run/seed0/best.pt"], ["--checkpoint", "run/seed0/best.pt"]):
        assert command(*trained, "--test", "--bundle", "quadrant.qc", "--images", 20).out == done.out
    assert command("run/seed0/best.pt", "--test", "--images", 20).out != done.out


def test_what_is_no_bundle(place: Path, command: Command) -> None:
    """Neither a trained network nor its directory is taken for one."""
    assert_error(command("run/seed0", "--test", "--bundle", "none.qc"), 2, "there is no directory 'none.qc'; name a")
    for path, message in (("run/seed0/best.pt", "there is no directory"), ("run/seed0", "is not a bundle")):
        assert_error(command("run/seed0", "--test", "--bundle", path), 2, message)


def test_fixed_point_is_recorded(place: Path, command: Command) -> None:
    done = command("run/seed0", "--test", "--mode", "fixed")
    assert done.status == 0 and "(run/seed0/best.pt, fixed)" in done.out
    fixed = json.loads(Path("run/seed0/run.json").read_text())["fixed"]["accuracy"]
    assert f"test accuracy {fixed:.2%} on 20 images" in done.out


def test_fixed_point_is_calibrated_by_training_images(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    simulate = evaluate.evaluate_fixed

    def watched(path: Path, split: Split, calibration: Tensor) -> Any:
        counts.append((len(split), len(calibration)))
        return simulate(path, split, calibration)

    monkeypatch.setattr(evaluate, "evaluate_fixed", watched)
    assert command("run/seed0", "--test", "--mode", "fixed").status == 0
    # 40 images, of which 10 are for validation
    assert counts == [(20, 30)]


def test_other_checkpoints_are_not_recorded(place: Path, command: Command) -> None:
    log = json.loads(Path("run/seed0/run.json").read_text())
    before = json.dumps({**log, "fixed": None})
    Path("run/seed0/run.json").write_text(before)
    assert command("run/seed0", "--test", "--mode", "fixed", "--checkpoint", "run/seed0/last.pt").status == 0
    assert Path("run/seed0/run.json").read_text() == before


def test_export_pack_and_energy_in_one_command(place: Path, command: Command) -> None:
    done = command("run/seed0", "--export", "net.onnx", "--pack", "net.packed", "--energy")
    assert done.status == 0, done.err
    assert "wrote net.onnx" in done.out and "wrote net.packed: " in done.out and "weight memory" in done.out
    assert Path("net.onnx").stat().st_size > 10_000 and Path("net.packed").stat().st_size < 5_000


def test_constants_of_the_energy_model(place: Path, command: Command) -> None:
    Path("constants.json").write_text('{"source": "our own chip"}')
    assert "our own chip" in command("run/seed0", "--energy", "--constants", "constants.json").out


@pytest.mark.slow
def test_deploy_and_bundle(place: Path, command: Command) -> None:
    done = command("run/seed0", "--deploy")
    assert done.status == 0, done.err
    assert "same class in the bundle: 20\n" in done.out and "None" not in done.out
    assert json.loads(Path("run/seed0/run.json").read_text())["deploy"]["same_class_onnxruntime"] == 20
    expected = command("run/seed0", "--test").out.partition(" (")[0]
    assert command("run/seed0", "--test", "--bundle", "run/seed0/model.qc").out.startswith(expected)
    # a checkpoint that stands for itself is deployed beside itself
    Path("elsewhere").mkdir(exist_ok=True)
    Path("elsewhere/net.pt").write_bytes(Path("run/seed0/best.pt").read_bytes())
    done = command("elsewhere/net.pt", "--deploy")
    assert done.status == 0 and "same class in the bundle: 20\n" in done.out, done.err
    assert Path("elsewhere/model.qc/manifest.json").exists() and not Path("elsewhere/run.json").exists()


def test_checkpoint_of_another_network(place: Path, command: Command) -> None:
    assert_error(
        command("run/seed0", "hidden=32", "--test"),
        2,
        "'run/seed0/best.pt' is of another network: hidden=16, the config says hidden=32; set hidden=16",
    )
    assert_error(command("mnist_lenet", "--export", "a.onnx", "--checkpoint", "run/seed0/best.pt"), 2, "network=")
    assert not Path("a.onnx").exists()


def test_no_trained_network(place: Path, command: Command) -> None:
    assert_error(
        command("mnist_binarynet", "--test"),
        2,
        "no trained network at 'runs/mnist_binarynet/seed0/best.pt'; train it first (qtrain mnist_binarynet)",
    )
    assert_error(command("run/seed0", "--test", "--checkpoint", "none.pt"), 2, "no trained network at 'none.pt'")


def test_bundle_takes_the_place_of_the_checkpoint(place: Path, command: Command) -> None:
    Path("empty.qc").mkdir(exist_ok=True)
    done = command("run/seed0", "--test", "--bundle", "empty.qc")
    assert done.status != 0 and "empty.qc" in done.err


def test_followers_neither_test_nor_write(place: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    done = command("run/seed0", "--test", "--export", "follower.onnx")
    assert (done.status, done.out, Path("follower.onnx").exists()) == (0, "", False)


def test_image_folder_in_the_size_of_the_config(command: Command, tmp_path: Path) -> None:
    files.write_images(tmp_path / "data")
    run = ["network=moons", "nfa=2", "nfb=2", "nfc=2", "dataset=images", "image_size=8", "validation=2", "batch_size=4"]
    rest = ["epochs=1", "threads=1", "device=cpu", f"output={tmp_path}", f"data_dir={tmp_path / 'data'}"]
    done = command("cifar10_moons", *run, *rest, "--resume", "--test")
    assert done.status == 0, done.err
    assert "on 6 images" in done.out.splitlines()[-1]


def test_damaged_files(place: Path, command: Command) -> None:
    Path("cut.pt").write_bytes(Path("run/seed0/best.pt").read_bytes()[:1000])
    assert_error(command("run/seed0", "--test", "--checkpoint", "cut.pt"), 4, "'cut.pt' is not a whole checkpoint")
    files.write_mnist(Path("cut"))
    cut = Path("cut/t10k-images-idx3-ubyte.gz")
    cut.write_bytes(cut.read_bytes()[:-9])
    assert_error(command("run/seed0", "--test", "--data-dir", "cut"), 4, "t10k-images-idx3-ubyte.gz' is truncated")


@pytest.mark.parametrize("option", ["--export", "--pack"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no/such/file", "cannot write 'no/such/file': No such file or directory; choose a writable place"),
        ("/proc/none/file", "cannot write '/proc/none/file': No such file or directory"),
        (".", "cannot write '.': it is a directory; name a file"),
    ],
)
def test_places_are_looked_at_before_the_run(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # there is no run to work on, which would be found next
    assert_error(command("mnist_lenet", option, path), 2, message)
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_looked_at_before_the_data(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, cause in ((tmp_path / "file", "Not a directory"), (Path("/proc/x"), "No such file or directory")):
        done = command("mnist_lenet", "--data-dir", "no/such", "-o", f"output={output}")
        assert_error(done, 2, f"cannot write '{output}/mnist_lenet/seed0': {cause}; choose a writable place")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["lr=0.1"], "expected one config, found none"),
        (["mnist_lenet", "cifar10_moons"], "expected one config, found 2: mnist_lenet, cifar10_moons"),
        (["mnist_lenett"], "config 'mnist_lenett' does not exist; did you mean 'mnist_lenet'?"),
        (["mnist_lenet", "-o", "lr"], "override 'lr': expected KEY=VALUE"),
        (["mnist_lenet", "-o", "lr=0.1", "batchsize=4"], "unknown key 'batchsize'; did you mean 'batch_size'?"),
        (["mnist_lenet", "lr=fast"], "lr=fast: expected a finite number"),
        (["cifar10_moons", "-o", "network_type=full-qnn", "abits=1"], "abits is 1, expected 2 to 16"),
        (["cifar10_moons", "wbits=17", "network_type=qnn"], "wbits is 17"),
        (["mnist_lenet", "--mode", "fixed"], "--mode needs --test"),
        (["mnist_lenet", "--test", "--mode", "double"], "--mode double: expected float or fixed"),
        (["none.pt", "--test"], "there is no 'none.pt'; name a config (qtrain --help lists them), the directory of a"),
        (["runs/mnist_lenet/seed7", "--test"], "there is no 'runs/mnist_lenet/seed7'; name a config"),
        (["mnist_lenett.yaml"], "config 'mnist_lenett.yaml' does not exist; did you mean 'mnist_lenet'?"),
        (["mnist_lenet", "--bundle", "net.qc"], "--bundle needs --test"),
        (["mnist_lenet", "--test", "--bundle", "net.qc", "--mode", "fixed"], "--mode fixed: a compiled network"),
        (["mnist_lenet", "--test", "--bundle", "net.qc", "--data-dir", "no"], "there is no directory 'net.qc'"),
        (["mnist_lenet", "--images", "3"], "--images needs --test"),
        (["mnist_lenet", "--test", "--images", "many"], "Invalid value for '--images'"),
        (["--test", "--checkpoint", "none.pt"], "no trained network at 'none.pt'; name an existing one"),
        (["mnist_lenet", "--constants", "a.json"], "--constants needs --energy"),
        (["mnist_lenet", "--checkpoint", "a.pt"], "the command would train one; add --test"),
        (["mnist_lenet", "--test", "--checkpoint", "a", "--bundle", "b"], "both say what to test"),
        (["mnist_lenet", "--data-dir", "no/such"], "data directory 'no/such' does not exist"),
        (["mnist_lenet", "--tset"], "No such option: --tset"),
    ],
)
def test_usage(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(*arguments)
    assert_error(done, 2, message)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_fit_into_memory(command: Command, tmp_path: Path) -> None:
    files.write_mnist(tmp_path / "data")
    run = [*SMALL, "hidden=100000000", "layers=2", "epochs=1", f"output={tmp_path}", f"data_dir={tmp_path / 'data'}"]
    assert_error(command("mnist_binarynet", *run), 1, "out of memory; choose a smaller network or batch_size")


def test_help(command: Command) -> None:
    done = command("--help")
    assert done.status == 0 and done.err == ""
    for part in ("Examples:", "KEY=VALUE", "mnist_lenet", "cifar10_moons", "--resume", "torchrun", "Exit status"):
        assert part in done.out


def test_help_and_refusals_without_torch() -> None:
    """The training packages are optional."""
    blocked = "sys.modules.update(dict.fromkeys(['torch', 'omegaconf']))"
    done = in_process("--help", before=blocked)
    assert done.returncode == 0 and "Examples:" in done.stdout
    done = in_process("mnist_lenet", before=blocked)
    assert done.returncode == 2
    assert done.stderr == "error: qtrain needs omegaconf, which is missing; pip install 'qcompiler[train]'\n"


def test_words() -> None:
    assert split_words(["a.yaml", "lr=1", "b=2"]) == ("a.yaml", ["lr=1", "b=2"])
    assert split_words(["lr=1", "a.yaml"]) == ("a.yaml", ["lr=1"])


def test_a_file_is_no_override(tmp_path: Path) -> None:
    path = tmp_path / "a=b.yaml"
    path.touch()
    assert split_words([str(path), "c=d"]) == (str(path), ["c=d"])


def test_when_to_train() -> None:
    assert Asked().trains and Asked(resume=True, test=True).trains
    assert not Asked(test=True).trains and not Asked(export=Path("a")).trains and not Asked(energy=True).trains
    with pytest.raises(UsageError, match="would train one"):
        Asked(resume=True, test=True, checkpoint=Path("a")).check()
