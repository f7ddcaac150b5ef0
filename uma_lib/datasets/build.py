"""What all sets have in common: how streams are cut, what agents are told, the card, and the split that there is."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from uma_lib import metrics
from uma_lib.datasets.source import Source
from uma_lib.files import RunError
from uma_lib.memory import count_words
from uma_lib.prompts import GENERAL
from uma_lib.sample import Guide, Question, Sample
from uma_lib.scoring import Score
from uma_lib.texts import chunks_of

_SHORT = "Answer in as few words as possible."
WORDING = {  # how an answer is worded, which agents are told whether a guide is given or not
    "labels": "Answer with the number of the label alone.",
    "documents": _SHORT,
    "dialogues": f"{_SHORT} Where options are given, answer with the letter of one.",
}
_ABOUT = {  # what the stream is about, and what to keep of it
    "labels": (
        "Sentences with their labels stream by. Later you see other sentences and are asked for their labels. Store "
        "what tells the labels apart, such as an entry a label with typical sentences."
    ),
    "documents": (
        "Documents stream by. Later you are asked about facts in them, sometimes about several together. Store the "
        "facts about each person, place, work or event under its name."
    ),
    "dialogues": (
        "Conversations stream by, each with its date where it is known. Later you are asked what was said, by whom and "
        "when. Store facts, plans, preferences and events with who they are about and their dates."
    ),
}


def guide(family: str, given: bool = True) -> Guide:
    """What agents are told about a stream: ``given`` what it is about as well, else only how to word answers."""
    about = f" {_ABOUT[family]}" if given else ""
    return Guide(
        f"{GENERAL.memory}{about}", f"{GENERAL.question} {WORDING[family]}",
        f"{GENERAL.reading} {WORDING[family]}", _ABOUT[family] if given else "",
    )  # fmt: skip


@dataclass(frozen=True)
class Build:
    """How samples are made; the same for all sets and all agents of a comparison."""

    count: Callable[[str], int] = count_words  # tokens of a text, by the model in use
    chunk_tokens: int = 1024  # of a chunk, at most: longer sessions and lines are split
    schema_given: bool = True  # whether agents are told what the stream is about
    seed: int = 0  # of what is drawn: examples, fillers, order of options
    samples: int | None = None  # at most; None: as many as the paper has
    questions: int | None = None  # of a sample, at most; None: as many as the paper has
    stream_tokens: int | None = None  # of a stream that is built from single examples; None: as the paper's

    def cut(self, text: str, limit: int | None = None) -> list[str]:
        """A text in parts of at most ``limit`` tokens, cut at lines where it can be."""
        return self.packed(text.split("\n"), limit)

    def packed(self, units: Sequence[str], limit: int | None = None) -> list[str]:
        """Units, joined by line ends, in chunks of at most ``limit`` tokens (and never over ``chunk_tokens``)."""
        limit, text = min(limit or self.chunk_tokens, self.chunk_tokens), "\n".join(units)
        return [text[begin:end].strip("\n") for begin, end in chunks_of(text, units, self.count, limit)]

    def rng(self, *key: object) -> random.Random:
        return random.Random("/".join(map(str, (self.seed, *key))))


@dataclass(frozen=True)
class Card:
    """What to know about a set before one trusts a number."""

    title: str
    origin: str
    licence: str
    built: str  # how chunks and questions are made
    differs: str  # from the paper, and why
    golds: str = "none known"  # bad ones
    paper: str = ""  # samples, questions each, tokens and chunks in the paper (method, table of sets)


class HeldOut(ABC):
    """A set for evaluation: its samples are the split test. `scores` are those of `metrics`."""

    name: ClassVar[str]
    metrics: tuple[str, ...] = ("exact",)
    family: ClassVar[str]  # labels, documents or dialogues
    splits: ClassVar[tuple[str, ...]] = ("test",)
    seen: ClassVar[bool] = False  # whether the paper's generalist was trained on the same corpus
    card: ClassVar[Card]
    size: ClassVar[int | None] = None  # samples, as in the paper
    asked: ClassVar[int | None] = None  # questions of a sample, at most, as in the paper

    def __init__(self, source: Source, build: Build | None = None):
        self.source, self.build = source, build or Build()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def guide(self) -> Guide:
        return guide(self.family, self.build.schema_given)

    @abstractmethod
    def make(self) -> Iterator[Sample]:
        """All samples that the files hold, in their order."""

    def samples(self, split: str) -> Iterator[Sample]:
        """The samples of the split test, of as many questions as `Build` allows."""
        if split != "test":
            raise RunError(f"{self.name} is for evaluation: it has the split test, no {split}")
        most = self.build.samples or self.size
        found = 0
        for sample in self.make():
            yield sample.asking(self._some(sample))
            found += 1
            if found == most:
                return
        if not found:
            raise RunError(f"{self.name}: the files hold no sample with a question; get them again")

    def _some(self, sample: Sample) -> Sequence[Question]:
        most = self.build.questions or self.asked
        if most is None or len(sample.questions) <= most:
            return sample.questions
        chosen = sorted(self.build.rng(sample.id, "questions").sample(range(len(sample.questions)), most))
        return [sample.questions[k] for k in chosen]

    def draw(self, rng: random.Random, progress: float) -> Sample:
        raise RunError(f"{self.name} is for evaluation: train on another set")

    def scores(self, question: Question, answer: str | None) -> tuple[Score, ...]:
        return metrics.scores(self.metrics, question, answer)


class Session:
    """Chunks as they are made of sessions, so that evidence given by line is found again."""

    def __init__(self, build: Build):
        self.build = build
        self.chunks: list[str] = []

    def add(self, text: str) -> tuple[int, ...]:
        """Add a session; the numbers of its chunks."""
        first = len(self.chunks)
        self.chunks += self.build.cut(text)
        return tuple(range(first, len(self.chunks)))

    def holding(self, line: str, among: Sequence[int]) -> tuple[int, ...]:
        """The chunks among some that hold a line; all of them where it was split itself."""
        return tuple(k for k in among if line in self.chunks[k]) or tuple(among)


def numbered(name: str, questions: Sequence[Question]) -> tuple[Question, ...]:
    """Questions with the ids that name their sample."""
    return tuple(replace(question, id=f"{name}/{n}") for n, question in enumerate(questions))
