"""The main table: the paper's rows as published, ours with interval and n."""

import json

import pytest

from tests import set_files
from tests.model_server import server
from tests.test_thirteen import config_of, scripted
from uma_lib.evaluation import run
from uma_lib.files import RunError
from uma_lib.report.tables import SEEN, THIRTEEN, described, our_results, paper_results, thirteen


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
    said = described(summary)
    assert said.startswith("A smoke run") and "Ours: m, at most all samples a set and 4 questions a sample" in said
    found = json.loads(summary.read_text())
    del found["accuracy"][0]["set"]
    summary.write_text(json.dumps(found))
    with pytest.raises(RunError, match="field 'set' is missing"):
        our_results(summary)
