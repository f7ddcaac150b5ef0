"""Mem-alpha: a core text, episodic and semantic memories, kept by calls (Wang et al., arXiv 2509.25911).

For each chunk the model is shown its core memory and the entries nearest to the chunk, and inserts, updates and deletes
entries until it makes no further call. A question is answered from the core and the entries found by it.

Deviations: the paper trains a model that writes and lets a larger one answer; here one model does both, as for all
agents. Its writer sees all memories; here those that are found, since a memory outgrows a prompt. The answer is read in
one turn, as for RAG.
"""

from __future__ import annotations

from pathlib import Path

from uma_lib.agents.agent import Setting, Trace, answer_in, ask_once, play_session
from uma_lib.agents.readers import ANSWER_TOKENS, most
from uma_lib.engines.protocol import Dialogue, Message
from uma_lib.environment import Limits, Session
from uma_lib.files import RunError, atomic_write_json, read_json
from uma_lib.memory import CoreMemory, Result
from uma_lib.retrieval import BM25
from uma_lib.tools import schema

CORE_TOKENS = 512  # of the core memory, at most
TOP_K = 20  # entries that are looked up for a question
SHOWN = 5  # entries that the writer is shown with a chunk
KINDS = ("core", "episodic", "semantic")

WRITE = (
    "You keep a memory of a long stream that you read part by part: a core text, episodic entries (what happened, with "
    "its time) and semantic entries (facts that hold). Insert what is new, update what has changed, delete what is "
    "wrong or double. Entries that resemble the new part are shown with their numbers. When nothing is left to do, "
    "write done."
)


class Memories:
    """The three memories. They change by the three operations alone; each gives a `Result` that the model reads.

    >>> memories = Memories(CoreMemory())
    >>> memories.memory_insert("semantic", "Ida lives in Riga.").text
    'entry 1'
    >>> memories.memory_update(1, "Ida lives in Oslo.").text
    'ok'
    >>> memories.entries
    {1: ('semantic', 'Ida lives in Oslo.')}
    """

    def __init__(self, core: CoreMemory):
        self.core = core
        self.entries: dict[int, tuple[str, str]] = {}  # number: kind and text
        self.count = 0  # numbers given so far
        self.log: list[tuple[int, str, str]] = []  # number, kind and text of all that ever was written
        self._index = BM25()  # of the log; what is there no longer is passed over

    def memory_insert(self, memory_type: str, content: str) -> Result:
        """Add an entry; a core memory is replaced as a whole.

        Args:
            memory_type: core, episodic or semantic.
            content: what to remember.
        """
        if wrong := self._wrong(memory_type, content):
            return wrong
        if memory_type == "core":
            return self.core.write(content)
        self.count += 1
        self._put(self.count, memory_type, content)
        return Result(True, f"entry {self.count}", None)

    def memory_update(self, number: int, content: str) -> Result:
        """Replace the text of an entry.

        Args:
            number: of the entry.
            content: what to remember instead.
        """
        if number not in self.entries:
            return Result.failure("missing", f"there is no entry {number}")
        kind = self.entries[number][0]
        if wrong := self._wrong(kind, content):
            return wrong
        self._put(number, kind, content)
        return Result(True, "ok", None)

    def memory_delete(self, number: int) -> Result:
        """Delete an entry.

        Args:
            number: of the entry.
        """
        if self.entries.pop(number, None) is None:
            return Result.failure("missing", f"there is no entry {number}")
        return Result(True, "ok", None)

    def search(self, query: str, top_k: int) -> list[int]:
        """The numbers of the entries that share words with a query, the best first."""
        found: list[int] = []
        stale = len(self.log) - len(self.entries)
        for place, _ in self._index.search(query, top_k + stale) if self.log else ():
            number, kind, text = self.log[place]
            if self.entries.get(number) == (kind, text) and number not in found:
                found.append(number)
        return found[:top_k]

    def _put(self, number: int, kind: str, text: str) -> None:
        self.entries[number] = kind, text
        self._index.add(text)
        self.log.append((number, kind, text))

    def state(self) -> dict:
        """Everything, as plain values."""
        return {"core": self.core.text, "log": list(self.log), "live": list(self.entries), "count": self.count}

    @classmethod
    def of(cls, state: dict, core: CoreMemory) -> Memories:
        """The memories of a `state`."""
        found = cls(core)
        core.restore(state["core"])
        for number, kind, text in state["log"]:
            found._put(number, kind, text)
        found.entries = {number: found.entries[number] for number in state["live"]}
        found.count = state["count"]
        return found

    @staticmethod
    def _wrong(kind: str, content: str) -> Result | None:
        if kind not in KINDS:
            return Result.failure("argument", f"memory_type must be one of {', '.join(KINDS)}")
        return None if content.strip() else Result.failure("argument", "content must not be empty")

    def shown(self, numbers: list[int]) -> str:
        """Entries as a model reads them, in the order of their numbers."""
        return "\n".join(f"{n} ({self.entries[n][0]}): {self.entries[n][1]}" for n in sorted(numbers)) or "(none)"


class _Writing(Session):
    phase, terminal = "memory", ""

    def __init__(self, memories: Memories, messages: list[Message], limits: Limits):
        tools = {tool.__name__: tool for tool in
                 (memories.memory_insert, memories.memory_update, memories.memory_delete)}  # fmt: skip
        self.schemas = [schema(tool) for tool in tools.values()]
        super().__init__(messages, tools, limits)

    def _final_text(self, content: str) -> bool:
        return True  # a turn without calls says that nothing is left to do

    def _terminate(self, result: Result) -> None:
        """No call ends the session."""


class MemAlpha:
    """``memories`` may be looked at; a session that raises leaves them as they were."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.memories = Memories(self._core())
        self.read = 0  # chunks

    def _core(self) -> CoreMemory:
        limits = self.setting.limits
        return CoreMemory(budget=min(CORE_TOKENS, limits.session_tokens // 8), count=self.setting.count)

    def observe(self, chunk: str) -> Dialogue[Trace]:
        setting, memories, before = self.setting, self.memories, self.memories.state()
        near = memories.search(chunk, SHOWN)

        def opening(shown: int) -> list[Message]:
            about = setting.guide.about
            text = f"Core memory: {memories.core.text or '(empty)'}\nEntries:\n{memories.shown(near[:shown])}"
            return [{"role": "system", "content": WRITE + (f" {about}" if about else "")},
                    {"role": "user", "content": f"{text}\nNew part:\n{chunk}"}]  # fmt: skip

        # at least a quarter of the budget stays to write in
        schemas, room = _Writing(memories, [], setting.limits).schemas, setting.limits.session_tokens * 3 // 4
        shown = most(0, len(near), lambda n: setting.size(opening(n), schemas) <= room)
        session = _Writing(memories, opening(shown), setting.limits)
        try:
            trace = yield from play_session(session, setting.limits, (*setting.key, "memory", self.read))
        except BaseException:
            self.memories = Memories.of(before, self._core())
            raise
        self.read += 1
        trace.core = memories.core.text
        return trace

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        setting, memories = self.setting, self.memories
        found = memories.search(question, TOP_K)

        def opening(shown: int) -> list[Message]:
            text = f"Core memory: {memories.core.text or '(empty)'}\nEntries:\n{memories.shown(found[:shown])}"
            return [{"role": "system", "content": setting.guide.reading},
                    {"role": "user", "content": f"{text}\nQuestion: {question}"}]  # fmt: skip

        room = setting.limits.session_tokens - ANSWER_TOKENS
        count = most(0, len(found), lambda n: setting.size(opening(n), None) <= room)
        trace = yield from ask_once(
            setting, "question", opening(count), setting.limits.turn_tokens, "question", key or question
        )
        trace.answer, trace.shown = answer_in(trace), [memories.entries[n][1] for n in sorted(found[:count])]
        return trace

    def save(self, folder: Path) -> None:
        """Write ``memories.json``."""
        atomic_write_json(Path(folder) / "memories.json", self.memories.state() | {"read": self.read})

    def load(self, folder: Path) -> None:
        path = Path(folder) / "memories.json"
        found = read_json(path)
        try:
            self.memories, self.read = Memories.of(found, self._core()), found["read"] + 0
        except (LookupError, TypeError, ValueError) as error:
            raise RunError(f"{path}: not the memories of this agent; restore the file") from error
