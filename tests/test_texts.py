"""What README, notebooks, cards and parameter files say: commands that run, links that lead somewhere, true numbers."""

import json
import math
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from papermill.cli import _resolve_type

from tests.test_pipeline import PATHS, checked
from uma_lib.ledger import QUESTION_KINDS, Stream, card
from uma_lib.parameters import load_parameters
from uma_lib.paths import DATA, NOTEBOOKS, REPO, RESULTS
from uma_lib.pipeline import check_papermill_parameters, check_parameters
from uma_lib.report.results import read_metrics, read_revisions, read_summary, read_trajectories

SUMMARY = read_summary(RESULTS / "evaluation" / "summary.json")
HORIZONS = SUMMARY["config"]["horizons"]
README = " ".join((REPO / "README.md").read_text().split())


def texts() -> dict[str, str]:
    """The prose of every notebook, README, parameter file and card, by path."""
    found = {str(path.relative_to(REPO)): path.read_text() for path in (REPO / "README.md", *DATA.glob("**/*.md"))}
    found |= {str(path.relative_to(REPO)): path.read_text() for path in NOTEBOOKS.glob("params/**/*.yaml")}
    for path in PATHS:
        cells = json.loads(path.read_text())["cells"]
        prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        found[str(path.relative_to(REPO))] = "\n".join(prose)
    return found


def test_every_papermill_command_in_the_texts_can_run(tmp_path: Path) -> None:
    """Notebook and files are there, and each value is one that the notebook declares, in the type it comes in."""
    number = 0
    for where, text in texts().items():
        own = NOTEBOOKS / Path(where).name
        option = r"\s+-[pyfr] (?:'[^']*'|[^\s`'])+(?: (?!-)[^\s`]+)?"
        commands = re.findall(rf"papermill (notebooks/\S+ \S+\.ipynb(?:{option})*)", text)
        short = re.findall(r"`(-[pyfr] [^`]*)`", text) if own in PATHS else []
        for command in [*commands, *(f"{own.relative_to(REPO)} out.ipynb {one}" for one in short)]:
            notebook, _, *arguments = shlex.split(command)
            values: dict[str, Any] = {}
            while arguments:
                flag, first = arguments[:2]
                if flag == "-p":
                    values[first] = _resolve_type(arguments[2])
                elif flag == "-y":
                    values |= yaml.safe_load(first)
                else:
                    assert flag == "-f", command
                    values |= load_parameters(REPO / first)
                arguments = arguments[3 if flag == "-p" else 2 :]
            assert values or "-f" in command, command
            check_papermill_parameters(REPO / notebook, values)
            number += 1
    assert number >= 25


def test_files_that_the_texts_name_are_there() -> None:
    for where, text in texts().items():
        for name in re.findall(r"[\w/]*notebooks/[\w/.]+\.(?:yaml|ipynb)", text):
            assert (REPO / name).exists(), f"{where} names {name}"


def test_the_run_of_make_reproduce_is_what_notebook_03_promises(tmp_path: Path) -> None:
    text = texts()["notebooks/03_train.ipynb"].replace("\n  ", " ")
    command = re.search(r"`papermill ([^`]*)` is the run that `make reproduce` makes", text)[1].split()
    made = (REPO / "Makefile").read_text().partition("reproduce: env\n")[2].splitlines()[0]
    parameters = REPO / re.search(r"--parameters (\S+)", made)[1]
    plan = check_parameters(parameters, NOTEBOOKS, Path("runs/mine"))
    assert command[:2] + command[3:] == [
        "notebooks/03_train.ipynb", "out.ipynb", "notebooks/params/cpu/03_train.yaml", "-p", "RUN_DIR", "runs/mine",
    ]  # fmt: skip
    values = load_parameters(REPO / command[3]) | {"RUN_DIR": "runs/mine"}
    assert check_papermill_parameters(NOTEBOOKS / "03_train.ipynb", values) == plan[NOTEBOOKS / "03_train.ipynb"]


def test_the_policy_is_where_the_texts_say() -> None:
    folder = checked("03", {"RUN_DIR": "runs/mine"}, REPO)["folder"]
    assert folder == REPO / "runs" / "mine" / "train" / "seed0"
    found = texts()
    assert "--out runs/mine/train/seed0\n" in found["README.md"]
    assert "`runs/mine/train/seed0/model`" in found["README.md"]
    assert "TRAINED: [runs/mine/train/seed0/model]" in found["notebooks/04_baselines.ipynb"]


def served_root() -> Path:
    """The folder that `make lab` serves."""
    plan = subprocess.run(["make", "-n", "lab"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in plan.splitlines() if "jupyterlab" in line)
    options = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
    assert options["--LabApp.default_url"] == "/lab/tree/notebooks"
    return Path(options["--ServerApp.root_dir"]).resolve()


def test_every_relative_link_leads_to_a_file_inside_what_lab_serves() -> None:
    root, number = served_root(), 0
    for where, text in texts().items():
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:|#", link):
                continue
            target = (REPO / where).parent.joinpath(link.partition("#")[0]).resolve()
            assert target.exists() and target.is_relative_to(root), f"{where}: {link}"
            number += 1
    assert number >= 15


# --- numbers ------------------------------------------------------------------------------------------------------


def accuracy(agent: str, kind: str, horizon: int) -> float:
    place = {"agent": agent, "kind": kind, "horizon": horizon}
    (row,) = (row for row in SUMMARY["accuracy"] if place.items() <= row.items())
    return row["accuracy"]


def per_cent(agent: str, kind: str, horizon: int) -> str:
    return f"{100 * accuracy(agent, kind, horizon):.0f}"


def test_what_readme_says_of_kinds_of_questions() -> None:
    below = {
        kind: [h for h in HORIZONS if accuracy("uma_rl", kind, h) < accuracy("demonstrator", kind, h)]
        for kind in QUESTION_KINDS
    }
    assert {kind: found for kind, found in below.items() if found} == {
        "busiest_dates": [5, 10, 20, 50, 100],  # at 500 both have none
        "top_category_range": [100, 500],
    }
    both = {
        (kind, h): [per_cent(agent, kind, h) for agent in ("uma_rl", "demonstrator")]
        for kind, h in (
            ("busiest_dates", 10),
            ("busiest_dates", 50),
            ("top_category_range", 100),
            ("top_category_range", 500),
        )
    }
    ten, fifty, hundred, five_hundred = both.values()
    assert (
        f"busiest dates from 5 sessions on ({ten[0]} against {ten[1]} % at 10, {fifty[0]} against {fifty[1]} %"
        in README
    )
    assert f"at 100 and 500 sessions ({hundred[0]} against {hundred[1]} %, {five_hundred[0]} against" in README
    two, ten, twenty, fifty = (per_cent("uma_rl", "grand_total", h) for h in (2, 10, 20, 50))
    assert (
        f"{two} % of grand totals are right at 2 sessions, {ten} % at 10, {twenty} % at 20 and {fifty} % at 50"
        in README
    )


def test_what_readme_says_of_all_questions() -> None:
    rows = {(row["agent"], row["horizon"]): row for row in SUMMARY["accuracy"] if row["kind"] == "all"}
    base, trained = rows["uma_base", 10], rows["uma_rl", 10]
    assert len(trained["by_checkpoint"]) == 3 and min(trained["by_checkpoint"]) > 2 * base["accuracy"]
    for h in HORIZONS:
        apart = all(rows["uma_rl", h]["low"] > rows[agent, h]["high"] for agent in ("uma_base", "demonstrator"))
        assert apart == (h <= 100)
        assert rows["oracle", h]["accuracy"] == 1
    seconds = [max(pd.read_csv(path)["seconds"]) for path in RESULTS.glob("train/seed*/metrics.csv")]
    assert max(seconds) < 15 * 60 and "about a quarter of an hour" in README
    assert all(
        read_metrics(path).iloc[-1] > 2 * read_metrics(path).iloc[0] for path in RESULTS.glob("train/*/metrics.csv")
    )


def test_what_readme_says_of_constant_answers() -> None:
    of_all = [row["accuracy"] for row in SUMMARY["chance"] if row["kind"] == "all"]
    of_kinds = [row["accuracy"] for row in SUMMARY["chance"] if row["kind"] != "all"]
    low, high, most = (f"{100 * x:.0f}" for x in (min(of_all), max(of_all), max(of_kinds)))
    assert f"get {low} to {high} % of all questions on these streams, and at most {most} % of one kind" in README
    locked = json.loads((DATA / "ledger_qa.json").read_text())["sets"]
    assert max(share for entry in locked for share in entry["constants"].values()) == 0.15
    assert "on a whole locked set no constant answer is right for more than 15 %" in README


def test_what_readme_says_of_the_price_of_a_question() -> None:
    tokens = {(row["agent"], row["horizon"]): row for row in SUMMARY["tokens"]}
    each = {place: row["prompt"] + row["written"] for place, row in tokens.items()}
    questions = 8  # of each stream, and they share its memory
    built = {h: questions * tokens["uma_rl", h]["memory"] for h in HORIZONS}
    whole = each["uma_rl", 500] + tokens["uma_rl", 500]["memory"]
    assert (
        f"takes UMA after RL {whole:,.0f} tokens where eight questions share the memory: {each['uma_rl', 500]:.0f} to"
        in README
    )
    assert f"Concat takes {each['concat', 500]:.0f} tokens and RAG {each['rag', 500]:.0f}." in README

    def pays(other: str, h: int) -> int:
        return math.ceil(built[h] / (each[other, h] - each["uma_rl", h]))

    assert f"from {pays('concat', 500)} questions about one stream on against Concat" in README
    assert f"and from {pays('rag', 500)} against RAG; at 50 sessions from {pays('rag', 50)} against both" in README
    assert pays("rag", 50) == pays("concat", 50)


def test_what_readme_says_of_revisions() -> None:
    told = [row for row in read_revisions(RESULTS / "revisions" / "results.json")["memory"] if row["agent"] == "uma_rl"]
    counts = {name: sum(row[name] for row in told) for name in ("revisions", "nothing", "added", "unknown")}
    assert counts["revisions"] == counts["nothing"] + counts["added"] + counts["unknown"]
    assert f"for {counts['unknown']} the entry had been wrong before" in README


def test_what_notebook_03_says_of_the_trajectories() -> None:
    after = read_trajectories(RESULTS / "trajectories.json")["after"]
    sessions = [session["right"] for trajectory in after for session in trajectory["sessions"]]
    right = sum(all(found.values()) for found in sessions)
    totals = [
        q["right"] for t in after for q in t["questions"] if re.search("grand total|spend in total", q["question"])
    ]
    text = texts()["notebooks/03_train.ipynb"]
    assert f"{right} of the {len(sessions)} memory sessions are faultless" in text
    assert (sum(totals), len(totals)) == (2, 3) and "two of three are right" in text


def test_answers_may_stand_in_the_text() -> None:
    """So no text may say that they never do; the notebook counts them."""
    streams = [Stream("small", "test", 10, index) for index in range(30)]
    found = [
        (q.kind, card.stands_in(q.gold.values, "\n".join(session.text for session in stream)))
        for stream in streams
        for q in stream.questions()
    ]
    assert 0.3 < sum(stands for _, stands in found) / len(found) < 0.6
    assert all(stands for kind, stands in found if kind in ("largest_range", "busiest_dates"))
    for where, text in texts().items():
        assert not re.search(r"stand nowhere in the text|never a span", text), where
    assert "share of gold answers" in " ".join(texts()["notebooks/01_ledger_qa.ipynb"].split()).lower()
    assert "*Answers that stand in the text.*" in texts()["data/ledger_qa_card.md"]
