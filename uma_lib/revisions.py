"""Agents on streams with revisions: accuracy by their rate, what fails, and why.

On the track ``ledger-qa-revised`` later sessions correct, refund, cancel, split or move what was recorded before, or
tell a purchase late. `run` evaluates the same agents on the same streams at several rates of revisions; the rate 0 is
the plain track. Its ``results.json`` holds

- ``accuracy``: agent, rate, horizon, ``depends`` ("all", or whether an answer depends on a revision: "revised",
  "not revised") with accuracy and interval as in `evaluation`;
- ``outcomes``: what became of the answers that depend on a revision, by agent, rate, horizon and kind of revision. A
  wrong answer often is the right answer to another reading of the stream (`readings`);
- ``memory``: what the memory agents did to their memory when they were told a revision, by agent, rate and kind
  (`fates`): a wrong answer on its own cannot say whether writing or answering went wrong.

The shares of outcomes are lower bounds: an answer with one more mistake in it, such as a slip in a sum, is "other".
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from uma_lib import evaluation
from uma_lib.agents.agent import Trace
from uma_lib.agents.uma import UMA
from uma_lib.evaluation import (
    EvaluationConfig,
    check_models,
    folders_of,
    inputs_of,
    part_name,
    read_answers,
    read_traces,
    sets_of,
    specs_of,
)
from uma_lib.files import RunError, atomic_write_json
from uma_lib.ledger import Event, Ledger, Question, Session, Stream
from uma_lib.ledger.dataset import sample_of
from uma_lib.ledger.questions import answer
from uma_lib.ledger.schema import amounts_in, key_of
from uma_lib.ledger.state import PURCHASES, REVISIONS
from uma_lib.ledger.testsets import first_streams
from uma_lib.parameters import bounded
from uma_lib.processes import one_writer
from uma_lib.runs import Run
from uma_lib.scoring import score
from uma_lib.statistics import Row, accuracy_of

KINDS = ("late", *REVISIONS)
OUTCOMES = ("right", "ignored", "added", "other")
FATES = ("applied", "nothing", "added", "changed", "unknown")


@dataclass(frozen=True)
class RevisionsConfig(EvaluationConfig):
    """An evaluation (`EvaluationConfig`) at several rates of revisions; ``revisions`` itself stays 0."""

    rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4)  # revisions for each purchase
    horizons: tuple[int, ...] = (10, 50)
    streams: tuple[int, ...] = (60, 30)
    audited: int = 30  # streams of the first horizon whose memories are looked into, at each rate

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revisions:
            raise ValueError("revisions must stay 0: name the rates in rates")
        if not self.rates or len(set(self.rates)) < len(self.rates) or not all(0 <= r <= 1 for r in self.rates):
            raise ValueError(f"rates must be different numbers between 0 and 1, not {list(self.rates)}")
        bounded(self, audited=(1, math.inf))

    def at(self, rate: float) -> EvaluationConfig:
        """The evaluation at one rate."""
        values = {field.name: getattr(self, field.name) for field in fields(EvaluationConfig)}
        return EvaluationConfig(**values | {"revisions": rate, "traces": bool(rate)})  # memories are looked into


# --- answers ------------------------------------------------------------------------------------------------------


def readings(stream: Stream) -> dict[str, Ledger]:
    """Two wrong readings of a stream, as ledgers.

    ``ignored``: nothing that was said about earlier entries was acted on. ``added``: an amount that was said about
    another day was taken for a new purchase of the day on which it was said.

    >>> stream = Stream("small", "test", 10, 0, revisions=0.5)
    >>> found = readings(stream)
    >>> len(found["ignored"].entries) < len(found["added"].entries)
    True
    """
    ignored, added = Ledger(), Ledger()
    for session in stream:
        for number, event in enumerate(session.events):
            if event.kind in PURCHASES:
                ignored.apply(event)
            if event.kind == "purchase":
                added.apply(event)
            elif event.amount is not None:
                of = event if event.scene else added.entries.get(event.revises)
                if of is None:  # a refund of what was split off, which is no entry of this reading
                    continue
                name = event.entry if event.kind == "late" else f"{session.index}.said{number}"
                added.apply(Event("purchase", session.index, event.turn, name, None, session.date, of.category,
                                  of.scene, event.amount))  # fmt: skip
    return {"ignored": ignored, "added": added}


def revisions_behind(question: Question, stream: Stream) -> set[str]:
    """The kinds of revisions that an answer depends on: those of entries that match the question or once did."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for session in stream:
        for event in session.events:
            if event.kind != "purchase":
                kinds[event.entry].add(event.kind)
            if event.revises:
                kinds[event.revises].add(event.kind)
    entries = stream.state().entries
    return {
        kind
        for name, found in kinds.items()
        if any(
            (question.start is None or question.start <= day <= question.end)
            and (not question.categories or category in question.categories)
            and (question.scene is None or question.scene == scene)
            for day, category, scene in entries[name].versions
        )
        for kind in found
    }


def explain(rows: Sequence[Row], stream: Stream, per_kind: int = 1) -> list[dict[str, Any]]:
    """What became of each answer on one stream.

    rows: those of an evaluation (`evaluation.COLUMNS`) on this stream, with ``per_kind`` questions of each kind.
    Returns for each ``revised`` (`revisions_behind`) and ``outcome``: "right"; "ignored" or "added" (right for that
    reading, the first of them where it is right for both); else "other".
    """
    questions = sample_of(stream, per_kind).truth.questions
    wrong = readings(stream)
    behind = {name: sorted(revisions_behind(question, stream)) for name, question in questions.items()}
    found = []
    for row in rows:
        q = questions[row["id"]]
        outcome = "right" if row["correct"] else "other"
        if not row["correct"]:
            for name, ledger in wrong.items():
                gold = answer(ledger, q.kind, q.categories, q.start, q.end, q.scene)
                if gold and score(row["answer"], gold):
                    outcome = name
                    break
        found.append({"revised": behind[row["id"]], "outcome": outcome})
    return found


# --- memories -----------------------------------------------------------------------------------------------------


def fates(session: Session, before: dict[str, str], after: dict[str, str], truth: Ledger) -> list[tuple[str, str]]:
    """What a memory session did about each revision that it was told: pairs of a kind and one of `FATES`.

    before, after: the bank; truth: the true ledger before the session, which is brought to its end. Entries are those
    of the given schema: key "DATE CATEGORY", value amounts. "applied": the entries of the revised purchase are as they
    should be. "unknown": not so, and the memory had no true entry to begin with. "added": the amount was stored
    elsewhere. "changed": the entry was changed in another way. "nothing": all stayed as it was.
    """
    had = _amounts(truth)
    told = []
    for event in session.events:
        keys = {key_of(truth.entries[event.revises])} if event.revises else set()
        truth.apply(event)
        keys.add(key_of(truth.entries[event.entry]))
        if event.kind != "purchase":
            told.append((event, keys))
    has = _amounts(truth)
    here = Counter(e.amount for e in session.events if e.kind == "purchase")
    stored: Counter = Counter()
    for key in after:
        if before.get(key) != after[key]:
            stored += (amounts_in(after[key]) or Counter()) - (amounts_in(before.get(key, "")) or Counter())
    found = []
    for event, keys in told:
        changed = any(before.get(key) != after.get(key) for key in keys)
        known = not event.revises or all(amounts_in(before.get(key, "")) == had.get(key) for key in keys)
        if changed and all(amounts_in(after.get(key, "")) == has.get(key) for key in keys):
            fate = "applied"
        elif not known:  # what is missing anyway needs no cancelling
            fate = "unknown"
        elif event.amount is not None and (stored - here)[event.amount]:
            fate = "added"
        elif changed:
            fate = "changed"
        else:
            fate = "nothing"
        found.append((event.kind, fate))
    return found


def _amounts(ledger: Ledger) -> dict[str, Counter]:
    """The amounts that entries of a true memory hold, by key."""
    found: dict[str, Counter] = defaultdict(Counter)
    for entry in ledger.live():
        found[key_of(entry)][entry.amount] += 1
    return dict(found)


def trajectory_fates(stream: Stream, sessions: Sequence[Trace]) -> Iterator[tuple[str, str]]:
    """`fates` over all memory sessions of a trajectory, read from their traces."""
    bank: dict[str, str] = {}
    truth = Ledger()
    for session, trace in zip(stream, sessions, strict=True):
        after = trace.diff.apply(bank)
        yield from fates(session, bank, after, truth)
        bank = after


# --- whole evaluations --------------------------------------------------------------------------------------------


def run(config: RevisionsConfig, out: Path) -> dict[str, Any]:
    """Evaluate at every rate into folders below ``out``, or continue there; returns the results."""
    with one_writer(out):
        return _run(config, Path(out))


def _run(config: RevisionsConfig, out: Path) -> dict[str, Any]:
    folder, base = Run(out), config.at(0.0)
    models = list(dict.fromkeys(spec.model for spec in specs_of(base) if spec.model))
    check_models(base, folder, sets_of(base), models)
    folder.start(asdict(config), inputs_of(models))
    if folder.complete:
        return folder.results()
    accuracy, outcomes = [], []
    for rate in config.rates:
        evaluation.run(config.at(rate), out / f"rate-{rate}")
        rows = _explained(read_answers(out / f"rate-{rate}"), config.at(rate))
        accuracy += [{"rate": rate} | record for record in _accuracy(rows)]
        outcomes += [{"rate": rate} | record for record in _outcomes(rows)]
    memory = [
        record
        for rate in config.rates
        if rate
        for record in _memory(config.at(rate), config.audited, out / f"rate-{rate}")
    ]
    results = {"smoke": config.smoke, "config": asdict(config)}
    results |= {"accuracy": accuracy, "outcomes": outcomes, "memory": memory}
    atomic_write_json(folder.results_path, results)
    folder.close(folders_of(models).values(), seed=config.seed)
    return folder.results()


def _explained(rows: list[Row], config: EvaluationConfig) -> list[Row]:
    by_stream: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_stream[row["stream"]].append(row)
    found = []
    for horizon, count in zip(config.horizons, config.streams, strict=True):
        for stream in first_streams(config.size, config.split, horizon, count, config.revisions):
            of_stream = by_stream[stream.name]
            explained = explain(of_stream, stream, config.per_kind)
            found += [row | more for row, more in zip(of_stream, explained, strict=True)]
    return found


def _accuracy(rows: list[Row]) -> list[Row]:
    cells: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        for depends in ("all", "revised" if row["revised"] else "not revised"):
            cells[row["agent"], row["horizon"], depends].append(row)
    return [
        {"agent": agent, "horizon": horizon, "depends": depends} | accuracy_of(cell)
        for (agent, horizon, depends), cell in cells.items()
    ]


def _outcomes(rows: list[Row]) -> list[Row]:
    cells: dict[tuple, Counter] = defaultdict(Counter)
    for row in rows:
        for kind in ("any", *row["revised"]) if row["revised"] else ():
            cells[row["agent"], row["horizon"], kind][row["outcome"]] += 1
    return [
        {"agent": agent, "horizon": horizon, "kind": kind, "answers": counts.total()}
        | {outcome: counts[outcome] for outcome in OUTCOMES}
        for (agent, horizon, kind), counts in cells.items()
    ]


def _memory(config: EvaluationConfig, audited: int, out: Path) -> list[Row]:
    """Fates of revisions in the memories that the evaluation in ``out`` kept, on streams of the first horizon."""
    (data, *_), records = sets_of(config), []
    counts: dict[str, dict[str, Counter]] = {}
    for spec in specs_of(config):
        if spec.kind is not UMA:
            continue
        of_agent = counts.setdefault(spec.name, defaultdict(Counter))
        traces = read_traces(out / "traces" / f"{part_name(spec, data)}.jsonl.gz")
        for sample, (name, sessions, _) in islice(zip(data.samples(config.split), traces, strict=True), audited):
            if sample.id != name:
                raise RunError(f"{out}: traces of {name} stand where those of {sample.id} should; evaluate anew")
            for kind, fate in trajectory_fates(sample.truth.stream, sessions):
                of_agent[kind][fate] += 1
    for agent, of_agent in counts.items():
        records += [
            {"agent": agent, "rate": config.revisions, "kind": kind, "revisions": of_agent[kind].total()}
            | {fate: of_agent[kind][fate] for fate in FATES}
            for kind in KINDS
            if kind in of_agent
        ]
    return records
