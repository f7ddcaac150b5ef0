"""Demonstrations as transcripts: what the base model is warm-started on.

Three kinds, mixed in fixed shares, all from the split ``demonstrations`` of Ledger-QA, which no training or
evaluation stream comes from:

- ``memory``: one memory session of the imperfect demonstrator, at a random point of a stream;
- ``question``: one question session of the imperfect demonstrator, over its own memory or over a true one;
- ``reading``: a question answered from raw sessions, as Concat and RAG have to; these contain no deliberate mistake, so
  the baselines start from better demonstrations than the memory agent does.

Some show the prompts that do not give the schema.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from uma_lib import prompts
from uma_lib.environment import Limits, MemorySession, QuestionSession
from uma_lib.ledger import Question, Stream
from uma_lib.ledger.dataset import guide
from uma_lib.ledger.schema import core_of, true_memory
from uma_lib.memory import Memory
from uma_lib.nano.script import Demonstrator, Habits, play, read_aloud

SHARES = {"memory": 0.45, "question": 0.41, "reading": 0.14}  # of examples; reading ones are longer
LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Example:
    """A session as a chat: ``turns`` are (assistant text, tool results that follow it)."""

    kind: str
    messages: list[dict[str, str]]
    tools: list[dict] | None
    turns: list[tuple[str, list[str]]]


def _log_uniform(rng: random.Random, low: int, high: int) -> int:
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def _stream(rng: random.Random, size: str, longest: int) -> Stream:
    return Stream(size, "demonstrations", _log_uniform(rng, 1, longest), rng.randrange(2**40))


def memory_example(rng: random.Random, size: str, habits: Habits, schema_given: bool) -> Example:
    """One memory session; the core holds a total of any size, as after any number of sessions."""
    stream = _stream(rng, size, 500)
    session = stream.session(rng.randrange(len(stream)))
    memory = Memory()
    if rng.random() < 0.9:
        memory.core.write(core_of(_log_uniform(rng, 2, 30_000)))
    played = MemorySession(memory, session.text, LIMITS, guide(schema_given))
    turns = play(played, Demonstrator(habits, rng).memory_turns(session, memory.core.text))
    return Example("memory", played.messages, played.schemas, turns)


def question_examples(rng: random.Random, size: str, habits: Habits, schema_given: bool) -> list[Example]:
    """Two question sessions over one memory."""
    longest = rng.choices((8, 40, 120), (0.72, 0.22, 0.06))[0]
    stream = _stream(rng, size, longest)
    demonstrator = Demonstrator(habits, rng)
    memory = demonstrator.keep(stream) if len(stream) <= 8 and rng.random() < 0.4 else true_memory(stream)
    examples = []
    for question in _some_questions(rng, stream):
        session = QuestionSession(memory, question.text, LIMITS, guide(schema_given))
        turns = play(session, demonstrator.question_turns(question, memory))
        examples.append(Example("question", session.messages, session.schemas, turns))
    return examples


def reading_example(rng: random.Random, size: str, schema_given: bool) -> Example:
    """A question over the sessions that a reader sees: the last ones of a stream, or some of them."""
    stream = _stream(rng, size, rng.choice((6, 14, 40)))
    seen = range(max(0, len(stream) - rng.randint(8, 30)), len(stream))
    if rng.random() < 0.4:  # as retrieval leaves gaps
        seen = sorted(rng.sample(range(len(stream)), min(len(stream), rng.randint(1, 14))))
    sessions = [stream.session(k) for k in seen]
    question = _some_questions(rng, stream)[0]
    messages = prompts.reading("\n".join(s.text for s in sessions), question.text, guide(schema_given))
    text = read_aloud(question, [e for s in sessions for e in s.expenses])
    return Example("reading", messages, None, [(text, [])])


def _some_questions(rng: random.Random, stream: Stream) -> list[Question]:
    questions = stream.questions()
    return rng.sample(questions, min(2, len(questions)))


def demonstrations(seed: str, size: str = "small", habits: Habits | None = None) -> Iterator[Example]:
    """An endless stream of examples; the same seed gives the same ones.

    >>> next(demonstrations("0")).kind in SHARES
    True
    """
    rng = random.Random(f"demonstrations/{seed}")
    habits = habits or Habits()
    while True:
        kind = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        schema_given = rng.random() < 0.85
        if kind == "memory":
            yield memory_example(rng, size, habits, schema_given)
        elif kind == "reading":
            yield reading_example(rng, size, schema_given)
        elif rng.random() < 0.5:  # question examples come in twos
            yield from question_examples(rng, size, habits, schema_given)
