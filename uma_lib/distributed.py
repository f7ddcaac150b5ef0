"""What several processes share: one sum over all of them, and how to start them.

Gradients are added up by hand once per optimizer step instead of inside backward passes: every process may then run a
different number of micro-batches of different shapes, which ragged rollouts need.
"""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from accelerate import Accelerator

from uma_lib.runs import RunError


def accelerator() -> Accelerator:
    """The processes that torchrun started, or this one alone; RunError if they do not find each other."""
    # without ``cpu=True`` a machine without a GPU would run every process for itself
    found = Accelerator(cpu=not torch.cuda.is_available())
    if found.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise RunError(f"{os.environ['WORLD_SIZE']} processes were started, but {found.num_processes} found each other")
    return found


def sum_gradients(accelerator: Accelerator, params: list[torch.nn.Parameter], numbers: list[float]) -> list[float]:
    """Add up all gradients over processes in place, and return the sums of ``numbers``; one message for all."""
    for p in params:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    if accelerator.num_processes == 1:
        return numbers
    device = params[0].device
    flat = torch.cat([p.grad.flatten().float() for p in params] + [torch.tensor(numbers, device=device)])
    flat = accelerator.reduce(flat, "sum")
    for p, grad in zip(params, flat[: -len(numbers)].split([p.numel() for p in params]), strict=True):
        p.grad.copy_(grad.view_as(p))
    return flat[-len(numbers) :].tolist()


def launch(arguments: list[str], processes: int) -> int:
    """Run ``python -m uma_lib ARGUMENTS`` in this many processes and return the exit code.

    ``accelerate launch --cpu --num_processes 2`` would silently run one; torchrun does not.
    """
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if processes > 1 else None
    return subprocess.run([*command, "-m", "uma_lib", *arguments], env=environment).returncode


def started_together() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "LOCAL_RANK" in os.environ
