"""Figures, drawn from results files (CSV and JSON) and from nothing else.

Every function returns a `Figure` at its final size (3.3 or 6.8 inches wide, 8 pt), and `save` writes it as PDF
and as PNG with 300 dpi, byte for byte the same each time. An agent has the same colour (Okabe-Ito palette) and
marker everywhere. What comes from a short trial says so on its face.

>>> figure = accuracy_by_horizon(RESULTS / "evaluation" / "summary.json")    # doctest: +SKIP
>>> save(figure, "accuracy_by_horizon")                                      # doctest: +SKIP
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter, StrMethodFormatter
from scipy import stats

from uma_lib.files import RunError, atomic_write_bytes
from uma_lib.ledger import QUESTION_KINDS
from uma_lib.paths import FIGURES, RESULTS
from uma_lib.report.results import read_habits, read_metrics, read_paper, read_revisions, read_summary

COLUMN, PAGE = 3.3, 6.8  # widths in inches
BLACK, GREY, RED = "#000000", "#888888", "#D55E00"
BLUE, SKY, ORANGE, GREEN, PURPLE = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#CC79A7"
MINT, PINE, SALMON, WINE, OLIVE, INDIGO = "#7FD1B9", "#005F45", "#F2A489", "#882255", "#999933", "#332288"
AGENTS = {  # label, colour, marker
    "uma_rl": ("UMA after RL", BLUE, "o"),
    "uma_base": ("UMA before RL", SKY, "s"),
    "concat": ("Concat", ORANGE, "^"),
    "rag": ("RAG", GREEN, "v"),
    "rag_bm25": ("RAG, words", MINT, "<"),
    "rag_dense": ("RAG, meaning", PINE, ">"),
    "memagent": ("MemAgent", RED, "P"),
    "memagent_woq": ("MemAgent w/o q.", SALMON, "p"),
    "mem1": ("MEM1", WINE, "h"),
    "mem_alpha": ("Mem-alpha", OLIVE, "X"),
    "a_mem": ("A-Mem", INDIGO, "d"),
    "demonstrator": ("Demonstrator", PURPLE, "D"),
    "question_only": ("Question only", GREY, "x"),
    "oracle": ("Oracle", BLACK, ""),
}
PAPER = {  # methods of the paper
    "uma": ("UMA", BLUE, "o"),
    "uma_specialist_16k": ("UMA, specialist", BLUE, "o"),
    "uma_generalist_16k": ("UMA, generalist", BLUE, "x"),
    "concat": ("Concat", ORANGE, "^"),
    "rag": ("RAG", GREEN, "v"),
    "memagent": ("MemAgent", RED, "P"),
    "memagent_woq": ("MemAgent w/o q.", SALMON, "p"),
    "mem_alpha": ("Mem-alpha", OLIVE, "X"),
    "mem1": ("MEM1", WINE, "h"),
    "a_mem": ("A-Mem", INDIGO, "d"),
}
KINDS = {
    "category_range": "category\nin a range",
    "categories_range": "categories\nin a range",
    "total_range": "total of\na range",
    "top_category_range": "top category\nof a range",
    "busiest_dates": "busiest\ndates",
    "largest_range": "largest\nin a range",
    "category_date": "category\non a date",
    "grand_total": "grand\ntotal",
}
HABITS = {  # those measured in `analysis`
    "reads_all": "stores every expense",
    "ignores_plans": "leaves plans out",
    "merges": "merges repeated entries",
    "keeps_total": "adds to the total",
    "exact": "stores a session exactly",
    "ranges": "asks for the right dates",
    "all_categories": "looks at all categories",
}
OUTCOMES = {  # of answers that depend on a revision, see `revisions`
    "right": ("right", BLUE),
    "ignored": ("as if nothing was revised", ORANGE),
    "added": ("as if newly bought", PURPLE),
    "other": ("other mistakes", "#D9D9D9"),
}
FATES = {  # what a memory session did when it was told a revision
    "applied": ("applied", BLUE),
    "nothing": ("nothing", ORANGE),
    "added": ("stored as a purchase", PURPLE),
    "changed": ("entry changed wrongly", RED),
    "unknown": ("entry was wrong before", "#D9D9D9"),
}
REVISIONS = {
    "late": "told late",
    "amount": "amount corrected",
    "settled": "contradiction settled",
    "category": "category changed",
    "date": "date changed",
    "refund": "refunded",
    "cancel": "cancelled",
    "split": "split",
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "errorbar.capsize": 1.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "text.usetex": False,
}


TEST_LINES = "demonstrator, oracle: test streams"


# --- figures ------------------------------------------------------------------------------------------------


def learning_curve(metrics: Sequence[Path], lines: Mapping[str, float], smoke: bool = False, note: str = "") -> Figure:
    """Held-out accuracy by training step: a thin line a seed, their mean with a 95 % band (t distribution).

    metrics: the ``metrics.csv`` of one run a seed, with ``eval_accuracy`` in some rows. lines: the accuracy of
    other agents, drawn as horizontal lines. note: where these come from, if not from the held-out streams.
    """
    with mpl.rc_context(STYLE):
        figure, (axis,) = _figure(COLUMN, 2.7)
        runs = _by_step(metrics, "eval_accuracy")
        mean, half = runs.mean(axis=1), _half_width(runs)
        label, colour, _ = AGENTS["uma_rl"]
        axis.plot(runs, color=colour, linewidth=0.6, alpha=0.6)
        axis.plot(mean, color=colour, linewidth=1.8, label="UMA in training")
        if half is not None:
            low, high = (mean - half).clip(0, 1), (mean + half).clip(0, 1)
            axis.fill_between(runs.index, low, high, color=colour, alpha=0.15, linewidth=0, label="95 % band")
        styles = {"uma_base": ":", "demonstrator": "--", "oracle": "-"}
        for agent, accuracy in lines.items():
            label, colour, _ = AGENTS[agent]
            axis.axhline(accuracy, color=colour, linestyle=styles.get(agent, "-."), linewidth=1, label=label)
        _accuracy_axis(axis, "held-out exact match")
        axis.set_xlabel("training step")
        _legend(axis, 2)
        _face(figure, "; ".join(filter(None, (_seeds(len(metrics)), note))), smoke)
    return figure


def accuracy_by_horizon(summary: Path, paper_version: str = "v2") -> Figure:
    """Accuracy of every agent by the number of sessions; the paper's own curves in a panel of their own."""
    found = read_summary(summary)
    with mpl.rc_context(STYLE):
        records = _records(found, "accuracy", kind="all")
        agents = [agent for agent in AGENTS if agent in set(records["agent"])]
        figure, (ours, paper) = _figure(PAGE, 2.7 + 0.17 * math.ceil((len(agents) + 1) / 3), columns=2)
        for number, agent in enumerate(agents):
            label, colour, marker = AGENTS[agent]
            rows = records[records["agent"] == agent].sort_values("horizon")
            # moved a little sideways, so that bars can be told apart
            x = rows["horizon"] * 1.2 ** (number / len(agents) - 0.5)
            style = {"color": colour, "marker": marker, "label": label, "zorder": _layer(agent)}
            if agent == "oracle":  # right by definition: nothing is uncertain
                ours.errorbar(rows["horizon"], rows["accuracy"], linewidth=0.8, **style)
            else:
                ours.errorbar(x, rows["accuracy"], _bars(rows), elinewidth=0.8, **style)
        chance = _records(found, "chance", kind="all").sort_values("horizon")
        ours.errorbar(chance["horizon"], chance["accuracy"], fmt=":", color=GREY, label="constant answers")
        ours.set_title("this project: nano,\nexact match")

        table = read_paper(paper_version)
        for method in (method for method in PAPER if method in set(table["method"])):
            label, colour, marker = PAPER[method]
            rows = table[table["method"] == method].sort_values("sessions")
            paper.plot(rows["sessions"], rows["value"] / 100, color=colour, marker=marker, label=label)
        paper.set_title(f"paper ({paper_version}): Qwen3-4B,\nanother model and scale, LLM judge")
        for axis, horizons in ((ours, records["horizon"]), (paper, table["sessions"])):
            _accuracy_axis(axis, "accuracy")
            _horizon_axis(axis, horizons)
            _legend(axis, 3)
        _face(figure, "Left: " + _sample_note(records), found["smoke"])
    return figure


def accuracy_by_kind(
    summary: Path, horizon: int, agents: Sequence[str] = ("uma_base", "uma_rl", "demonstrator")
) -> Figure:
    """Accuracy on each kind of question at one horizon, as grouped bars with 95 % intervals."""
    found = read_summary(summary)
    if not agents:
        raise RunError("accuracy by kind: name at least one agent")
    with mpl.rc_context(STYLE):
        figure, (axis,) = _figure(PAGE, 2.6)
        records = _records(found, "accuracy", horizon=horizon)
        records = records[records["agent"].isin(agents) & (records["kind"] != "all")]
        chance = _records(found, "chance", horizon=horizon).set_index("kind")
        width = 0.8 / len(agents)
        for number, agent in enumerate(agents):
            label, colour, _ = AGENTS[agent]
            rows = records[records["agent"] == agent].set_index("kind").reindex(QUESTION_KINDS)
            if rows["accuracy"].isna().all():
                raise RunError(f"{summary}: {agent} was not evaluated at {horizon} sessions; do it or leave it out")
            x = np.arange(len(rows)) + (number - (len(agents) - 1) / 2) * width
            bars = {"yerr": _bars(rows), "error_kw": {"elinewidth": 0.7, "ecolor": "#333333"}}
            axis.bar(x, rows["accuracy"], 0.92 * width, color=colour, label=label, **bars)
        x = np.arange(len(QUESTION_KINDS))
        constant = chance["accuracy"].reindex(QUESTION_KINDS)
        axis.hlines(constant, x - 0.43, x + 0.43, colors="#333333", linestyles=":", label="constant answer")
        axis.set_xticks(x, [KINDS[kind] for kind in QUESTION_KINDS])
        axis.tick_params(axis="x", length=0)
        axis.set_xlim(-0.6, len(QUESTION_KINDS) - 0.4)
        _accuracy_axis(axis, "exact match")
        _legend(axis, 4)
        _face(figure, f"{horizon} sessions; " + _sample_note(records), found["smoke"])
    return figure


def habits(measures: Path, smoke: bool = False) -> Figure:
    """Share of each habit in samples before and after reinforcement learning, with 95 % intervals (Wilson).

    The file holds, under ``before`` and ``after``, ``{"habits": {"merges": {"share": 0.5, "n": 200}, ...}}``.
    """
    found = read_habits(measures)
    shares = {"uma_base": found["before"]["habits"], "uma_rl": found["after"]["habits"]}
    names = [name for name in HABITS if name in shares["uma_base"]]
    if not names:
        raise RunError(f"{measures}: has none of the habits {', '.join(HABITS)}")
    with mpl.rc_context(STYLE):
        figure, (axis,) = _figure(COLUMN, 1.1 + 0.24 * len(names))
        places = np.arange(len(names))[::-1]
        ends = [[shares[agent][name]["share"] for name in names] for agent in shares]
        axis.hlines(places, *ends, color="#CCCCCC", linewidth=2)
        for agent, offset in (("uma_base", -0.12), ("uma_rl", 0.12)):
            label, colour, marker = AGENTS[agent]
            share, n = (np.array([shares[agent][name][field] for name in names]) for field in ("share", "n"))
            low, high = _wilson(share, n)
            bars = {"xerr": np.clip([share - low, high - share], 0, 1), "elinewidth": 0.7, "linestyle": ""}
            axis.errorbar(share, places + offset, color=colour, marker=marker, label=label, **bars)
        axis.set_yticks(places, [HABITS[name] for name in names])
        axis.set(xlim=(-0.03, 1.03), xlabel="right, as a share of occasions")
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
        _legend(axis, 2)
        occasions = [one["n"] for of_agent in shares.values() for one in of_agent.values()]
        _face(figure, f"{min(occasions)}-{max(occasions)} occasions; 95 % intervals (Wilson)", smoke)
    return figure


def tokens_by_horizon(summary: Path) -> Figure:
    """Tokens a question, by horizon: for answering alone, and with a share of what building the memory took."""
    found = read_summary(summary)
    with mpl.rc_context(STYLE):
        records = _records(found, "tokens")
        rows = math.ceil(len(set(records["agent"])) / 3)
        figure, axes = _figure(PAGE, 2.4 + 0.17 * rows, columns=2)
        axes[1].sharey(axes[0])
        answering = records["prompt"] + records["written"]
        totals = {"to answer": answering, "to answer, and to build the memory": answering + records["memory"]}
        for axis, (title, total) in zip(axes, totals.items(), strict=True):
            for agent in (agent for agent in AGENTS if agent in set(records["agent"])):
                label, colour, marker = AGENTS[agent]
                rows = records[records["agent"] == agent].sort_values("horizon")
                style = {"color": colour, "marker": marker, "label": label, "zorder": _layer(agent)}
                axis.plot(rows["horizon"], total[rows.index], **style)
            axis.set(yscale="log", ylabel="tokens a question", title=title)
            axis.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.yaxis.set_minor_locator(NullLocator())
            _horizon_axis(axis, records["horizon"])
            _legend(axis, 3)
        asked = _records(found, "accuracy", kind="all")
        each = asked["questions"].sum() / asked["streams"].sum()
        note = f"read and written tokens; {each:.0f} questions share the memory of their stream"
        _face(figure, note, found["smoke"])
    return figure


def accuracy_by_revisions(results: Path) -> Figure:
    """Accuracy of every agent by the rate of revisions, a panel a horizon; last, answers that depend on a revision.

    The last panel is left out where no answer does.
    """
    found = read_revisions(results)
    horizons = found["config"]["horizons"]
    revised = any(row["depends"] == "revised" and row["horizon"] == horizons[0] for row in found["accuracy"])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
        panel = figure.subfigures(1, 1)  # of its own, so that the legend is above the figure's note
        axes = panel.subplots(1, len(horizons) + revised, squeeze=False)[0]
        records = _records(found, "accuracy", depends="all")
        agents = [agent for agent in AGENTS if agent in set(records["agent"])]
        rates = sorted(set(records["rate"]))
        for axis, horizon in zip(axes, horizons, strict=False):
            for number, agent in enumerate(agents):
                label, colour, marker = AGENTS[agent]
                rows = records[(records["agent"] == agent) & (records["horizon"] == horizon)].sort_values("rate")
                x = rows["rate"] + 0.04 * (number / len(agents) - 0.5)  # so that bars can be told apart
                bars = None if agent == "oracle" else _bars(rows)  # right by definition
                style = {"color": colour, "marker": marker, "label": label, "zorder": _layer(agent)}
                axis.errorbar(x, rows["accuracy"], bars, elinewidth=0.8, **style)
            axis.set_title(f"all questions,\n{horizon} sessions")
            axis.set(xlabel="revisions for each purchase", xticks=rates)
            _accuracy_axis(axis, "exact match")
        if revised:
            _by_dependence(axes[-1], found, horizons[0], [agent for agent in agents if agent != "oracle"])
        handles = axes[0].get_legend_handles_labels()
        narrow = {"columnspacing": 1, "handletextpad": 0.3}
        panel.legend(*handles, loc="outside lower center", ncols=min(len(agents), 7), **narrow)
        _face(figure, _sample_note(records), found["smoke"])
    return figure


def _by_dependence(axis: Axes, found: Mapping[str, Any], horizon: int, agents: list[str]) -> None:
    """Accuracy on answers that depend on no revision, and on those that do, at the largest rate."""
    rate = _records(found, "accuracy", depends="revised", horizon=horizon)["rate"].max()
    records = _records(found, "accuracy", horizon=horizon, rate=rate)
    for place, agent in enumerate(agents):
        label, colour, marker = AGENTS[agent]
        rows = records[records["agent"] == agent].set_index("depends")
        rows = rows.reindex(["not revised", "revised"])  # at a high rate every answer may depend on a revision
        x = np.arange(2) + 0.08 * (place - (len(agents) - 1) / 2)
        style = {"color": colour, "marker": marker, "linewidth": 0.8, "elinewidth": 0.8}
        axis.errorbar(x, rows["accuracy"], _bars(rows), **style)
    axis.set_xticks(range(2), ["no", "yes"])
    axis.set(xlabel="answer depends on a revision", xlim=(-0.5, 1.5))
    axis.set_title(f"{rate:g} revisions a purchase,\n{horizon} sessions")
    _accuracy_axis(axis, "exact match")


def revision_failures(results: Path, agent: str = "uma_rl") -> Figure:
    """What became of answers that depend on a revision, by agent, and of memories that were told one, by its kind.

    At the largest rate of revisions and the shortest horizon; ``agent`` is the one whose memories are shown.
    """
    found = read_revisions(results)
    horizon, rate = found["config"]["horizons"][0], max(found["config"]["rates"])
    with mpl.rc_context(STYLE):
        figure, (left, right) = _figure(PAGE, 2.9, columns=2)
        outcomes = _records(found, "outcomes", rate=rate, horizon=horizon, kind="any").set_index("agent")
        agents = [name for name in AGENTS if name in outcomes.index and name != "oracle"]
        _stacked(left, outcomes.loc[agents], OUTCOMES, "answers", [AGENTS[name][0] for name in agents])
        left.set_title(f"answers that depend on a revision, {horizon} sessions")
        fates = _records(found, "memory", rate=rate, agent=agent).set_index("kind")
        kinds = [kind for kind in REVISIONS if kind in fates.index]
        _stacked(right, fates.loc[kinds], FATES, "revisions", [REVISIONS[kind] for kind in kinds])
        right.set_title(f"what {AGENTS[agent][0]} did to its memory")
        note = f"{rate:g} revisions for each purchase; numbers: answers, revisions; all training seeds together"
        _face(figure, note, found["smoke"])
    return figure


def _stacked(
    axis: Axes, counts: pd.DataFrame, parts: Mapping[str, tuple[str, str]], total: str, names: list[str]
) -> None:
    """Shares of ``parts`` as one bar a row, with the row's number of cases."""
    places, begin = np.arange(len(counts))[::-1], np.zeros(len(counts))
    for part, (label, colour) in parts.items():
        share = (counts[part] / counts[total]).to_numpy()
        axis.barh(places, share, left=begin, color=colour, label=label, height=0.75)
        begin += share
    axis.set_yticks(places, [f"{name} ({n})" for name, n in zip(names, counts[total], strict=True)])
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlim(0, 1)
    axis.grid(visible=False)
    _legend(axis, 2)


def draw_all(results: Path, folder: Path, smoke: bool = False) -> list[Path]:
    """Every figure from a folder of results; returns the files written.

    It holds ``train/seed*/metrics.csv`` (one run a seed), ``evaluation/summary.json``, ``habits.json`` and, where they
    were evaluated, all agents in ``agents/summary.json`` and revisions in ``revisions/results.json``. Other agents'
    lines in the learning curve are those of streams of 10 sessions. ``figures/`` is only for the committed results.
    """
    if folder.resolve() == FIGURES and results.resolve() != RESULTS:
        raise RunError(f"{folder} holds the figures of {RESULTS}; choose another folder for those of {results}")
    metrics = sorted(results.glob("train/seed*/metrics.csv"))
    if not metrics:
        raise RunError(f"{results / 'train'}: no seed*/metrics.csv there; restore it with git checkout")
    summary = results / "evaluation" / "summary.json"
    ten = _records(read_summary(summary), "accuracy", kind="all", horizon=10).set_index("agent")["accuracy"]
    lines = {"uma_base": _by_step(metrics, "eval_accuracy").iloc[0].mean()}
    lines |= {agent: ten[agent] for agent in ("demonstrator", "oracle") if agent in ten}
    figures = {
        "learning_curve": learning_curve(metrics, lines, smoke, TEST_LINES),
        "accuracy_by_horizon": accuracy_by_horizon(summary),
        "accuracy_by_kind": accuracy_by_kind(summary, 10),
        "tokens_by_horizon": tokens_by_horizon(summary),
        "habits": habits(results / "habits.json", smoke),
    }
    if (everyone := results / "agents" / "summary.json").exists():  # evaluations of their own
        figures["agents_by_horizon"] = accuracy_by_horizon(everyone)
    if (revised := results / "revisions" / "results.json").exists():
        figures |= {
            "accuracy_by_revisions": accuracy_by_revisions(revised),
            "revision_failures": revision_failures(revised),
        }
    return [path for name, figure in figures.items() for path in save(figure, name, folder)]


def save(figure: Figure, name: str, folder: Path = FIGURES) -> list[Path]:
    """Write ``name``.pdf and ``name``.png; returns their paths."""
    paths = []
    for kind, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        data = io.BytesIO()
        with mpl.rc_context(STYLE):
            figure.savefig(data, format=kind, metadata=metadata)
        paths.append(folder / f"{name}.{kind}")
        atomic_write_bytes(paths[-1], data.getvalue())
    return paths


# --- parts of figures ---------------------------------------------------------------------------------------


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Panels side by side, each a subfigure so that its legend has a place of its own."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [panel.subplots() for panel in figure.subfigures(1, columns, squeeze=False)[0]]


def _legend(axis: Axes, columns: int) -> None:
    """A legend below the panel."""
    handles, labels = axis.get_legend_handles_labels()
    narrow = {"columnspacing": 0.9, "handletextpad": 0.5, "handlelength": 1.5} if len(labels) > 9 else {}
    axis.figure.legend(handles, labels, loc="outside lower center", ncols=columns, **({"columnspacing": 1.2} | narrow))


def _face(figure: Figure, note: str, smoke: bool) -> None:
    """What every figure says of itself: n and method below; above, a warning if it comes from a short trial."""
    figure.supxlabel(note, fontsize=6.5, color="#555555", x=0.01, ha="left")
    if smoke:
        figure.suptitle("smoke run: shows that it works, not how well", fontsize=8, color=RED, weight="bold")


def _layer(agent: str) -> float:
    return 2.6 if agent == "uma_rl" else 2.5  # where lines meet, the trained policy is on top


def _accuracy_axis(axis: Axes, label: str) -> None:
    axis.set(ylim=(-0.02, 1.04), ylabel=label)
    axis.yaxis.set_major_formatter(PercentFormatter(1))


def _horizon_axis(axis: Axes, horizons: pd.Series) -> None:
    ticks = sorted(set(horizons))
    axis.set(xscale="log", xlabel="sessions in the stream", xlim=(ticks[0] / 1.25, ticks[-1] * 1.25))
    axis.set_xticks(ticks, ["" if tick in (30, 40) else str(tick) for tick in ticks])  # labels would overlap
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def _records(summary: Mapping[str, Any], name: str, **where: Any) -> pd.DataFrame:
    table = pd.DataFrame(summary[name])
    for column, value in where.items():
        table = table[table[column] == value]
    if table.empty:
        raise RunError(f"the summary has no {name} for {where}: evaluate that first")
    return table


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """Distances to the interval's ends, [2, n]; no bar where there is no interval."""
    low, high = (rows[name].astype(float).fillna(rows["accuracy"]) for name in ("low", "high"))
    return np.maximum([rows["accuracy"] - low, high - rows["accuracy"]], 0)


def _sample_note(records: pd.DataFrame) -> str:
    def span(values: pd.Series) -> str:
        return f"{values.min()}" if values.min() == values.max() else f"{values.min()}-{values.max()}"

    seeds = _seeds(records["checkpoints"].max())
    sizes = f"{span(records['streams'])} streams, {span(records['questions'])} questions"
    return f"{sizes}, {seeds}; 95 % bootstrap intervals over streams and seeds"


def _seeds(number: int) -> str:
    return f"{number} training seed{'s' if number > 1 else ''}"


def _by_step(metrics: Sequence[Path], column: str) -> pd.DataFrame:
    """A metric as [steps, seeds], at the steps where every run has it."""
    table = pd.concat([read_metrics(path, column) for path in metrics], axis=1, join="inner", keys=range(len(metrics)))
    if table.empty:
        raise RunError(f"{metrics[0].parent.parent}: the runs there have no step in common with {column}")
    return table


def _half_width(runs: pd.DataFrame) -> pd.Series | None:
    """Half of the 95 % interval of the mean over seeds; None for a single seed."""
    seeds = runs.shape[1]
    if seeds < 2:
        return None
    return stats.t.ppf(0.975, seeds - 1) * runs.std(axis=1, ddof=1) / np.sqrt(seeds)


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = stats.norm.ppf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
