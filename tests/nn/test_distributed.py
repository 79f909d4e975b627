"""Two processes under DistributedDataParallel (gloo) compute the gradients of one process on the joint batch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from qcompiler import nn as q
from qcompiler.train.distributed import leave_group

PROCESSES = 2
PER_PROCESS = 3


def network() -> nn.Sequential:
    """No BN, whose statistics are per process on purpose; LSQ starts from the mean over processes."""
    torch.manual_seed(7)
    return nn.Sequential(
        q.QConv2d(2, 4, 3, weight_quantizer=q.Binarize(scale="channel")),
        q.LSQ(3, signed=False),
        q.QConv2d(4, 4, 2, weight_quantizer=q.LSQ(4, channels=4), input_quantizer=q.PACT(4, alpha=0.5)),
        nn.Flatten(),
        q.QLinear(4, 4, weight_quantizer=q.MoonsWeight(4)),
        q.XnorLinear(4, 3),
    )


def joint_batch() -> torch.Tensor:
    torch.manual_seed(8)
    return torch.randn(PROCESSES * PER_PROCESS, 2, 4, 4)


def backward(model: nn.Module, x: torch.Tensor) -> None:
    model(x).square().mean().backward()


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)
    model = network()
    backward(DistributedDataParallel(model), joint_batch()[rank * PER_PROCESS :][:PER_PROCESS])
    found = {name: (parameter.detach(), parameter.grad) for name, parameter in model.named_parameters()}
    torch.save(found, f"{folder}/{rank}.pt")
    leave_group()


def test_gradients_equal_those_of_one_process(tmp_path: Path) -> None:
    multiprocessing.spawn(worker, (str(tmp_path),), nprocs=PROCESSES)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)]
    model = network()
    backward(model, joint_batch())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        for values in results:
            torch.testing.assert_close(
                values[name][0], parameter.detach(), msg=lambda text, name=name: f"{name} {text}"
            )
            torch.testing.assert_close(
                values[name][1], parameter.grad, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
            )
