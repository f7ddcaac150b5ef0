r"""Agents that read raw sessions instead of a memory: Concat (the newest) and RAG (the best matching).

Both see the prompt `prompts.reading` and answer in one turn. They have the token budget of one session of the
memory agent, ``Limits.session_tokens``: the prompt leaves at least `ANSWER_TOKENS` of it to write in. What is
shown stands in stream order::

    Sessions:
    [2024-05-01] User said, "I spent $12 on coffee."
    [2024-05-01] Assistant said, "Noted."
    Question: How much did I spend on Dining from 2024-04-28 to 2024-05-03?

and what is written is, for example, ``12\n\boxed{12}``.

Source: the baselines of the paper (arXiv 2602.18493, section 4). Deviations: the paper's baselines have larger contexts
than its agent uses at a time; here the budget is the same. With ``Setting.whole`` only whole chunks or passages are
shown; else one more is cut to what is left of the budget: Concat keeps its end, so that the newest tokens are shown to
the last one that fits, and RAG its beginning. `QuestionOnly` is a floor, the reader that is given the question only.
This module knows nothing of gold answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from uma_lib import prompts
from uma_lib.agents.agent import Setting, Trace, answer_in, ask_once, texts_in
from uma_lib.engines.protocol import Dialogue
from uma_lib.files import RunError, atomic_write_json
from uma_lib.retrieval import RetrievalIndex, split_units

ANSWER_TOKENS = 256  # kept free for the answer
TOP_K = 20  # passages that RAG ranks


def most(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest number from ``low``, which fits, to ``high`` that fits; whatever is smaller fits too.

    >>> most(0, 100, lambda n: n * n < 50)
    7
    """
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


class _Reader(ABC):
    """What all readers share: they keep the raw chunks, and answer from those that are ranked first and fit."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.chunks: list[str] = []

    def observe(self, chunk: str) -> Dialogue[Trace]:
        """Keep a chunk; no model is asked."""
        self.chunks.append(chunk)
        return Trace("memory")
        yield

    @abstractmethod
    def ranked(self, question: str) -> list[tuple[int, str]]:
        """The texts to show with their places in the stream, the most wanted first."""

    def cut(self, text: str, length: int) -> str:
        """The part of a text that is shown where it does not fit as a whole."""
        return text[:length]

    def answer(self, question: str, key: str = "") -> Dialogue[Trace]:
        """Answer from the longest beginning of `ranked` that fits; RunError where nothing does."""
        shown = self._shown(question)
        # the first trajectory has the seeds of the committed results, which know of one only
        *place, number = self.setting.key or (0,)
        setting = replace(self.setting, key=(*place, *([number] if number else [])))
        messages = prompts.reading("\n".join(shown), question, self.setting.guide)
        trace = yield from ask_once(
            setting, "question", messages, self.setting.limits.turn_tokens, "reading", key or question
        )
        trace.answer, trace.shown = answer_in(trace), shown
        return trace

    def _shown(self, question: str) -> list[str]:
        """In stream order, what fits."""
        setting, ranked = self.setting, self.ranked(question)
        room = setting.limits.session_tokens - ANSWER_TOKENS

        def texts(count: int, length: int = 0) -> list[str]:
            cut = [(ranked[count][0], self.cut(ranked[count][1], length))] if length else []
            return [text for _, text in sorted(ranked[:count] + cut)]

        def size(*first: int) -> int:
            return setting.size(prompts.reading("\n".join(texts(*first)), question, setting.guide), None)

        least = min(1, len(ranked)) if setting.whole else 0
        if (needed := size(least)) > room:
            what = "one session or passage with its question" if least else "the question"
            raise RunError(
                f"{what} takes {needed} tokens, and {ANSWER_TOKENS} are kept for the answer: raise session_tokens "
                f"({setting.limits.session_tokens}) or make sessions shorter"
            )
        count = most(least, len(ranked), lambda count: size(count) <= room)
        if setting.whole or count == len(ranked):
            return texts(count)
        return texts(count, most(0, len(ranked[count][1]), lambda length: size(count, length) <= room))

    def save(self, folder: Path) -> None:
        """Write ``chunks.json``."""
        atomic_write_json(Path(folder) / "chunks.json", self.chunks)

    def load(self, folder: Path) -> None:
        for chunk in texts_in(Path(folder) / "chunks.json"):
            next(self.observe(chunk), None)


class Concat(_Reader):
    """The newest chunks that fit the budget, then the question."""

    def ranked(self, question: str) -> list[tuple[int, str]]:
        return list(enumerate(self.chunks))[::-1]

    def cut(self, text: str, length: int) -> str:
        return text[len(text) - length :]


class QuestionOnly(_Reader):
    """Nothing of the stream: a floor."""

    def ranked(self, question: str) -> list[tuple[int, str]]:
        return []


class RAG(_Reader):
    """Of the `TOP_K` best passages of about 1,000 characters as many as fit the budget, the best first.

    search: how they are ranked: "bm25", by the words; "embedding", by meaning; "hybrid", by reciprocal rank fusion of
    both (k = 60, over twice as many candidates). Passages are indexed once, when their chunk arrives. Give all agents
    the same ``encode``, so that its cache is shared.
    """

    def __init__(self, setting: Setting, search: str = "hybrid"):
        super().__init__(setting)
        if setting.encode is None:
            raise ValueError("RAG searches by meaning: give the setting an encoder")
        self.search = search
        self._index = RetrievalIndex(setting.encode)
        self._place: dict[str, int] = {}  # passage -> where it first stands in the stream

    def observe(self, chunk: str) -> Dialogue[Trace]:
        self._index.add_chunk(chunk)
        for passage in split_units(chunk):
            self._place.setdefault(passage, len(self._place))
        return (yield from super().observe(chunk))

    def ranked(self, question: str) -> list[tuple[int, str]]:
        found = getattr(self._index, self.search)(question, TOP_K)
        return [(self._place[passage], passage) for passage in found]


RAGByWords, RAGByMeaning = partial(RAG, search="bm25"), partial(RAG, search="embedding")
