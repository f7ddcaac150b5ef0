r"""Agents that read raw sessions instead of a memory: Concat (the newest) and RAG (the best matching).

Both see the prompt `prompts.reading` and answer in one turn. They have the token budget of one session of the
memory agent, ``Limits.session_tokens``: the prompt leaves at least `ANSWER_TOKENS` of it to write in. What is
shown stands in stream order::

    Sessions:
    [2024-05-01] User said, "I spent $12 on coffee."
    [2024-05-01] Assistant said, "Noted."
    Question: How much did I spend on Dining from 2024-04-28 to 2024-05-03?

and what is written is, for example, ``12\n\boxed{12}``.

Source: the baselines of the paper (arXiv 2602.18493, section 4). Deviations: the paper's baselines have
larger contexts than its agent uses at a time; here the budget is the same, and only whole sessions or
passages are shown. `QuestionOnly` is a floor, the reader that is given the question only. This module
knows nothing of gold answers.
"""

from __future__ import annotations

import time
from pathlib import Path

from uma_lib import prompts
from uma_lib.agents.agent import Setting, Trace
from uma_lib.calls import split_thought
from uma_lib.engines.protocol import Ask, Dialogue
from uma_lib.files import RunError, atomic_write_json, read_json
from uma_lib.retrieval import RetrievalIndex, split_units
from uma_lib.scoring import extract_answer
from uma_lib.seeds import seed_of

ANSWER_TOKENS = 256  # kept free for the answer
TOP_K = 20  # passages that RAG ranks


class _Reader:
    """What all readers share: they keep the raw chunks, and answer from those that are ranked first and fit."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.chunks: list[str] = []

    def observe(self, chunk: str) -> Dialogue[Trace]:
        """Keep a chunk; no model is asked."""
        self.chunks.append(chunk)
        return Trace("memory")
        yield

    def ranked(self, question: str) -> list[str]:
        """The texts to show, the most wanted first."""
        raise NotImplementedError

    def in_order(self, texts: list[str]) -> list[str]:
        """Some of the ranked texts in stream order."""
        raise NotImplementedError

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        """Answer from the longest beginning of `ranked` that fits; RunError if not even its first text does."""
        began, limits, guide = time.monotonic(), self.setting.limits, self.setting.guide
        ranked = self.ranked(question)

        def opening(count: int) -> list[dict[str, str]]:
            return prompts.reading("\n".join(self.in_order(ranked[:count])), question, guide)

        def fits(count: int) -> bool:
            return self.setting.size(opening(count), None) + ANSWER_TOKENS <= limits.session_tokens

        if not fits(1):
            size = self.setting.size(opening(1), None)
            raise RunError(
                f"one session or passage with its question takes {size} tokens, and {ANSWER_TOKENS} are kept "
                f"for the answer: raise session_tokens ({limits.session_tokens}) or make sessions shorter"
            )
        count = 1 if ranked else 0
        while count < len(ranked) and fits(count + 1):
            count += 1
        # the first trajectory has the seeds of the committed results, which know of one only
        *place, number = self.setting.key or (0,)
        seed = seed_of(*place, *([number] if number else []), "reading", key or question)
        messages = opening(count)
        turn = yield Ask(messages, None, True, limits.turn_tokens, limits.session_tokens, seed)
        # a turn that was cut gave no answer, as in a question session; nor does a thought
        answer = extract_answer(split_thought(turn.text)[1]) if turn.stopped else None
        messages = [*messages, {"role": "assistant", "content": turn.text}]
        return Trace(
            "question", messages, turn.tokens, turn.read, turn.written, finished=turn.stopped, answer=answer,
            shown=self.in_order(ranked[:count]), seconds=round(time.monotonic() - began, 3),
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write ``chunks.json``."""
        atomic_write_json(Path(folder) / "chunks.json", self.chunks)

    def load(self, folder: Path) -> None:
        path = Path(folder) / "chunks.json"
        found = read_json(path)
        if not isinstance(found, list) or not all(isinstance(chunk, str) for chunk in found):
            raise RunError(f"{path}: not a list of texts; restore the file")
        for chunk in found:
            next(self.observe(chunk), None)


class Concat(_Reader):
    """The newest whole chunks that fit the budget, then the question."""

    def ranked(self, question: str) -> list[str]:
        return self.chunks[::-1]

    def in_order(self, texts: list[str]) -> list[str]:
        return texts[::-1]


class QuestionOnly(_Reader):
    """Nothing of the stream: a floor."""

    def ranked(self, question: str) -> list[str]:
        return []

    def in_order(self, texts: list[str]) -> list[str]:
        return texts


class RAG(_Reader):
    """Of the `TOP_K` best passages of about 1,000 characters as many as fit the budget, the best first.

    Best is by reciprocal rank fusion of BM25 and MiniLM. Give all agents the same ``encode``, so that its cache is
    shared.
    """

    def __init__(self, setting: Setting):
        super().__init__(setting)
        if setting.encode is None:
            raise ValueError("RAG searches by meaning: give the setting an encoder")
        self._index = RetrievalIndex(setting.encode)
        self._place: dict[str, int] = {}  # passage -> where it first stands in the stream

    def observe(self, chunk: str) -> Dialogue[Trace]:
        self._index.add_chunk(chunk)
        for passage in split_units(chunk):
            self._place.setdefault(passage, len(self._place))
        return (yield from super().observe(chunk))

    def ranked(self, question: str) -> list[str]:
        return self._index.hybrid(question, TOP_K)

    def in_order(self, texts: list[str]) -> list[str]:
        return sorted(texts, key=self._place.__getitem__)
