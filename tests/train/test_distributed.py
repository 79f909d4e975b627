"""Two processes under torchrun: one run, one set of files, equal weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from qcompiler.train.checkpoint import load_checkpoint
from qcompiler.train.distributed import Group, join_group
from qcompiler.train.loop import run_directory
from qcompiler.train.runlog import RunLog
from tests.train.tiny import config

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, signal, sys
from pathlib import Path

import torch

from qcompiler.train.loop import train
from qcompiler.train.progress import Quiet
from tests.train.tiny import config, data, mlp


class Interrupt(Quiet):
    left = 7

    def step(self):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGINT)


torch.set_num_threads(1)
network = mlp()
for name, progress in (("whole", None), ("parts", Interrupt()), ("parts", None)):
    chosen = config(Path(sys.argv[1]), network, name=name, augment="flip", epochs=2)
    log = train(chosen, network, data=data(train=32 * 20), resume=True, progress=progress)
    loss = log.epochs[-1].loss if log.epochs else None
    line = f"{name} {os.environ['RANK']} {len(log.epochs)} {log.finished} {loss}\\n"
    # one call, so that lines of two processes do not mix
    os.write(1, line.encode())
"""


def test_two_processes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(program), str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = sorted(line.split() for line in done.stdout.splitlines() if line.startswith(("whole", "parts")))
    # only the leader is interrupted, in the first epoch; the other hears of it
    assert [line[:4] for line in lines] == [
        ["parts", "0", "0", "False"],
        ["parts", "0", "2", "True"],
        ["parts", "1", "0", "False"],
        ["parts", "1", "2", "True"],
        ["whole", "0", "2", "True"],
        ["whole", "1", "2", "True"],
    ]
    assert len({line[4] for line in lines if line[3] == "True"}) == 1
    directories = [run_directory(config(tmp_path, name=name)) for name in ("whole", "parts")]
    whole, parts = (load_checkpoint(directory / "last.pt") for directory in directories)
    assert len(whole.rng or []) == 2
    assert all(torch.equal(whole.model[key], parts.model[key]) for key in whole.model)
    assert RunLog.read(directories[0]).hardware["processes"] == 2


def test_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
import torch
from qcompiler.train.distributed import join_group
for group in (join_group("cpu"), join_group("cpu")):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 2), torch.randn(8, 3)
    wrapped = group.wrap(model)
    wrapped(x[group.rank * 4 : group.rank * 4 + 4]).square().mean().backward()
    found = model.weight.grad.clone()
    model.weight.grad = None
    model(x).square().mean().backward()
    assert torch.allclose(found, model.weight.grad), (found, model.weight.grad)
    assert group.gather(group.rank) == [0, 1]
    assert group.any(group.rank == 1) and not group.any(False)
    order = group.leader_first(lambda: group.rank)
    assert order == group.rank
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_alone_without_torchrun() -> None:
    group = join_group("cpu")
    assert group == Group(torch.device("cpu"), 0, 1)
    assert group.leads and group.gather(3) == [3] and group.any(True) and not group.any(False)
    assert not torch.distributed.is_initialized()


def test_epoch_is_that_of_one_process(tmp_path: Path) -> None:
    """Without BN; and the statistics of BN, which is validated, are those that the leader writes."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import torch
from pathlib import Path
from qcompiler.train.distributed import Group, join_group
from qcompiler.train.trainer import Trainer
from tests.train.tiny import config, conv, data

class Plain:
    def build(self, shape, classes):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))

torch.set_num_threads(1)
group = join_group("cpu")
chosen = config(Path("unused"), conv(), optimizer="sgd")
alone, together = (
    Trainer(chosen, Plain(), data(), each).run_epoch(1, lambda: None, lambda: False)
    for each in (Group(torch.device("cpu")), group)
)
assert abs(alone.loss - together.loss) < 1e-5 and abs(alone.accuracy - together.accuracy) < 0.01, (alone, together)
trainer = Trainer(chosen, conv(), data(), group)
trainer.run_epoch(1, lambda: None, lambda: False)
found = group.gather([buffer.tolist() for buffer in trainer.model.buffers()])
assert found[0] == found[1], found
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_process_ends_with_collectives_under_way(tmp_path: Path) -> None:
    """Gloo's threads free the tensors of collectives late: the interpreter, which they need for it, waits for them."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import sys
import torch
from torch import distributed
from qcompiler.train.distributed import Group, leave_group

torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
wrapped = Group(torch.device("cpu"), 0, 2).wrap(torch.nn.Linear(2, 2))
# no thread is given the interpreter but by one that waits
sys.setswitchinterval(100)
for _ in range(500):
    distributed.all_reduce(torch.ones(300_000), async_op=True)
leave_group()
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for number in range(3):
        command = [sys.executable, str(program), str(tmp_path / f"rendezvous{number}")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
