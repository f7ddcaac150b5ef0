"""Ctrl-C and kills: a command ends in one line with its exit code, and so do all the processes that it has started."""

import os
import re
import runpy
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from .model_server import completion, server
from .test_kill import EVALUATION, MADE, SERVER, TRAIN, settings
from .test_runs import write_notebook

EVALUATE = settings(EVALUATION | {"streams": [900, 900]})
COMMANDS = {  # words, and the file by which one sees that the work has begun
    "train": (["train", *settings(TRAIN | {"steps": 999})], "run/metrics.csv"),
    "train in two processes": (["train", "--processes", "2", *settings(TRAIN | {"steps": 999})], "run/metrics.csv"),
    "base": (["base", *settings(MADE | {"tokens": 10**9})], "run/metrics.csv"),
    "evaluate": (["evaluate", *EVALUATE], "run/params.json"),
    "revisions": (["revisions", *EVALUATE, "--set=rates=[0.1]", "--set=audited=1"], "run/rate-0.1/params.json"),
    "analyse": (["analyse", "--set=streams=900", "--set=sessions=1"], "run/.analysis.lock"),
    "pipeline": (["pipeline", "--parameters", "p.yaml"], "kernel"),
    "rewrite": (["rewrite", "--size=standard", "--sessions=20", "--model=toy", "--format=authors"], "cache/*/*.json"),
}


def begin(words: list[str], folder: Path) -> None:
    """What a child of the server does: as ``python -m uma_lib`` or ``python -m uma_lib.ledger`` in ``folder``."""
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT), 2)
    torch.set_num_threads(1)
    if words[0] == "pipeline":
        from uma_lib import pipeline

        pipeline.run_pipeline = partial(pipeline.run_pipeline, notebooks=folder)  # small ones
    sys.argv = ["uma_lib", *words]
    runpy.run_module("uma_lib.ledger" if words[0] == "rewrite" else "uma_lib", run_name="__main__")


def started(name: str, folder: Path, url: str = ""):
    """A command in a child, in the middle of its work."""
    words, sign = COMMANDS[name]
    where = ["--out=out.json", f"--base-url={url}", "--cache=cache"] if name == "rewrite" else ["--out=run"]
    code = f"import os, time\nopen({str(folder / 'kernel')!r}, 'w').write(str(os.getpid()))\ntime.sleep(99)"
    write_notebook(folder / "01_a.ipynb", "RUN_DIR: str = ''", code)
    (folder / "p.yaml").write_text("")
    child = SERVER.Process(target=begin, args=([*words, *where], folder), daemon=True)
    child.start()
    until = time.monotonic() + 120
    while not any(path.stat().st_size or path.suffix == ".lock" for path in folder.glob(sign)):
        assert child.exitcode is None and time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.02)
    return child


def all_end(child, folder: Path) -> bool:
    """Whether no process of the child's group is left soon after it has ended, nor its kernel."""
    kernel = [int((folder / "kernel").read_text())] if (folder / "kernel").exists() else []
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not any(map(lives, [-child.pid, *kernel])):
            return True
        time.sleep(0.05)
    return False


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # what its new parent has not yet buried is dead
    return pid < 0 or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("name", "number"), [*((name, signal.SIGINT) for name in COMMANDS), ("train", signal.SIGTERM)])
def test_a_signal_ends_a_command_in_one_line(name, number, tmp_path):
    with server(lambda *_: completion("Hm.")) as (url, _):
        child = started(name, tmp_path, url)
        os.killpg(child.pid, number)
        child.join(30)
    assert child.exitcode == 128 + number
    lines = (tmp_path / "log").read_text().splitlines()
    # but for progress bars, and what every kernel says when it starts
    [line] = [line for line in lines if line and not re.search(r"\d%\||\[IPKernelApp\]", line)]
    what, where = ("the answers so far are", "cache") if name == "rewrite" else ("what is done so far is", "run")
    said = f"interrupted; {what} kept in {where}; run the same command again to go on"
    if name == "analyse":
        said = "interrupted; files that are done are in run; run the same command again for all of them"
    assert line.endswith(said)
    assert all_end(child, tmp_path)
    assert not [path for path in tmp_path.rglob(".*") if path.suffix in (".tmp", ".lock")]


@pytest.mark.parametrize("name", ["train in two processes", "pipeline"])
def test_nothing_outlives_a_command_that_is_killed(name, tmp_path):
    child = started(name, tmp_path)
    child.kill()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert all_end(child, tmp_path)
