"""What an agent is, what it is given, and the trace that each of its sessions leaves.

An agent is the state over one stream: N trajectories are N agents. It is a class with two dialogues:

    >>> class Parrot:  # answers every question with the last chunk
    ...     def __init__(self, setting):
    ...         self.last = ""
    ...     def observe(self, chunk):
    ...         self.last = chunk
    ...         return Trace("memory")
    ...         yield  # a dialogue: it could ask the model here
    ...     def answer(self, question, key=""):
    ...         return Trace("question", answer=self.last)
    ...         yield
    >>> from uma_lib.engines.protocol import alone
    >>> parrot = Parrot(None)
    >>> alone(parrot.observe("It rains.")).phase, alone(parrot.answer("What is the weather?")).answer
    ('memory', 'It rains.')
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from uma_lib import views
from uma_lib.calls import ToolCall, split_thought
from uma_lib.engines.protocol import Ask, Dialogue, Message, Tokens
from uma_lib.environment import Limits, Session
from uma_lib.files import RunError, read_json
from uma_lib.memory import Diff, Result, count_words
from uma_lib.prompts import GENERAL
from uma_lib.retrieval import Encoder
from uma_lib.sample import Guide, Sample
from uma_lib.scoring import extract_answer
from uma_lib.seeds import Key, seed_of

__all__ = ["Agent", "Key", "Kind", "Setting", "Trace", "answer_in", "ask_once", "play_session", "said_in", "texts_in"]


@dataclass(frozen=True)
class Setting:
    """What an agent is given; the same for all that are compared."""

    limits: Limits = Limits()
    guide: Guide = GENERAL
    key: Key = ()  # of all its randomness; ends with the number of the trajectory
    count: Callable[[str], int] = count_words  # tokens of a text
    size: Callable[[list[Message], list[dict] | None], int] = lambda messages, tools: 0  # tokens of an opening
    encode: Encoder | None = None  # texts to vectors, for search by meaning
    search: bool = False  # questions may search the raw chunks
    whole: bool = True  # readers show whole chunks and passages alone; else text that is too long is cut to the token
    sample: Sample | None = None  # with golds and truth, for informed agents alone


@dataclass(repr=False)
class Trace:
    """One session as it happened; written once, read by every analysis."""

    phase: Literal["memory", "question"]
    messages: list[Message] = field(default_factory=list)  # the opening, then turns and tool results
    tokens: Tokens | None = None  # None where the engine only speaks text, or no model was asked
    read: int = 0  # tokens of prompt and tool results
    written: int = 0
    calls: list[tuple[ToolCall, Result]] = field(default_factory=list)
    finished: bool = True  # ended by its own action, not by a limit
    diff: Diff | None = None  # what a memory session changed in the bank
    core: str | None = None  # the core memory after it
    answer: str | None = None  # None where a question session ended without one
    shown: list[str] = field(default_factory=list)  # raw text that a reader was shown
    seconds: float = 0.0  # of the wall clock, other sessions of the batch included
    parts: list[Trace] = field(default_factory=list)  # sessions of the model that came before it and led to it
    error: str = ""  # why it could not be played; "" where it was

    @property
    def valid_calls(self) -> int:
        return sum(result.ok for _, result in self.calls)

    @property
    def sessions(self) -> list[Trace]:
        """Its parts and itself: each is a session of the model with a budget of its own."""
        return [*(session for part in self.parts for session in part.sessions), self]

    @property
    def cost(self) -> tuple[int, int]:
        """Tokens read and tokens written in all `sessions`."""
        return sum(one.read for one in self.sessions), sum(one.written for one in self.sessions)

    @property
    def said(self) -> str:
        """Everything after the prompt: turns, with tool results between them."""
        roles = [message["role"] for message in self.messages]
        first = roles.index("assistant") if "assistant" in roles else len(roles)
        return "\n".join(
            message["content"]
            if message["role"] == "assistant"
            else f"<tool_response>\n{message['content']}\n</tool_response>"
            for message in self.messages[first:]
        )

    def __repr__(self) -> str:
        turns = sum(message["role"] == "assistant" for message in self.messages)
        said = f", answer={self.answer!r}" if self.phase == "question" else ""
        valid = f"{self.valid_calls} of {len(self.calls)} calls valid"
        return f"Trace({self.phase}: {turns} turns, {valid}, {self.read} tokens read, {self.written} written{said})"

    def _repr_html_(self) -> str:
        parts = [views.block(f"{len(self.parts)} sessions before", "".join(part._repr_html_() for part in self.parts),
                             opened=False)] if self.parts else []  # fmt: skip
        for message in self.messages:
            role, opened = message["role"], message["role"] not in ("system",)
            if thought := message.get("thought"):
                parts.append(views.block("thought", views.paragraph(thought), opened=False))
            parts.append(views.block(role, views.paragraph(message["content"]), opened))
        if self.diff is not None:
            parts.append(views.block("what changed in the bank", self.diff._repr_html_()))
        if self.core is not None:
            parts.append(views.block("core memory afterwards", views.paragraph(self.core or "(empty)")))
        if self.phase == "question":
            parts.append(views.block("answer", views.paragraph("(none)" if self.answer is None else self.answer)))
        end = "" if self.finished else ", ended by a limit"
        told = f"{self.phase} session: {self.read} tokens read, {self.written} written, {self.seconds:.1f} s{end}"
        return views.block(told, "".join(parts))

    def to_json(self) -> dict[str, Any]:
        """Plain values; token ids and log-probabilities are left out."""
        found = asdict(replace(self, tokens=None, parts=[])) | {"parts": [part.to_json() for part in self.parts]}
        found["calls"] = [
            {
                "name": call.name,
                "arguments": call.arguments,
                "ok": result.ok,
                "result": result.text,
                "error": result.error,
            }
            for call, result in self.calls
        ]
        return found

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Trace:
        """What `to_json` wrote."""
        calls = [
            (ToolCall(c["name"], c["arguments"]), Result(c["ok"], c["result"], c["error"])) for c in found["calls"]
        ]
        diff = found["diff"]
        if diff is not None:
            diff = Diff(**diff | {"changed": {key: tuple(pair) for key, pair in diff["changed"].items()}})
        parts = [cls.from_json(part) for part in found.get("parts", [])]
        return cls(**found | {"calls": calls, "diff": diff, "parts": parts})


class Agent(Protocol):
    """The state over one stream."""

    def observe(self, chunk: str) -> Dialogue[Trace]:
        """Read the next chunk."""

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        """Answer from what was read; leaves the memory as it is. ``key`` seeds it, the question's text by default."""

    def save(self, folder: Path) -> None:
        """Write the state into a folder."""

    def load(self, folder: Path) -> None:
        """Take over a state that `save` wrote."""


Kind = Callable[[Setting], Agent]  # most often the agent's class


def ask_once(setting: Setting, phase: str, messages: list[Message], max_new: int, *key: int | str) -> Dialogue[Trace]:
    """A session of one turn without tools; ``key`` seeds it after that of the setting. No answer is read from it.

    The turn has at most ``max_new`` tokens, and no more than any turn may have.
    """
    began, limits = time.monotonic(), setting.limits
    most = min(max_new, limits.turn_tokens)
    turn = yield Ask(messages, None, True, most, limits.session_tokens, seed_of(*setting.key, *key))
    said = {"role": "assistant", "content": turn.text} | ({"thought": turn.thought} if turn.thought else {})
    return Trace(
        phase, [*messages, said], turn.tokens, turn.read, turn.written, finished=turn.stopped,
        seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip


def said_in(trace: Trace) -> str:
    """What the last turn of a trace says, without its thought."""
    return split_thought(trace.messages[-1]["content"])[1].strip()


def answer_in(trace: Trace) -> str | None:
    """The answer that a trace ends with; a turn that was cut gave none, nor did one that only thought."""
    return extract_answer(said_in(trace)) if trace.finished else None


def texts_in(path: Path) -> list[str]:
    """The texts of a JSON file that holds a list of them."""
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise RunError(f"{path}: not a list of texts; restore the file")
    return found


def play_session(session: Session, limits: Limits, key: Key) -> Dialogue[Trace]:
    """Run one session of the environment to its end. Its `Trace` knows no diff, core or answer yet."""
    began = time.monotonic()
    trace = Trace(session.phase, list(session.messages))
    new, fresh = list(session.messages), True
    while True:
        tools = session.schemas if fresh else None
        seed = seed_of(*key, session.turns)
        turn = yield Ask(new, tools, fresh, limits.turn_tokens, limits.session_tokens, seed)
        if turn.full:
            break  # the budget is used up: the session ends unfinished
        fresh = False
        trace.tokens, trace.read, trace.written = turn.tokens, turn.read, turn.written
        trace.messages.append(
            {"role": "assistant", "content": turn.text} | ({"thought": turn.thought} if turn.thought else {})
        )
        results = session.step(turn.text, turn.stopped)
        if results is None:
            break
        new = [{"role": "tool", "content": result} for result in results]
        trace.messages += new
    trace.calls, trace.finished = session.calls, session.finished
    trace.seconds = round(time.monotonic() - began, 3)
    return trace
