"""The Unified Memory Agent: a core text and a bank, kept chunk by chunk by the model that later answers (section 3)."""

from __future__ import annotations

import json
from pathlib import Path

from uma_lib.agents.agent import Setting, Trace, play_session
from uma_lib.engines.protocol import Dialogue
from uma_lib.environment import MemorySession, QuestionSession
from uma_lib.files import RunError, atomic_write_text, read_text
from uma_lib.memory import CoreMemory, Memory
from uma_lib.retrieval import RetrievalIndex


class UMA:
    """One memory over one stream. A session that raises leaves the memory as it was.

    ``memory`` may be looked at and changed; ``history`` holds a record a chunk, from which `load` makes all of it anew.
    """

    def __init__(self, setting: Setting):
        self.setting = setting
        self.memory = Memory(CoreMemory(budget=setting.limits.core_tokens, count=setting.count))
        self.index = RetrievalIndex(setting.encode) if setting.search else None
        self.history: list[dict] = []  # of each chunk: its text, the bank's changes, the core after it

    def observe(self, chunk: str) -> Dialogue[Trace]:
        """Phase I: read a chunk, change the memory."""
        memory, setting = self.memory, self.setting
        version, core = memory.bank.snapshot(), memory.core.text
        session = MemorySession(memory, chunk, setting.limits, setting.guide)
        try:
            trace = yield from play_session(session, setting.limits, (*setting.key, "memory", len(self.history)))
        except BaseException:  # an engine that failed must not leave half a session behind
            memory.bank.revert(version)
            memory.core.restore(core)
            raise
        trace.diff, trace.core = memory.bank.diff(version, memory.bank.snapshot()), memory.core.text
        if self.index is not None:
            self.index.add_chunk(chunk)
        self.history.append({"chunk": chunk, "changes": memory.bank.journal(version), "core": memory.core.text})
        return trace

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        """Phase II: answer from the memory, which stays as it is."""
        setting = self.setting
        session = QuestionSession(self.memory, question, setting.limits, setting.guide, self.index)
        trace = yield from play_session(session, setting.limits, (*setting.key, "question", key or question))
        trace.answer = session.answer
        return trace

    def save(self, folder: Path) -> None:
        """Write ``history.jsonl``, and ``bank.jsonl`` and ``core.txt`` for people to read."""
        folder = Path(folder)
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in self.history]
        atomic_write_text(folder / "history.jsonl", "".join(lines))
        self.memory.bank.save(folder / "bank.jsonl")
        atomic_write_text(folder / "core.txt", self.memory.core.text)

    def load(self, folder: Path) -> None:
        """Take over the memory of a folder; RunError where ``history.jsonl`` is missing or damaged."""
        path = Path(folder) / "history.jsonl"
        for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
            if line:
                try:
                    self.recall(json.loads(line))
                except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                    raise RunError(f"{path}:{number}: not a record of a chunk ({error}); restore the file") from error

    def recall(self, record: dict) -> None:
        """Take over one record of a `history`, as if its chunk had been read now."""
        chunk, core = record["chunk"], record["core"]
        if not isinstance(chunk, str) or not isinstance(core, str):
            raise ValueError("chunk and core must be texts")
        self.memory.bank.replay(record["changes"])
        self.memory.core.restore(core)
        if self.index is not None:
            self.index.add_chunk(chunk)
        self.history.append({**record, "changes": [tuple(change) for change in record["changes"]]})
