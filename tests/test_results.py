"""Damaged results files: one line with the file and the field, whatever is wrong and whoever reads it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_figures import results, summary, write  # noqa: F401  (results is a fixture)
from uma_lib import evaluation, revisions
from uma_lib.files import RunError
from uma_lib.paths import DATA, RESULTS
from uma_lib.report import figures as plots
from uma_lib.report import results as reading

READERS = {
    "evaluation/summary.json": lambda path: plots.accuracy_by_horizon(path),
    "revisions/results.json": lambda path: plots.accuracy_by_revisions(path),
    "habits.json": lambda path: plots.habits(path),
    "train/seed0/metrics.csv": lambda path: plots.learning_curve([path], {}),
    "trajectories.json": lambda path: reading.read_trajectories(path),
    "params.json": lambda path: reading.read_training(path),
    "bench_bank.json": lambda path: reading.read_bench(path, ("entries", "ratio")),
}
PARAMS = {"steps": 2, "contexts": 2, "trajectories": 2, "eval_streams": 2, "eval_sessions": 2, "temperature": 1.0}
REMOVED = object()


@pytest.fixture()
def folder(results: Path) -> Path:  # noqa: F811
    """Every kind of results file, all sound."""
    (results / "trajectories.json").write_bytes((RESULTS / "trajectories.json").read_bytes())
    (results / "bench_bank.json").write_bytes((RESULTS / "bench_bank.json").read_bytes())
    write(results / "params.json", PARAMS)
    return results


@pytest.mark.parametrize("name", READERS)
def test_a_sound_file_is_read(folder: Path, name: str) -> None:
    assert READERS[name](folder / name) is not None


def changed(value: Any, place: str, new: Any) -> Any:
    """A copy of plain values with something else at a place such as "accuracy.0.low"; `REMOVED` takes it away."""
    if not place:
        return new
    first, _, rest = place.partition(".")
    key = int(first) if isinstance(value, list) else first
    inner = changed(value[key] if isinstance(value, list) else value.get(key), rest, new)
    if isinstance(value, list):
        return [inner if k == key else item for k, item in enumerate(value) if k != key or inner is not REMOVED]
    return {name: item for name, item in (value | {key: inner}).items() if item is not REMOVED}


JSON = "evaluation/summary.json", "revisions/results.json", "habits.json", "trajectories.json", "params.json"
FIELDS = [  # file, place, what stands there instead, what is said of it
    ("evaluation/summary.json", "smoke", "no", r"smoke is 'no' \(str\), not bool"),
    ("evaluation/summary.json", "smoke", 0, "smoke is 0 .int., not bool"),
    ("evaluation/summary.json", "config", REMOVED, "field 'config' is missing"),
    ("evaluation/summary.json", "config", [], "config is .* not an object"),
    ("evaluation/summary.json", "config.agents", [], "config.agents is empty"),
    ("evaluation/summary.json", "config.horizons.0", "2", r"config.horizons\[0\] is '2'"),
    ("evaluation/summary.json", "config.horizons.0", 10, "config.horizons has something twice"),
    ("evaluation/summary.json", "config.streams", [60], "config.streams has 1 items"),
    ("evaluation/summary.json", "config.agents.0", "gpt", "config.agents.0 is 'gpt' .str., not one of uma_rl"),
    ("evaluation/summary.json", "config.temperature", "hot", "config.temperature is 'hot'"),
    ("evaluation/summary.json", "config.trained", "data/nano-rl", "config.trained is .* not a list"),
    ("evaluation/summary.json", "accuracy", {}, "accuracy is .* not list"),
    ("evaluation/summary.json", "accuracy", [], "accuracy has no record for agent uma_base, horizon 2"),
    ("evaluation/summary.json", "accuracy.3", 5, r"accuracy\[3\] is 5 \(int\), not an object"),
    ("evaluation/summary.json", "accuracy.0", REMOVED, "accuracy has no record for agent uma_base, horizon 2"),
    ("evaluation/summary.json", "accuracy.0.accuracy", REMOVED, r"accuracy\[0\]: field 'accuracy' is missing"),
    ("evaluation/summary.json", "accuracy.0.accuracy", "0.5", r"accuracy\[0\].accuracy is '0.5'"),
    ("evaluation/summary.json", "accuracy.0.accuracy", 57.5, r"accuracy\[0\].accuracy is 57.5 .* between 0 and 1"),
    ("evaluation/summary.json", "accuracy.0.accuracy", float("nan"), r"accuracy\[0\].accuracy is nan"),
    ("evaluation/summary.json", "accuracy.0.accuracy", True, r"accuracy\[0\].accuracy is True"),
    ("evaluation/summary.json", "accuracy.0.high", float("inf"), r"accuracy\[0\].high is inf"),
    ("evaluation/summary.json", "accuracy.0.high", -0.1, r"accuracy\[0\].high is -0.1"),
    ("evaluation/summary.json", "accuracy.0.low", 0.9, r"accuracy\[0\].low is 0.9, above high"),
    ("evaluation/summary.json", "accuracy.0.low", None, r"accuracy\[0\]: of low and high only one"),
    ("evaluation/summary.json", "accuracy.0.streams", 0, r"accuracy\[0\].streams is 0"),
    ("evaluation/summary.json", "accuracy.0.questions", -480, r"accuracy\[0\].questions is -480"),
    ("evaluation/summary.json", "accuracy.0.questions", 10**400, r"accuracy\[0\].questions is 1000"),
    ("evaluation/summary.json", "accuracy.0.checkpoints", 1.5, r"accuracy\[0\].checkpoints is 1.5"),
    ("evaluation/summary.json", "accuracy.0.agent", "gpt", r"accuracy\[0\].agent is 'gpt'"),
    ("evaluation/summary.json", "accuracy.0.kind", "total", r"accuracy\[0\].kind is 'total'"),
    ("evaluation/summary.json", "accuracy.0.horizon", 3, r"accuracy\[0\].horizon is 3"),
    ("evaluation/summary.json", "accuracy.1.kind", "all", r"accuracy\[1\]: uma_base, 2, all is there twice"),
    ("evaluation/summary.json", "chance", [], "chance has no record for horizon 2, kind all"),
    ("evaluation/summary.json", "chance.0.accuracy", None, r"chance\[0\].accuracy is None"),
    ("evaluation/summary.json", "tokens", None, "tokens is None"),
    ("evaluation/summary.json", "tokens.0.memory", "many", r"tokens\[0\].memory is 'many'"),
    ("evaluation/summary.json", "tokens.0.prompt", -1, r"tokens\[0\].prompt is -1"),
    ("revisions/results.json", "config.rates", [], "config.rates is empty"),
    ("revisions/results.json", "config.rates.0", "none", r"config.rates\[0\] is 'none'"),
    ("revisions/results.json", "accuracy.0.rate", 40, r"accuracy\[0\].rate is 40"),
    ("revisions/results.json", "accuracy.0.depends", "maybe", r"accuracy\[0\].depends is 'maybe'"),
    ("revisions/results.json", "outcomes.0.answers", 0, r"outcomes\[0\].answers is 0"),
    ("revisions/results.json", "outcomes.0.right", 11, r"outcomes\[0\].answers is 40, not the sum"),
    ("revisions/results.json", "outcomes.0.kind", "theft", r"outcomes\[0\].kind is 'theft'"),
    ("revisions/results.json", "memory.0.nothing", REMOVED, r"memory\[0\]: field 'nothing' is missing"),
    ("revisions/results.json", "memory.0.applied", -5, r"memory\[0\].applied is -5"),
    ("habits.json", "after", REMOVED, "field 'after' is missing"),
    ("habits.json", "before.habits", [], "before.habits is .* not dict"),
    ("habits.json", "before.habits", {}, "habits before and after must be the same ones"),
    ("habits.json", "after.habits.merges", REMOVED, "one side only: merges"),
    ("habits.json", "after.habits.merges.share", "half", "after.habits.merges.share is 'half'"),
    ("habits.json", "after.habits.merges.n", 0, "after.habits.merges.n is 0"),
    ("habits.json", "after.habits.merges.n", -100, "after.habits.merges.n is -100"),
    ("habits.json", "before.accuracy.all.share", 2, "before.accuracy.all.share is 2"),
    ("trajectories.json", "before", {}, "before is .* not a list"),
    ("trajectories.json", "before.0.sessions.0.chunk", None, r"before\[0\].sessions\[0\].chunk is None"),
    ("trajectories.json", "before.0.questions.0.right", "yes", r"questions\[0\].right is 'yes'"),
    ("params.json", "steps", REMOVED, "field 'steps' is missing"),
    ("params.json", "eval_sessions", "10", "eval_sessions is '10'"),
    ("params.json", "temperature", float("nan"), "temperature is nan"),
    ("bench_bank.json", "rows", {}, "rows is .* not a list"),
    ("bench_bank.json", "rows", [], "has no rows"),
    ("bench_bank.json", "rows.0.ratio", "much", r"rows\[0\].ratio is 'much'"),
]


@pytest.mark.parametrize(("name", "place", "new", "said"), FIELDS, ids=[f"{f[0]}-{f[1]}-{f[2]!s:.9}" for f in FIELDS])
def test_a_wrong_field_is_named(folder: Path, name: str, place: str, new: Any, said: str) -> None:
    write(folder / name, changed(json.loads((folder / name).read_text()), place, new))
    with pytest.raises(RunError, match=f"^[^\n]*{re.escape(name.rpartition('/')[2])}: [^\n]*{said}[^\n]*$"):
        READERS[name](folder / name)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "text", ["[]", "{}", "5", "null", '"text"', "", '{"smoke": fal', "[" * 100_000, "\x00", "\ud800", "9" * 5000]
)
def test_a_file_of_another_kind_is_refused(folder: Path, name: str, text: str) -> None:
    if (name, text) == ("bench_bank.json", "{}"):
        text = '{"rows": [{}]}'
    (folder / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RunError, match=f"^[^\n]*{re.escape(name.rpartition('/')[2])}[^\n]*$"):
        READERS[name](folder / name)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_and_a_missing_file_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RunError, match=r"no such file"):
        READERS[name](folder / name)
    (folder / name).mkdir()
    with pytest.raises(RunError, match=r"cannot read: Is a directory"):
        READERS[name](folder / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,loss\n1,0.5\n", "has no column 'eval_accuracy', only: step, loss"),
        ("eval_accuracy\n0.5\n", "has no column 'step'"),
        ("step,eval_accuracy\n", "has no rows"),
        ("step,eval_accuracy\n0,\n1,\n", "eval_accuracy is empty in every row"),
        ("step,eval_accuracy\n0,high\n", "line 2: eval_accuracy is 'high', not a number"),
        ("step,eval_accuracy\n0,0.5\n1,nan\n", "line 3: eval_accuracy is 'nan', not a share"),
        ("step,eval_accuracy\n0,inf\n", "line 2: eval_accuracy is 'inf', not a share"),
        ("step,eval_accuracy\n0,50\n", "line 2: eval_accuracy is '50', not a share"),
        ("step,eval_accuracy\nzero,0.5\n", "line 2: step is 'zero'"),
        ("step,eval_accuracy\n-1,0.5\n", "line 2: step is '-1'"),
        ("step,eval_accuracy\n0.5,0.5\n", "step must be whole numbers"),
        ("step,eval_accuracy\n,0.5\n", "step must be whole numbers"),
        ("step,eval_accuracy\n1,0.5\n1,0.5\n", "step must be whole numbers, each once and in order"),
        ("step,eval_accuracy\n0,0.5,7\n", "line 2: has more or fewer fields"),
        ("step,eval_accuracy\n0\n", "line 2: has more or fewer fields"),
        ('step,eval_accuracy\n0,"0.5\n', "not CSV"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(RunError, match=f"^[^\n]*metrics.csv[^\n]*{said}[^\n]*$"):
        plots.learning_curve([tmp_path / "metrics.csv"], {})


def test_runs_without_a_common_step(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"seed{seed}" / "x", {})
        (tmp_path / f"seed{seed}" / "metrics.csv").write_text(f"step,eval_accuracy\n{seed},0.5\n")
    with pytest.raises(RunError, match="no step in common"):
        plots.learning_curve(sorted(tmp_path.glob("*/metrics.csv")), {})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("v1,concat,2", "v1,concat,two", "sessions is 'two'"), ("51.92", "519.2", "value is '519.2', not per cent"),
     ("value", "score", "no column 'value'"), ("v1,concat,2,", "v1,concat,2,,", "more or fewer fields")],
)  # fmt: skip
def test_the_papers_numbers_are_checked(tmp_path, monkeypatch, old: str, new: str, said: str) -> None:
    text = (DATA / "paper" / "ledger_qa_results.csv").read_text()
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "ledger_qa_results.csv").write_text(text.replace(old, new, 1))
    monkeypatch.setattr(reading, "DATA", tmp_path)
    with pytest.raises(RunError, match=f"ledger_qa_results.csv[^\n]*{said}[^\n]*$"):
        reading.read_paper("v1")


@pytest.mark.parametrize(
    ("field", "new", "said"),
    [
        ("correct", "yes", "correct is 'yes'"), ("horizon", "2.5", "horizon is '2.5'"),
        ("seed", "9" * 5000, "seed is '99"), ("answer", "x" * 200_000, "not a table"),
    ],
)  # fmt: skip
def test_answers_of_an_evaluation_are_numbers(tmp_path, field: str, new: str, said: str) -> None:
    row = {name: "1" for name in evaluation.COLUMNS} | {field: new}
    (tmp_path / "answers.csv").write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    with pytest.raises(RunError, match=f"answers.csv[^\n]*{said}[^\n]*delete the file(, run| and run) again"):
        evaluation.read_answers(tmp_path)


def test_the_committed_results_pass_and_names_are_those_of_the_writers() -> None:
    reading.read_summary(RESULTS / "evaluation" / "summary.json")
    reading.read_revisions(RESULTS / "revisions" / "results.json")
    for path in RESULTS.glob("train/*/params.json"):
        reading.read_training(path)
        reading.read_metrics(path.with_name("metrics.csv"))
    assert set(reading.AGENTS) == set(evaluation.AGENTS) == set(plots.AGENTS)
    assert (reading.OUTCOMES, reading.FATES) == (revisions.OUTCOMES, revisions.FATES)


def test_figures_without_revised_answers_or_agents(results: Path) -> None:  # noqa: F811
    path = results / "revisions" / "results.json"
    found = json.loads(path.read_text())
    for depends, panels in (("not revised", 3), ("revised", 2)):
        found["accuracy"] = [row for row in found["accuracy"] if row["depends"] != depends]
        write(path, found)
        figure = plots.accuracy_by_revisions(path)
        assert len([axis for axis in figure.get_axes() if axis.get_title()]) == panels
    with pytest.raises(RunError, match="at least one agent"):
        plots.accuracy_by_kind(summary(results), 10, [])


def test_figures_of_other_results_do_not_replace_the_committed_ones(results: Path) -> None:  # noqa: F811
    with pytest.raises(RunError, match="figures holds the figures of .*choose another folder"):
        plots.draw_all(results, plots.FIGURES)


def test_other_sets_are_left_out(folder: Path) -> None:
    path = folder / "evaluation" / "summary.json"
    found = json.loads(path.read_text())
    more = {"agent": "concat", "set": "banking77", "horizon": None, "kind": "all", "accuracy": 0.5}
    for row in found["accuracy"]:
        row["set"] = f"ledger-qa/small/{row['horizon']}"
    path.write_text(json.dumps(found | {"accuracy": [more, *found["accuracy"]]}))
    assert reading.read_summary(path)["accuracy"] == found["accuracy"]
    path.write_text(json.dumps(found | {"accuracy": [more]}))
    with pytest.raises(RunError, match="nothing of Ledger-QA was evaluated"):
        reading.read_summary(path)
