"""Accurate retrieval from documents: HotpotQA among 200 documents, and SQuAD."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from uma_lib.datasets.build import Card, HeldOut, Session
from uma_lib.datasets.source import filled, rows
from uma_lib.files import RunError
from uma_lib.ledger.files import check_shape
from uma_lib.sample import Question, Sample
from uma_lib.scoring import Gold

_DOCUMENT = re.compile(r"^Document \d+:\n", re.MULTILINE)
READY = {"context": str, "input": str, "answers": [str]}
PLAIN = {"question": str, "answer": str}


class HotpotQA(HeldOut):
    """Ready streams (eval_200.json), or streams made of HotpotQA's own files: ten documents among fillers."""

    name, family, seen, size = "hotpotqa", "documents", True, 128
    metrics = ("f1", "exact", "rouge_l")
    documents = 200  # of a stream that is made here
    card = Card(
        "HotpotQA: questions that take two documents, among 200",
        "hotpotqa/hotpot_qa; ready streams: hub BytedTsinghua-SIA/hotpotqa, eval_200.json",
        "CC BY-SA 4.0",
        "A chunk a document. Made of plain files, the ten documents of a question stand among those of others, drawn "
        "and shuffled with a seed; documents of the same title are left out.",
        "The paper has the ready streams; the authors score exact match after a light normalisation.",
        "the gold of a ready stream is the first of its answers; some questions can be answered from one document",
        "128 samples, 1 question each, 28k tokens, 200 chunks",
    )

    def make(self) -> Iterator[Sample]:
        patterns = ("eval_200*.json", "eval_200*.json.gz", "*distractor*.jsonl", "*distractor*.jsonl.gz",
                    "*distractor*.json", "*distractor*.json.gz", "*distractor*.parquet")  # fmt: skip
        (path, *_) = self.source.find(*patterns)
        yield from self.ready(path) if path.name.startswith("eval_") else self.made(path)

    def ready(self, path: Path) -> Iterator[Sample]:
        """Streams whose documents stand in one text."""
        for number, (where, row) in enumerate(rows(path, READY)):
            documents = [text.strip() for text in _DOCUMENT.split(row["context"]) if text.strip()]
            if len(documents) < 2:
                raise RunError(f"{where}: context holds no 'Document 1:' and so on; is this the file of another set?")
            answers = [filled(answer, where, "answers") for answer in row["answers"]]
            yield self._sample(number, where, documents, row["input"], answers, "question", ())

    def made(self, path: Path) -> Iterator[Sample]:
        """Streams of the original rows, with documents of other rows around theirs."""
        found = []
        for where, row in rows(path, PLAIN):
            found.append((where, row, _paragraphs(row, where), _supporting(row, where)))
        everything = list({title: (title, text) for _, _, own, _ in found for title, text in own}.values())
        for number, (where, row, own, supporting) in enumerate(found):
            rng = self.build.rng(self.name, number)
            titles = {title for title, _ in own}
            others = [document for document in everything if document[0] not in titles]
            chosen = [*own, *rng.sample(others, max(0, min(len(others), self.documents - len(own))))]
            rng.shuffle(chosen)
            evidence = [k for k, (title, _) in enumerate(chosen) if title in supporting]
            texts = [f"{title}\n{text}" for title, text in chosen]
            kind = str(row.get("type") or "question")
            yield self._sample(number, where, texts, row["question"], [filled(row["answer"], where, "answer")], kind,
                               evidence)  # fmt: skip

    def _sample(
        self, number: int, where: str, documents: Sequence[str], question: str, answers: Sequence[str], kind: str,
        evidence: Sequence[int],
    ) -> Sample:  # fmt: skip
        name, session = f"{self.name}/{number}", Session(self.build)
        places = [session.add(f"Document {k}: {text}") for k, text in enumerate(documents, start=1)]
        asked = Question(f"{name}/0", filled(question, where, "the question"), Gold("text", tuple(answers)), kind,
                         evidence=tuple(k for place in evidence for k in places[place]))  # fmt: skip
        return Sample(name, session.chunks, (asked,), self.guide)


def _paragraphs(row: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Title and text of a row's documents, in either of the two forms that HotpotQA comes in."""
    context = row.get("context")
    if isinstance(context, dict):
        check_shape(context, {"title": [str], "sentences": [[str]]}, where, "context")
        pairs = list(zip(context["title"], context["sentences"], strict=False))
    else:
        check_shape(context, [list], where, "context")
        pairs = [tuple(pair) for pair in context]
        if not all(len(pair) == 2 and isinstance(pair[1], list) for pair in pairs):
            raise RunError(f"{where}: context is no list of [title, sentences]")
    if not pairs:
        raise RunError(f"{where}: context has no documents")
    return [(title, " ".join(" ".join(sentences).split())) for title, sentences in pairs]


def _supporting(row: dict[str, Any], where: str) -> set[str]:
    facts = row.get("supporting_facts") or []
    if isinstance(facts, dict):
        check_shape(facts, {"title": [str]}, where, "supporting_facts")
        return set(facts["title"])
    check_shape(facts, [list], where, "supporting_facts")
    return {fact[0] for fact in facts if fact}


class SQuAD(HeldOut):
    """Flat rows (id, title, context, question, answers), or the nested files of the authors."""

    name, family, seen, size, asked = "squad", "documents", True, 30, 100
    metrics = ("f1", "exact", "rouge_l")
    chunks, target = 10, (100, 2048)  # of a sample, and tokens of a chunk, drawn
    longest = 4  # words of an answer
    card = Card(
        "SQuAD: questions about paragraphs of Wikipedia",
        "rajpurkar/squad",
        "CC BY-SA 4.0",
        "Paragraphs in an order drawn with a seed, packed into ten chunks a sample, each up to a length drawn from 100 "
        "to 2,048 tokens; questions about them with answers of at most four words. Other answers of the same question "
        "count as well.",
        "The paper's (Mem-alpha's) questions are those that a large model could not answer without the text; here all "
        "stay. Questions without an answer (version 2) are left out.",
        paper="30 samples, 97 questions each, 11k tokens, 10 chunks",
    )

    def make(self) -> Iterator[Sample]:
        paragraphs = list(self._paragraphs().items())
        self.build.rng(self.name).shuffle(paragraphs)
        waiting = iter(paragraphs)
        for number in range(self.size):
            name = f"{self.name}/{number}"
            rng, session, asked = self.build.rng(name), Session(self.build), []
            held: list = []
            for _ in range(self.chunks):
                left = min(rng.randint(*self.target), self.build.chunk_tokens)
                units: list[str] = []
                while held or (held := list(islice(waiting, 1))):
                    (text, questions) = held[0]
                    size = self.build.count(text) + 2
                    if units and size > left:
                        break
                    units.append(text)
                    asked += [(text, question) for question in questions]
                    left, held = left - size, []
                if units:
                    session.add("\n\n".join(units))
            if not asked:
                return
            everywhere = range(len(session.chunks))
            yield Sample(name, session.chunks, tuple(
                Question(f"{name}/{n}", text, gold, "question", evidence=session.holding(paragraph, everywhere)[:1])
                for n, (paragraph, (text, gold)) in enumerate(asked)
            ), self.guide)  # fmt: skip

    def _paragraphs(self) -> dict[str, list[tuple[str, Gold]]]:
        """Questions with short answers by paragraph."""
        found: dict[str, list[tuple[str, Gold]]] = {}
        patterns = ("*plain_text*.jsonl", "*plain_text*.jsonl.gz", "plain_text/train*.parquet", "train*.parquet",
                    "train*.jsonl", "*.json", "*.json.gz")  # fmt: skip
        for path in self.source.find(*patterns):
            for where, row in rows(path):
                for here, paragraph, question in _flat(row, where):
                    text = " ".join(filled(paragraph, here, "context").split())
                    answers = [a for a in question["answers"]["text"] if len(a.split()) <= self.longest and a.strip()]
                    if answers:
                        gold = Gold("text", tuple(dict.fromkeys(answers)))
                        found.setdefault(text, []).append((filled(question["question"], here, "question"), gold))
        return found


def _flat(row: dict[str, Any], where: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    if "data" not in row:
        check_shape(row, {"context": str, "question": str, "answers": {"text": [str]}}, where)
        yield where, row["context"], row
        return
    shape = {"paragraphs": [{"context": str, "qas": [{"question": str, "answers": [{"text": str}]}]}]}
    check_shape(row["data"], [shape], where, "data")
    for article in row["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = {"text": [answer["text"] for answer in asked["answers"]]}
                yield where, paragraph["context"], {"question": asked["question"], "answers": answers}
