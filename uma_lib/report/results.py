"""Results files (CSV and JSON), read and checked: figures and notebooks get them through here.

A file whose shape or numbers cannot be right is refused with a `RunError` of one line: the file, the field and what is
wrong with it. What the fields mean stands in the modules that write them: `evaluation`, `revisions`, `analysis`,
`training` and the scripts in `benchmarks`. Fields that nobody reads are not looked at.

>>> from uma_lib.paths import RESULTS
>>> read_summary(RESULTS / "evaluation" / "summary.json")["config"]["horizons"]
[2, 5, 10, 20, 50, 100, 500]
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from uma_lib.files import RunError, read_json, read_text
from uma_lib.ledger.files import check_shape, short
from uma_lib.ledger.questions import ALL_KINDS
from uma_lib.ledger.state import REVISIONS
from uma_lib.paths import DATA

AGENTS = (
    "uma_rl", "uma_base", "concat", "rag", "rag_bm25", "rag_dense", "memagent", "memagent_woq", "mem1", "mem_alpha",
    "a_mem", "demonstrator", "question_only", "oracle",
)  # fmt: skip
LEDGER = "ledger-qa"  # what the names of its sets begin with
OUTCOMES = ("right", "ignored", "added", "other")  # of answers, see `revisions`
FATES = ("applied", "nothing", "added", "changed", "unknown")  # of revisions, see `revisions`
DEPENDS = ("all", "revised", "not revised")

Rule = Callable[[Any], str]  # what a value should be, "" where it is that
NUMBER = int | float
CONFIG = {
    "agents": [str], "horizons": [int], "streams": [int], "trained": [str], "split": str, "per_kind": int,
    "temperature": NUMBER,
}  # fmt: skip
ACCURACY = {
    "agent": str, "horizon": int, "accuracy": NUMBER, "low": NUMBER | None, "high": NUMBER | None, "streams": int,
    "questions": int, "checkpoints": int,
}  # fmt: skip
SHARE = {"share": NUMBER, "n": int}
POLICY = {"accuracy": {"all": SHARE}, "habits": dict}
TRAJECTORY = {
    "stream": str,
    "sessions": [{"chunk": str, "written": str, "diff": str, "core": str, "right": {"exact": bool}}],
    "questions": [{"question": str, "gold": str, "written": str, "answer": str | None, "right": bool}],
}


# --- rules --------------------------------------------------------------------------------------------------------


def share(value: float | None) -> str:
    return "" if value is None or 0 <= value <= 1 else "a share between 0 and 1"


def count(value: int) -> str:
    return "" if 1 <= value < 2**53 else "a number of things, at least 1"


def amount(value: float) -> str:
    return "" if 0 <= value < 2**53 else "a finite number, at least 0"


def one_of(known: Iterable[Any]) -> Rule:
    known = tuple(known)
    return lambda value: "" if value in known else f"one of {', '.join(map(str, known))}"


OF_ACCURACY = {
    "accuracy": share, "low": share, "high": share, "streams": count, "questions": count, "checkpoints": count,
}  # fmt: skip


def _check_fields(row: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> None:
    for field, rule in rules.items():
        if wanted := rule(row[field]):
            raise RunError(f"{where}.{field} is {short(row[field])}, not {wanted}")


def _check_records(
    path: Path, found: Mapping[str, Any], name: str, shape: dict, rules: Mapping[str, Rule], key: tuple[str, ...]
) -> None:
    """Records of one kind: their fields, and that none is there twice."""
    check_shape(found[name], [shape], str(path), name)
    seen = set()
    for k, row in enumerate(found[name]):
        where = f"{path}: {name}[{k}]"
        _check_fields(row, rules, where)
        if row.get("low") is not None and row.get("high") is not None and row["low"] > row["high"]:
            raise RunError(f"{where}.low is {row['low']}, above high, {row['high']}")
        if (row.get("low") is None) != (row.get("high") is None):
            raise RunError(f"{where}: of low and high only one is there")
        place = tuple(row[field] for field in key)
        if place in seen:
            raise RunError(f"{where}: {', '.join(map(str, place))} is there twice")
        seen.add(place)


def _check_complete(path: Path, found: Mapping[str, Any], name: str, key: Iterable[str], wanted: Iterable) -> None:
    """Every wanted record is there."""
    key = tuple(key)
    has = {tuple(row[field] for field in key) for row in found[name]}
    for place in wanted:
        if place not in has:
            told = ", ".join(f"{field} {value}" for field, value in zip(key, place, strict=True))
            raise RunError(f"{path}: {name} has no record for {told}, which config promises")


def _read(path: Path, shape: dict) -> Any:
    found = read_json(path)
    check_shape(found, shape, str(path))
    return found


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    where = f"{path}: config"
    _check_fields(config, {"per_kind": count, "temperature": amount}, where)
    if len(config["streams"]) != len(config["horizons"]):
        raise RunError(f"{where}.streams has {len(config['streams'])} items, one for each of horizons is wanted")
    for name, rule in (("agents", one_of(AGENTS)), ("horizons", count), ("streams", count)):
        if not config[name]:
            raise RunError(f"{where}.{name} is empty")
        if name != "streams" and len(set(config[name])) < len(config[name]):
            raise RunError(f"{where}.{name} has something twice")
        _check_fields(dict(enumerate(config[name])), dict.fromkeys(range(len(config[name])), rule), f"{where}.{name}")


# --- JSON ---------------------------------------------------------------------------------------------------------


def read_summary(path: Path) -> dict[str, Any]:
    """``summary.json`` of an evaluation on Ledger-QA; records of other sets, which have no horizon, are left out."""
    found = _read(path, {"smoke": bool, "config": CONFIG, "accuracy": list, "tokens": list, "chance": list})
    for name in ("accuracy", "tokens", "chance"):
        check_shape(found[name], [{}], str(path), name)
    there = found["accuracy"]
    found |= {
        name: [row for row in found[name] if str(row.get("set", LEDGER)).startswith(LEDGER)]
        for name in ("accuracy", "tokens", "chance")
    }
    if there and not found["accuracy"]:
        raise RunError(f"{path}: nothing of Ledger-QA was evaluated; report.tables shows other sets")
    config = found["config"]
    _check_config(path, config)
    agent, kind = {"agent": one_of(config["agents"])}, {"kind": one_of(("all", *ALL_KINDS))}
    horizon = {"horizon": one_of(config["horizons"])}
    rules = OF_ACCURACY | agent | horizon | kind
    _check_records(path, found, "accuracy", ACCURACY | {"kind": str}, rules, ("agent", "horizon", "kind"))
    shape = {"horizon": int, "kind": str, "accuracy": NUMBER}
    _check_records(path, found, "chance", shape, {"accuracy": share} | horizon | kind, ("horizon", "kind"))
    shape = {"agent": str, "horizon": int, "prompt": NUMBER, "written": NUMBER, "memory": NUMBER}
    rules = dict.fromkeys(("prompt", "written", "memory"), amount) | agent | horizon
    _check_records(path, found, "tokens", shape, rules, ("agent", "horizon"))
    everything = product(config["agents"], config["horizons"], ["all"])
    _check_complete(path, found, "accuracy", ("agent", "horizon", "kind"), everything)
    _check_complete(path, found, "chance", ("horizon", "kind"), product(config["horizons"], ["all"]))
    return found


def read_revisions(path: Path) -> dict[str, Any]:
    """``results.json`` of an evaluation with revisions."""
    config = CONFIG | {"rates": [NUMBER], "audited": int}
    found = _read(path, {"smoke": bool, "config": config, "accuracy": list, "outcomes": list, "memory": list})
    config = found["config"]
    _check_config(path, config)
    if not config["rates"]:
        raise RunError(f"{path}: config.rates is empty")
    agent, kinds = {"agent": one_of(config["agents"])}, ("late", *REVISIONS)
    rate = {"rate": one_of(rate for rate in config["rates"] if not share(rate))}
    both = agent | rate | {"horizon": one_of(config["horizons"])}
    shape, key = ACCURACY | {"rate": NUMBER, "depends": str}, ("agent", "horizon", "rate", "depends")
    _check_records(path, found, "accuracy", shape, OF_ACCURACY | both | {"depends": one_of(DEPENDS)}, key)
    everything = product(config["agents"], config["horizons"], config["rates"], ["all"])
    _check_complete(path, found, "accuracy", key, everything)
    any_kind, of_kind = {"kind": one_of(("any", *kinds))}, {"kind": one_of(kinds)}
    for name, total, parts, places, key in (
        ("outcomes", "answers", OUTCOMES, any_kind | both, ("agent", "horizon", "rate", "kind")),
        ("memory", "revisions", FATES, of_kind | agent | rate, ("agent", "rate", "kind")),
    ):
        shape = {field: int for field in (total, *parts)} | {"agent": str, "rate": NUMBER, "kind": str}
        shape |= {"horizon": int} if "horizon" in key else {}
        rules = places | dict.fromkeys(parts, amount) | {total: count}
        _check_records(path, found, name, shape, rules, key)
        for k, row in enumerate(found[name]):
            if sum(row[part] for part in parts) != row[total]:
                raise RunError(f"{path}: {name}[{k}].{total} is {row[total]}, not the sum of {', '.join(parts)}")
    return found


def read_habits(path: Path) -> dict[str, Any]:
    """``habits.json`` of an analysis: the same habits before and after."""
    config = {"streams": int, "sessions": int, "temperature": NUMBER}
    found = _read(path, {"config": config, "before": POLICY, "after": POLICY})
    _check_fields(found["config"], {"streams": count, "sessions": count, "temperature": amount}, f"{path}: config")
    for when in ("before", "after"):
        measured = {"accuracy.all": found[when]["accuracy"]["all"]}
        measured |= {f"habits.{name}": value for name, value in found[when]["habits"].items()}
        for name, value in measured.items():
            check_shape(value, SHARE, str(path), f"{when}.{name}")
            _check_fields(value, {"share": share, "n": count}, f"{path}: {when}.{name}")
    before, after = (set(found[when]["habits"]) for when in ("before", "after"))
    if before != after or not before:
        differ = ", ".join(sorted(before ^ after)) or "none at all"
        raise RunError(f"{path}: habits before and after must be the same ones; on one side only: {differ}")
    return found


def read_trajectories(path: Path) -> dict[str, list[dict[str, Any]]]:
    """``trajectories.json`` of an analysis."""
    return _read(path, {"before": [TRAJECTORY], "after": [TRAJECTORY]})


def read_training(path: Path) -> dict[str, Any]:
    """``params.json`` of a training run."""
    names = ("steps", "contexts", "trajectories", "eval_streams", "eval_sessions")
    found = _read(path, {name: int for name in names} | {"temperature": NUMBER})
    _check_fields(found, dict.fromkeys(names, count) | {"temperature": amount}, f"{path}: parameters")
    return found


def read_bench(path: Path, row: Iterable[str] = ()) -> dict[str, Any]:
    """``bench_*.json`` of a benchmark; ``row``: numbers that every one of its ``rows`` must have."""
    found = _read(path, {})
    rows = found.get("rows", [])
    check_shape(rows, [{name: NUMBER for name in row}], str(path), "rows")
    if row and not rows:
        raise RunError(f"{path}: has no rows")
    for k, values in enumerate(rows):
        _check_fields(values, dict.fromkeys(row, amount), f"{path}: rows[{k}]")
    return found


# --- CSV ----------------------------------------------------------------------------------------------------------


def read_table(path: Path, numbers: Mapping[str, Rule], texts: Iterable[str] = ()) -> pd.DataFrame:
    """Some columns of a CSV file, numbers as floats (an empty field is NaN); `RunError` names file, line and column."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    wanted, rows = (*numbers, *texts), []
    try:
        for name in wanted:
            if name not in (reader.fieldnames or ()):
                raise RunError(f"{path} has no column {name!r}, only: {', '.join(reader.fieldnames or ['none'])}")
        for row in reader:
            if None in row or None in row.values():
                raise RunError(f"{path}, line {reader.line_num}: has more or fewer fields than the header")
            rows.append({name: row[name] for name in wanted})
            for name, rule in numbers.items():
                rows[-1][name] = _number(row[name], rule, f"{path}, line {reader.line_num}: {name}")
    except csv.Error as error:
        raise RunError(f"{path}, line {reader.line_num}: not CSV ({error}); restore the file") from error
    if not rows:
        raise RunError(f"{path}: has no rows; restore or make the file")
    return pd.DataFrame(rows)


def _number(text: str, rule: Rule, where: str) -> float:
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError as error:
        raise RunError(f"{where} is {text!r}, not a number") from error
    if wanted := rule(value):
        raise RunError(f"{where} is {text!r}, not {wanted}")
    return value


def read_paper(version: str) -> pd.DataFrame:
    """The paper's own results on Ledger-QA, in per cent: method, sessions, value."""
    path = DATA / "paper" / "ledger_qa_results.csv"
    numbers = {"sessions": count, "value": lambda value: "" if 0 <= value <= 100 else "per cent"}
    table = read_table(path, numbers, ("paper_version", "method"))
    table = table[table["paper_version"] == version].dropna()
    if table.empty:
        raise RunError(f"no results of paper version {version!r}: choose v1 or v2")
    return table.astype({"sessions": int})


def read_metrics(path: Path, column: str = "eval_accuracy") -> pd.Series:
    """A share by step from the ``metrics.csv`` of a training run, at the steps that have it."""
    table = read_table(path, {"step": amount, column: share})
    steps = table["step"]
    if steps.isna().any() or (steps % 1).any() or not (steps.is_monotonic_increasing and steps.is_unique):
        raise RunError(f"{path}: step must be whole numbers, each once and in order")
    found = table.set_index(steps.astype(int))[column].dropna()
    if found.empty:
        raise RunError(f"{path}: {column} is empty in every row")
    return found
