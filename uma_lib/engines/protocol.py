"""What agents and engines say to each other: an agent asks in messages, an engine answers with a turn.

An agent's session is a generator, a `Dialogue`: it yields an `Ask` and is sent a `Turn`, so the code reads as if one
session ran alone while an engine decodes all live ones together. Nothing here imports torch.

    >>> def greet(name):
    ...     turn = yield Ask([{"role": "user", "content": f"I am {name}."}], None, fresh=True, max_new=20, seed=1)
    ...     return turn.text
    >>> engine.generate([greet("Ada"), greet("Alan")], temperature=1.0)  # doctest: +SKIP
    ['Hello Ada!', 'Hello Alan!']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from uma_lib.files import RunError, SessionError
from uma_lib.memory import count_words

T = TypeVar("T")
Message = dict[str, Any]  # role and content; of an assistant that called tools at a server also tool_calls
Progress = Callable[[int, int], None] | None  # called with (dialogues finished, tokens sampled so far)


@dataclass
class Tokens:
    """A session as tokens: ``sampled[i]`` is True where the policy wrote ``ids[i]``, with ``logprobs[i]``."""

    ids: list[int] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # 0.0 where nothing was sampled
    turns: list[tuple[int, int]] = field(default_factory=list)  # where each turn begins and ends in ``ids``

    def read(self, ids: list[int]) -> None:
        self.ids += ids
        self.sampled += [False] * len(ids)
        self.logprobs += [0.0] * len(ids)

    def wrote(self, ids: list[int], logprobs: list[float]) -> None:
        self.turns.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids
        self.sampled += [True] * len(ids)
        self.logprobs += logprobs

    @property
    def written(self) -> int:
        """How many tokens the policy wrote."""
        return sum(self.sampled)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a session wants next: read ``messages``, then write a turn."""

    messages: list[Message]  # those that are new: the opening of a session, or the tool results after a turn
    tools: list[dict] | None  # OpenAI function schemas; read at the opening
    fresh: bool  # a new session begins
    max_new: int  # tokens of this turn, at most
    budget: float = math.inf  # tokens of the whole session, prompt and results included, at most
    seed: int = 0  # not negative; what is sampled depends on it, where the engine lets it


@dataclass(frozen=True, slots=True)
class Turn:
    """What was written: the turn's text, and what the session has come to."""

    text: str  # without the end token; calls of a server in Hermes form
    stopped: bool  # True: it ended by itself; False: cut by a budget
    tokens: Tokens | None = None  # of the session so far; None from a server that only speaks text
    read: int = 0  # tokens of the prompt and of tool results so far
    written: int = 0  # tokens that the model wrote in this session so far
    full: bool = False  # there was no room left in the budget: nothing was read or written
    thought: str = ""  # reasoning that a server has taken out of the text


Dialogue = Generator[Ask, Turn, T]


class Engine(Protocol):
    """Where a model runs. `contract` of the tests holds engines to it."""

    context_tokens: int  # of a session, at most
    trainable: bool  # whether turns come with token ids and log-probabilities

    def generate(self, dialogues: Iterable[Dialogue[T]], *, temperature: float, progress: Progress = None) -> list[T]:
        """Drive all dialogues to their end and return what they return, in order.

        temperature: 1.0 samples from the model itself; 0 takes the likeliest token.

        What concerns one session alone, such as an opening that leaves no room in its budget (`no_room`), is thrown
        into its dialogue as a `SessionError`; a dialogue that does not catch it ends the call with it.
        """

    def count(self, text: str) -> int:
        """How many tokens a text has."""

    def size(self, messages: list[Message], tools: list[dict] | None) -> int:
        """How many tokens the opening of a session has."""


def no_room(tokens: int, budget: float) -> SessionError:
    return SessionError(
        f"a prompt of {tokens} tokens does not fit session_tokens={budget:g}: "
        "raise session_tokens or make chunks shorter"
    )


def alone(dialogue: Dialogue[T]) -> T:
    """The result of a dialogue that asks no model anything."""
    try:
        next(dialogue)
    except StopIteration as end:
        return end.value
    raise RunError("this agent asks a model, and there is none: give its spec a model")


class NoModel:
    """The engine of agents that need none, such as an oracle or a script. Dialogues run one after another."""

    context_tokens = 2**31
    trainable = False

    def generate(
        self, dialogues: Iterable[Dialogue[T]], *, temperature: float = 0.0, progress: Progress = None
    ) -> list[T]:
        results = []
        for dialogue in dialogues:
            results.append(alone(dialogue))
            if progress:
                progress(len(results), 0)
        return results

    def count(self, text: str) -> int:
        return count_words(text)

    def size(self, messages: list[Message], tools: list[dict] | None) -> int:
        return sum(self.count(message["content"]) for message in messages)
