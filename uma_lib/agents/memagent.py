"""MemAgent: one text memory that is rewritten segment by segment (Yu et al., arXiv 2507.02259).

With the question (`MemAgent`) the whole stream is read again for each question, in segments, each of which rewrites the
memory, and then the question is answered from the memory. Without it (`MemAgentWithoutQuestion`, the paper's
MemAgent-woq) the memory is kept while the stream arrives, and serves all questions.

Deviations: a segment and a memory shrink where the session's budget is smaller than theirs; without the question a
segment is no longer than a chunk, as the memory must be up to date whenever a question may come; a memory that was cut
at its budget is kept as far as it goes, and an empty one leaves the old one as it was.
"""

from __future__ import annotations

from pathlib import Path

from uma_lib.agents.agent import Setting, Trace, answer_in, ask_once, said_in, texts_in
from uma_lib.engines.protocol import Dialogue, Message
from uma_lib.files import RunError, atomic_write_json, read_json
from uma_lib.texts import chunks_of

SEGMENT_TOKENS = 5000  # of the stream, read at a time
MEMORY_TOKENS = 1024  # of the memory, at most

REWRITE = (
    "You read a long stream part by part and keep a memory of it, one text. Write the memory anew so that it holds "
    "what it held and matters still, and what the new part adds. Write the new memory alone."
)
WITH_QUESTION = " You will be asked this question in the end: keep what helps to answer it."


class TextMemory:
    """What MemAgent and MEM1 share: one text within a budget, rewritten by one turn a segment."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.memory = ""
        self.read = 0  # chunks

    @property
    def budget(self) -> int:
        """Tokens of the memory: a quarter of the session's, so that it can be read, written, and beside a segment."""
        return min(MEMORY_TOKENS, self.setting.limits.session_tokens // 4)

    def rewriting(self, memory: str, segment: str, question: str) -> list[Message]:
        """The prompt that asks for a new memory."""
        about = self.setting.guide.about
        told = REWRITE + (WITH_QUESTION if question else "") + (f" {about}" if about else "")
        asked = f"\nQuestion: {question}" if question else ""
        text = f"Memory:\n{memory or '(empty)'}{asked}\nNew part:\n{segment}"
        return [{"role": "system", "content": told}, {"role": "user", "content": text}]

    def asking(self, memory: str, question: str) -> list[Message]:
        """The prompt that asks for an answer."""
        text = f"Memory of the stream:\n{memory or '(empty)'}\nQuestion: {question}"
        return [{"role": "system", "content": self.setting.guide.reading}, {"role": "user", "content": text}]

    def taken(self, trace: Trace, old: str) -> str:
        """The memory that a turn has written."""
        return fitting(said_in(trace), self.budget, self.setting) or old

    def segments(self, text: str, question: str = "") -> list[str]:
        """A text in the order of the stream, in parts that fit beside memory and question."""
        limits, budget = self.setting.limits, self.budget
        empty = self.setting.size(self.rewriting("", "", question), None)
        room = min(SEGMENT_TOKENS, limits.session_tokens - empty - 2 * budget)
        if room < 16:
            raise RunError(
                f"session_tokens={limits.session_tokens} leaves no room for a part of the stream beside a prompt of "
                f"{empty} tokens and a memory of {budget}: raise session_tokens"
            )
        return [text[begin:end] for begin, end in chunks_of(text, text.split("\n"), self.setting.count, room)]

    def rewritten(self, memory: str, segment: str, question: str, *key: int | str) -> Dialogue[tuple[str, Trace]]:
        """The memory after a segment, and the session that wrote it."""
        trace = yield from ask_once(
            self.setting, "memory", self.rewriting(memory, segment, question),
            self.budget, *key,
        )  # fmt: skip
        trace.core = self.taken(trace, memory)
        return trace.core, trace

    def answered(self, memory: str, question: str, key: str, parts: list[Trace]) -> Dialogue[Trace]:
        """The answer from a memory."""
        messages, limits = self.asking(memory, question), self.setting.limits
        trace = yield from ask_once(
            self.setting, "question", messages, limits.turn_tokens, "question", key or question
        )
        trace.answer, trace.parts = answer_in(trace), parts
        return trace

    def observe(self, chunk: str) -> Dialogue[Trace]:
        """Rewrite the memory for a chunk, segment by segment."""
        memory, traces = self.memory, []
        for number, segment in enumerate(self.segments(chunk)):
            memory, trace = yield from self.rewritten(memory, segment, "", "memory", self.read, number)
            traces.append(trace)
        self.memory, self.read = memory, self.read + 1
        if not traces:
            return Trace("memory", core=memory)
        *parts, last = traces
        last.parts = parts
        return last

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        return (yield from self.answered(self.memory, question, key, []))

    def save(self, folder: Path) -> None:
        """Write ``memory.json``."""
        atomic_write_json(Path(folder) / "memory.json", {"memory": self.memory, "read": self.read})

    def load(self, folder: Path) -> None:
        path = Path(folder) / "memory.json"
        found = read_json(path)
        try:
            self.memory, self.read = found["memory"] + "", found["read"] + 0
        except (LookupError, TypeError) as error:
            raise RunError(f"{path}: not the memory of this agent; restore the file") from error


class MemAgentWithoutQuestion(TextMemory):
    """The memory is kept while the stream arrives."""


class MemAgent(TextMemory):
    """The stream is read again for each question: its cost is that of the stream, a question."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.chunks: list[str] = []

    def observe(self, chunk: str) -> Dialogue[Trace]:
        """Keep a chunk; no model is asked."""
        self.chunks.append(chunk)
        return Trace("memory")
        yield

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        memory, parts = "", []
        for number, segment in enumerate(self.segments("\n".join(self.chunks), question)):
            memory, trace = yield from self.rewritten(memory, segment, question, "memory", key or question, number)
            parts.append(trace)
        return (yield from self.answered(memory, question, key, parts))

    def save(self, folder: Path) -> None:
        """Write ``chunks.json``."""
        atomic_write_json(Path(folder) / "chunks.json", self.chunks)

    def load(self, folder: Path) -> None:
        self.chunks = texts_in(Path(folder) / "chunks.json")


def fitting(text: str, budget: int, setting: Setting) -> str:
    """The longest beginning of a text within a budget of tokens.

    A turn of that many tokens may be a few more when its text is counted.
    """
    while text and setting.count(text) > budget:
        text = text[: min(len(text) - 1, len(text) * budget // setting.count(text))].rstrip()
    return text
