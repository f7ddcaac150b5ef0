"""Nested rollouts: memory trajectories, then questions from every final memory (paper section 3 and algorithm 1).

A session becomes a generator that talks to `Policy.generate`, so the code reads as if one session ran alone while all
live sessions are decoded together. What comes back holds exactly the tokens that were read and sampled, with a mask
and the log-probabilities they were sampled with.

Every turn's randomness is keyed by where it stands (seed, step, context, trajectory, session, turn): batch shape,
process count and restarts change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from uma_lib.engines.chat import ChatFormat
from uma_lib.engines.local import Ask, Rollout
from uma_lib.engines.policy import Policy
from uma_lib.environment import Limits, Memory, MemorySession, QuestionSession
from uma_lib.files import RunError
from uma_lib.ledger import Question, Stream
from uma_lib.memory import CoreMemory
from uma_lib.retrieval import Encoder, RetrievalIndex
from uma_lib.scoring import score
from uma_lib.seeds import Key, seed_of

S = TypeVar("S", MemorySession, QuestionSession)


@dataclass
class Tokens:
    """A session as tokens: ``sampled[i]`` is True where the policy wrote ``ids[i]``, with ``logprobs[i]``."""

    ids: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # 0.0 where nothing was sampled

    def read(self, ids: list[int]) -> None:
        self.ids += ids
        self.sampled += [False] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def wrote(self, ids: list[int], logprobs: list[float]) -> None:
        self.ids += ids
        self.sampled += [True] * len(ids)
        self.logprobs += logprobs

    @property
    def written(self) -> int:
        """How many tokens the policy wrote."""
        return sum(self.sampled)


@dataclass
class Played(Generic[S]):
    """A session that is over: what happened in the environment, and its tokens."""

    session: S
    tokens: Tokens


@dataclass
class Trajectory:
    """One memory trajectory: its sessions and the memory after the last chunk."""

    memory: Memory
    sessions: list[Played[MemorySession]]
    versions: list[int]  # of the bank, after each chunk
    cores: list[str]  # after each chunk


def no_room(tokens: int, limits: Limits) -> RunError:
    return RunError(
        f"a prompt of {tokens} tokens does not fit session_tokens={limits.session_tokens}: "
        "raise session_tokens or make chunks shorter"
    )


def check_room(
    chat: ChatFormat, context_tokens: int, size: str, limits: Limits, schema_given: bool, sessions: int = 60
) -> None:
    """Refuse a budget that the model has not, or into which sessions of this size do not fit, before any is played.

    Looks at the prompts of ``sessions`` memory sessions of the split validation, with a core memory of half its budget:
    a sample, so that a rare longer one may still end a run later.
    """
    if limits.session_tokens > context_tokens:
        raise RunError(
            f"session_tokens={limits.session_tokens} is more than the {context_tokens} tokens that the model can read: "
            "lower session_tokens, or use a model with a longer context"
        )
    stream = Stream(size, "validation", sessions, 0)
    longest = 0
    for session in stream:
        played = MemorySession(Memory(), session.text, limits, schema_given, stream.size.asks_scenes)
        longest = max(longest, len(chat.open(played.messages, played.schemas)))
    if longest + limits.core_tokens // 2 >= limits.session_tokens:
        raise no_room(longest + limits.core_tokens // 2, limits)


def play_session(session: S, chat: ChatFormat, limits: Limits, key: Key) -> Rollout[Played[S]]:
    """Run one session to its end.

    Raises RunError for a prompt that leaves no room to write: chunks must fit the budget.
    """
    tokens = Tokens()
    new = chat.open(session.messages, session.schemas)
    if len(new) >= limits.session_tokens:
        raise no_room(len(new), limits)
    while True:
        tokens.read(new)
        fresh = len(new) == len(tokens.ids)
        room = min(limits.turn_tokens, limits.session_tokens - len(tokens.ids))
        turn = yield Ask(new, fresh, room, seed_of(*key, session.turns))
        tokens.wrote(turn.ids, turn.logprobs)
        results = session.step(chat.decode(turn.ids), turn.stopped)
        if results is None:
            break
        new = chat.results(results, turn.stopped)
        if len(tokens.ids) + len(new) >= limits.session_tokens:
            break  # the budget is used up: the session ends unfinished
    return Played(session, tokens)


def keep_memory(
    chunks: Sequence[str] | Stream, chat: ChatFormat, limits: Limits, key: Key, schema_given: bool = True
) -> Rollout[Trajectory]:
    """Phase I: read a stream chunk by chunk; chunks are made only when they are read."""
    memory = Memory(CoreMemory(budget=limits.core_tokens, count=chat.count))
    trajectory = Trajectory(memory, [], [], [])
    scenes = isinstance(chunks, Stream) and chunks.size.asks_scenes
    for k, chunk in enumerate(chunks):
        text = chunk if isinstance(chunk, str) else chunk.text
        session = MemorySession(memory, text, limits, schema_given, scenes)
        trajectory.sessions.append((yield from play_session(session, chat, limits, (*key, "memory", k))))
        trajectory.versions.append(memory.bank.snapshot())
        trajectory.cores.append(memory.core.text)
    return trajectory


def ask_question(
    memory: Memory,
    question: str,
    chat: ChatFormat,
    limits: Limits,
    key: Key,
    schema_given: bool = True,
    index: RetrievalIndex | None = None,
    scenes: bool = False,
) -> Rollout[Played[QuestionSession]]:
    """Phase II: answer one question from a final memory, which is shared and stays as it is."""
    session = QuestionSession(memory, question, limits, schema_given, index, scenes)
    return (yield from play_session(session, chat, limits, (*key, "question", question)))


@dataclass
class Context:
    """One stream with its questions, and what the policy did with it: N trajectories, N x M question sessions."""

    name: str
    stream: Stream
    questions: list[Question]
    trajectories: list[Trajectory] = field(default_factory=list)
    answers: list[list[Played[QuestionSession]]] = field(default_factory=list)  # [trajectory][question]

    def outcomes(self, i: int) -> list[float]:
        """Exact match of trajectory ``i`` on every question: 1.0 or 0.0; no answer is wrong."""
        return [
            score(played.session.answer or "", question.gold)
            for played, question in zip(self.answers[i], self.questions, strict=True)
        ]


def _index(stream: Stream, encode: Encoder) -> RetrievalIndex:
    """The raw chunks of a stream, to be searched by all its questions."""
    index = RetrievalIndex(encode)
    for session in stream:
        index.add_chunk(session.text)
    return index


def held_out_contexts(size: str, sessions: int, streams: int, split: str = "validation") -> list[Context]:
    """Fixed streams with one question of each kind."""
    made = (Stream(size, split, sessions, index) for index in range(streams))
    return [Context(stream.name, stream, stream.questions()) for stream in made]


def roll_out(
    policy: Policy,
    contexts: list[Context],
    trajectories: int,
    limits: Limits,
    key: Key,
    *,
    temperature: float = 1.0,
    schema_given: bool = True,
    slots: int = 64,
    progress: Callable[[int, int], None] | None = None,
    encode: Encoder | None = None,
) -> None:
    """Fill the contexts with ``trajectories`` memory trajectories each and all their question sessions.

    With ``encode`` the question sessions may search the raw chunks of their stream, by words and by meaning.
    """
    chat = policy.chat
    pairs = [(context, i) for context in contexts for i in range(trajectories)]
    kept = policy.generate(
        (keep_memory(c.stream, chat, limits, (*key, c.name, i), schema_given) for c, i in pairs),
        temperature=temperature, slots=slots, progress=progress,
    )  # fmt: skip
    indexes = [
        index
        for context in contexts
        for index in [None if encode is None else _index(context.stream, encode)] * trajectories
    ]
    asked = policy.generate(
        (
            ask_question(
                trajectory.memory, question.text, chat, limits, (*key, c.name, i), schema_given,
                index, c.stream.size.asks_scenes,
            )
            for (c, i), trajectory, index in zip(pairs, kept, indexes, strict=True)
            for question in c.questions
        ),
        temperature=temperature, slots=slots, progress=progress,
    )  # fmt: skip
    answers = iter(asked)
    for (context, _), trajectory in zip(pairs, kept, strict=True):
        context.trajectories.append(trajectory)
        context.answers.append([next(answers) for _ in context.questions])
