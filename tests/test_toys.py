"""A new data set and a new agent, one class each with no other file touched, in an evaluation and in training."""

import csv
from dataclasses import replace

import pytest

from tests.toys import Diary, Likes
from uma_lib.agents.all import AgentSpec
from uma_lib.agents.readers import Concat
from uma_lib.agents.uma import UMA
from uma_lib.evaluation import EvaluationConfig, read_answers, run
from uma_lib.files import RunError
from uma_lib.nano.agents import Oracle
from uma_lib.parameters import check
from uma_lib.paths import BASE
from uma_lib.scoring import Score
from uma_lib.training import TrainingConfig, train

SHORT = {"session_tokens": 700, "turn_tokens": 24}


def test_they_are_evaluated(tmp_path):
    config = check(EvaluationConfig, SHORT | {"agents": ["oracle"]})
    specs = [
        AgentSpec("diary", Diary, str(BASE)), AgentSpec("uma", UMA, str(BASE)), AgentSpec("concat", Concat, str(BASE)),
        AgentSpec("oracle", Oracle, informed=True),
    ]  # fmt: skip
    summary = run(config, tmp_path, [Likes()], specs)
    cells = {(r["agent"], r["kind"]): r for r in summary["accuracy"]}
    assert cells["oracle", "all"]["accuracy"] == 1.0 and cells["oracle", "all"]["questions"] == 12
    assert {agent for agent, _ in cells} == {"diary", "uma", "concat", "oracle"}
    rows = read_answers(tmp_path)
    assert len(rows) == 4 * 12 and all(row["tolerant"] is None for row in rows)
    assert all(row["memory_tokens"] > 0 for row in rows if row["agent"] in ("diary", "uma"))
    assert summary["chance"] and {row["horizon"] for row in rows} == {3}
    with pytest.raises(RunError, match="specs has changed since"):  # other agents are another evaluation
        run(config, tmp_path, [Likes()], specs[1:])


def test_what_cannot_be_evaluated_is_said_before_it_is_played(tmp_path):
    class Silent(Likes):
        name = "silent"

        def sample(self, split, number):
            return super().sample(split, number).asking([])

    class Late(Likes):
        name = "late"

        def sample(self, split, number):
            sample = super().sample(split, number)
            return sample.asking([replace(question, after=9) for question in sample.questions])

    config, oracle = check(EvaluationConfig, {"agents": ["oracle"]}), AgentSpec("oracle", Oracle, informed=True)
    for number, (sets, specs, said) in enumerate((
        ([Likes(), Likes()], [oracle], "two parts are called oracle-0-likes"),
        ([Likes()], [oracle, AgentSpec("oracle", Concat)], "two parts are called oracle-0-likes"),
        ([Silent()], [oracle], "silent asks nothing in the split test"),
        ([Late()], [oracle], "is asked after 9 chunks, and its sample has 3"),
        ([Likes()], [AgentSpec("uma", UMA)], "asks a model, and there is none"),
    )):  # fmt: skip
        with pytest.raises(RunError, match=said):
            run(config, tmp_path / str(number), sets, specs)


def test_scores_of_any_kind_are_kept(tmp_path):
    values = iter([0.1 + 0.2, 1e-9, 1.0, 0.0, None, 0.5, 1 / 3, *[0.25] * 100])

    class Graded(Likes):
        def scores(self, question, answer):
            return (Score(next(values), "f1"),)

    config = check(EvaluationConfig, {"agents": ["oracle"]})
    run(config, tmp_path, [Graded()], [AgentSpec("oracle", Oracle, informed=True)])
    kept = [row["correct"] for row in read_answers(tmp_path)]
    wanted = [pytest.approx(0.3), pytest.approx(1e-9), 1, 0, None, 0.5]
    assert kept[::2][:6] == wanted and kept[1] == pytest.approx(1 / 3)  # the first questions are asked in mid-stream


def test_they_are_trained_on(tmp_path):
    config = check(TrainingConfig, SHORT | {
        "steps": 2, "contexts": 2, "trajectories": 4, "questions": 2, "eval_every": 1, "eval_streams": 2,
        "std_floor": 0.0, "tool_weight": 0.5, "core_tokens": 40,
    })  # fmt: skip
    for kind in (Diary, UMA):
        train(config, tmp_path / kind.__name__, Likes(), kind)
        with pytest.raises(RunError, match="other inputs"):  # on another data set it is another run
            train(config, tmp_path / kind.__name__, None, kind)
        with open(tmp_path / kind.__name__ / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["0", "1", "2"] and all(row["eval_accuracy"] for row in rows)
        assert all(int(row["written_tokens"]) > 0 for row in rows[1:])
    assert (tmp_path / "UMA" / "model" / "model.safetensors").exists()
