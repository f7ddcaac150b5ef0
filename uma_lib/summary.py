"""What rows come to: accuracies with intervals, costs, differences between agents, and what chance would get.

Records of a summary, each with the agent and the set (``set``; ``horizon`` is the number of chunks where all samples
of the set have as many, else None):

- ``accuracy``: by kind of question ("all" or one), the mean of the set's first metric, its 95 % interval low..high
  (None with fewer than two samples; then ``within`` is one over the questions of the only stream), the mean by
  checkpoint, the numbers of streams, questions and checkpoints; ``unscored`` counts answers that could not be scored,
  ``failed`` questions that could not be asked, and neither counts as wrong;
- ``tolerant``: accuracy when answers are read as free text (`tolerant.score_tolerant`) and the strict one, for the
  cells in which both differ; chat models say more than the value;
- ``metrics``: the mean of every metric;
- ``tokens``: tokens a question in the prompt (tool results included), written, and for building the memory, shared by
  the questions that are asked of it; ``seconds`` likewise; ``per_right``: all of these tokens for each right answer;
- ``differences``: one agent against another on the same questions, with the interval of the difference by resampling
  samples, a two-sided p by permuting them, and that corrected for the number of comparisons in the set (Holm);
- ``break_even``: questions about one stream from which on a memory takes fewer tokens than Concat or RAG;
- ``chance``: what the same answer to all questions of a kind would get, the commonest in training samples.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations, islice

import numpy as np

from uma_lib.sample import Dataset
from uma_lib.statistics import Row, accuracy_of, difference_of, holm, interval

READERS = ("concat", "rag")  # what a memory's cost is held against


def summarize(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """All records (see above) but chance, from the rows of all agents."""
    failed = Counter((row["agent"], row["set"], kind) for row in rows if row["error"] for kind in ("all", row["kind"]))
    cells: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        for kind in ("all", row["kind"]):
            cells[row["agent"], row["set"], kind].append(row)
    places = {key: _place(cell) | {"kind": key[2]} for key, cell in cells.items()}
    asked = {key: [row for row in cell if not row["error"]] for key, cell in cells.items()}
    accuracy = [
        places[key] | accuracy_of(cell) | ({"failed": failed[key]} if failed[key] else {}) | _within(cell)
        for key, cell in asked.items()
    ]
    tolerant, metrics, tokens = [], [], []
    for key, cell in asked.items():
        both = [row for row in cell if row["tolerant"] is not None and row["correct"] is not None]
        read, strict = (sum(row[name] for row in both) for name in ("tolerant", "correct"))
        if read != strict:
            tolerant.append(places[key] | {"accuracy": read / len(both), "strict": strict / len(both)})
        if key[2] == "all" and cell:
            place = {name: value for name, value in places[key].items() if name != "kind"}
            metrics += [place | one for one in _metrics(cell)]
            if any(row["prompt_tokens"] for row in cell):
                tokens.append(place | _tokens(cell))
    return {
        "accuracy": accuracy, "tokens": tokens, "tolerant": tolerant, "metrics": metrics,
        "differences": _differences(rows), "break_even": _break_even(tokens),
    }  # fmt: skip


def _place(cell: Sequence[Row]) -> Row:
    horizons = {row["horizon"] for row in cell}
    return {"agent": cell[0]["agent"], "set": cell[0]["set"], "horizon": horizons.pop() if len(horizons) == 1 else None}


def _within(cell: Sequence[Row]) -> Row:
    """The interval over the questions of an only stream: it says nothing of other streams."""
    scored = [row for row in cell if row["correct"] is not None]
    if len({row["stream"] for row in scored}) != 1 or len(scored) < 2 or len({row["seed"] for row in scored}) != 1:
        return {}
    found = interval(np.array([[row["correct"] for row in scored]]), np.ones((1, len(scored))))
    return {"within": list(found)}


def _metrics(cell: Sequence[Row]) -> list[Row]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in cell:
        for metric, value in json.loads(row["scores"]).items():
            if value is not None:
                values[metric].append(value)
    return [{"metric": metric, "mean": sum(v) / len(v), "questions": len(v)} for metric, v in values.items()]


def _tokens(cell: Sequence[Row]) -> Row:
    memories = {(row["seed"], row["stream"]): (row["memory_tokens"], row["memory_seconds"]) for row in cell}
    prompt, written, seconds = (sum(row[n] for row in cell) for n in ("prompt_tokens", "written_tokens", "seconds"))
    memory, building = (sum(values) for values in zip(*memories.values(), strict=True))
    right = sum(row["correct"] or 0 for row in cell)
    return {
        "prompt": prompt / len(cell),
        "written": written / len(cell),
        "memory": memory / len(cell),
        "questions": len(cell) / len(memories),  # of a stream
        "seconds": seconds / len(cell),
        "memory_seconds": building / len(cell),
        "per_right": (prompt + written + memory) / right if right else None,
    }


def _break_even(tokens: Sequence[Row]) -> list[Row]:
    """None where the reader is cheaper at every number of questions."""
    found = []
    readers = {(row["agent"], row["set"]): row for row in tokens if row["agent"] in READERS}
    for row in tokens:
        for name in READERS if row["memory"] else ():
            if other := readers.get((name, row["set"])):
                saved = other["prompt"] + other["written"] - row["prompt"] - row["written"]
                place = {key: row[key] for key in ("agent", "set", "horizon")}
                enough = row["memory"] * row["questions"] / saved if saved > 0 else None
                found.append(place | {"against": name, "questions": enough})
    return found


def _differences(rows: Sequence[Row]) -> list[Row]:
    """Every pair of agents on the questions that both were scored on; checkpoints of one agent are averaged."""
    scored: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    streams: dict[str, str] = {}
    for row in rows:
        if row["correct"] is not None and not row["error"]:
            scored[row["set"]][row["agent"]][row["id"]].append(row["correct"])
            streams[row["id"]] = row["stream"]
    found = []
    for name, agents in scored.items():
        here = []
        for one, other in combinations(agents, 2):
            common = [question for question in agents[one] if question in agents[other]]
            values = [_mean(agents[one][q]) - _mean(agents[other][q]) for q in common]
            if common:
                place = {"set": name, "agent": one, "against": other}
                here.append(place | difference_of(values, [streams[q] for q in common]))
        for record, p in zip(here, holm([record["p"] for record in here]), strict=True):
            found.append(record | {"p_holm": p})
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def chance(rows: Sequence[Row], sets: Sequence[Dataset]) -> list[Row]:
    """Accuracy of constant answers: to each kind of question the commonest one in 50 training samples of each set."""
    asked = list({row["id"]: row for row in rows}.values())  # once, whichever agents answered
    found = []
    for data in sets:
        if "train" not in getattr(data, "splits", ("train",)):
            continue
        golds: dict[str, Counter[str]] = defaultdict(Counter)
        horizons = set()
        for sample in islice(data.samples("train"), 50):
            horizons.add(len(sample.chunks))
            for question in sample.questions:
                golds[question.kind][str(question.gold)] += 1
        constant = {kind: counts.most_common(1)[0][0] for kind, counts in golds.items()}
        for horizon in sorted(horizons):
            hits: dict[str, list[bool]] = defaultdict(list)
            for row in asked:
                if row["set"] == data.name and row["horizon"] == horizon:
                    for kind in ("all", row["kind"]):
                        hits[kind].append(row["gold"] == constant.get(row["kind"]))
            place = {"set": data.name, "horizon": horizon}
            found += [place | {"kind": kind, "accuracy": sum(hit) / len(hit)} for kind, hit in hits.items()]
    return found
