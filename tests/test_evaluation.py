"""Evaluation: rows, intervals, resumption, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.memory_server import MemoryServer
from uma_lib import evaluation, prompts
from uma_lib.agents.all import KINDS
from uma_lib.agents.readers import ANSWER_TOKENS, RAG, Concat, QuestionOnly
from uma_lib.agents.uma import UMA
from uma_lib.engines.policy import Policy
from uma_lib.engines.protocol import NoModel
from uma_lib.evaluation import (
    AGENTS,
    COLUMNS,
    EvaluationConfig,
    chance,
    evaluate,
    read_traces,
    run,
    specs_of,
    summarize,
)
from uma_lib.files import RunError
from uma_lib.ledger import QUESTION_KINDS
from uma_lib.ledger.dataset import LedgerQA, guide
from uma_lib.nano.agents import Oracle, Scripted
from uma_lib.parameters import check, load_parameters
from uma_lib.paths import NOTEBOOKS
from uma_lib.report.tables import THIRTEEN
from uma_lib.rows import TIMES
from uma_lib.sample import Sample
from uma_lib.statistics import interval

SMALL = {"horizons": (1, 3), "streams": (3, 2), "session_tokens": 1500, "turn_tokens": 12, "smoke": True}


def encode(texts):
    """An encoder without a model: directions of lengths of texts."""
    angles = np.array([len(text) for text in texts], dtype=float)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.fixture()
def models(tiny_policy, tmp_path: Path, monkeypatch) -> dict[str, str]:
    """A tiny untrained base and two 'checkpoints' on disk; MiniLM gives way to `encode`."""
    monkeypatch.setattr(evaluation, "MiniLM", lambda: encode)
    paths = {}
    for number, name in enumerate(("base", "one", "two")):
        for parameter in tiny_policy.model.parameters():
            parameter.data += number * 1e-3
        tiny_policy.model.save_pretrained(tmp_path / name)
        tiny_policy.tokenizer.save_pretrained(tmp_path / name)
        paths[name] = str(tmp_path / name)
    return paths


@pytest.fixture()
def config(models: dict[str, str]) -> EvaluationConfig:
    return check(EvaluationConfig, {"model": models["base"], "trained": [models["one"], models["two"]], **SMALL})


def samples(sessions: int, count: int) -> list[Sample]:
    return list(LedgerQA("small", sessions, count).samples("validation"))


def rows_of(agent: str, made: list[Sample], config: EvaluationConfig, **others) -> list[dict]:
    """The rows of the first agent of this name."""
    spec = next(spec for spec in specs_of(config) if spec.name == agent)
    return evaluate(spec, LedgerQA("small", len(made[0].chunks)), made, config, **others)[0]


# --- agents -------------------------------------------------------------------------------------------------


def test_the_oracle_is_right_and_the_demonstrator_between() -> None:
    config = EvaluationConfig(agents=("oracle", "demonstrator"))
    made = samples(5, 12)
    rows = {agent: rows_of(agent, made, config) for agent in config.agents}
    assert all(row["correct"] == 1 for row in rows["oracle"])
    right = sum(row["correct"] for row in rows["demonstrator"]) / len(rows["demonstrator"])
    assert 0.2 < right < 0.8
    assert rows["demonstrator"] == rows_of("demonstrator", made, config)
    assert rows["demonstrator"] != rows_of("demonstrator", made, EvaluationConfig(agents=("demonstrator",), seed=1))
    asked = [[(row["stream"], row["question"], row["gold"]) for row in found] for found in rows.values()]
    assert asked[0] == asked[1] == [
        (s.id, q.text, ", ".join(q.gold.values)) for s in made for q in s.questions
    ]  # fmt: skip


@pytest.mark.parametrize("agent", ["uma_base", "concat", "rag", "question_only"])
def test_language_model_agents_stay_within_the_budget(agent: str, tiny_policy) -> None:
    config = EvaluationConfig(agents=(agent,), session_tokens=1100, turn_tokens=40, slots=16)
    rows = rows_of(agent, samples(2, 2), config, engine=tiny_policy, encode=encode)
    assert {row["kind"] for row in rows} <= set(QUESTION_KINDS)
    for row in rows:
        assert list(row) == list(COLUMNS)
        assert row["written_tokens"] > 0 and row["prompt_tokens"] > 0
        assert row["prompt_tokens"] + row["written_tokens"] <= 1100
        if agent == "uma_base":
            assert 0 < row["memory_tokens"] <= 2 * 1100
        else:
            assert row["memory_tokens"] == 0 and row["prompt_tokens"] <= 1100 - ANSWER_TOKENS


def test_question_only_is_shown_nothing_of_the_stream(tiny_policy) -> None:
    made = samples(3, 2)
    config = EvaluationConfig(agents=("question_only",), session_tokens=1100, turn_tokens=5)
    rows = rows_of("question_only", made, config, engine=tiny_policy)
    assert len(rows) == sum(len(sample.questions) for sample in made)
    for row in rows:
        messages = prompts.reading("", row["question"], guide())
        assert messages[1]["content"] == f"Sessions:\n(none)\nQuestion: {row['question']}"
        assert row["prompt_tokens"] == len(tiny_policy.chat.open(messages, None))


# --- statistics ---------------------------------------------------------------------------------------------


def test_the_interval_agrees_with_the_analytic_one_for_independent_clusters() -> None:
    rng = np.random.default_rng(1)
    for count in (10, 60, 300):
        asked = np.full((1, count), 8)
        correct = rng.binomial(8, rng.beta(4, 3, (1, count)))
        low, high = interval(correct, asked)
        share = correct[0] / 8
        half = stats.t.ppf(0.975, count - 1) * share.std(ddof=1) / np.sqrt(count)
        assert low == pytest.approx(share.mean() - half, abs=0.15 * half)
        assert high == pytest.approx(share.mean() + half, abs=0.15 * half)


def test_the_interval_covers_the_truth_in_19_of_20_cases() -> None:
    rng = np.random.default_rng(2)
    for checkpoints, count, spread in [(1, 12, 0.0), (6, 30, 0.5)]:
        covered = 0
        for _ in range(300):
            logit = rng.normal(0, spread, (checkpoints, 1)) + rng.normal(0, 1, (1, count))
            correct = rng.binomial(8, 1 / (1 + np.exp(-logit)))
            low, high = interval(correct, np.full((checkpoints, count), 8))
            covered += low <= 0.5 <= high
        assert 0.90 <= covered / 300 <= 0.995


def test_questions_of_one_stream_count_as_one() -> None:
    alone = np.array([[1, 0] * 20])
    low, high = interval(alone, np.ones_like(alone))
    assert interval(8 * alone, 8 * np.ones_like(alone)) == pytest.approx((low, high))
    assert high - low == pytest.approx(2 * 2.02 * 0.5 / np.sqrt(39), rel=0.15)


def test_checkpoints_that_differ_widen_the_interval() -> None:
    asked = np.full((4, 50), 8)
    same, differ = np.full((4, 50), 4), np.repeat([[1], [3], [5], [7]], 50, axis=1)
    for correct in (same, differ):
        correct[:, ::2] += 1  # streams differ in both
    (low, high), (lower, higher) = interval(same, asked), interval(differ, asked)
    assert higher - lower > 5 * (high - low)


def test_intervals_without_spread() -> None:
    asked = np.full((1, 20), 8)
    assert interval(asked, asked) == pytest.approx((0.8316, 1.0), abs=1e-4)  # Clopper and Pearson, 20 of 20
    assert interval(0 * asked, asked) == pytest.approx((0.0, 0.1684), abs=1e-4)
    assert interval(asked[:, :1], asked[:, :1]) is None


def row(agent: str, seed: int, stream: str, kind: str, correct: int, memory: int = 0) -> dict:
    asked = f"{kind} of {stream}?"
    scores = json.dumps({"exact": correct, "tolerant": correct})
    values = (agent, seed, "set", 2, stream, f"{stream}/{kind}", kind, asked, "1", "1", correct, correct, scores, 100,
              20, memory, 0.5, 3.0, "")  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def test_summary_of_a_small_table() -> None:
    rows = [
        row("uma_rl", seed, stream, kind, correct, memory=300 + 60 * seed)
        for seed, stream, kind, correct in [
            (0, "a", "grand_total", 1), (0, "a", "total_range", 1), (0, "b", "grand_total", 0),
            (1, "a", "grand_total", 1), (1, "a", "total_range", 0), (1, "b", "grand_total", 0),
        ]
    ] + [row("oracle", 0, "a", "grand_total", 1)]  # fmt: skip
    for one in rows[-1:]:
        one["prompt_tokens"] = one["written_tokens"] = 0
    found = summarize(rows)
    cells = {(one["agent"], one["kind"]): one for one in found["accuracy"]}
    assert set(cells) == {
        ("uma_rl", "all"), ("uma_rl", "grand_total"), ("uma_rl", "total_range"),
        ("oracle", "all"), ("oracle", "grand_total"),
    }  # fmt: skip
    cell = cells["uma_rl", "all"]
    assert cell["accuracy"] == 0.5 and cell["by_checkpoint"] == pytest.approx([2 / 3, 1 / 3])
    assert (cell["streams"], cell["questions"], cell["checkpoints"]) == (2, 3, 2)
    assert cell["low"] <= 0.5 <= cell["high"]
    assert cells["oracle", "all"]["low"] is None  # one stream
    # 300 tokens twice and 360 twice for six answers
    assert found["tolerant"] == []
    rows[1]["tolerant"] = 0 if rows[1]["correct"] else 1
    rows[2]["tolerant"] = 1
    assert summarize(rows)["accuracy"] == found["accuracy"]  # the strict figures stay
    differ = {one["kind"]: one for one in summarize(rows)["tolerant"]}
    assert set(differ) == {"grand_total", "total_range"}  # all together are as many as before
    assert differ["grand_total"] == {
        "agent": "uma_rl", "set": "set", "horizon": 2, "kind": "grand_total", "accuracy": 0.75, "strict": 0.5
    }  # fmt: skip
    (tokens,) = found["tokens"]
    assert tokens == {
        "agent": "uma_rl", "set": "set", "horizon": 2, "prompt": 100.0, "written": 20.0, "memory": 220.0,
        "questions": 1.5, "seconds": 0.5, "memory_seconds": 2.0, "per_right": (6 * 120 + 6 * 220) / 3,
    }  # fmt: skip


def test_chance_is_that_of_the_commonest_training_answer() -> None:
    config = EvaluationConfig(agents=("oracle", "demonstrator"))
    rows = [row for agent in config.agents for row in rows_of(agent, samples(3, 40), config)]
    found = {one["kind"]: one["accuracy"] for one in chance(rows, [LedgerQA("small", 3)])}
    assert set(found) == {"all", *QUESTION_KINDS}
    assert 0 < found["top_category_range"] < 0.4  # one of eight categories
    assert found["all"] < 0.15
    golds = [row["gold"] for row in rows if row["kind"] == "top_category_range" and row["agent"] == "oracle"]
    assert found["top_category_range"] in [golds.count(gold) / len(golds) for gold in golds]


# --- whole evaluations --------------------------------------------------------------------------------------


def files(folder: Path) -> dict[str, object]:
    """Rows and summary without times."""
    rows = [{k: v for k, v in row.items() if k not in TIMES} for row in evaluation.read_answers(folder)]
    return {"answers.csv": rows, "summary.json": timeless(json.loads((folder / "summary.json").read_text()))}


def timeless(summary: dict) -> dict:
    tokens = [{k: v for k, v in one.items() if k not in TIMES} for one in summary["tokens"]]
    return summary | {"tokens": tokens}


def test_an_interrupted_evaluation_continues_to_the_same_end(config, tmp_path: Path, monkeypatch) -> None:
    whole = run(config, tmp_path / "whole")
    assert whole == json.loads((tmp_path / "whole" / "summary.json").read_text())
    played: list[tuple] = []
    real = evaluation.roll_out

    def interrupted(engine, contexts, trajectories, limits, key, *, progress, **others):
        played.append((key, others["kind"], contexts[0].name))
        at_work = len(played)

        def until(done: int, tokens: int) -> None:
            if at_work in (2, 5, 9) and done == 2:  # in the middle of a part
                raise KeyboardInterrupt
            progress(done, tokens)

        real(engine, contexts, trajectories, limits, key, progress=until, **others)

    monkeypatch.setattr(evaluation, "roll_out", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "parts")
        assert not (tmp_path / "parts" / "summary.json").exists()
    assert timeless(run(config, tmp_path / "parts")) == timeless(whole)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    # only the three interrupted parts were played twice; UMA before and after RL (seed 0) look the same here
    assert len(played) == 16 + 3 and len(set(played)) == 14
    # complete: nothing is played again
    assert timeless(run(config, tmp_path / "parts")) == timeless(whole) and len(played) == 19

    counts = {(one["agent"], one["horizon"]): one for one in whole["accuracy"] if one["kind"] == "all"}
    assert len(counts) == 2 * 7
    assert counts["uma_rl", 3]["checkpoints"] == 2 and counts["uma_rl", 1]["streams"] == 3
    assert counts["oracle", 3]["accuracy"] == 1.0
    assert whole["smoke"] is True and whole["config"]["trained"] == list(config.trained)
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    assert manifest["seed"] == 0 and any(name.endswith("model.safetensors") for name in manifest["inputs"])


def test_every_agent_gets_its_own_model(config, models, tmp_path: Path, monkeypatch) -> None:
    seen, loaded = [], []
    real_load = Policy.load

    def load(path, **settings):
        loaded.append(str(path))
        assert (settings["dtype"], settings["slots"]) == (config.dtype, config.slots)
        return real_load(path, **settings)

    def stub(engine, contexts, trajectories, limits, key, *, kind, informed, **others):
        seen.append((kind, loaded[-1] if isinstance(engine, Policy) else None))
        real(NoModel(), contexts, trajectories, limits, key, kind=Oracle, informed=True, **others)

    real = evaluation.roll_out
    monkeypatch.setattr(Policy, "load", load)
    monkeypatch.setattr(evaluation, "roll_out", stub)
    run(config, tmp_path / "out")
    assert loaded == [models["base"], models["one"], models["two"]]  # each once
    assert seen[::2] == seen[1::2]  # two horizons
    assert seen[::2] == [
        (UMA, models["base"]), (Concat, models["base"]), (RAG, models["base"]), (QuestionOnly, models["base"]),
        (UMA, models["one"]), (UMA, models["two"]), (Scripted, None), (Oracle, None),
    ]  # fmt: skip


def test_another_evaluation_is_refused_in_the_same_folder(models, tmp_path: Path) -> None:
    values = {"model": models["base"], "agents": ["concat"], **SMALL}
    run(check(EvaluationConfig, values), tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(RunError, match="other parameters.*seed is 0 there and 1 here"):
        run(check(EvaluationConfig, values | {"seed": 1}), tmp_path / "out")
    weights = Path(models["base"]) / "model.safetensors"
    weights.write_bytes((Path(models["one"]) / "model.safetensors").read_bytes())
    with pytest.raises(RunError, match="other inputs .*model.safetensors has changed since"):
        run(check(EvaluationConfig, values), tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_what_the_tolerant_reading_sees_is_reported(tiny_policy, monkeypatch) -> None:
    config = EvaluationConfig(agents=("question_only",), session_tokens=1100, turn_tokens=40)
    said = "The total is ${}, on 2024-05-01."

    class Talkative(QuestionOnly):
        def answer(self, question, key=""):
            trace = yield from super().answer(question, key)
            trace.answer = said.format(next(q.gold for sample in made for q in sample.questions if q.text == question))
            return trace

    made = samples(3, 2)
    monkeypatch.setitem(KINDS, "question_only", Talkative)
    rows = rows_of("question_only", made, config, engine=tiny_policy)
    assert not any(row["correct"] for row in rows)
    found = {one["kind"]: one for one in summarize(rows)["tolerant"]}
    assert found["grand_total"]["accuracy"] == 1.0 and found["grand_total"]["strict"] == 0.0
    assert "busiest_dates" not in found  # two dates with words between are no answer


def test_a_model_at_a_server_is_evaluated_as_any_other(tmp_path: Path) -> None:
    script = MemoryServer(True)
    with script.run() as (url, bodies):
        values = {"model": f"{url}#m", "agents": ["uma_base"], "horizons": [2], "streams": [2], "session_tokens": 4000}
        summary = run(check(EvaluationConfig, values), tmp_path / "out")
        assert {body["model"] for body in bodies} == {"m"}
    (cell,) = [one for one in summary["accuracy"] if one["kind"] == "all"]
    assert cell["streams"] == 2 and cell["accuracy"] == 0.0  # it keeps who likes what, and no amounts
    assert all(row["prompt_tokens"] > 0 for row in evaluation.read_answers(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "inputs.json").read_text()) == {"server#m": "at a server"}


def test_what_could_not_be_scored_is_not_zero() -> None:
    rows = [row("oracle", 0, "a", "k", 1), row("oracle", 0, "b", "k", None), row("oracle", 0, "c", "k", 0)]
    for cell in summarize(rows)["accuracy"]:
        assert (cell["accuracy"], cell["streams"], cell["unscored"]) == (0.5, 2, 1)
    (cell, _) = summarize(rows[1:2])["accuracy"]
    assert cell["accuracy"] is cell["low"] is None and (cell["questions"], cell["unscored"]) == (0, 1)
    assert "unscored" not in summarize(rows[::2])["accuracy"][0]


def test_traces_are_written_once_and_tell_what_happened(models, tmp_path: Path) -> None:
    values = {"model": models["base"], "agents": ["uma_base", "concat", "oracle"], "traces": True, **SMALL}
    run(check(EvaluationConfig, values), tmp_path)
    rows = {(one["agent"], one["id"]): one for one in evaluation.read_answers(tmp_path)}
    files = sorted((tmp_path / "traces").iterdir())
    assert len(files) == 6
    for path in files:
        agent = path.name.split("-")[0]
        for name, sessions, answers in read_traces(path):
            assert len(sessions) == int(name.split("/")[-2])
            for question, trace in answers.items():
                told = rows[agent, question]
                assert (trace.read, trace.written) == (told["prompt_tokens"], told["written_tokens"])
                assert " ".join((trace.answer or "").split()) == told["answer"]
                assert (agent == "oracle") == (not trace.messages)
            assert sum(trace.read + trace.written for trace in sessions) == told["memory_tokens"]
    assert not list((tmp_path / "traces").glob("*.jsonl"))  # packed
    path.write_bytes(b"damaged")
    with pytest.raises(RunError, match="not traces"):
        list(read_traces(path))


@pytest.mark.parametrize("column", ["tolerant", "id", "scores"])
def test_answers_of_an_older_version_are_named(tmp_path: Path, column: str) -> None:
    run(check(EvaluationConfig, {"agents": ["oracle"], "model": "nobody/nothing", **SMALL}), tmp_path)
    table = tmp_path / "answers.csv"
    with table.open(newline="") as file:
        rows = [{k: v for k, v in row.items() if k != column} for row in csv.DictReader(file)]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(RunError, match=f"answers.csv: has no column {column}"):
        evaluation.read_answers(tmp_path)
    table.write_text("agent,seed\noracle,0\n")
    with pytest.raises(RunError, match="answers.csv: not the rows of an evaluation"):
        evaluation.read_answers(tmp_path)


@pytest.mark.parametrize("line", ["{", "[]", '{"agent": "oracle"}', '{"chunk": 1, "stream": "a"}'])
def test_a_damaged_part_is_named(tmp_path: Path, line: str) -> None:
    config = check(EvaluationConfig, {"agents": ["oracle"], "model": "nobody/nothing", **SMALL})
    run(config, tmp_path)
    (tmp_path / "manifest.json").unlink()
    part = tmp_path / "parts" / "oracle-0-ledger-qa-small-1.jsonl"
    whole = part.read_text()
    part.write_text(whole + line + "\n")
    number = len(whole.splitlines()) + 1
    with pytest.raises(RunError, match=f"oracle-0-ledger-qa-small-1.jsonl:{number}: not a record of an evaluation"):
        run(config, tmp_path)
    part.write_text(whole + line)  # a kill has cut the last line
    assert run(config, tmp_path)["accuracy"][0]["accuracy"] == 1.0 and part.read_text() == whole
    part.write_text("".join(whole.splitlines(keepends=True)[:-1]))  # half a block is played again
    assert run(config, tmp_path)["accuracy"][0]["accuracy"] == 1.0
    part.unlink()
    assert run(config, tmp_path)["accuracy"][0]["accuracy"] == 1.0


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    values = {"agents": ["uma_base"], "model": str(tmp_path / "gone"), **SMALL}
    with pytest.raises(RunError, match="no model folder at .*gone"):
        run(check(EvaluationConfig, values), tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"agents": ["uma"]}, "agents must be of uma_base, concat"),
        ({}, "uma_rl needs checkpoints"),
        ({"agents": ["oracle"], "horizons": [2, 5]}, "streams has 5 numbers"),
        ({"agents": ["oracle"], "horizons": [2], "streams": [0]}, "streams is 0; it must be at least 1"),
        ({"agents": ["oracle"], "horizons": [2, 2], "streams": [1, 1]}, "horizons names something twice: 2, 2"),
        ({"agents": ["oracle"], "horizons": [], "streams": []}, "must not be empty"),
        ({"agents": ["oracle"], "split": "tset"}, "unknown split .tset.; did you mean .test."),
        ({"agents": ["oracle"], "temperature": -1.0}, "temperature is -1.0; it must be between 0 and 100"),
        ({"agent": ["oracle"]}, "did you mean 'agents'"),
        ({"agents": "oracle"}, "agents"),
    ],
)
def test_what_is_refused(values: dict, message: str) -> None:
    with pytest.raises(RunError, match=message):
        check(EvaluationConfig, values)


EVALUATIONS = ("full_evaluation", "agents", "thirteen-smoke", "thirteen-server", "thirteen-gpu")


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_committed_parameter_files_are_valid(name: str) -> None:
    values = load_parameters(NOTEBOOKS / "params" / f"{name}.yaml")
    config = check(EvaluationConfig, values)
    assert set(config.agents) <= set(AGENTS) and len(specs_of(config)) >= len(config.agents)
    if name.startswith("thirteen-") and name != "thirteen-smoke":
        assert set(THIRTEEN) <= set(config.sets) and config.session_tokens == 16_384
