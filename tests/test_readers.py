"""Concat and RAG: what they show, in which order, and that they never exceed the budget of a session."""

import hashlib

import numpy as np
import pytest

from uma_lib.agents.agent import Setting, Trace
from uma_lib.agents.readers import ANSWER_TOKENS, RAG, Concat, QuestionOnly
from uma_lib.engines.chat import ChatFormat, as_tokens
from uma_lib.engines.local import Read, Sampled
from uma_lib.engines.protocol import alone
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import guide
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


def reader(kind, chat: ChatFormat, limits: Limits = LIMITS, chunks=CHUNKS, key=("k", 0), given: bool = True):
    def size(messages, tools) -> int:
        return len(chat.open(messages, tools))

    agent = kind(Setting(limits, guide(given), key, chat.count, size, encode))
    for chunk in chunks:
        alone(agent.observe(chunk))
    agent.chat = chat
    return agent


def readers(chat: ChatFormat, limits: Limits, chunks=CHUNKS):
    return [reader(kind, chat, limits, chunks) for kind in (Concat, RAG)]


def play(agent, question: str, write) -> tuple[Read, Trace]:
    """Let a reader answer; ``write`` makes its turn from what was asked."""
    rollout = as_tokens(agent.answer(question), agent.chat)
    ask = next(rollout)
    with pytest.raises(StopIteration) as end:
        rollout.send(write(ask))
    return ask, end.value.value


def everything(ask: Read) -> Sampled:
    return Sampled([5] * ask.max_new, [-1.0] * ask.max_new, stopped=False)


def says(text: str, chat: ChatFormat):
    ids = [*chat.tokenizer.encode(text, add_special_tokens=False), chat.end_id]
    return lambda ask: Sampled(ids, [-0.5] * len(ids), stopped=True)


@pytest.mark.parametrize("budget, turn_tokens", [(720, 5000), (1024, 768), (1600, 5000), (1601, 100)])
def test_the_budget_is_never_exceeded(chat: ChatFormat, budget: int, turn_tokens: int) -> None:
    limits = Limits(session_tokens=budget, turn_tokens=turn_tokens)
    for question in QUESTIONS[::3]:
        for agent in readers(chat, limits):
            ask, reading = play(agent, question, everything)  # the policy writes until it is cut
            assert len(ask.tokens) + ANSWER_TOKENS <= budget
            assert len(reading.tokens.ids) <= budget
            assert ask.max_new == min(turn_tokens, budget - len(ask.tokens))
            assert reading.tokens.written == ask.max_new
            assert reading.shown and reading.answer is None  # a cut turn is no answer


def test_concat_shows_the_newest_sessions_that_fit(chat: ChatFormat) -> None:
    for question in QUESTIONS[1::3]:
        ask, reading = play(reader(Concat, chat), question, everything)
        count = len(reading.shown)
        assert 1 < count < len(CHUNKS)
        assert reading.shown == CHUNKS[-count:]
        text = chat.decode(ask.tokens)
        assert "Sessions:\n" + "\n".join(reading.shown) + f"\nQuestion: {question}<|im_end|>" in text
        # one session more would not fit
        added = chat.count(CHUNKS[-count - 1] + "\n")
        assert len(ask.tokens) + added + ANSWER_TOKENS > LIMITS.session_tokens


def test_rag_shows_the_best_passages_in_stream_order(chat: ChatFormat) -> None:
    agent = reader(RAG, chat)
    for question in QUESTIONS[1::3]:
        ask, reading = play(agent, question, everything)
        best = [passage for _, passage in agent.ranked(question)]
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
    _, reading = play(reader(RAG, chat), question, everything)
    assert session.text in reading.shown


def test_streams_that_fit_are_shown_as_a_whole(chat: ChatFormat) -> None:
    for agent in readers(chat, Limits(session_tokens=20_000), CHUNKS[:15]):
        assert play(agent, QUESTIONS[0], everything)[1].shown == CHUNKS[:15]


def test_equal_chunks_and_long_chunks(chat: ChatFormat) -> None:
    chunks = ["the same words", "the same words", "x" * 2500, "the end"]
    agent = reader(RAG, chat, chunks=chunks)
    assert [passage for _, passage in sorted(agent.ranked("same words"))] == [
        "the same words", "the same words", "x" * 1000, "x" * 1000, "x" * 500, "the end",
    ]  # fmt: skip
    _, reading = play(reader(Concat, chat, Limits(session_tokens=9000), chunks), "?", everything)
    assert reading.shown == chunks


THOUGHT = [
    ("<think>12+7</think>\n19", "19"),
    ("12+7\n</think>\n19", "19"),
    ("<reasoning>\\boxed{3}?</reasoning>so 19", "so 19"),
    ("<think>12+7 is \\boxed{19}", ""),
]


def test_answers(chat: ChatFormat) -> None:
    for text, answer in [("12+7=19\n\\boxed{19}", "19"), ("no box", "no box"), ("", ""), *THOUGHT]:
        for agent in readers(chat, LIMITS):
            _, reading = play(agent, QUESTIONS[0], says(text, chat))
            assert reading.answer == answer
            assert reading.tokens.logprobs[-1] == -0.5 and reading.tokens.logprobs[0] == 0.0


def test_question_only_is_shown_nothing(chat: ChatFormat) -> None:
    ask, reading = play(reader(QuestionOnly, chat), "A?", everything)
    assert "Sessions:\n(none)\nQuestion: A?" in chat.decode(ask.tokens) and reading.shown == []


def test_randomness_is_keyed_by_question_and_trajectory(chat: ChatFormat) -> None:
    def seed(question: str, key: tuple) -> int:
        return next(reader(Concat, chat, key=key).answer(question)).seed

    assert seed("A?", ("k", 0)) == seed("A?", ("k", 0))
    assert len({seed("A?", ("k", 0)), seed("B?", ("k", 0)), seed("A?", ("l", 0)), seed("A?", ("k", 1))}) == 4


def test_prompts_differ_with_the_guide(chat: ChatFormat) -> None:
    def prompt(given: bool) -> str:
        return next(reader(Concat, chat, given=given).answer("A?")).messages[0]["content"]

    given, not_given = prompt(True), prompt(False)
    assert "Dining, Transportation" in given and "Dining, Transportation" not in not_given


def test_a_session_that_cannot_fit_is_refused(chat: ChatFormat) -> None:
    for agent in readers(chat, Limits(session_tokens=300)):
        with pytest.raises(RunError, match="raise session_tokens"):
            next(agent.answer(QUESTIONS[0]))


def test_a_reader_is_saved_and_loaded(chat: ChatFormat, tmp_path) -> None:
    for number, agent in enumerate(readers(chat, LIMITS, CHUNKS[:3])):
        agent.save(tmp_path / str(number))
        again = reader(type(agent), chat, chunks=())
        again.load(tmp_path / str(number))
        assert play(again, QUESTIONS[0], everything)[1].shown == play(agent, QUESTIONS[0], everything)[1].shown
    (tmp_path / "0" / "chunks.json").write_text("[1]")
    with pytest.raises(RunError, match="not a list of texts"):
        again.load(tmp_path / "0")
