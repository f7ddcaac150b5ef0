"""Tables: the paper's main results beside our own, and agents on Ledger-QA by horizon, each with n and intervals.

>>> float(paper_results("judge").loc["uma", "banking77"])
87.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from uma_lib.datasets.sets import SETS
from uma_lib.files import RunError, read_json
from uma_lib.ledger.files import check_shape
from uma_lib.paths import DATA
from uma_lib.report.figures import AGENTS
from uma_lib.report.results import NUMBER, read_summary, read_table

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


def costs(summary: Path) -> pd.DataFrame:
    """What each agent took on each set of an evaluation, a question: tokens, seconds, and tokens for each right answer.

    ``memory``: of building the memory, whose cost the questions of a stream share. ``pays off``: questions about one
    stream from which on it takes fewer tokens than Concat ("never": at no number); empty for agents without a memory.
    """
    found = read_json(summary)
    shape = {"agent": str, "set": str, "prompt": NUMBER, "written": NUMBER, "memory": NUMBER}
    check_shape(found, {"tokens": [shape], "break_even": list}, str(summary))
    enough = {
        (one["agent"], one["set"]): "never" if one["questions"] is None else f"{math.ceil(one['questions']):,}"
        for one in found["break_even"] if one["against"] == "concat"
    }  # fmt: skip
    rows = [
        {
            "set": row["set"], "agent": row["agent"], "prompt": f"{row['prompt']:,.0f}",
            "written": f"{row['written']:,.0f}", "memory": f"{row['memory']:,.0f}",
            "seconds": f"{row['seconds'] + row['memory_seconds']:.1f}",
            "a right answer": "" if row["per_right"] is None else f"{row['per_right']:,.0f}",
            "pays off": enough.get((row["agent"], row["set"]), ""),
        }
        for row in found["tokens"]
    ]  # fmt: skip
    return pd.DataFrame(rows).set_index(["set", "agent"])


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


# --- Ledger-QA by horizon ---------------------------------------------------------------------------------------


def by_horizon(summary: Path) -> pd.DataFrame:
    """Exact match in per cent with its 95 % interval, agents by sessions in a stream."""
    records = pd.DataFrame(read_summary(summary)["accuracy"]).query("kind == 'all'")
    cells = [
        f"{100 * r.accuracy:.0f}" + ("" if pd.isna(r.low) else f" [{100 * r.low:.0f}, {100 * r.high:.0f}]")
        for r in records.itertuples()
    ]
    return _agents_first(records.assign(cell=cells).pivot(index="agent", columns="horizon", values="cell"))


def sizes(summary: Path) -> str:
    """How many streams, questions and training seeds the accuracies of a summary are made of."""
    found = read_summary(summary)
    horizons = pd.DataFrame(found["accuracy"]).query("kind == 'all'").groupby("horizon")[["streams", "questions"]].max()
    each = "; ".join(f"{h} sessions: {r.streams} streams, {r.questions} questions" for h, r in horizons.iterrows())
    return f"{each}. {len(found['config']['trained'])} training seed(s), temperature {found['config']['temperature']:g}"


def against(summary: Path, agent: str = "uma_rl") -> pd.DataFrame:
    """How far an agent is ahead of each other one, in points, on the same questions; agents by sessions in a stream.

    With 95 % intervals by resampling streams; a star where the difference is significant at 5 %, corrected for the
    number of pairs of agents at the horizon (Holm). Empty for a summary without differences.
    """
    found = read_json(summary)
    horizons = {cell["set"]: cell["horizon"] for cell in found["accuracy"] if cell.get("set")}
    cells: dict[str, dict[int, str]] = {}
    for one in found.get("differences", ()):
        if agent in (one["agent"], one["against"]) and horizons[one["set"]] is not None:
            sign = 1 if one["agent"] == agent else -1
            other = one["against"] if sign == 1 else one["agent"]
            cell = f"{sign * 100 * one['difference']:+.0f}"
            if one["low"] is not None:
                low, high = sorted(sign * 100 * one[end] for end in ("low", "high"))
                cell += f" [{low:.0f}, {high:.0f}]" + "*" * (one["p_holm"] < 0.05)
            cells.setdefault(other, {})[horizons[one["set"]]] = cell
    return _agents_first(pd.DataFrame.from_dict(cells, orient="index").sort_index(axis=1).fillna(""))


def break_even(summary: Path, agent: str = "uma_rl", readers: Sequence[str] = ("concat", "rag")) -> pd.DataFrame:
    """Questions about one stream from which on a memory takes fewer tokens than a reader; readers by sessions."""
    found = read_summary(summary)
    tokens = pd.DataFrame(found["tokens"]).set_index(["agent", "horizon"])
    asked = pd.DataFrame(found["accuracy"]).query("kind == 'all'").set_index(["agent", "horizon"])
    each = (asked["questions"] / asked["streams"])[agent]  # that share the cost of a memory in these results
    answering = tokens["prompt"] + tokens["written"]
    rows = {}
    for reader in readers:
        if {reader, agent} <= set(tokens.index.get_level_values("agent")):
            saved = answering[reader] - answering[agent]
            enough = tokens["memory"][agent] * each / saved
            rows[f"against {AGENTS[reader][0]}"] = {
                horizon: f"{math.ceil(enough[horizon]):,}" if saved[horizon] > 0 else "never" for horizon in saved.index
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(columns="sessions")


def _agents_first(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of figures, with the names used there."""
    table = table.loc[[agent for agent in AGENTS if agent in table.index]]
    return table.rename(lambda agent: AGENTS[agent][0]).rename_axis(index=None, columns="sessions")
