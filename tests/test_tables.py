"""The main table: the paper's rows as published, ours with interval and n."""

import json
import math

import pytest

from tests import set_files
from tests.model_server import server
from tests.test_thirteen import config_of, scripted
from uma_lib.evaluation import EvaluationConfig, run
from uma_lib.files import RunError
from uma_lib.report.tables import (
    SEEN,
    THIRTEEN,
    against,
    break_even,
    by_horizon,
    costs,
    described,
    our_results,
    paper_results,
    sizes,
    thirteen,
)


def test_the_papers_table():
    found = paper_results()
    assert list(found)[:13] == list(THIRTEEN) and len(found) == 12
    assert found.loc["uma", "all"] == pytest.approx(77.36, abs=0.05)  # as the paper states it
    assert found.loc["uma_no_rl_no_phase1", "all"] == pytest.approx(45.26, abs=0.05)
    assert found.loc["uma", "seen"] == pytest.approx(found.loc["uma", list(SEEN)].mean())
    with pytest.raises(RunError, match="no results of version 'v9'"):
        paper_results(version="v9")


def test_ours_stand_beside_it(tmp_path):
    set_files.nlu(tmp_path / "sets")
    set_files.msc(tmp_path / "sets", 10)
    with server(scripted) as (url, _):
        run(config_of(url, tmp_path / "sets", agents=["concat", "uma_base"], sets=["nlu", "msc"]), tmp_path / "out")
    summary = tmp_path / "out" / "summary.json"
    table = thirteen(summary)
    assert list(table.index)[-2:] == ["here: uma_base", "here: concat"] and table.loc["paper: uma", "nlu"] == "82.0"
    assert table.loc["here: concat", "msc"] == "0 [0, 84] n=8" and table.loc["here: concat", "squad"] == ""
    assert table.loc["here: concat", "nlu"] == "0 [0, 60] n=4"  # over the questions of the only stream
    assert our_results(summary).query("set == 'nlu'")["within"].all()
    took = costs(summary)
    assert list(took.loc["nlu"].index) == ["uma_base", "concat"] and took.loc[("nlu", "concat"), "pays off"] == ""
    (pays,) = (one for one in json.loads(summary.read_text())["break_even"] if one["set"] == "nlu")
    assert took.loc[("nlu", "uma_base"), "pays off"] == str(math.ceil(pays["questions"]))
    assert took.loc[("msc", "uma_base"), "memory"] > "0" and took.loc[("msc", "concat"), "memory"] == "0"
    said = described(summary)
    assert said.startswith("A smoke run") and "Ours: m, at most all samples a set and 4 questions a sample" in said
    found = json.loads(summary.read_text())
    del found["accuracy"][0]["set"]
    summary.write_text(json.dumps(found))
    with pytest.raises(RunError, match="field 'set' is missing"):
        our_results(summary)


def test_agents_by_horizon(tmp_path):
    config = EvaluationConfig(
        agents=("concat", "rag_bm25", "oracle"), horizons=(1, 2), streams=(3, 3), turn_tokens=20, smoke=True
    )
    run(config, tmp_path)
    summary = tmp_path / "summary.json"
    table = by_horizon(summary)
    assert list(table.columns) == [1, 2] and list(table.index) == ["Concat", "RAG, words", "Oracle"]
    assert table.loc["Oracle", 2].startswith("100 [")
    found = json.loads(summary.read_text())
    place = ("concat", 2, "all")
    (concat,) = (one for one in found["accuracy"] if (one["agent"], one["horizon"], one["kind"]) == place)
    mean, low, high = (100 * concat[name] for name in ("accuracy", "low", "high"))
    assert table.loc["Concat", 2] == f"{mean:.0f} [{low:.0f}, {high:.0f}]"
    assert sizes(summary).startswith("1 sessions: 3 streams, 24 questions; 2 sessions: 3 streams, 24 questions. 0 ")
    ahead = against(summary, "oracle")
    assert list(ahead.index) == ["Concat", "RAG, words"]
    (one,) = (
        one for one in found["differences"]
        if one["agent"] == "concat" and one["against"] == "oracle" and one["set"].endswith("/2")
    )  # fmt: skip
    assert ahead.loc["Concat", 2].startswith(f"{-100 * one['difference']:+.0f} [") and one["p_holm"] > 0.05
    assert "*" not in ahead.loc["Concat", 2]  # three streams are too few


def test_a_memory_pays_off(tmp_path):
    cell = {"horizon": 5, "kind": "all", "accuracy": 0.5, "low": 0.4, "high": 0.6}
    cell |= {"streams": 10, "questions": 80, "checkpoints": 1}
    costs = {"uma_rl": (100, 10, 500), "concat": (150, 10, 0), "rag": (90, 10, 0)}
    tokens = [
        {"agent": agent, "horizon": 5, "prompt": p, "written": w, "memory": m} for agent, (p, w, m) in costs.items()
    ]
    summary = {
        "smoke": False, "accuracy": [cell | {"agent": agent} for agent in costs], "tokens": tokens,
        "chance": [{"horizon": 5, "kind": "all", "accuracy": 0.1}],
        "config": {"agents": [*costs], "horizons": [5], "streams": [10], "trained": ["a"], "split": "test",
                   "per_kind": 1, "temperature": 1.0},
    }  # fmt: skip
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summary))
    table = break_even(path)  # 500 tokens a question of eight: 4,000, at 50 saved for each
    assert table.loc["against Concat", 5] == "80" and table.loc["against RAG", 5] == "never"
    assert against(path).empty
