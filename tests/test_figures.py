"""Figures from synthetic results files: complete, marked, reproducible, and drawn from the numbers in the files."""

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from uma_lib.evaluation import AGENTS as EVALUATED
from uma_lib.files import RunError
from uma_lib.ledger import QUESTION_KINDS
from uma_lib.paths import DATA
from uma_lib.report import figures as plots
from uma_lib.revisions import FATES, KINDS, OUTCOMES

HORIZONS = (2, 10, 50)


@pytest.fixture()
def results(tmp_path: Path) -> Path:
    """A folder of results, as `draw_all` wants it."""
    accuracy, tokens = [], []
    for agent in EVALUATED:
        for horizon in HORIZONS:
            for kind in ("all", *QUESTION_KINDS):
                share = share_of(agent)
                accuracy.append({
                    "agent": agent, "horizon": horizon, "kind": kind, "accuracy": share, "low": share - 0.05,
                    "high": min(1.0, share + 0.07), "by_checkpoint": [share], "streams": 60,
                    "questions": 480 if kind == "all" else 60, "checkpoints": 3 if agent == "uma_rl" else 1,
                })  # fmt: skip
            if agent not in ("demonstrator", "oracle"):
                memory = 15 * horizon if agent.startswith("uma") else 0
                tokens.append({"agent": agent, "horizon": horizon, "prompt": 90, "written": 10, "memory": memory})
    kinds = ("all", *QUESTION_KINDS)
    chance = [{"horizon": horizon, "kind": kind, "accuracy": 0.05} for horizon in HORIZONS for kind in kinds]
    summary = {"smoke": False, "config": config(HORIZONS), "accuracy": accuracy, "tokens": tokens, "chance": chance}
    write(tmp_path / "evaluation" / "summary.json", summary)
    before = {name: {"share": 0.5, "n": 200} for name in plots.HABITS}
    after = {name: {"share": 1.0, "n": 100} for name in plots.HABITS}
    of_habits = {"streams": 30, "sessions": 10, "temperature": 1.0}
    measured = {"accuracy": {"all": {"share": 0.5, "n": 240}}}
    habits = {"config": of_habits, "before": measured | {"habits": before}, "after": measured | {"habits": after}}
    write(tmp_path / "habits.json", habits)
    write(tmp_path / "revisions" / "results.json", revised())
    for seed in range(3):
        path = tmp_path / "train" / f"seed{seed}" / "metrics.csv"
        path.parent.mkdir(parents=True)
        rows = ["step,accuracy,eval_accuracy"]
        for step in range(21):
            rows.append(f"{step},0.5,{0.3 + 0.02 * step + 0.01 * seed if step % 5 == 0 else ''}")
        path.write_text("\n".join(rows) + "\n")
    return tmp_path


def share_of(agent: str) -> float:
    return 0.05 * (EVALUATED.index(agent) + 1) if agent != "oracle" else 1.0


def config(horizons: tuple[int, ...]) -> dict:
    return {
        "agents": list(EVALUATED), "horizons": list(horizons), "streams": [60] * len(horizons),
        "trained": ["a", "b", "c"], "split": "test", "per_kind": 1, "temperature": 1.0,
    }  # fmt: skip


def revised() -> dict:
    """Results of an evaluation with revisions: two horizons, three rates."""
    accuracy, outcomes, memory = [], [], []
    for rate in (0.0, 0.2, 0.4):
        for agent in EVALUATED:
            for horizon in (10, 50):
                for depends in ("all", "not revised", *(["revised"] if rate else [])):
                    share = 1.0 if agent == "oracle" else 0.6 - rate - (0.1 if depends == "revised" else 0.0)
                    accuracy.append({
                        "rate": rate, "agent": agent, "horizon": horizon, "depends": depends, "accuracy": share,
                        "low": share - 0.05, "high": min(1.0, share + 0.07), "by_checkpoint": [share], "streams": 60,
                        "questions": 480, "checkpoints": 3 if agent == "uma_rl" else 1,
                    })  # fmt: skip
                for kind in ("any", "refund"):
                    counts = {"answers": 40, "right": 10, "ignored": 20, "added": 4, "other": 6}
                    outcomes.append({"rate": rate, "agent": agent, "horizon": horizon, "kind": kind} | counts)
        counts = {"revisions": 20, "applied": 5, "nothing": 10, "added": 2, "changed": 2, "unknown": 1}
        memory += [{"rate": rate, "agent": "uma_rl", "kind": kind} | counts for kind in KINDS]
    of_run = config((10, 50)) | {"rates": [0.0, 0.2, 0.4], "audited": 30}
    return {"smoke": False, "config": of_run, "accuracy": accuracy, "outcomes": outcomes, "memory": memory}


def write(path: Path, value: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def summary(results: Path) -> Path:
    return results / "evaluation" / "summary.json"


def figures(results: Path) -> dict[str, Figure]:
    metrics = sorted(results.glob("train/seed*/metrics.csv"))
    return {
        "curve": plots.learning_curve(metrics, {"uma_base": 0.3, "demonstrator": 0.4, "oracle": 1.0}),
        "horizon": plots.accuracy_by_horizon(summary(results)),
        "kind": plots.accuracy_by_kind(summary(results), 10),
        "tokens": plots.tokens_by_horizon(summary(results)),
        "habits": plots.habits(results / "habits.json"),
        "revisions": plots.accuracy_by_revisions(results / "revisions" / "results.json"),
        "failures": plots.revision_failures(results / "revisions" / "results.json"),
    }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(mpl.text.Text)]


def axes(figure: Figure) -> list[mpl.axes.Axes]:
    return figure.findobj(mpl.axes.Axes)


def line(axis: mpl.axes.Axes, label: str) -> np.ndarray:
    """The points of the line with a label, [n, 2]."""
    handles, labels = axis.get_legend_handles_labels()
    handle = handles[labels.index(label)]
    return (handle.lines[0] if hasattr(handle, "lines") else handle).get_xydata()


def test_draw_all_writes_every_figure_the_same_each_time(results: Path, tmp_path: Path) -> None:
    write(results / "agents" / "summary.json", json.loads(summary(results).read_text()))
    paths = plots.draw_all(results, tmp_path / "one")
    names = ["learning_curve", "accuracy_by_horizon", "accuracy_by_kind", "tokens_by_horizon", "habits"]
    both = [*names, "agents_by_horizon", "accuracy_by_revisions", "revision_failures"]
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in both for kind in ("pdf", "png")]
    for path in paths:
        assert path.read_bytes().startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
    for path in plots.save(plots.habits(results / "habits.json"), "habits", tmp_path / "two"):
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    assert b"/Type42" not in paths[0].read_bytes() and b"/FontFile2" in paths[0].read_bytes()  # TrueType inside


def test_sizes_and_text(results: Path) -> None:
    for name, figure in figures(results).items():
        assert figure.get_figwidth() == (3.3 if name in ("curve", "habits") else 6.8)
        figure.draw_without_rendering()
        frame = figure.bbox
        ticks = {label for axis in axes(figure) for label in [*axis.get_xticklabels(), *axis.get_yticklabels()]}
        for text in set(figure.findobj(mpl.text.Text)) - ticks:  # ticks beyond the limits are not drawn
            if text.get_text():
                box = text.get_window_extent()
                assert 6 <= text.get_fontsize() <= 8
                inside = frame.x0 - 1 <= box.x0 and box.x1 <= frame.x1 + 1
                assert inside, f"{name}: {text.get_text()!r} is cut"


def test_accuracy_by_revisions(results: Path) -> None:
    *panels, depends = axes(plots.accuracy_by_revisions(results / "revisions" / "results.json"))
    for panel, horizon in zip(panels, (10, 50), strict=True):
        assert f"{horizon} sessions" in panel.get_title()
        points = line(panel, "UMA after RL")
        assert points[:, 0] == pytest.approx([0, 0.2, 0.4], abs=0.03)
        assert points[:, 1] == pytest.approx([0.6, 0.4, 0.2])
        assert line(panel, "Oracle")[:, 1] == pytest.approx([1, 1, 1])
    heights = [container.lines[0].get_ydata() for container in depends.containers]
    assert len(heights) == len(EVALUATED) - 1  # the oracle is not there
    assert all(height == pytest.approx([0.2, 0.1]) for height in heights)


def test_revision_failures(results: Path) -> None:
    left, right = axes(plots.revision_failures(results / "revisions" / "results.json"))
    shares = {bars.get_label(): {bar.get_width() for bar in bars} for bars in left.containers}
    assert all(len(found) == 1 for found in shares.values())  # the same for every agent here
    assert [round(next(iter(found)), 2) for found in shares.values()] == [0.25, 0.5, 0.1, 0.15]
    assert [bars.get_label() for bars in right.containers] == [label for label, _ in plots.FATES.values()]
    assert sum(bars[0].get_width() for bars in right.containers) == pytest.approx(1)
    assert right.get_yticklabels()[0].get_text() == "told late (20)"
    with pytest.raises(RunError, match="no memory for"):
        plots.revision_failures(results / "revisions" / "results.json", "concat")


def test_smoke_runs_say_so(results: Path) -> None:
    warning = "smoke run: shows that it works, not how well"
    assert not any(warning in texts(figure) for figure in figures(results).values())
    found = json.loads(summary(results).read_text())
    write(summary(results), found | {"smoke": True})
    drawn = figures(results)
    for name in ("horizon", "kind", "tokens"):
        assert warning in texts(drawn[name])
    metrics = sorted(results.glob("train/seed*/metrics.csv"))
    assert warning in texts(plots.learning_curve(metrics, {}, smoke=True))
    assert warning in texts(plots.habits(results / "habits.json", smoke=True))


def test_sample_sizes_are_stated(results: Path) -> None:
    drawn = figures(results)
    notes = {name: figure.get_supxlabel() for name, figure in drawn.items()}
    assert notes["curve"] == "3 training seeds"
    assert "60 streams, 480 questions, 3 training seeds" in notes["horizon"]
    assert notes["kind"].startswith("10 sessions; 60 streams, 60 questions, 3 training seeds")
    assert "8 questions share the memory" in notes["tokens"]
    assert "100-200 occasions" in notes["habits"]


def test_learning_curve(results: Path) -> None:
    metrics = sorted(results.glob("train/seed*/metrics.csv"))
    (axis,) = axes(plots.learning_curve(metrics, {"demonstrator": 0.4}))
    steps = np.arange(0, 21, 5)
    assert line(axis, "UMA in training") == pytest.approx(np.column_stack([steps, 0.31 + 0.02 * steps]))
    band = axis.collections[0].get_paths()[0].get_extents()
    half = 4.3027 * 0.01 / np.sqrt(3)  # t of 2 degrees of freedom; the seeds lie 0.01 apart
    assert (band.y0, band.y1) == pytest.approx((0.31 - half, 0.71 + half), abs=1e-5)
    assert line(axis, "Demonstrator")[:, 1] == pytest.approx([0.4, 0.4])
    (axis,) = axes(plots.learning_curve(metrics[:1], {}))
    assert not axis.collections  # one seed has no band


def test_accuracy_by_horizon(results: Path) -> None:
    ours, paper = axes(plots.accuracy_by_horizon(summary(results)))
    assert ours.get_xscale() == paper.get_xscale() == "log"
    for agent in EVALUATED:
        if agent == "oracle":
            continue
        label, colour, _ = plots.AGENTS[agent]
        points = line(ours, label)
        assert points[:, 0] == pytest.approx(HORIZONS, rel=0.1)
        assert points[:, 1] == pytest.approx(share_of(agent))
        bar = next(c for c in ours.containers if c.get_label() == label)[2][0]
        low, high = bar.get_segments()[0][:, 1]
        assert (low, high) == pytest.approx((share_of(agent) - 0.05, share_of(agent) + 0.07))
        assert mpl.colors.to_hex(bar.get_color()[0]).upper() == colour
    assert line(paper, "UMA, specialist")[0] == pytest.approx([2, 0.8738])
    assert "another model and scale" in paper.get_title()
    first = axes(plots.accuracy_by_horizon(summary(results), "v1"))[1]
    assert line(first, "UMA")[0] == pytest.approx([2, 0.9038])
    with pytest.raises(RunError, match="choose v1 or v2"):
        plots.accuracy_by_horizon(summary(results), "v3")


def test_colours_and_markers_are_an_agents_own() -> None:
    assert set(plots.AGENTS) == set(EVALUATED)
    for position in (1, 2):
        assert len({style[position] for style in plots.AGENTS.values()}) == len(EVALUATED)
    assert set(plots.KINDS) == set(QUESTION_KINDS)
    assert (tuple(plots.OUTCOMES), tuple(plots.FATES), tuple(plots.REVISIONS)) == (OUTCOMES, FATES, KINDS)
    methods = pd.read_csv(DATA / "paper" / "ledger_qa_results.csv")["method"]
    assert set(methods) == set(plots.PAPER)


def test_accuracy_by_kind(results: Path) -> None:
    (axis,) = axes(plots.accuracy_by_kind(summary(results), 10))
    heights = {c.get_label(): [bar.get_height() for bar in c] for c in axis.containers if hasattr(c, "patches")}
    for agent in ("uma_rl", "uma_base"):
        assert heights[plots.AGENTS[agent][0]] == pytest.approx([share_of(agent)] * 8)
    with pytest.raises(RunError, match="no accuracy for .*'horizon': 3"):
        plots.accuracy_by_kind(summary(results), 3)


def test_missing_intervals_have_no_bar(results: Path) -> None:
    found = json.loads(summary(results).read_text())
    for record in found["accuracy"]:
        record["low"] = record["high"] = None
    write(summary(results), found)
    bars = plots._bars(pd.DataFrame(found["accuracy"]))
    assert bars.shape == (2, len(found["accuracy"])) and not bars.any()
    figures(results)


def test_wilson_interval() -> None:
    low, high = plots._wilson(np.array([0.5, 1.0]), np.array([200, 10]))
    assert low == pytest.approx([0.4314, 0.7225], abs=1e-4)
    assert high == pytest.approx([0.5686, 1.0], abs=1e-4)


def test_what_is_missing_is_named(results: Path) -> None:
    with pytest.raises(RunError, match="no column 'eval_accuracy'"):
        path = results / "train" / "seed0" / "metrics.csv"
        path.write_text("step,loss\n1,0.5\n")
        plots.learning_curve([path], {})
    summary(results).unlink()
    with pytest.raises(RunError, match="summary.json: no such file"):
        plots.accuracy_by_horizon(summary(results))
    with pytest.raises(RunError, match="metrics.csv there"):
        plots.draw_all(results / "empty", results / "figures")
