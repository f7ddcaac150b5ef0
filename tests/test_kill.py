"""Killed at random moments and started again, every kind of run ends with the files of an undisturbed one.

The kills are real (SIGKILL). The commands run in children of a server that has imported what takes seconds, so that the
moments fall into the work. UMA_KILLS=12 asks for more of them than the two that each kind gets in the tests.
"""

import csv
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch

from uma_lib.paths import BASE

from .test_runs import write_notebook

KILLS = int(os.environ.get("UMA_KILLS", "2"))
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([
    "uma_lib.training", "uma_lib.nano.base", "uma_lib.evaluation", "uma_lib.pipeline", "trl.trainer.utils",
    "transformers.models.qwen3.modeling_qwen3",
])  # fmt: skip

TRAIN = {
    "base": str(BASE), "steps": 5, "contexts": 1, "trajectories": 3, "questions": 1, "lengths": [1],
    "late_lengths": [1], "eval_every": 5, "eval_streams": 1, "eval_sessions": 1, "save_every": 2, "turn_tokens": 24,
}  # fmt: skip
MADE = {
    "vocabulary": 400, "width": 32, "layers": 1, "heads": 2, "key_value_heads": 1, "feed_forward": 64, "context": 2048,
    "tokens": 60 * 256, "batch_tokens": 256, "save_minutes": 0.002, "card_streams": 1, "card_sessions": 1,
    "card_tokens": 1024,
}  # fmt: skip
EVALUATION = {
    "model": str(BASE), "agents": ["uma_base", "question_only", "demonstrator"], "horizons": [1, 2], "streams": [1, 1],
    "turn_tokens": 24,
}  # fmt: skip
NOTEBOOKS = {
    "01_a.ipynb": "import time\nwith open(f'{RUN_DIR}/a.txt', 'w') as f: f.write(str(SEED))\ntime.sleep(0.3)",
    "02_b.ipynb": "print(open(f'{RUN_DIR}/a.txt').read() * 3)",
}


def settings(values: dict) -> list[str]:
    return [f"--set={name}={json.dumps(value)}" for name, value in values.items()]


def command(arguments: list[str], folder: Path, notebooks: Path) -> None:
    """What a child of the server does."""
    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    if arguments[0] == "pipeline":
        from uma_lib.pipeline import run_pipeline

        run_pipeline(notebooks / "p.yaml", folder, notebooks=notebooks)
        return
    from uma_lib.__main__ import main
    from uma_lib.nano import base

    base.make_tokenizer = partial(base.make_tokenizer, examples=100)  # a small one takes less time
    sys.argv = ["uma_lib", *arguments, "--out", str(folder)]
    main()


def differing(one: Path, two: Path) -> list[str]:
    """The files in which two folders differ by more than times."""
    names = {str(path.relative_to(folder)) for folder in (one, two) for path in folder.rglob("*") if path.is_file()}
    return [
        name
        for name in sorted(names)
        if not ((one / name).exists() and (two / name).exists()) or content(one / name) != content(two / name)
    ]


def content(path: Path) -> object:
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return [[(k, v) for k, v in row.items() if "seconds" not in k] for row in csv.DictReader(file)]
    if path.suffix in (".json", ".jsonl"):
        times = r'"(started|ended|seconds|memory_seconds|hours|revision|dirty|key|sha256)": ("[^"]*"|[^",{}\n]+)'
        return re.sub(times, "", path.read_text())
    if path.suffix == ".ipynb":
        return [[cell.source, cell.get("outputs")] for cell in nbformat.read(path, 4).cells[2:]]
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)
        return repr({name: values for name, values in state.items() if name != "seconds"}) + str(hashed(state))
    return path.read_bytes()


def hashed(state: object) -> object:
    if isinstance(state, torch.Tensor):
        return hash(state.numpy().tobytes())
    if isinstance(state, dict):
        return {name: hashed(value) for name, value in state.items()}
    return [hashed(value) for value in state] if isinstance(state, list | tuple) else None


@pytest.mark.parametrize(
    "arguments",
    [["train", *settings(TRAIN)], ["base", *settings(MADE)], ["evaluate", *settings(EVALUATION)], ["pipeline"]],
    ids=lambda arguments: arguments[0],
)
def test_a_run_that_is_killed_anywhere_ends_as_an_undisturbed_one(arguments, tmp_path):
    for name, code in NOTEBOOKS.items():
        write_notebook(tmp_path / name, "SEED: int = 7\nRUN_DIR: str = ''", code)
    (tmp_path / "p.yaml").write_text("")

    def started(name: str) -> multiprocessing.Process:
        child = SERVER.Process(target=command, args=(arguments, tmp_path / name, tmp_path))
        child.start()
        return child

    def ended(name: str) -> None:
        child = started(name)
        child.join(120)
        assert child.exitcode == 0, (tmp_path / f"{name}.log").read_text()

    warm = SERVER.Process(target=os.getpid)  # the first child waits for the server
    warm.start()
    warm.join()
    began = time.monotonic()
    ended("run")
    duration = time.monotonic() - began
    folder = (tmp_path / "run").rename(tmp_path / "straight").with_name("run")

    rng, kills = random.Random(arguments[0]), 0
    while kills < KILLS:
        child = started("run")
        child.join(rng.uniform(0.05, 0.95) * duration)
        if child.exitcode is None:
            child.kill()
            child.join()
            kills += 1
        else:  # it was quicker: begin again
            assert child.exitcode == 0, folder.with_suffix(".log").read_text()
            assert not differing(tmp_path / "straight", folder)
            shutil.rmtree(folder)
    ended("run")
    assert not differing(tmp_path / "straight", folder)
