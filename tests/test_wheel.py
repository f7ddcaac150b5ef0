"""What `pip install .` gives, used from another directory: everything that is shipped is found there."""

import os
import shutil
import subprocess
import sys

from tests.memory_server import MemoryServer
from uma_lib.paths import REPO

LOOK = """
import uma_lib
from uma_lib.paths import BASE, INSTALLED, RESULTS
assert INSTALLED, uma_lib.__file__
from uma_lib.engines.policy import Policy
assert Policy.load("data/nano", device="cpu").model.name_or_path == "data/nano" and BASE.is_dir()
assert (RESULTS / "evaluation" / "summary.json").exists()
"""
TRAIN = ["steps=1", "contexts=1", "trajectories=2", "questions=1", "lengths=[1]", "late_lengths=[1]", "eval_streams=1",
         "eval_sessions=1", "turn_tokens=24"]  # fmt: skip


def test_an_installed_package_works_from_any_directory(tmp_path):
    source, site, elsewhere = (tmp_path / name for name in ("source", "site", "elsewhere"))
    elsewhere.mkdir()
    for name in ("uma_lib", "data", "notebooks"):
        shutil.copytree(REPO / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python(*pip, "--target", str(site), str(source))
    shutil.rmtree(source)
    shipped = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    python("-c", LOOK)
    uma = str(site / "bin" / "uma")
    assert "read texts and chats into a memory" in python(uma, "--help")
    python(uma, "ledger", "verify", "ledger-qa/small/test/2")
    with MemoryServer(True).run() as (url, _):
        (elsewhere / "note.txt").write_text("Ann likes tea.")
        python(uma, "read", "memory", "note.txt", "--model", url, "--name", "m")
        assert python(uma, "ask", "memory", "What does Ann like?") == "tea\n"
    said = python(uma, "train", *(word for value in TRAIN for word in ("--set", value)))
    assert "the model is in runs/train/model" in said and (elsewhere / "runs/train/model/model.safetensors").exists()
    python("-m", "uma_lib", "figures")  # the same program
    drawn = {path.name for path in (REPO / "figures").glob("*.png")}
    assert {path.name for path in (elsewhere / "figures").iterdir()} >= drawn
    assert {path for path in site.rglob("*") if "__pycache__" not in path.parts} == shipped  # nothing is written there
