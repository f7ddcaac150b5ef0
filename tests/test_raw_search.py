"""Question sessions that may search the raw chunks: in rollouts, in training, and in evaluation."""

import numpy as np
import pytest

from uma_lib import evaluation, training
from uma_lib.engines.local import Turn
from uma_lib.environment import Limits
from uma_lib.evaluation import EvaluationConfig, evaluate
from uma_lib.ledger import Stream
from uma_lib.parameters import check
from uma_lib.rollout import Context, roll_out
from uma_lib.tools import render_call
from uma_lib.training import Trainer, TrainingConfig


class Scripted:
    """A policy that stores nothing, then searches for a word of the stream and answers with what it has found."""

    def __init__(self, chat, how: str):
        self.chat, self.how = chat, how
        self.prompts: list[str] = []

    def turn(self, ask) -> Turn:
        asked = self.chat.decode(ask.tokens)
        self.prompts.append(asked)
        if "New session:" in asked:
            text = render_call("update_core", text="total 0")
        elif "<tool_response>" in asked:
            text = render_call("answer", text=asked.split("<tool_response>")[1].split("</tool_response>")[0].strip())
        else:
            text = render_call(self.how, query="Assistant", top_k=1)
        ids = [*self.chat.tokenizer.encode(text, add_special_tokens=False), self.chat.end_id]
        return Turn(ids, [-1.0] * len(ids), True)

    def generate(self, rollouts, *, temperature, slots=64, progress=None):
        found = []
        for rollout in rollouts:
            try:
                ask = next(rollout)
                while True:
                    ask = rollout.send(self.turn(ask))
            except StopIteration as end:
                found.append(end.value)
        return found


@pytest.fixture()
def encodings(monkeypatch):
    """Batches that the encoder was asked for; it stands in for MiniLM."""
    batches = []

    class Encoder:
        def __call__(self, texts):
            batches.append(list(texts))
            return np.ones((len(texts), 1))

    monkeypatch.setattr(evaluation, "MiniLM", Encoder)
    monkeypatch.setattr(training, "MiniLM", Encoder)
    return batches


STREAM = Stream("small", "test", 3, 0)
LIMITS = Limits(session_tokens=4_000, turn_tokens=2_000)


@pytest.mark.parametrize("how", ["bm25", "embedding"])
def test_a_search_finds_the_raw_text_of_the_stream(tiny_policy, how):
    batches = []

    def encode(texts):
        batches.append(texts)
        return np.ones((len(texts), 1))

    for encoder, answers in ((encode, {session.text for session in STREAM}), (None, {"error: no raw text is kept"})):
        policy = Scripted(tiny_policy.chat, how)
        context = Context("c", STREAM, STREAM.questions()[:3])
        roll_out(policy, [context], 2, LIMITS, (0,), encode=encoder)
        for played in (played for row in context.answers for played in row):
            assert any(played.session.answer.startswith(answer[:26]) for answer in answers)
            offered = [tool["function"]["name"] for tool in played.session.schemas]
            assert ("bm25" in offered) == ("embedding" in offered) == (encoder is not None)
    assert bool(batches) == (how == "embedding")
    assert sum(map(len, batches)) == (len(STREAM) + 6 if batches else 0)  # passages once, queries one by one


def test_evaluation_searches_when_it_is_told_to(tiny_policy, encodings):
    values = {"agents": ["uma_base"], "session_tokens": 4_000, "turn_tokens": 2_000}
    for wanted in (True, False):
        config = check(EvaluationConfig, values | {"raw_search": wanted})
        encode = evaluation.MiniLM()
        rows = evaluate("uma_base", [STREAM], config, policy=Scripted(tiny_policy.chat, "bm25"), encode=encode)
        assert {row["answer"].startswith("error: no raw text") for row in rows} == {not wanted}
    assert encodings == []  # searching by words needs no encoder


def test_training_searches_when_it_is_told_to(tiny_policy, encodings, monkeypatch, tmp_path):
    monkeypatch.setattr(training.Policy, "load", lambda *_, **__: tiny_policy)
    values = {"eval_streams": 1, "eval_sessions": 2, "session_tokens": 2_000, "turn_tokens": 1_500}
    for wanted in (True, False):
        trainer = Trainer(check(TrainingConfig, values | {"raw_search": wanted}), tmp_path / str(wanted))
        played = []

        def keep(*arguments, played=played, **settings):
            roll_out(*arguments, **settings)
            played += [p for context in arguments[1] for row in context.answers for p in row]

        monkeypatch.setattr(training, "roll_out", keep)
        trainer.policy = Scripted(tiny_policy.chat, "embedding")
        trainer.evaluate()
        assert played
        assert {p.session.calls[0][1].ok for p in played} == {wanted}
        assert bool(encodings) == wanted
        encodings.clear()
