"""Checked parameters, atomic files, the metrics log, run folders, and the pipeline over notebooks."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nbformat
import pytest

from uma_lib import files, pipeline, processes, runs
from uma_lib.files import RunError, atomic_write_json, atomic_write_text, sha256
from uma_lib.parameters import check, load_parameters, notebook_parameters
from uma_lib.paths import REPO
from uma_lib.pipeline import check_papermill_parameters, declared_parameters, run_pipeline
from uma_lib.processes import one_writer
from uma_lib.runs import MetricsLog, Run


@dataclass
class Config:
    steps: int
    lr: float = 1e-3
    name: str = "a"
    flag: bool = False
    seeds: list[int] | None = None
    horizons: tuple[int, ...] = (2, 5)
    unit: Literal["memory", "question"] = "memory"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("parameter 'steps' must be at least 1")


# --- parameters


def test_check_builds_and_converts_only_what_is_safe() -> None:
    config = check(Config, {"steps": 3, "lr": 1, "seeds": [1, 2], "horizons": [2, 10], "unit": "question"})
    assert config == Config(3, 1.0, "a", False, [1, 2], (2, 10), "question")
    assert type(config.lr) is float
    assert check(Config, {"steps": 3, "seeds": None}).seeds is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"step": 1}, "unknown parameter 'step'; did you mean 'steps'?"),
        ({"STEPS": 1}, "did you mean 'steps'?"),
        ({"xyzzy": 1}, "known: steps, lr, name"),
        ({}, "parameter 'steps' is missing"),
        ({"steps": 1e5}, "write 100000, without point or exponent"),  # papermill -p steps 1e5
        ({"steps": 1.5}, "'steps' is 1.5 (float), not int"),
        ({"steps": True}, "'steps' is True (bool), not int"),
        ({"steps": "3"}, "'steps' is '3' (str), not int"),
        ({"steps": None}, "'steps' is None (NoneType), not int"),
        ({"steps": 0}, "must be at least 1"),
        ({"steps": 1, "lr": "1e-6"}, "write 1.0e-6"),  # lr: 1e-6 in YAML
        ({"steps": 1, "lr": True}, "'lr' is True (bool), not float"),
        ({"steps": 1, "flag": "false"}, "write True or False"),  # papermill -p flag false
        ({"steps": 1, "flag": 1}, "'flag' is 1 (int), not bool"),
        ({"steps": 1, "name": 5}, 'write "5", with papermill -r name 5'),
        ({"steps": 1, "seeds": "[1, 2]"}, "papermill -y 'seeds: [1, 2]'"),  # papermill -p seeds '[1, 2]'
        ({"steps": 1, "seeds": [1, "2"]}, "'seeds[1]' is '2' (str), not int"),
        ({"steps": 1, "unit": "both"}, "pass one of 'memory', 'question'"),
    ],
)
def test_check_refuses_with_one_line(values: dict, said: str) -> None:
    with pytest.raises(RunError) as caught:
        check(Config, values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_parameters(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("a: 1\nb: [1, 2]\n")
    assert load_parameters(path) == {"a": 1, "b": [1, 2]}
    path.write_text("")
    assert load_parameters(path) == {}
    for text in ("a: [1", "- 1\n- 2\n", "1: 2\n", "just text"):
        path.write_text(text)
        with pytest.raises(RunError, match=r"p\.yaml: [^\n]*$"):
            load_parameters(path)
    with pytest.raises(RunError, match="no such file"):
        load_parameters(tmp_path / "absent.yaml")


def test_notebook_parameters_keep_what_papermill_injects() -> None:
    namespace = {
        "STEPS": 3,
        "SEEDS": [1],
        "_i1": "text",
        "In": [],
        "Out": {},
        "Path": Path,
        "os": os,
        "OUT": None,
    }
    assert notebook_parameters(namespace) == {"STEPS": 3, "SEEDS": [1], "OUT": None}


# --- files


def failing(error: int):
    def fail(*_args, **_kwargs):
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize(
    ("function", "error", "said"),
    [
        ("fsync", errno.ENOSPC, "the disk is full; free some space"),
        ("replace", errno.ENOSPC, "the disk is full; free some space"),
        ("replace", errno.EACCES, "no permission to write; change its permissions"),
        ("fsync", errno.EIO, "cannot write: Input/output error"),
    ],
)
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, function, error, said) -> None:
    path = tmp_path / "results.json"
    atomic_write_json(path, {"old": 1})
    monkeypatch.setattr(files.os, function, failing(error))
    with pytest.raises(RunError) as caught:
        atomic_write_json(path, {"new": 2})
    assert str(caught.value).startswith(f"{path}: {said}")
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["results.json"]  # no temporary file is left


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder(tmp_path, monkeypatch, error) -> None:
    # simulated, since tests may run as root, whom permissions do not stop
    monkeypatch.setattr("builtins.open", failing(error))
    with pytest.raises(
        RunError, match="no permission to write; change its permissions or choose another folder"
    ):
        atomic_write_text(tmp_path / "a.txt", "a")


def test_an_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.txt"
    atomic_write_text(path, "old")

    def interrupt(_file: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_files_are_exact(tmp_path) -> None:
    path = tmp_path / "made" / "on the way" / "a.txt"
    atomic_write_text(path, "Zoë\r\n")
    assert path.read_bytes() == "Zoë\r\n".encode()
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic_write_json(path, float("nan"))
    (tmp_path / "empty").write_bytes(b"")
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(RunError, match="absent: no such file"):
        sha256(tmp_path / "absent")
    (tmp_path / "broken.json").write_text('{"a": 1,')
    with pytest.raises(RunError, match="broken.json: not valid JSON"):
        files.read_json(tmp_path / "broken.json")


# --- metrics


def test_metrics_resume_without_doubled_or_half_rows(tmp_path) -> None:
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path)
    for step in range(5):
        log.write({"step": step, "reward": step / 10})
    whole = path.read_text()
    with open(path, "a") as file:
        file.write("5,0.")  # killed within a line
    log = MetricsLog(path, resume_step=2)
    assert [row["step"] for row in log.rows()] == ["0", "1", "2"]
    for step in (3, 4):
        log.write({"step": step, "reward": step / 10})
    assert path.read_text() == whole
    assert MetricsLog(path).rows() == []


def test_metrics_resume_before_the_first_row(tmp_path) -> None:
    path = tmp_path / "metrics.csv"
    assert MetricsLog(path, resume_step=0).rows() == []
    path.write_text("step,rew")  # killed within the header
    log = MetricsLog(path, resume_step=0)
    log.write({"step": 1, "reward": 0.5})
    assert path.read_text() == "step,reward\n1,0.5\n"


def test_metrics_columns_may_come_later(tmp_path) -> None:
    log = MetricsLog(tmp_path / "metrics.csv")
    log.write({"step": 1, "reward": 0.1})
    log.write({"step": 2, "reward": 0.2, "held_out": 0.5})
    log.write({"step": 3, "reward": None})
    assert log.path.read_text() == "step,reward,held_out\n1,0.1,\n2,0.2,0.5\n3,,\n"
    log = MetricsLog(log.path, resume_step=3)
    log.write({"step": 4, "reward": 0.4, "note": 'a, "b"'})
    assert log.rows()[-1] == {"step": "4", "reward": "0.4", "held_out": "", "note": 'a, "b"'}


def test_metrics_on_a_full_disk(tmp_path, monkeypatch) -> None:
    log = MetricsLog(tmp_path / "metrics.csv")
    log.write({"step": 1, "reward": 0.1})
    before = log.path.read_bytes()
    monkeypatch.setattr(files.os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(RunError, match=r"metrics\.csv: the disk is full"):
        log.write({"step": 2, "reward": 0.2})
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("text", ["step,a\n1,2,3\n", "step,a\n1\n", "step,a\none,2\n", "a,b\n1,2\n"])
def test_metrics_refuse_a_damaged_file(tmp_path, text) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(RunError, match=r"metrics\.csv, line 2: not a row of metrics"):
        MetricsLog(path, resume_step=5)
    assert path.read_text() == text


def test_metrics_refuse_rows_that_could_not_be_resumed(tmp_path) -> None:
    log = MetricsLog(tmp_path / "metrics.csv")
    for row in ({"reward": 1.0}, {"step": 1.0}, {"step": -1}, {"step": 1, "note": "two\nlines"}):
        with pytest.raises(ValueError, match="metric"):
            log.write(row)


# --- run folders


def test_a_run_is_complete_once_its_manifest_is_there(tmp_path, monkeypatch) -> None:
    source = tmp_path / "input.txt"
    source.write_text("data")
    run = Run(tmp_path / "run")
    run.start({"steps": 3, "horizons": (2, 5)})
    with pytest.raises(RunError, match="no complete run"):
        run.results()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "manifest", failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            run.finish({"accuracy": 0.5}, device="cpu", seed=1)
    assert run.results_path.exists() and not run.complete

    again = Run(tmp_path / "run")
    again.start({"steps": 3, "horizons": (2, 5)})  # a tuple comes back from JSON as a list
    again.finish({"accuracy": 0.5}, device="cpu", seed=1, inputs=[source])
    assert again.complete
    assert again.results() == {"accuracy": 0.5}
    manifest = json.loads(again.manifest_path.read_text())
    assert manifest["inputs"] == {"input.txt": sha256(source)}
    assert (manifest["device"], manifest["seed"]) == ("cpu", 1)
    assert manifest["started"] <= manifest["ended"]
    assert set(manifest["git"]) == {"revision", "dirty"}
    assert {"python", "torch", "transformers", "trl", "numpy"} <= set(manifest["versions"])


def test_a_run_with_other_parameters_is_refused(tmp_path) -> None:
    Run(tmp_path).start({"steps": 3, "lr": 0.1, "seed": 1})
    kept = (tmp_path / "params.json").read_bytes()
    (tmp_path / "metrics.csv").write_text("step\n1\n")
    with pytest.raises(RunError) as caught:
        Run(tmp_path).start({"steps": 4, "seed": 1, "group": None})
    assert str(caught.value) == (
        f"{tmp_path} holds a run with other parameters (steps is 3 there and 4 here; lr is 0.1 there and "
        "not set here; group is not set there and None here); choose another folder, or delete this "
        "one to start anew"
    )
    assert (tmp_path / "params.json").read_bytes() == kept


def test_parameters_can_be_corrected_while_nothing_was_done(tmp_path) -> None:
    Run(tmp_path).start({"steps": 3})
    MetricsLog(tmp_path / "metrics.csv")  # empty
    Run(tmp_path).start({"steps": 4})
    assert json.loads((tmp_path / "params.json").read_text()) == {"steps": 4}


def test_one_process_writes_a_folder(tmp_path, monkeypatch) -> None:
    code = (
        "import sys; from pathlib import Path; from uma_lib.processes import one_writer\n"
        "with one_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPO, text=True) as other:
        assert other.stdout.readline() == "held\n"
        (tmp_path / f".checkpoint.pt.{other.pid}.tmp").write_text("its own, under way")
        monkeypatch.setattr(processes, "PATIENCE", 0.0)
        with pytest.raises(RunError, match=f"is in use by process {other.pid} on .* since"), one_writer(tmp_path):
            pass
        other.kill()  # its lock goes with it, and what it left half-written is cleared
        other.wait()
        with one_writer(tmp_path):
            assert not list(tmp_path.glob(".*.tmp"))
    with one_writer(tmp_path):  # the same process may come again
        pass


@pytest.mark.parametrize(
    "rows, message",
    [
        (None, "is not there, but the run is at step 2"),
        ("step,loss\n1,0.5\n1,0.5\n2,0.4\n", "line 3: step 1 stands after step 1"),
        ("step,loss\n1,0.5\nx,0.5\n", "line 3: not a row of metrics"),
    ],
)
def test_a_log_that_does_not_fit_its_checkpoint_is_refused(tmp_path, rows, message) -> None:
    if rows is not None:
        (tmp_path / "metrics.csv").write_text(rows)
    with pytest.raises(RunError, match=message):
        MetricsLog(tmp_path / "metrics.csv", resume_step=2, steps=[1, 2])


# --- pipeline

PARAMETERS = (
    "SEED: int = 0  # the seed = any number\nSTEPS: int = 2\nLR: float = 1e-3\nNAMES: list[str] | None = None"
)


def write_notebook(path: Path, parameters: str, *code: str) -> None:
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in code]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    nbformat.write(notebook, path)


def test_declared_parameters(tmp_path) -> None:
    path = tmp_path / "01_a.ipynb"
    write_notebook(path, PARAMETERS)
    assert declared_parameters(path) == {"SEED": int, "STEPS": int, "LR": float, "NAMES": list[str] | None}
    assert check_papermill_parameters(path, {"LR": 1, "NAMES": ["a"]}) == {"LR": 1.0, "NAMES": ["a"]}
    with pytest.raises(RunError, match="01_a.ipynb: unknown parameter 'STEP'; did you mean 'STEPS'"):
        check_papermill_parameters(path, {"STEP": 1})
    with pytest.raises(RunError, match="01_a.ipynb: parameter 'STEPS' is 1.0 .float., not int"):
        check_papermill_parameters(path, {"STEPS": 1.0})


@pytest.mark.parametrize(
    "line", ["A = 1", "A: int = 1.0", "A: int = B", "A: int", "import os", "A: Path = 1"]
)
def test_a_parameters_cell_holds_typed_literals_only(tmp_path, line) -> None:
    write_notebook(tmp_path / "01_a.ipynb", line)
    with pytest.raises(RunError, match="as 'NAME: type = literal'"):
        declared_parameters(tmp_path / "01_a.ipynb")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("c: {A: 1}", "unknown section 'c'; known: common, a, b"),
        ("a: 1", "section 'a' must hold lines"),
        ("a: {STEP: 1}", "01_a.ipynb: unknown parameter 'STEP'; did you mean 'STEPS'?"),
        ("a: {LR: 1e-6}", "01_a.ipynb: parameter 'LR' is '1e-6' (str), not float; write 1.0e-6"),
        ("common: {SEEDS: 1}", "unknown common parameter 'SEEDS'; did you mean 'SEED'?"),
        ("common: {RUN_DIR: here}", "RUN_DIR is set by the pipeline; pass --out"),
    ],
)
def test_the_pipeline_refuses_before_it_runs_anything(tmp_path, text, said) -> None:
    write_notebook(tmp_path / "01_a.ipynb", PARAMETERS, "raise RuntimeError('ran')")
    write_notebook(tmp_path / "02_b.ipynb", "SEED: int = 0\nRUN_DIR: str = ''")
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(RunError) as caught:
        run_pipeline(tmp_path / "p.yaml", tmp_path / "out", notebooks=tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_pipeline_continues_where_it_stopped(tmp_path, monkeypatch) -> None:
    """One real kernel run each: the first notebook leaves a mark, the second fails once."""
    out, parameters = tmp_path / "out", tmp_path / "p.yaml"
    write_notebook(
        tmp_path / "01_a.ipynb",
        "SEED: int = 0\nSTEPS: int = 2\nRUN_DIR: str = ''",
        "from pathlib import Path\nwith open(Path(RUN_DIR) / 'marks', 'a') as f: f.write(f'{SEED} {STEPS};')",
    )
    write_notebook(
        tmp_path / "02_b.ipynb",
        "SEED: int = 0\nRUN_DIR: str = ''",
        "from pathlib import Path\nif not (Path(RUN_DIR) / 'go').exists(): raise ValueError('not yet')",
        "print('done', SEED)",
    )
    parameters.write_text("common: {SEED: 7}\na: {STEPS: 3}\n")
    with pytest.raises(
        RunError, match=r"^02_b\.ipynb failed in cell \[3\]: ValueError: not yet \(see .*02_b\.ipynb\)$"
    ):
        run_pipeline(parameters, out, notebooks=tmp_path)
    assert not (out / "manifest.json").exists()

    (out / "go").touch()
    manifest = json.loads(run_pipeline(parameters, out, notebooks=tmp_path).read_text())
    assert (out / "marks").read_text() == "7 3;"  # the first notebook did not run again
    assert manifest["notebooks"]["02_b"]["parameters"] == {"SEED": 7, "RUN_DIR": str(out)}
    outputs = [
        output for cell in nbformat.read(out / "02_b.ipynb", 4).cells for output in cell.get("outputs", [])
    ]
    assert [output.text for output in outputs] == ["done 7\n"]

    # complete: nothing runs; a changed value: from its notebook on
    calls: list[str] = []

    def record(notebook: Path, executed: Path, values: dict, progress: object) -> None:
        calls.append(notebook.stem)

    monkeypatch.setattr(pipeline, "_execute", record)
    run_pipeline(parameters, out, notebooks=tmp_path)
    assert calls == []
    write_notebook(tmp_path / "02_b.ipynb", "SEED: int = 0\nRUN_DIR: str = ''", "print('changed')")
    run_pipeline(parameters, out, notebooks=tmp_path)
    assert calls == ["02_b"]
    parameters.write_text("common: {SEED: 7}\na: {STEPS: 4}\n")
    run_pipeline(parameters, out, notebooks=tmp_path)
    assert calls == ["02_b", "01_a", "02_b"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_the_pipeline_reports_a_full_disk_and_a_read_only_folder(tmp_path, monkeypatch, error) -> None:
    write_notebook(tmp_path / "01_a.ipynb", "SEED: int = 0")
    (tmp_path / "p.yaml").write_text("")
    monkeypatch.setattr(pipeline.papermill, "execute_notebook", failing(error))
    with pytest.raises(RunError, match=r"01_a\.ipynb: (the disk is full|no permission to write)"):
        run_pipeline(tmp_path / "p.yaml", tmp_path / "out", notebooks=tmp_path)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_damaged_or_missing_notebook(tmp_path) -> None:
    (tmp_path / "p.yaml").write_text("")
    with pytest.raises(RunError, match="no notebooks there"):
        run_pipeline(tmp_path / "p.yaml", tmp_path / "out", notebooks=tmp_path)
    (tmp_path / "01_a.ipynb").write_text('{"cells": [')
    with pytest.raises(RunError, match="not a valid notebook"):
        run_pipeline(tmp_path / "p.yaml", tmp_path / "out", notebooks=tmp_path)
