"""Nested rollouts: N trajectories over each stream, all questions from each (paper section 3 and algorithm 1).

A trajectory is an agent and the traces of its sessions. They hold exactly the tokens that were read and sampled, with a
mask and the log-probabilities they were sampled with, where the engine gives them.

Every turn's randomness is keyed by where it stands (seed, step, context, trajectory, session, turn): batch shape,
process count and restarts change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from uma_lib.agents.agent import Agent, Kind, Setting, Trace
from uma_lib.engines.protocol import Dialogue, Engine, Progress, no_room
from uma_lib.environment import Limits, MemorySession
from uma_lib.files import RunError, SessionError
from uma_lib.memory import Memory
from uma_lib.retrieval import Encoder
from uma_lib.sample import Dataset, Question, Sample
from uma_lib.scoring import Score
from uma_lib.seeds import Key

ROOM_CHUNKS = 200  # that `check_room` looks at


@dataclass
class Trajectory:
    """One agent over one stream: a trace for each chunk, and one for each question with its scores."""

    agent: Agent
    sessions: list[Trace] = field(default_factory=list)
    answers: list[Trace] = field(default_factory=list)  # in the order of the sample's questions
    scores: list[tuple[Score, ...]] = field(default_factory=list)  # of each answer, one a metric

    @property
    def outcomes(self) -> list[float | None]:
        """The first metric of every answer; None where it could not be scored."""
        return [scores[0].value for scores in self.scores]

    @property
    def traces(self) -> list[Trace]:
        return self.sessions + self.answers


@dataclass
class Context:
    """One sample and what an agent did with it, N times."""

    name: str  # seeds its randomness
    sample: Sample
    trajectories: list[Trajectory] = field(default_factory=list)


def held_out(data: Dataset, count: int, split: str = "validation") -> list[Context]:
    """The first samples of a split."""
    return [Context(sample.id, sample) for sample in islice(data.samples(split), count)]


def check_room(engine: Engine, data: Dataset, limits: Limits) -> None:
    """Refuse a budget that the model has not, or into which sessions of this data set do not fit, before any is played.

    Looks at the prompts of the first `ROOM_CHUNKS` memory sessions of the split validation (or the only one), with a
    core memory of half its budget: a sample, so that a rare longer one may still end a run later.
    """
    if limits.session_tokens > engine.context_tokens:
        raise RunError(
            f"session_tokens={limits.session_tokens} is more than the {engine.context_tokens} tokens that the model "
            "can read: lower session_tokens, or use a model with a longer context"
        )

    def sizes() -> Iterator[int]:
        for sample in data.samples(getattr(data, "splits", ("validation",))[0]):
            for chunk in sample.chunks:
                session = MemorySession(Memory(), chunk, limits, sample.guide)
                yield engine.size(session.messages, session.schemas)

    longest = max(islice(sizes(), ROOM_CHUNKS), default=0)
    if longest + limits.core_tokens // 2 >= limits.session_tokens:
        raise no_room(longest + limits.core_tokens // 2, limits.session_tokens)


class Watch:
    """Whoever looks on while agents play; this one does nothing. An evaluation keeps what is done, and goes on from it.

    With a watch nothing is kept in the trajectories, and an error that concerns one session (`files.SessionError`)
    becomes a trace with ``error``: of a chunk it ends the reading, and the questions after it have the same error.
    """

    def begin(self, context: Context, agent: Agent) -> int:
        """How many chunks the agent has read already; it has been loaded then."""
        return 0

    def wanted(self, context: Context, question: Question) -> bool:
        """Whether a question still is to be answered."""
        return True

    def read(self, context: Context, agent: Agent, chunk: int, trace: Trace) -> None:
        """A chunk was read, or could not be."""

    def answered(self, context: Context, question: Question, trace: Trace, scores: tuple[Score, ...]) -> None:
        """A question was answered, or could not be: then there are no scores."""


def _caught(dialogue: Dialogue[Trace], phase: str) -> Dialogue[Trace]:
    try:
        return (yield from dialogue)
    except SessionError as error:
        return Trace(phase, finished=False, error=str(error))


def roll_out(
    engine: Engine,
    contexts: Sequence[Context],
    trajectories: int,
    limits: Limits,
    key: Key,
    *,
    data: Dataset,
    kind: Kind,
    informed: bool = False,
    temperature: float = 1.0,
    progress: Progress = None,
    encode: Encoder | None = None,
    search: bool = False,
    whole: bool = True,
    watch: Watch | None = None,
) -> None:
    """Add ``trajectories`` trajectories of agents of one kind to each context, with all answers, scored.

    key: of all randomness, before the names of context and trajectory. informed: the agents see golds and truth.
    search: questions may search the raw chunks, by words and with ``encode`` by meaning. whole: see `Setting`.
    Questions that are asked after some of the chunks are answered in between; an answer leaves the memory as it is.
    watch: is told of every session, and keeps it instead of the trajectories.
    """
    players = [
        _Player(context, kind(Setting(
            limits, context.sample.guide, (*key, context.name, i), engine.count, engine.size, encode, search, whole,
            context.sample if informed else None,
        )), data, watch)
        for context in contexts
        for i in range(trajectories)
    ]  # fmt: skip
    # all agents read to their next stop together, then all questions that are asked there are answered together
    for number in range(max((len(player.stops) for player in players), default=0)):
        here = [player for player in players if number < len(player.stops)]
        engine.generate(
            (player.reading(player.stops[number]) for player in here), temperature=temperature, progress=progress
        )
        engine.generate(
            (player.answering(question) for player in here for question in player.asked(player.stops[number])),
            temperature=temperature, progress=progress,
        )  # fmt: skip
    for player in players:
        if watch is None:
            player.context.trajectories.append(player.trajectory())


class _Player:
    """An agent over one stream, as far as it is."""

    def __init__(self, context: Context, agent: Agent, data: Dataset, watch: Watch | None):
        self.context, self.sample, self.agent, self.data, self.watch = context, context.sample, agent, data, watch
        self.stops = _stops(self.sample)
        self.read = watch.begin(context, agent) if watch else 0  # chunks
        self.error = ""
        self.sessions: list[Trace] = []
        self.answers: dict[str, Trace] = {}  # by question

    def reading(self, end: int) -> Dialogue[None]:
        """Read up to ``end``; chunks are made only when they are read."""
        while self.read < end and not self.error:
            dialogue = self.agent.observe(self.sample.chunks[self.read])
            if self.watch is None:
                self.sessions.append((yield from dialogue))
            else:
                trace = yield from _caught(dialogue, "memory")
                self.watch.read(self.context, self.agent, self.read, trace)
                if trace.error:
                    self.error = f"chunk {self.read} could not be read: {trace.error}"
                    return
            self.read += 1

    def asked(self, after: int) -> Iterator[Question]:
        """The questions after so many chunks."""
        for question in self.sample.questions:
            wanted = self.watch is None or self.watch.wanted(self.context, question)
            if wanted and _asked_at(question, self.sample) == after:
                yield question

    def answering(self, question: Question) -> Dialogue[None]:
        if self.watch is None:
            self.answers[question.id] = yield from self.agent.answer(question.text, question.seed_key)
            return
        if self.error:
            trace = Trace("question", finished=False, error=self.error)
        else:
            trace = yield from _caught(self.agent.answer(question.text, question.seed_key), "question")
        scores = () if trace.error else self.data.scores(question, trace.answer)
        self.watch.answered(self.context, question, trace, scores)

    def trajectory(self) -> Trajectory:
        answers = [self.answers[question.id] for question in self.sample.questions]
        scores = [
            self.data.scores(question, trace.answer)
            for question, trace in zip(self.sample.questions, answers, strict=True)
        ]
        return Trajectory(self.agent, self.sessions, answers, scores)


def _asked_at(question: Question, sample: Sample) -> int:
    chunks = len(sample.chunks)
    after = chunks if question.after is None else question.after
    if not 0 <= after <= chunks:
        raise RunError(f"the question {question.id} is asked after {after} chunks, and its sample has {chunks}")
    return after


def _stops(sample: Sample) -> list[int]:
    """After how many chunks questions are asked; the end is the last."""
    return sorted({len(sample.chunks), *(_asked_at(question, sample) for question in sample.questions)})
