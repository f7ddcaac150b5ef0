"""Ledger-QA as a data set: its samples, draws and scores, and what agents are told about it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from uma_lib.ledger import questions as asked
from uma_lib.ledger.language import CATEGORIES
from uma_lib.ledger.streams import Stream
from uma_lib.ledger.testsets import first_streams
from uma_lib.prompts import GENERAL
from uma_lib.sample import Guide, Question, Sample
from uma_lib.scoring import Score, score
from uma_lib.tolerant import score_tolerant

_LEDGER = (
    "Purchases belong to Dining, Transportation, Shopping, Entertainment, Utilities, Medical, Education or Other. "
    "Count what the user paid, not plans or what others paid."
)
_ENTRIES = {  # whether entries hold scenes
    False: "value the amounts joined by '+'. ",
    True: "value the amounts with what they were for, joined by '+', such as '12.50 coffee + 8 a taxi'. ",
}
_VALUES = "Amounts are numbers, dates are YYYY-MM-DD, several dates or categories are joined by a comma."


def guide(schema_given: bool = True, scenes: bool = False) -> Guide:
    """What agents are told.

    schema_given: what the stream is about and how entries may look; else only how to keep and use a memory. scenes:
    entries have a place for them, since questions are about scenes ("the coffee").
    """
    if schema_given:
        return Guide(
            memory=(
                "You keep the memory of a user's expenses. Store the new session in the memory bank: one entry a date "
                f"and category, key 'YYYY-MM-DD Category', {_ENTRIES[scenes]}{_LEDGER} Then call update_core "
                "with the new grand total."
            ),
            question=(
                "Answer a question about a user's expenses from memory. Bank entries have the key 'YYYY-MM-DD "
                f"Category' and as {_ENTRIES[scenes]}{_LEDGER} Look up what you need, calculate, then call answer "
                f"with the value alone. {_VALUES}"
            ),
            reading=(
                f"Answer a question about a user's expenses from these sessions. {_LEDGER} Calculate, then give the "
                f"value alone in \\boxed{{}}. {_VALUES}"
            ),
            about=f"They tell a user's expenses. Keep for each date and category as {_ENTRIES[scenes]}{_LEDGER}",
        )
    return replace(
        GENERAL,
        question=(
            "Answer a question about a long stream that you have read. Look up what you need in memory, think, then "
            f"call answer with the value alone. {_VALUES}"
        ),
        reading=(
            "Answer a question from these parts of a long stream. Think, then give the value alone in \\boxed{}. "
            f"{_VALUES}"
        ),
    )


@dataclass(frozen=True)
class Truth:
    """The ground truth of a sample: its stream, and its questions as the benchmark made them."""

    stream: Stream
    questions: dict[str, asked.Question]  # by id


class _Chunks(Sequence[str]):
    """The texts of a stream's sessions, made when they are read."""

    def __init__(self, stream: Stream):
        self._stream = stream

    def __len__(self) -> int:
        return len(self._stream)

    def __getitem__(self, k: int) -> str:
        if not -len(self) <= k < len(self):
            raise IndexError(f"chunk {k} of {len(self)}")
        return self._stream.session(k % len(self)).text


def sample_of(stream: Stream, per_kind: int = 1, schema_given: bool = True) -> Sample:
    """A stream as a sample, with at most ``per_kind`` questions of each kind.

    >>> sample = sample_of(Stream("small", "train", sessions=3, index=0))
    >>> len(sample.chunks), sample.questions[0].id
    (3, 'ledger-qa/small/train/3/0/0')
    """
    made = {f"{stream.name}/{n}": question for n, question in enumerate(stream.questions(per_kind))}
    questions = tuple(
        Question(name, q.text, q.gold, q.kind, evidence=q.sessions, key=q.text) for name, q in made.items()
    )
    told = guide(schema_given, stream.size.asks_scenes)
    return Sample(stream.name, _Chunks(stream), questions, told, Truth(stream, made))


@dataclass(frozen=True)
class LedgerQA:
    """Streams of one size and length; see `uma_lib.ledger`.

    >>> data = LedgerQA(sessions=5, streams=2)
    >>> [sample.id for sample in data.samples("test")]
    ['ledger-qa/small/test/5/0', 'ledger-qa/small/test/5/1']
    >>> question = next(data.samples("test")).questions[0]
    >>> [score.value for score in data.scores(question, str(question.gold))]
    [1.0, 1.0]
    """

    size: str = "small"  # of the sessions: small, standard or hard
    sessions: int = 10  # of a stream
    streams: int | None = None  # of a split; None: no end
    revisions: float = 0.0  # for each purchase
    per_kind: int = 1  # questions of each kind, at most
    schema_given: bool = True  # whether agents are told how entries may look
    lengths: tuple[int, ...] = (2, 3, 4)  # sessions of a stream that is drawn for training
    late_lengths: tuple[int, ...] = (4, 6, 8)  # the same after late_from of the training
    late_from: float = 0.5

    metrics = ("exact", "tolerant")  # the strict reading, and answers read as free text

    @cached_property
    def name(self) -> str:
        return f"{'ledger-qa-revised' if self.revisions else 'ledger-qa'}/{self.size}/{self.sessions}"

    def samples(self, split: str) -> Iterator[Sample]:
        """The first streams of a split; of test without those that the test set leaves out."""
        streams = first_streams(self.size, split, self.sessions, self.streams, self.revisions)
        return (sample_of(stream, self.per_kind, self.schema_given) for stream in streams)

    def draw(self, rng: random.Random, progress: float) -> Sample:
        """A stream of the split train; longer ones later."""
        lengths = self.lengths if progress < self.late_from else self.late_lengths
        stream = Stream(self.size, "train", rng.choice(lengths), rng.randrange(2**40), self.revisions)
        return sample_of(stream, self.per_kind, self.schema_given)

    def scores(self, question: Question, answer: str | None) -> tuple[Score, Score]:
        """The strict reading, which is the reward, and the tolerant one. No answer is wrong."""
        said, note = answer or "", "" if answer else "no answer"
        return (
            Score(score(said, question.gold), "exact", note),
            Score(score_tolerant(said, question.gold, CATEGORIES), "tolerant", note),
        )
