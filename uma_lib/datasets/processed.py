"""Sets as others have processed them: files of Mem-alpha, of MemoryAgentBench, and of Ledger-QA's authors.

One file holds several sets, told apart by the name of their source; a sample's kind of gold follows from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from uma_lib.datasets.build import Build, Card, HeldOut, Session, guide, numbered
from uma_lib.datasets.labels import asks
from uma_lib.datasets.source import Source, filled, rows
from uma_lib.files import RunError
from uma_lib.ledger.authors import read_authors
from uma_lib.ledger.dataset import LedgerQA
from uma_lib.ledger.dataset import guide as guide_of_ledger
from uma_lib.ledger.files import check_shape, read_parquet
from uma_lib.sample import Guide, Question, Sample
from uma_lib.scoring import Gold

_EXAMPLE = re.compile(r"\n\s*\n")
_FILES = ("*.parquet", "*/*.parquet", "*.jsonl", "*.jsonl.gz", "*.json")


class _Processed(HeldOut):
    """``only``: the names of sources to take, all of them by default."""

    metrics = ("exact", "f1", "keywords")

    def __init__(self, source: Source, build: Build | None = None, only: tuple[str, ...] = ()):
        super().__init__(source, build)
        self.only = only

    def _wanted(self, source: str) -> bool:
        return not self.only or source in self.only

    def _told(self, source: str) -> Guide:
        """What agents are told, by the source of a sample."""
        talk = re.match("lme|longmem|locomo|msc|perltqa|convo", source)
        family = "labels" if _is_labels(source) else "dialogues" if talk else "documents"
        return guide(family, self.build.schema_given)


class Memalpha(_Processed):
    """Rows of YuWangX/Memalpha, Memalpha-full and Memalpha-Memoryagentbench: chunks and questions as JSON texts."""

    name, family = "memalpha", "documents"
    card = Card(
        "Mem-alpha's processed sets",
        "hub YuWangX/Memalpha and YuWangX/Memalpha-Memoryagentbench",
        "Apache-2.0 by its README; the sets in it keep their own",
        "Chunks as they stand, split where they are longer than a chunk may be. Gold by source: a number for labels, "
        "parts at ';' for PerLTQA, keywords for summaries, else text.",
        "nothing: these are the files that the paper reads",
        "numbers of rows are unique within one file only: here they stand behind the name of the source",
    )

    def make(self) -> Iterator[Sample]:
        shape = {"chunks": str, "questions_and_answers": str, "data_source": str}
        for path in self.source.find(*_FILES):
            for number, (where, row) in enumerate(rows(path, shape)):
                source = row["data_source"]
                if not self._wanted(source):
                    continue
                chunks = _json(row, "chunks", [str], where)
                asked = _json(row, "questions_and_answers", [{"question": str}], where)
                name = f"{self.name}/{source}/{row.get('instance_id', number)}"
                questions = [
                    Question("", _asked(source, one["question"], f"{where}: questions_and_answers[{k}].question"),
                             _gold(source, one.get("answer"), f"{where}: questions_and_answers[{k}].answer"), source)
                    for k, one in enumerate(asked)
                ]  # fmt: skip
                if questions:
                    cut = [part for chunk in chunks for part in self.build.cut(chunk)]
                    yield Sample(name, cut, numbered(name, questions), self._told(source))


class MemoryAgentBench(_Processed):
    """Rows of ai-hyz/MemoryAgentBench: one context, questions, several right answers each."""

    name, family = "memoryagentbench", "documents"
    card = Card(
        "MemoryAgentBench",
        "hub ai-hyz/MemoryAgentBench",
        "MIT",
        "The context is cut between examples, which blank lines stand between, into chunks; every answer of the list "
        "counts.",
        "its own chunks are 4,096 tokens of another tokenizer, cut at sentences",
        "numbers of rows have changed over time",
    )

    def make(self) -> Iterator[Sample]:
        shape = {"context": str, "questions": [str], "answers": [list], "metadata": {"source": str}}
        for path in self.source.find(*_FILES):
            for number, (where, row) in enumerate(rows(path, shape)):
                source = row["metadata"]["source"]
                if not self._wanted(source):
                    continue
                if len(row["questions"]) != len(row["answers"]):
                    counts = f"{len(row['questions'])} questions and {len(row['answers'])} answers"
                    raise RunError(f"{where}: {counts}; there must be as many")
                units = [f"{text.strip()}\n" for text in _EXAMPLE.split(row["context"]) if text.strip()]
                name = f"{self.name}/{source}/{number}"
                questions = [
                    Question("", _asked(source, text, f"{where}: questions[{k}]"),
                             _gold(source, answers, f"{where}: answers[{k}]"), source)
                    for k, (text, answers) in enumerate(zip(row["questions"], row["answers"], strict=True))
                ]  # fmt: skip
                if questions:
                    yield Sample(name, self.build.packed(units), numbered(name, questions), self._told(source))


class LedgerFiles(HeldOut):
    """Ledger-QA as files: the authors' JSON, or what `uma ledger make` has written."""

    name, family = "ledger-qa-files", "ledger"
    metrics = LedgerQA.metrics
    card = Card(
        "Ledger-QA: values accumulated over many sessions, from files",
        "dp66/ledger-qa-train on the hub, the authors' generator, or uma ledger make",
        "not stated for the authors' files; ours Apache-2.0",
        "A chunk a session, split where it is longer than a chunk may be; questions after the last one, by type.",
        "nothing: typed scoring instead of the authors' search for the gold in the answer",
        "a language model made the authors' dialogues, and nothing checked that they hold the amounts",
        "3 to 5 samples a horizon of 2 to 500 sessions, about 34 questions each",
    )

    def make(self) -> Iterator[Sample]:
        for path in self.source.find("*.json", "*.json.gz", "*.parquet"):
            for one in read_parquet(path) if path.suffix == ".parquet" else read_authors(path):
                name, session = f"{self.name}/{one.id}", Session(self.build)
                places = [session.add(chunk) for chunk in one.chunks]
                told = guide_of_ledger(self.build.schema_given, any(question.scene for question in one.questions))
                questions = [
                    Question("", q.text, q.gold, q.kind, evidence=tuple(k for s in q.sessions for k in places[s]))
                    for q in one.questions
                ]
                yield Sample(name, session.chunks, numbered(name, questions), told, one)

    scores = LedgerQA.scores


def _is_labels(source: str) -> bool:
    return source.startswith("icl_") or source in ("pubmed-rct", "pubmed_rct")


def _asked(source: str, text: str, where: str) -> str:
    """The question; that of a labelled set is the bare sentence there."""
    text = filled(text, where, "the question")
    return asks(text) if source.startswith("icl_") else text


def _gold(source: str, answer: Any, where: str) -> Gold:
    answers = [filled(one, where, "the answer") for one in (answer if isinstance(answer, list) else [answer])]
    if not answers:
        raise RunError(f"{where}: there is no answer")
    if _is_labels(source):
        return Gold("label", tuple(answers))
    if source == "perltqa":
        return Gold("keywords", tuple(part.strip() for part in ";".join(answers).split(";") if part.strip()))
    if source.startswith(("infbench", "booksum")):
        return Gold("keywords", tuple(part.strip() for part in ",".join(answers).split(",") if part.strip()))
    return Gold("text", tuple(answers))


def _json(row: dict[str, Any], field: str, shape: Any, where: str) -> Any:
    try:
        found = json.loads(row[field])
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where}: {field} is not JSON ({error}); get the file again") from error
    check_shape(found, shape, where, field)
    return found
