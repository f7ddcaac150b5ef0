"""Question sessions that may search the raw chunks: in rollouts, in training, and in evaluation."""

import numpy as np
import pytest

from uma_lib import evaluation, training
from uma_lib.agents.all import AgentSpec
from uma_lib.agents.uma import UMA
from uma_lib.engines.protocol import Turn
from uma_lib.environment import Limits
from uma_lib.evaluation import EvaluationConfig, evaluate
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import LedgerQA, sample_of
from uma_lib.parameters import check
from uma_lib.rollout import Context, roll_out
from uma_lib.tools import render_call
from uma_lib.training import Trainer, TrainingConfig


class Scripted:
    """A policy that stores nothing, then searches for a word of the stream and answers with what it has found."""

    context_tokens = 10_000
    trainable = False

    def __init__(self, how: str):
        self.how = how
        self.offered: list[list[str]] = []  # tools of every question session

    def turn(self, ask) -> Turn:
        said = ask.messages[-1]["content"]
        if "New session:" in said:
            text = render_call("update_core", text="total 0")
        elif not ask.fresh:
            text = render_call("answer", text=said)
        else:
            self.offered.append([tool["function"]["name"] for tool in ask.tools])
            text = render_call(self.how, query="Assistant", top_k=1)
        return Turn(text, True)

    def count(self, text: str) -> int:
        return len(text.split())

    def size(self, messages, tools) -> int:
        return 100

    def generate(self, dialogues, *, temperature, progress=None):
        found = []
        for dialogue in dialogues:
            try:
                ask = next(dialogue)
                while True:
                    ask = dialogue.send(self.turn(ask))
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
def test_a_search_finds_the_raw_text_of_the_stream(how):
    batches = []

    def encode(texts):
        batches.append(texts)
        return np.ones((len(texts), 1))

    for encoder, answers in ((encode, {session.text for session in STREAM}), (None, {"error: no raw text is kept"})):
        engine, sample = Scripted(how), sample_of(STREAM)
        context = Context("c", sample.asking(sample.questions[:3]))
        roll_out(
            engine, [context], 2, LIMITS, (0,), data=LedgerQA(), kind=UMA, encode=encoder, search=encoder is not None
        )
        for trace in (trace for trajectory in context.trajectories for trace in trajectory.answers):
            assert any(trace.answer.startswith(answer[:26]) for answer in answers)
        for offered in engine.offered:
            assert ("bm25" in offered) == ("embedding" in offered) == (encoder is not None)
    assert bool(batches) == (how == "embedding")
    # an agent encodes its passages once (MiniLM keeps them for the others), and queries one by one
    assert sum(map(len, batches)) == (2 * len(STREAM) + 6 if batches else 0)


def test_evaluation_searches_when_it_is_told_to(encodings):
    values = {"agents": ["uma_base"], "session_tokens": 4_000, "turn_tokens": 2_000}
    for wanted in (True, False):
        config = check(EvaluationConfig, values | {"raw_search": wanted})
        encode = evaluation.MiniLM()
        spec = AgentSpec("uma_base", UMA)
        rows, _ = evaluate(spec, LedgerQA(), [sample_of(STREAM)], config, engine=Scripted("bm25"), encode=encode)
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
            played += [p for context in arguments[1] for t in context.trajectories for p in t.answers]

        monkeypatch.setattr(training, "roll_out", keep)
        trainer.engine = trainer.policy = Scripted("embedding")
        trainer.evaluate()
        assert played
        assert {trace.calls[0][1].ok for trace in played} == {wanted}
        assert bool(encodings) == wanted
        encodings.clear()
