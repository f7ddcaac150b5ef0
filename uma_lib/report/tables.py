"""Tables: the paper's main results beside our own, with what was run and how much of it.

>>> float(paper_results("judge").loc["uma", "banking77"])
87.0
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from uma_lib.datasets.sets import SETS
from uma_lib.files import RunError, read_json
from uma_lib.ledger.files import check_shape
from uma_lib.paths import DATA
from uma_lib.report.results import read_table

THIRTEEN = (
    "banking77", "clinc150", "nlu", "trec-coarse", "trec-fine", "pubmed-rct", "convomem", "hotpotqa", "locomo",
    "longmemeval", "msc", "perltqa", "squad",
)  # fmt: skip
_THEIRS = {"clinic150": "clinc150"}  # names of the paper that are other than ours, but for _ and -
SEEN = tuple(name for name in THIRTEEN if SETS[name].seen)  # whose corpora the paper's generalist was trained on
MEANS = {"all": THIRTEEN, "seen": SEEN, "unseen": tuple(name for name in THIRTEEN if name not in SEEN)}


def paper_results(metric: str = "judge", version: str = "v1") -> pd.DataFrame:
    """The paper's main table in per cent: methods by sets, then means over all, seen and unseen sets."""
    path = DATA / "paper" / "main_results.csv"
    percent = {"value": lambda value: "" if 0 <= value <= 100 else "per cent"}
    table = read_table(path, percent, ("paper_version", "method", "dataset", "metric"))
    table = table[(table["paper_version"] == version) & (table["metric"] == metric)]
    if table.empty:
        raise RunError(f"{path}: no results of version {version!r} by {metric!r}")
    names = table["dataset"].replace(_THEIRS).str.replace("_", "-")
    found = table.assign(dataset=names).pivot(index="method", columns="dataset", values="value")
    found = found[[name for name in THIRTEEN if name in found]]
    means = {name: found[list(sets)].mean(axis=1) for name, sets in MEANS.items() if set(sets) <= set(found)}
    return found.assign(**means)


def our_results(summary: Path) -> pd.DataFrame:
    """Our own records of one evaluation, in per cent: agent, set, mean, low, high of the set's first metric, n, failed.

    low, high: over samples; where there is one sample, over its questions (``within`` is True then).
    """
    found = read_json(summary)
    shape = {"agent": str, "set": str, "kind": str, "streams": int, "questions": int}
    check_shape(found, {"accuracy": [shape], "config": dict, "smoke": bool}, str(summary))
    records = []
    for cell in found["accuracy"]:
        if cell["kind"] == "all" and cell["accuracy"] is not None:
            low, high = (cell["low"], cell["high"]) if cell["low"] is not None else cell.get("within", (None, None))
            records.append({
                "agent": cell["agent"], "set": cell["set"], "mean": 100 * cell["accuracy"],
                "low": None if low is None else 100 * low, "high": None if high is None else 100 * high,
                "within": cell["low"] is None, "streams": cell["streams"], "questions": cell["questions"],
                "failed": cell.get("failed", 0),
            })  # fmt: skip
    return pd.DataFrame(records)


def thirteen(summary: Path | None = None, methods: Sequence[str] = ("uma", "concat", "rag", "memagent", "memagent_woq",
             "mem1", "mem_alpha")) -> pd.DataFrame:  # fmt: skip
    """The main table: rows of the paper (judge, Qwen3-4B), then ours with interval and n, by set.

    Ours say nothing of sets that were not run. They are comparable with the paper's only if the same model, sizes and
    judge were used: `described` says what was.
    """
    paper = paper_results().loc[list(methods)].round(1)
    rows = {
        f"paper: {name}": {column: f"{value:.1f}" for column, value in row.items()} for name, row in paper.iterrows()
    }
    if summary is not None:
        ours = our_results(summary)
        for agent, cells in ours.groupby("agent", sort=False):
            rows[f"here: {agent}"] = {cell.set: _cell(cell) for cell in cells.itertuples()}
    columns = [*paper.columns, *sorted({name for row in rows.values() for name in row} - set(paper.columns))]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).fillna("")


def _cell(cell) -> str:
    interval = "" if pd.isna(cell.low) else f" [{cell.low:.0f}, {cell.high:.0f}]"
    return f"{cell.mean:.0f}{interval} n={cell.questions}"


def described(summary: Path) -> str:
    """What an evaluation was: model, sizes, budget, metric; one line under a table."""
    found = read_json(summary)
    shape = {"model": str, "session_tokens": int, "samples": int, "questions": int}
    check_shape(found, {"config": shape}, str(summary))
    config = found["config"]
    whole = not (config["samples"] or config["questions"] or config.get("stream_tokens") or config.get("limit"))
    exact = "exact scores (labels: exact match; free text: token F1)"
    by = f"judged by {found['judge']}" if found.get("judge") else exact
    size = "full size" if whole else (
        f"at most {config['samples'] or 'all'} samples a set and {config['questions'] or 'all'} questions a sample"
    )  # fmt: skip
    smoke = "A smoke run: it shows that everything works, not how well. " if found["smoke"] else ""
    return (
        f"{smoke}Ours: {config['model'].rpartition('#')[2]}, {size}, {config['session_tokens']:,} tokens a session, "
        f"{by}; 95 % intervals over samples, or over the questions where there is one sample."
    )
