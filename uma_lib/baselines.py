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
passages are shown. Concat of no sessions is a floor, the reader that is given the question only. This module
knows nothing of gold answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uma_lib import prompts
from uma_lib.engines.chat import ChatFormat
from uma_lib.engines.local import Ask, Rollout
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.retrieval import Encoder, RetrievalIndex, split_units
from uma_lib.rollout import Tokens
from uma_lib.scoring import extract_answer
from uma_lib.seeds import Key, seed_of
from uma_lib.tools import split_thought

ANSWER_TOKENS = 256  # kept free for the answer
TOP_K = 20  # passages that RAG ranks


@dataclass(frozen=True, slots=True)
class Reading:
    """One question answered from raw text."""

    answer: str | None  # None where the turn was cut before its end
    shown: list[str]  # the sessions or passages in the prompt, in stream order
    tokens: Tokens


class Passages:
    """The chunks of one stream, cut into passages of about 1,000 characters that can be searched.

    Searching encodes every passage once; give all streams the same ``encode``, so that its cache is shared.
    """

    def __init__(self, chunks: Sequence[str], encode: Encoder):
        self._index = RetrievalIndex(encode)
        self._place: dict[str, int] = {}  # passage -> where it first stands in the stream
        for chunk in chunks:
            self._index.add_chunk(chunk)
            for passage in split_units(chunk):
                self._place.setdefault(passage, len(self._place))

    def best(self, question: str, top_k: int = TOP_K) -> list[str]:
        """At most ``top_k`` passages, best first, by reciprocal rank fusion of BM25 and MiniLM."""
        return self._index.hybrid(question, top_k)

    def in_order(self, passages: Sequence[str]) -> list[str]:
        """The passages in stream order."""
        return sorted(passages, key=self._place.__getitem__)


def concat_question(
    chunks: Sequence[str],
    question: str,
    chat: ChatFormat,
    limits: Limits,
    key: Key,
    schema_given: bool = True,
) -> Rollout[Reading]:
    """Concat: the newest whole chunks that fit the budget, then the question."""
    newest_first = list(reversed(chunks))
    return _read(newest_first, lambda shown: shown[::-1], question, chat, limits, key, schema_given)


def rag_question(
    passages: Passages,
    question: str,
    chat: ChatFormat,
    limits: Limits,
    key: Key,
    schema_given: bool = True,
) -> Rollout[Reading]:
    """RAG: of the `TOP_K` best passages as many as fit the budget, the best first; then the question."""
    return _read(passages.best(question), passages.in_order, question, chat, limits, key, schema_given)


def _read(
    ranked: list[str],
    in_order: Callable[[list[str]], list[str]],
    question: str,
    chat: ChatFormat,
    limits: Limits,
    key: Key,
    schema_given: bool,
) -> Rollout[Reading]:
    """Answer from the longest beginning of ``ranked`` that fits; RunError if not even its first text does."""

    def prompt(count: int) -> list[int]:
        text = "\n".join(in_order(ranked[:count]))
        return chat.open(prompts.reading(text, question, schema_given), None)

    count, ids = 0, prompt(1)
    if len(ids) + ANSWER_TOKENS > limits.session_tokens:
        raise RunError(
            f"one session or passage with its question takes {len(ids)} tokens, and {ANSWER_TOKENS} are kept "
            f"for the answer: raise session_tokens ({limits.session_tokens}) or make sessions shorter"
        )
    while count < len(ranked) and len(longer := prompt(count + 1)) + ANSWER_TOKENS <= limits.session_tokens:
        count, ids = count + 1, longer

    tokens = Tokens()
    tokens.read(ids)
    room = min(limits.turn_tokens, limits.session_tokens - len(ids))
    turn = yield Ask(ids, True, room, seed_of(*key, "reading", question))
    tokens.wrote(turn.ids, turn.logprobs)
    # a turn that was cut gave no answer, as in a question session; nor does a thought
    _, speech = split_thought(chat.decode(turn.ids))
    answer = extract_answer(speech) if turn.stopped else None
    return Reading(answer, in_order(ranked[:count]), tokens)
