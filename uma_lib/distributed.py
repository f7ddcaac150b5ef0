"""What several processes share: one sum over all of them, and how to start them.

Gradients are added up by hand once per optimizer step instead of inside backward passes: every process may then run a
different number of micro-batches of different shapes, which ragged rollouts need.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from accelerate import Accelerator

from uma_lib.files import RunError
from uma_lib.processes import INTERRUPTED, LAUNCHER, PATIENCE, one_writer


def accelerator() -> Accelerator:
    """The processes that were started together, or this one alone; RunError if they do not find each other."""
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
    """Run ``python -m uma_lib ARGUMENTS`` in this many processes and return the exit code, 130 for an interruption.

    When one of them fails, the others are ended, and what it said is printed once. They end with this process, however
    it ends. (torchrun starts processes as well, but an error or Ctrl-C becomes many tracebacks, and what it started
    goes on when it is killed; ``accelerate launch --cpu --num_processes 2`` would silently run one.)
    """
    environment = dict(os.environ)
    if processes > 1:
        # the processes find each other through this store, whose port nobody else can take in between
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(processes)}
        environment |= {"LOCAL_WORLD_SIZE": str(processes), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        environment.setdefault("OMP_NUM_THREADS", "1")
    workers: dict[Connection, subprocess.Popen] = {}
    try:
        for rank in range(processes):
            own, other = Pipe()
            own_environment = environment | {LAUNCHER: str(other.fileno())}
            if processes > 1:
                own_environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            workers[own] = subprocess.Popen(
                [sys.executable, "-m", "uma_lib", *arguments], env=own_environment, pass_fds=[other.fileno()]
            )
            other.close()
        return _attend(workers)
    finally:
        for connection, worker in workers.items():
            connection.close()  # a worker ends when it notices
            try:
                worker.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _attend(workers: dict[Connection, subprocess.Popen]) -> int:
    """Wait for all workers or for the first that fails; print what it said, and return the exit code."""
    running, said = dict(workers), ""
    while running:
        for connection in wait(list(running)):
            try:
                words = connection.recv()
                said = said or words  # the first is the cause; others fail since they lost that one
            except (EOFError, OSError):
                code = running.pop(connection).wait()
                code = code if code >= 0 else 128 - code
                if code == INTERRUPTED:
                    return code
                if code > 128:
                    said = f"uma_lib: a process was ended by signal {code - 128}, often for lack of memory"
                if code:
                    if said:
                        print(said, file=sys.stderr)
                    return code
    return 0


def started_together() -> bool:
    """Whether this process is one of several that were started together."""
    return "LOCAL_RANK" in os.environ


def writer(folder: Path) -> AbstractContextManager[None]:
    """`one_writer`, which the first of several processes is for all of them."""
    return one_writer(folder) if os.environ.get("RANK", "0") == "0" else nullcontext()
