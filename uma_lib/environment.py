"""The environment of the decision process: memory sessions (Phase I) and question sessions (Phase II), paper section 3.

A session shows messages and tools, takes one assistant turn at a time as text, and gives back tool results. History
lives only inside a session: it starts empty at every chunk and at every question. Errors are observations; they never
end a session and never raise.

A turn is split into thought, speech and calls by `uma_lib.calls`; thought becomes neither core memory nor answer. What
looks like a call and could not be read is an error that the model sees, not a final text. Of a turn that was cut, the
calls that were whole before the cut are run; what was cut off is neither run nor a core memory or an answer. After
the terminal call of a turn nothing is run: calls that follow it count as calls that failed (error "limit").

The search tools are offered where there is raw text to search. They can be called without: the answer is an error.

It knows nothing of tokens, models or training. The same ``Limits`` serve training and evaluation.

Where it deviates from the paper: ``list`` also takes a key range (see `MemoryBank.list`); a memory session that ends
without ``update_core`` and without a final text keeps the old core, where the authors' code wipes it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from uma_lib import prompts
from uma_lib.memory import Memory, Result
from uma_lib.prompts import GENERAL
from uma_lib.retrieval import RetrievalIndex
from uma_lib.sample import Guide
from uma_lib.scoring import extract_answer
from uma_lib.tools import ToolCall, cut, dispatch, parse_calls, schema


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may use; the same in training and evaluation."""

    turns: int = 10  # assistant turns
    calls_per_turn: int = 10  # further calls of a turn are refused with an error
    result_chars: int = 3000  # characters of one tool result
    core_tokens: int = 1000  # budget of the core memory
    session_tokens: int = 1024  # prompt and everything after it
    turn_tokens: int = 768  # sampled tokens of one turn


class MemoryTools:
    """Tools of Phase I."""

    def __init__(self, memory: Memory):
        self._memory = memory
        self.add, self.update = memory.bank.add, memory.bank.update
        self.delete, self.retrieve, self.list = memory.bank.delete, memory.bank.retrieve, memory.bank.list

    def update_core(self, text: str) -> Result:
        """Replace the core memory and finish with this session.

        Args:
            text: the new core memory.
        """
        return self._memory.core.write(text)


class QuestionTools:
    """Tools of Phase II: the bank read-only, and search over the raw chunks."""

    def __init__(self, memory: Memory, index: RetrievalIndex | None):
        self._index = index
        self.retrieve, self.list = memory.bank.retrieve, memory.bank.list

    def bm25(self, query: str, top_k: int = 5) -> Result:
        """Search the raw stream by words.

        Args:
            query: what to look for.
            top_k: how many passages, from 1 to 50.
        """
        return self._search("bm25", query, top_k)

    def embedding(self, query: str, top_k: int = 5) -> Result:
        """Search the raw stream by meaning.

        Args:
            query: what to look for.
            top_k: how many passages, from 1 to 50.
        """
        return self._search("embedding", query, top_k)

    def _search(self, how: str, query: str, top_k: int) -> Result:
        if not 1 <= top_k <= 50:
            return Result(False, "error: top_k must be from 1 to 50", "argument")
        if self._index is None:
            return Result(False, "error: no raw text is kept for this stream", "missing")
        found = self._index.bm25(query, top_k) if how == "bm25" else self._index.embedding(query, top_k)
        return Result(True, "\n".join(found) or "(nothing found)", None)

    def answer(self, text: str) -> Result:
        """Give the final answer.

        Args:
            text: the answer alone.
        """
        return Result(True, text, None)


def _methods(tools: object, names: tuple[str, ...]) -> dict[str, Callable[..., Result]]:
    return {name: getattr(tools, name) for name in names}


MEMORY_TOOLS = ("add", "update", "delete", "retrieve", "list", "update_core")
QUESTION_TOOLS = ("retrieve", "list", "bm25", "embedding", "answer")
MEMORY_SCHEMAS = [schema(method) for method in _methods(MemoryTools(Memory()), MEMORY_TOOLS).values()]
QUESTION_SCHEMAS = [schema(method) for method in _methods(QuestionTools(Memory(), None), QUESTION_TOOLS).values()]
SEARCH_TOOLS = ("bm25", "embedding")  # offered only where raw text is kept


class Session(ABC):
    """What sessions with tools share: turns, limits, counting of calls.

    terminal: the tool that ends it; "": it ends with a turn without calls.
    """

    phase: Literal["memory", "question"]
    terminal: str
    schemas: list[dict]

    def __init__(self, messages: list[dict[str, str]], tools: dict[str, Callable[..., Result]], limits: Limits):
        self.messages = messages
        self._tools, self._limits = tools, limits
        self.turns = 0
        self.calls: list[tuple[ToolCall, Result]] = []
        self.done = False
        self.finished = False  # ended by its terminal action or a final text, not by a limit

    @property
    def valid_calls(self) -> int:
        """Calls that succeeded: r_tool = valid_calls / len(calls)."""
        return sum(result.ok for _, result in self.calls)

    def step(self, text: str, stopped: bool = True) -> list[str] | None:
        """Take one assistant turn; ``stopped`` says that it ended by itself and was not cut.

        Returns the tool results for the next turn, or None when the session is over.
        """
        if self.done:
            raise RuntimeError("this session is over: start a new one")
        self.turns += 1
        content, calls = parse_calls(text, self._tools.keys(), stopped)
        if not calls:
            self.done = True
            self.finished = stopped and self._final_text(content)
            return None
        results = []
        for number, call in enumerate(calls):
            if self.finished:
                result = Result.failure("limit", f"not run: {self.terminal} has ended the session")
            elif number >= self._limits.calls_per_turn:
                result = Result(False, f"error: at most {self._limits.calls_per_turn} calls a turn", "limit")
            else:
                result = dispatch(self._tools, call, [tool["function"]["name"] for tool in self.schemas])
            self.calls.append((call, result))
            results.append(cut(result.text, self._limits.result_chars))
            if result.ok and call.name == self.terminal:
                self._terminate(result)
                self.done = self.finished = True
        if self.finished:
            return None
        if self.turns >= self._limits.turns or not stopped:
            self.done = True
            return None
        return results

    @abstractmethod
    def _final_text(self, content: str) -> bool:
        """Take a turn without calls; whether it ends the session properly."""

    @abstractmethod
    def _terminate(self, result: Result) -> None:
        """What the terminal call does beyond its own effect."""


class MemorySession(Session):
    """Phase I: one chunk is read, the memory is changed in place, the core is committed at the end.

    >>> memory = Memory()
    >>> session = MemorySession(memory, "[2024-05-01] User said, \\"Paid $12 for coffee.\\"", Limits())
    >>> session.step('<tool_call>{"name": "add", "arguments": {"key": "2024-05-01 Dining", "value": "12"}}</tool_call>')
    ['ok']
    >>> session.step('<tool_call>{"name": "update_core", "arguments": {"text": "total 12"}}</tool_call>') is None
    True
    >>> memory.core.text, session.finished
    ('total 12', True)
    """

    phase, terminal = "memory", "update_core"
    schemas = MEMORY_SCHEMAS

    def __init__(self, memory: Memory, chunk: str, limits: Limits, guide: Guide = GENERAL):
        self.memory = memory
        super().__init__(
            prompts.memory_session(memory.core.text, chunk, guide),
            _methods(MemoryTools(memory), MEMORY_TOOLS),
            limits,
        )

    def _final_text(self, content: str) -> bool:
        # a final text is the new core; an empty one leaves the old core as it was
        return bool(content.strip()) and self.memory.core.write(content.strip()).ok

    def _terminate(self, result: Result) -> None:
        pass  # update_core has written the core itself


class QuestionSession(Session):
    """Phase II: one question is answered from the final memory, which stays as it is.

    With an ``index`` over the raw chunks the model is offered to search them, too. ``answer`` is the text of the
    answer, or None where the session ended without one.
    """

    phase, terminal = "question", "answer"

    def __init__(
        self,
        memory: Memory,
        question: str,
        limits: Limits,
        guide: Guide = GENERAL,
        index: RetrievalIndex | None = None,
    ):
        self.answer: str | None = None
        self.schemas = [s for s in QUESTION_SCHEMAS if index is not None or s["function"]["name"] not in SEARCH_TOOLS]
        super().__init__(
            prompts.question_session(memory.core.text, question, guide),
            _methods(QuestionTools(memory, index), QUESTION_TOOLS),
            limits,
        )

    def _final_text(self, content: str) -> bool:
        if content.strip():
            self.answer = extract_answer(content)
        return self.answer is not None

    def _terminate(self, result: Result) -> None:
        self.answer = extract_answer(result.text)
