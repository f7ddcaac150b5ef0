"""What agents are tried on: samples of data sets, each a stream of chunks with questions about it.

A data set is one class with two names and three methods (`Dataset`); rollouts, training and evaluation know nothing
more of it. Nothing here imports torch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from uma_lib.scoring import Gold, Score


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the chunks read before it."""

    id: str  # "<sample>/<n>": rows and traces are joined by it
    text: str
    gold: Gold | None  # None for an honest agent, see `Sample.blind`
    kind: str = "question"  # stratum of results
    after: int | None = None  # chunks read before it is asked; None: all
    evidence: tuple[int, ...] = ()  # chunks that its answer depends on, where known
    key: str = ""  # what seeds its randomness; "": the id

    @property
    def seed_key(self) -> str:
        return self.key or self.id


@dataclass(frozen=True, slots=True)
class Guide:
    """What every agent is told alike about a stream: the system messages of its sessions."""

    memory: str  # while it keeps a memory, chunk by chunk
    question: str  # when it is asked a question
    reading: str  # when it answers from raw chunks that are shown to it, or from a memory of its own kind
    about: str = ""  # what the stream is about and what to keep of it, for agents with other tools; "": not told


@dataclass(frozen=True, slots=True)
class Sample:
    """One stream with its questions. Chunks may be made only when they are read."""

    id: str
    chunks: Sequence[str]
    questions: tuple[Question, ...]
    guide: Guide
    truth: Any = None  # ground truth of a synthetic data set, for oracles and analyses

    def blind(self) -> Sample:
        """The sample without golds, evidence and truth: all that an honest agent may be handed."""
        questions = tuple(replace(question, gold=None, evidence=()) for question in self.questions)
        return replace(self, questions=questions, truth=None)

    def asking(self, questions: Sequence[Question]) -> Sample:
        """The sample with some of its questions."""
        return replace(self, questions=tuple(questions))


class Dataset(Protocol):
    """A data set. ``metrics[0]`` is trained on and headlined."""

    name: str
    metrics: tuple[str, ...]

    def samples(self, split: str) -> Iterator[Sample]:
        """The samples of a split ("train", "validation", "test"), in an order that never changes.

        Ids are unique over all splits. A split may be endless: take from it what you need.
        """

    def draw(self, rng: random.Random, progress: float) -> Sample:
        """A sample to train on; ``progress`` of the training, from 0 to 1, is for curricula."""

    def scores(self, question: Question, answer: str | None) -> tuple[Score, ...]:
        """One score a metric; None for an answer is that none was given."""
