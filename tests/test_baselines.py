"""Concat and RAG: what they show, in which order, and that they never exceed the budget of a session."""

import hashlib

import numpy as np
import pytest
from uma_lib.baselines import ANSWER_TOKENS, Passages, Reading, concat_question, rag_question

from uma_lib.engines.chat import ChatFormat
from uma_lib.engines.local import Ask, Turn
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.ledger import Stream
from uma_lib.retrieval import terms

LIMITS = Limits(session_tokens=1400)  # the test's tokenizer is small, so texts take many tokens
STREAM = Stream("small", "validation", sessions=30, index=0)
CHUNKS = [session.text for session in STREAM]
QUESTIONS = [question.text for question in STREAM.questions()]


def encode(texts):
    """An encoder without a model: counts of terms, hashed into 64 dimensions."""
    vectors = np.full((len(texts), 64), 1e-3)
    for vector, text in zip(vectors, texts, strict=True):
        for term in terms(text):
            vector[hashlib.sha256(term.encode()).digest()[0] % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def chat(tiny_tokenizer) -> ChatFormat:
    return ChatFormat(tiny_tokenizer)


def play(rollout, write) -> tuple[Ask, Reading]:
    """Drive a rollout of one turn; ``write`` makes the turn from what was asked."""
    ask = next(rollout)
    with pytest.raises(StopIteration) as end:
        rollout.send(write(ask))
    return ask, end.value.value


def everything(ask: Ask) -> Turn:
    return Turn([5] * ask.max_new, [-1.0] * ask.max_new, stopped=False)


def says(text: str, chat: ChatFormat):
    ids = [*chat.tokenizer.encode(text, add_special_tokens=False), chat.end_id]
    return lambda ask: Turn(ids, [-0.5] * len(ids), stopped=True)


def rollouts(chat: ChatFormat, limits: Limits, question: str, chunks=CHUNKS):
    yield concat_question(chunks, question, chat, limits, ("k",))
    yield rag_question(Passages(chunks, encode), question, chat, limits, ("k",))


@pytest.mark.parametrize("budget, turn_tokens", [(720, 5000), (1024, 768), (1600, 5000), (1601, 100)])
def test_the_budget_is_never_exceeded(chat: ChatFormat, budget: int, turn_tokens: int) -> None:
    limits = Limits(session_tokens=budget, turn_tokens=turn_tokens)
    for question in QUESTIONS[::3]:
        for rollout in rollouts(chat, limits, question):
            ask, reading = play(rollout, everything)  # the policy writes until it is cut
            assert len(ask.tokens) + ANSWER_TOKENS <= budget
            assert len(reading.tokens.ids) <= budget
            assert ask.max_new == min(turn_tokens, budget - len(ask.tokens))
            assert reading.tokens.written == ask.max_new
            assert reading.shown and reading.answer is None  # a cut turn is no answer


def test_concat_shows_the_newest_sessions_that_fit(chat: ChatFormat) -> None:
    for question in QUESTIONS[1::3]:
        ask, reading = play(concat_question(CHUNKS, question, chat, LIMITS, ("k",)), everything)
        count = len(reading.shown)
        assert 1 < count < len(CHUNKS)
        assert reading.shown == CHUNKS[-count:]
        text = chat.decode(ask.tokens)
        assert "Sessions:\n" + "\n".join(reading.shown) + f"\nQuestion: {question}<|im_end|>" in text
        # one session more would not fit
        added = chat.count(CHUNKS[-count - 1] + "\n")
        assert len(ask.tokens) + added + ANSWER_TOKENS > LIMITS.session_tokens


def test_rag_shows_the_best_passages_in_stream_order(chat: ChatFormat) -> None:
    passages = Passages(CHUNKS, encode)
    for question in QUESTIONS[1::3]:
        ask, reading = play(rag_question(passages, question, chat, LIMITS, ("k",)), everything)
        best = passages.best(question)
        assert len(best) == 20
        count = len(reading.shown)
        assert 1 < count < 20
        assert reading.shown == sorted(best[:count])  # every passage begins with its date
        assert "\n".join(reading.shown) in chat.decode(ask.tokens)
        added = chat.count(best[count] + "\n")
        assert len(ask.tokens) + added + ANSWER_TOKENS > LIMITS.session_tokens


def test_rag_finds_what_the_question_names(chat: ChatFormat) -> None:
    session = STREAM.session(17)
    question = f"What did {session.expenses[0].category} cost me on {session.date}?"
    _, reading = play(rag_question(Passages(CHUNKS, encode), question, chat, LIMITS, ("k",)), everything)
    assert session.text in reading.shown


def test_streams_that_fit_are_shown_as_a_whole(chat: ChatFormat) -> None:
    for rollout in rollouts(chat, Limits(session_tokens=20_000), QUESTIONS[0], CHUNKS[:15]):
        assert play(rollout, everything)[1].shown == CHUNKS[:15]


def test_equal_chunks_and_long_chunks(chat: ChatFormat) -> None:
    chunks = ["the same words", "the same words", "x" * 2500, "the end"]
    passages = Passages(chunks, encode)
    assert passages.in_order(passages.best("same words")) == [
        "the same words", "the same words", "x" * 1000, "x" * 1000, "x" * 500, "the end",
    ]  # fmt: skip
    _, reading = play(concat_question(chunks, "?", chat, Limits(session_tokens=9000), ("k",)), everything)
    assert reading.shown == chunks


THOUGHT = [
    ("<think>12+7</think>\n19", "19"),
    ("12+7\n</think>\n19", "19"),
    ("<reasoning>\\boxed{3}?</reasoning>so 19", "so 19"),
    ("<think>12+7 is \\boxed{19}", ""),
]


def test_answers(chat: ChatFormat) -> None:
    for text, answer in [("12+7=19\n\\boxed{19}", "19"), ("no box", "no box"), ("", ""), *THOUGHT]:
        for rollout in rollouts(chat, LIMITS, QUESTIONS[0]):
            _, reading = play(rollout, says(text, chat))
            assert reading.answer == answer
            assert reading.tokens.logprobs[-1] == -0.5 and reading.tokens.logprobs[0] == 0.0


def test_randomness_is_keyed_by_question(chat: ChatFormat) -> None:
    def seed(question: str, key: tuple) -> int:
        return next(concat_question(CHUNKS, question, chat, LIMITS, key)).seed

    assert seed("A?", ("k",)) == seed("A?", ("k",))
    assert len({seed("A?", ("k",)), seed("B?", ("k",)), seed("A?", ("l",))}) == 3


def test_prompts_differ_with_the_schema(chat: ChatFormat) -> None:
    def prompt(schema_given: bool) -> str:
        return chat.decode(next(concat_question(CHUNKS, "A?", chat, LIMITS, ("k",), schema_given)).tokens)

    given, not_given = prompt(True), prompt(False)
    assert "Dining, Transportation" in given and "Dining, Transportation" not in not_given


def test_a_session_that_cannot_fit_is_refused(chat: ChatFormat) -> None:
    for rollout in rollouts(chat, Limits(session_tokens=300), QUESTIONS[0]):
        with pytest.raises(RunError, match="raise session_tokens"):
            next(rollout)
