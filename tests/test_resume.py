"""Going on where a run stopped: with the same parameters, inputs and rows, or not at all; one writer a folder."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import uma_lib.nano.base
from uma_lib import evaluation, processes, revisions, training
from uma_lib.__main__ import main
from uma_lib.engines.protocol import NoModel
from uma_lib.evaluation import EvaluationConfig
from uma_lib.files import RunError
from uma_lib.ledger.__main__ import main as ledger
from uma_lib.nano.agents import Oracle
from uma_lib.nano.base import BaseConfig, make_base
from uma_lib.parameters import check
from uma_lib.paths import REPO
from uma_lib.processes import clear_temporaries, one_writer
from uma_lib.resume import model_inputs
from uma_lib.revisions import RevisionsConfig
from uma_lib.runs import Run
from uma_lib.training import Trainer, TrainingConfig, train

from .conftest import TINY

DEAD = 2**22 + 1  # more than a process number can be


class Killed(BaseException):
    """What a kill is to the code, as far as a test in one process can play it."""


# --- training -----------------------------------------------------------------------------------------------------


def train_config(model: Path, **values) -> TrainingConfig:
    return check(TrainingConfig, {
        "base": str(model), "steps": 5, "contexts": 1, "trajectories": 2, "questions": 1, "lengths": [1],
        "late_lengths": [1], "eval_every": 2, "eval_streams": 1, "eval_sessions": 1, "save_every": 2,
        "session_tokens": 1500, "turn_tokens": 8, **values,
    })  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    uma_lib.nano.base.make_model(TINY, len(tiny_tokenizer)).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def straight(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    train(train_config(model), folder)
    return folder


@pytest.fixture(scope="module")
def stopped(model, tmp_path_factory) -> Path:
    """A run whose process ended after the row of step 3; its checkpoint is that of step 2."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Killed):
            train(train_config(model), folder)
    assert metrics(folder)[-1]["step"] == "3"
    return folder


def stop_at(patch: pytest.MonkeyPatch, step: int) -> None:
    real = Trainer.one_step

    def one_step(self, number):
        if number == step:
            raise Killed
        return real(self, number)

    patch.setattr(Trainer, "one_step", one_step)


def metrics(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


def again(stopped: Path, tmp_path: Path) -> Path:
    """The stopped run, to do something to."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


@pytest.mark.parametrize("step", range(5))
def test_a_training_stopped_at_any_step_has_the_rows_of_an_undisturbed_one(straight, model, tmp_path, step) -> None:
    """Also before the first checkpoint, and between a row and its checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Killed):
            train(train_config(model), tmp_path / "run")
    train(train_config(model), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(straight)
    assert [row["step"] for row in metrics(straight)] == ["0", "1", "2", "3", "4", "5"]
    assert header(tmp_path / "run") == header(straight)


def header(folder: Path) -> str:
    return (folder / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: None, r"metrics\.csv is not there, but the run is at step 2"),
        (lambda text: "", r"metrics\.csv has no row of step 0"),
        (lambda text: text.splitlines(keepends=True)[0], r"metrics\.csv has no row of step 0"),
        (lambda text: re.sub(r"(?m)^1,.*\n", "", text), r"metrics\.csv has no row of step 1"),
        (lambda text: text[: text.index("\n2,") + 1], r"metrics\.csv has no row of step 2"),
        (lambda text: re.sub(r"(?m)^(1,.*\n)", r"\1\1", text), r"metrics\.csv, line 4: step 1 stands after step 1"),
        (lambda text: re.sub(r"(?m)^(1,.*\n)(2,.*\n)", r"\2\1", text), r"line 4: step 1 stands after step 2"),
        (lambda text: re.sub(r"(?m)^1,", "1,fast", text), r"metrics\.csv, line 3, column seconds: 'fast.*no number"),
        (lambda text: re.sub(r"(?m)^1,[^,]*", "1,nan", text), r"line 3, column seconds: 'nan' is no number"),
        (lambda text: re.sub(r"(?m)^1,[^,]*", "1,inf", text), r"line 3, column seconds: 'inf' is no number"),
        (lambda text: re.sub(r"(?m)^1,", "one,", text), r"metrics\.csv, line 3: not a row of metrics"),
        (lambda text: re.sub(r"(?m)^1,", "9" * 5000 + ",", text), r"metrics\.csv, line 3: not a row of metrics"),
        (lambda text: text.replace("step", "\ufeffstep"), r"metrics\.csv, line 2: not a row of metrics"),
        (lambda text: text.replace("\n1,", '\n1,"' + "x" * 200_000 + '"', 1), r"metrics\.csv: not a table"),
    ],
)
def test_damaged_metrics_are_refused(stopped, model, tmp_path, change, said) -> None:
    folder = again(stopped, tmp_path)
    text = change((folder / "metrics.csv").read_text())
    (folder / "metrics.csv").unlink()
    if text is not None:
        (folder / "metrics.csv").write_text(text)
    with pytest.raises(RunError, match=said) as caught:
        train(train_config(model), folder)
    assert "\n" not in str(caught.value)
    if text is not None:
        assert (folder / "metrics.csv").read_text() == text  # whoever restores it finds what was there


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("params.json", None, r"checkpoint\.pt: no params\.json beside it says how it was made"),
        ("params.json", "[]", r"params\.json: not the parameters of a run"),
        ("params.json", "{", r"params\.json: not valid JSON"),
        ("inputs.json", None, r"inputs\.json: no such file"),
        ("inputs.json", "[]", r"inputs\.json: not the inputs of a run"),
        ("checkpoint.pt", "", r"cannot read .*checkpoint\.pt"),
        ("checkpoint.pt", "text", r"cannot read .*checkpoint\.pt"),
    ],
)
def test_damaged_files_of_a_run_are_refused(stopped, model, tmp_path, name, text, said) -> None:
    folder = again(stopped, tmp_path)
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(RunError, match=said) as caught:
        train(train_config(model), folder)
    assert "\n" not in str(caught.value)


CHANGED = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


@pytest.mark.parametrize("name", [*CHANGED, "special_tokens_map.json"])
def test_a_training_does_not_go_on_from_another_base(stopped, model, tmp_path, monkeypatch, name) -> None:
    folder, base = again(stopped, tmp_path), Path(shutil.copytree(model, tmp_path / "base"))
    params = json.loads((folder / "params.json").read_text())
    (folder / "params.json").write_text(json.dumps(params | {"base": str(base)}))
    inputs = (folder / "inputs.json").read_text().replace(str(model), str(base))
    (folder / "inputs.json").write_text(inputs)
    with open(base / name, "a") as file:  # the last one is new
        file.write("\n")
    # what is loaded is still the old one, so that it is the hashes that tell
    monkeypatch.setattr(training.Policy, "load", lambda *_, load=training.Policy.load, **named: load(model, **named))
    with pytest.raises(RunError, match=f"other inputs .*{name} has changed since"):
        train(train_config(base), folder)
    with pytest.raises(RunError, match="processes is 2 there and 1 here"):
        (folder / "inputs.json").write_text(inputs.replace('"processes": 1', '"processes": 2'))
        train(train_config(base), folder)


def test_the_base_of_an_adapter_is_an_input(model, tmp_path) -> None:
    base, adapter = Path(shutil.copytree(model, tmp_path / "base")), tmp_path / "adapter"
    adapter.mkdir()
    about = {"base_model_name_or_path": str(base), "r": 2, "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "README.md").write_text("a card")
    before = model_inputs(str(adapter))
    assert {Path(name).name for name in before} == {*CHANGED, *(p.name for p in adapter.glob("*.*s*")),
                                                    "generation_config.json"}  # fmt: skip
    (adapter / "README.md").write_text("another card")
    assert model_inputs(str(adapter)) == before
    for path in (base / "config.json", adapter / "adapter_model.safetensors"):
        with open(path, "ab") as file:
            file.write(b"\n")
        assert [name for name, found in model_inputs(str(adapter)).items() if before[name] != found][-1] == str(path)
        before = model_inputs(str(adapter))
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(RunError, match="adapter_config.json: needs base_model_name_or_path"):
        model_inputs(str(adapter))
    with pytest.raises(RunError, match="no model folder at"):
        model_inputs(str(tmp_path / "gone"))


# --- the base -----------------------------------------------------------------------------------------------------

SHORT = BaseConfig(**TINY.__dict__ | {
    "layers": 1, "tokens": 30 * 64, "batch_tokens": 64, "save_minutes": 0.0, "card_streams": 1, "card_sessions": 1,
    "card_tokens": 1024,
})  # fmt: skip


@pytest.fixture()
def quick(monkeypatch, tiny_tokenizer):
    """Steps of one short example, and no measuring at the end."""
    monkeypatch.setattr(uma_lib.nano.base, "make_tokenizer", lambda config: tiny_tokenizer)
    measures = {"accuracy": {}, "habits": {}, "answers_from_truth": {}}
    monkeypatch.setattr(uma_lib.nano.base, "describe", lambda policy, settings: (measures, []))
    monkeypatch.setattr(uma_lib.nano.base, "demonstrator_accuracy", lambda config: 0.5)


def test_a_base_stopped_between_two_rows_has_the_rows_of_an_undisturbed_one(quick, tmp_path, monkeypatch) -> None:
    make_base(SHORT, tmp_path / "straight")
    folder = tmp_path / "stopped"
    real = uma_lib.nano.base.batch
    for step in (0, 10, 26):
        with monkeypatch.context() as patch:
            patch.setattr(uma_lib.nano.base, "batch", lambda *a, at=step: stop() if a[-1] == at else real(*a))
            with pytest.raises(Killed):
                make_base(SHORT, folder)
    with monkeypatch.context() as patch:  # all steps done, and nothing after them
        patch.setattr(uma_lib.nano.base, "finish", stop)
        with pytest.raises(Killed):
            make_base(SHORT, folder)
    (folder / "model" / "model.safetensors").write_bytes(b"half a")
    make_base(SHORT, folder)
    assert metrics(folder) == metrics(tmp_path / "straight")
    assert [row["step"] for row in metrics(folder)] == ["25", "30"]
    weights = [(f / "model" / "model.safetensors").read_bytes() for f in (folder, tmp_path / "straight")]
    assert weights[0] == weights[1]

    kept = (folder / "results.json").read_bytes()
    make_base(SHORT, folder)  # complete: nothing happens
    assert (folder / "results.json").read_bytes() == kept


def stop(*_, **__):
    raise Killed


def test_a_base_goes_on_only_as_it_was_begun(quick, tmp_path, monkeypatch) -> None:
    folder, real = tmp_path / "run", uma_lib.nano.base.batch
    with monkeypatch.context() as patch:
        patch.setattr(uma_lib.nano.base, "batch", lambda *a: stop() if a[-1] == 28 else real(*a))
        with pytest.raises(Killed):
            make_base(SHORT, folder)
    other = BaseConfig(**SHORT.__dict__ | {"muon_lr": 0.1})
    with pytest.raises(RunError, match=r"other parameters \(muon_lr is 0.02 there and 0.1 here\)"):
        make_base(other, folder)
    text = (folder / "metrics.csv").read_text()
    for change, said in (
        (text.replace("25,", "24,", 1), "has no row of step 25"),
        (re.sub("(?m)^25,[0-9]+", "25,many", text), "line 2, column tokens: 'many' is no number"),
    ):
        (folder / "metrics.csv").write_text(change)
        with pytest.raises(RunError, match=said):
            make_base(SHORT, folder)
    (folder / "checkpoint.pt").write_bytes((folder / "checkpoint.pt").read_bytes()[:-100])
    with pytest.raises(RunError, match=r"cannot read .*checkpoint\.pt"):
        make_base(SHORT, folder)


# --- evaluations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize("kind", ["evaluate", "revisions"])
def test_an_evaluation_is_that_of_its_models(model, tmp_path, monkeypatch, kind, name) -> None:
    """Complete or not: what is there must not be taken for results of the model as it is now."""
    base = Path(shutil.copytree(model, tmp_path / "base"))
    values = {"model": str(base), "agents": ["question_only", "oracle"], "horizons": [1], "streams": [1]}
    if kind == "evaluate":
        config, work = check(EvaluationConfig, values), evaluation.run
    else:
        config, work = check(RevisionsConfig, values | {"rates": [0.0], "audited": 1}), revisions.run
    real = evaluation.roll_out

    def by_oracle(engine, *arguments, **named):
        return real(NoModel(), *arguments, **named | {"kind": Oracle, "informed": True})

    monkeypatch.setattr(evaluation, "roll_out", by_oracle)
    monkeypatch.setattr(evaluation.Policy, "load", lambda *_, **__: None)
    work(config, tmp_path / "run")
    (base / "README.md").write_text("a card")
    work(config, tmp_path / "run")
    with open(base / name, "a") as file:
        file.write("\n")
    with pytest.raises(RunError, match=f"other inputs .*{name} has changed since"):
        work(config, tmp_path / "run")


def test_an_evaluation_asks_no_hub_for_a_model_that_takes_no_part(tmp_path) -> None:
    values = {"model": "nobody/nothing", "agents": ["oracle", "demonstrator"], "horizons": [1], "streams": [2]}
    evaluation.run(check(EvaluationConfig, values), tmp_path / "run")
    part = tmp_path / "run" / "parts" / "oracle-0-ledger-qa-small-1.jsonl"
    answers = tmp_path / "run" / "answers.csv"
    lines, whole = part.read_text().splitlines(keepends=True), answers.read_text()
    (tmp_path / "run" / "manifest.json").unlink()
    part.write_text("".join(lines[:9]) + lines[9][:20])  # half of it, and the beginning of a line
    evaluation.run(check(EvaluationConfig, values), tmp_path / "run")
    assert answers.read_text() == whole
    (tmp_path / "run" / "manifest.json").unlink()
    (tmp_path / "run" / "params.json").unlink()
    with pytest.raises(RunError, match="parts: no params.json beside it"):
        evaluation.run(check(EvaluationConfig, values), tmp_path / "run")


def test_a_run_of_one_kind_is_not_taken_for_another(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("{}")  # of a pipeline, say
    with pytest.raises(RunError, match="manifest.json: no params.json beside it"):
        Run(tmp_path).start({"steps": 3})


# --- one writer a folder ------------------------------------------------------------------------------------------

HOLD = (
    "import sys; from uma_lib.processes import one_writer\n"
    "with one_writer(sys.argv[1]): print('held', flush=True); input()"
)


def holder(folder: Path) -> subprocess.Popen:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    return child


@pytest.mark.parametrize("end", ["kill", "terminate", "close"])
def test_a_folder_has_one_writer_until_its_process_ends(tmp_path, monkeypatch, end) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.0)
    with holder(tmp_path / "run") as child:
        with pytest.raises(RunError) as caught:
            with one_writer(tmp_path / "run"):
                raise AssertionError("two writers")
        line = str(caught.value)
        assert "\n" not in line and re.search(rf"is in use by process {child.pid} on \S+ since 20\S+ \S+ UTC \(", line)
        with one_writer(tmp_path / "run" / "below"):  # another folder
            pass
        child.stdin.close() if end == "close" else getattr(child, end)()
        child.wait()
    with one_writer(tmp_path / "run"), pytest.raises(RunError, match=f"process {os.getpid()} "):
        with one_writer(tmp_path / "run"):  # in the same process as well
            raise AssertionError("two writers")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["below"]  # no lock is left


PARAMETERS = ["--set=agents=[oracle]", "--set=horizons=[1]", "--set=streams=[1]"]


@pytest.mark.parametrize(
    "command",
    [
        ["train"], ["base"], ["evaluate", *PARAMETERS], ["revisions", *PARAMETERS],
        ["pipeline", "--parameters", str(REPO / "notebooks" / "params" / "smoke.yaml")],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_a_second_command_is_refused_before_it_does_anything(tmp_path, monkeypatch, command) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.0)
    monkeypatch.setattr(training.Policy, "load", stop)
    monkeypatch.setattr(sys, "argv", ["uma_lib", *command, "--out", str(tmp_path / "run")])
    with one_writer(tmp_path / "run"), pytest.raises(SystemExit, match=f"in use by process {os.getpid()}"):
        main()
    assert list((tmp_path / "run").iterdir()) == []


def test_analyses_write_one_after_the_other(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.0)
    monkeypatch.setattr(training.Policy, "load", stop)
    monkeypatch.setattr(sys, "argv", ["uma_lib", "analyse", "--out", str(tmp_path)])
    with one_writer(tmp_path, ".analysis.lock"), pytest.raises(SystemExit, match="in use by"):
        main()
    with one_writer(tmp_path), pytest.raises(Killed):  # in the folder of a pipeline, for one
        main()


# --- what killed processes leave ----------------------------------------------------------------------------------


def test_temporary_files_of_the_dead_are_cleared(tmp_path) -> None:
    dead = [f".checkpoint.pt.{DEAD}.tmp", f"parts/.a-0-1.csv.{DEAD}.tmp", f"a/b/.c.png.{DEAD}.tmp",
            f".mine.{os.getpid()}.tmp", f".x.{'9' * 17}.tmp"]  # fmt: skip
    kept = [f".a.{os.getppid()}.tmp", ".a.b.tmp", f"a.{DEAD}.tmp", f".a.{DEAD}", ".tmp", f"a/b/c/.d.{DEAD}.tmp"]
    for name in (*dead, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with one_writer(tmp_path):
        pass
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == set(kept)
    clear_temporaries(tmp_path / "absent")


def test_commands_clear_what_they_left(tmp_path, monkeypatch) -> None:
    left = [tmp_path / f".k.parquet.{DEAD}.tmp", tmp_path / f".[k].parquet.{DEAD}.tmp"]
    for out, gone in (("k.parquet", left[0]), ("[k].parquet", left[1])):
        for path in left:
            path.touch()
        command = ["make", "--sessions", "2", "--streams", "1", "--out", str(tmp_path / out)]
        monkeypatch.setattr(sys, "argv", ["uma_lib.ledger", *command])
        ledger()
        assert [path for path in left if not path.exists()] == [gone]
