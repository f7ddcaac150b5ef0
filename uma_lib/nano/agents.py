"""Agents without a model, on Ledger-QA: the oracle reads the answers, the script keeps and uses a memory by habit."""

from __future__ import annotations

import random
from pathlib import Path

from uma_lib.agents.agent import Setting, Trace
from uma_lib.engines.protocol import Dialogue
from uma_lib.environment import MemorySession
from uma_lib.memory import CoreMemory, Memory
from uma_lib.nano.script import Demonstrator, Habits, play


class Oracle:
    """It answers with the gold answer. Any data set."""

    def __init__(self, setting: Setting):
        self._golds = {question.text: str(question.gold) for question in setting.sample.questions}

    def observe(self, chunk: str) -> Dialogue[Trace]:
        return Trace("memory")
        yield

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        return Trace("question", answer=self._golds[question])
        yield

    def save(self, folder: Path) -> None:
        """It keeps nothing."""

    load = save


class Scripted:
    """The `Demonstrator` with its usual habits, over one stream."""

    def __init__(self, setting: Setting):
        *place, number = setting.key
        key = "/".join(map(str, [*place, *([number] if number else [])]))
        self.script = Demonstrator(Habits(), random.Random(key), setting.limits)
        self.memory = Memory(CoreMemory(budget=setting.limits.core_tokens))
        truth = setting.sample.truth
        self._stream, self._read = truth.stream, 0
        self._questions = {question.text: question for question in truth.questions.values()}

    def observe(self, chunk: str) -> Dialogue[Trace]:
        session = self._stream.session(self._read)
        self._read += 1
        played = MemorySession(self.memory, chunk, self.script.limits)
        version = self.memory.bank.snapshot()
        play(played, self.script.memory_turns(session, self.memory.core.text))
        bank = self.memory.bank
        diff = bank.diff(version, bank.snapshot())
        return Trace("memory", calls=played.calls, finished=played.finished, diff=diff, core=self.memory.core.text)
        yield

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        return Trace("question", answer=self.script.ask(self.memory, self._questions[question]))
        yield

    def save(self, folder: Path) -> None:
        """Write the bank; the script's randomness is not kept."""
        self.memory.bank.save(Path(folder) / "bank.jsonl")

    def load(self, folder: Path) -> None:
        raise NotImplementedError("a script cannot go on from a folder: its random state is not kept")
