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
from uma_lib.files import RunError
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

    Looks at the prompts of the first `ROOM_CHUNKS` memory sessions of the split validation, with a core memory of half
    its budget: a sample, so that a rare longer one may still end a run later.
    """
    if limits.session_tokens > engine.context_tokens:
        raise RunError(
            f"session_tokens={limits.session_tokens} is more than the {engine.context_tokens} tokens that the model "
            "can read: lower session_tokens, or use a model with a longer context"
        )

    def sizes() -> Iterator[int]:
        for sample in data.samples("validation"):
            for chunk in sample.chunks:
                session = MemorySession(Memory(), chunk, limits, sample.guide)
                yield engine.size(session.messages, session.schemas)

    longest = max(islice(sizes(), ROOM_CHUNKS), default=0)
    if longest + limits.core_tokens // 2 >= limits.session_tokens:
        raise no_room(longest + limits.core_tokens // 2, limits.session_tokens)


def _observed(agent: Agent, chunks: Sequence[str], first: int, end: int) -> Dialogue[list[Trace]]:
    """An agent reads chunks one after the other; chunks are made only when they are read."""
    traces = []
    for k in range(first, end):
        traces.append((yield from agent.observe(chunks[k])))
    return traces


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
) -> None:
    """Add ``trajectories`` trajectories of agents of one kind to each context, with all answers, scored.

    key: of all randomness, before the names of context and trajectory. informed: the agents see golds and truth.
    search: questions may search the raw chunks, by words and with ``encode`` by meaning. whole: see `Setting`.
    Questions that are asked after some of the chunks are answered in between; an answer leaves the memory as it is.
    """
    started: list[tuple[Context, Trajectory]] = []
    for context in contexts:
        for i in range(trajectories):
            setting = Setting(
                limits, context.sample.guide, (*key, context.name, i), engine.count, engine.size, encode, search,
                whole, context.sample if informed else None,
            )  # fmt: skip
            started.append((context, Trajectory(kind(setting))))

    # all agents read to their next stop together, then all questions that are asked there are answered together
    stops = [_stops(context.sample) for context, _ in started]
    answers: dict[tuple[int, int], Trace] = {}  # by trajectory and question
    for number in range(max(map(len, stops), default=0)):
        here = [(place, own[number - 1] if number else 0, own[number]) for place, own in enumerate(stops)
                if number < len(own)]  # fmt: skip
        kept = engine.generate(
            (_observed(started[p][1].agent, started[p][0].sample.chunks, first, end) for p, first, end in here),
            temperature=temperature, progress=progress,
        )  # fmt: skip
        for (place, _, _), traces in zip(here, kept, strict=True):
            started[place][1].sessions += traces
        asked = [
            (place, j, question)
            for place, _, end in here
            for j, question in enumerate(started[place][0].sample.questions)
            if _asked_at(question, started[place][0].sample) == end
        ]
        said = engine.generate(
            (started[place][1].agent.answer(question.text, question.seed_key) for place, _, question in asked),
            temperature=temperature, progress=progress,
        )  # fmt: skip
        answers |= {(place, j): trace for (place, j, _), trace in zip(asked, said, strict=True)}
    for number, (context, trajectory) in enumerate(started):
        trajectory.answers = [answers[number, j] for j in range(len(context.sample.questions))]
        trajectory.scores = [
            data.scores(question, trace.answer)
            for question, trace in zip(context.sample.questions, trajectory.answers, strict=True)
        ]
        context.trajectories.append(trajectory)


def _asked_at(question: Question, sample: Sample) -> int:
    chunks = len(sample.chunks)
    after = chunks if question.after is None else question.after
    if not 0 <= after <= chunks:
        raise RunError(f"the question {question.id} is asked after {after} chunks, and its sample has {chunks}")
    return after


def _stops(sample: Sample) -> list[int]:
    """After how many chunks questions are asked; the end is the last."""
    return sorted({len(sample.chunks), *(_asked_at(question, sample) for question in sample.questions)})
