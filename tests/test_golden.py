"""What committed results rest on: prompts, seeds, a part of an evaluation for each agent, three training steps.

The values in ``golden.json`` were written before anything was moved. A change here means that committed results can no
longer be made again; `python -m tests.test_golden` writes the file anew, for the rare change that is meant.
"""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
from pathlib import Path

import pytest

from uma_lib import evaluation, prompts
from uma_lib.engines.policy import Policy
from uma_lib.environment import Limits, MemorySession, QuestionSession
from uma_lib.evaluation import EvaluationConfig
from uma_lib.ledger import Stream
from uma_lib.ledger.dataset import LedgerQA, guide
from uma_lib.memory import Memory
from uma_lib.parameters import check
from uma_lib.paths import BASE
from uma_lib.rollout import held_out
from uma_lib.seeds import seed_of
from uma_lib.training import TrainingConfig, data_of, train, training_contexts

GOLDEN = Path(__file__).with_name("golden.json")
EVALUATION = {  # the first streams of the committed evaluation, whose policy of seed 0 is data/nano-rl
    "trained": ["data/nano-rl"], "horizons": [2, 10], "streams": [2, 1],
}  # fmt: skip
TRAINING = {
    "steps": 3, "contexts": 2, "trajectories": 4, "questions": 4, "lengths": [1, 2], "late_lengths": [3],
    "eval_every": 3, "eval_streams": 2, "eval_sessions": 2,
}  # fmt: skip
ROWS = ("horizon", "stream", "question", "answer", "correct", "prompt_tokens", "written_tokens", "memory_tokens")


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def prompt_ids() -> dict[str, str]:
    """Digests of the token ids that open each kind of session, and of those that follow a turn."""
    chat = Policy.load(BASE, device="cpu").chat
    found = {}
    for size in ("small", "standard"):
        stream = Stream(size, "test", 2, 0)
        chunk, question, scenes = stream.session(0).text, stream.questions()[0].text, stream.size.asks_scenes
        for given in (True, False):
            told, memory = guide(given, scenes), Memory()
            memory.core.write("total 30")
            for name, session in (
                ("memory", MemorySession(memory, chunk, Limits(), told)),
                ("question", QuestionSession(memory, question, Limits(), told)),
            ):
                found[f"{name} {size} {given}"] = digest(chat.open(session.messages, session.schemas))
            found[f"reading {size} {given}"] = digest(chat.open(prompts.reading(chunk, question, told), None))
    found["results"] = digest([chat.results(["ok", "(empty)"], stopped) for stopped in (True, False)])
    return found


def seeds() -> dict[str, str]:
    """Seeds of turns, and digests of the streams and questions of training steps and of held-out streams."""
    config = TrainingConfig()
    contexts = [context for step in (0, 59) for context in training_contexts(config, step, data_of(config))]
    drawn = [(c.name, c.sample.id, [q.text for q in c.sample.questions]) for c in contexts]
    held = [(c.name, [q.text for q in c.sample.questions]) for c in held_out(LedgerQA("small", 10), 3)]
    turn = seed_of("evaluation", 0, 0, "ledger-qa/small/test/10/0", 0, "memory", 3, 0)
    return {"turn": str(turn), "training": digest(drawn), "held out": digest(held)}


def evaluated(folder: Path) -> dict[str, list[str]]:
    """The rows of every agent, without the gold answers."""
    evaluation.run(check(EvaluationConfig, EVALUATION), folder)
    rows: dict[str, list[str]] = {}
    with open(folder / "answers.csv", newline="") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["agent"], []).append(" | ".join(row[name] for name in ROWS))
    return rows


def trained(folder: Path) -> list[dict[str, str]]:
    """The metrics of three steps, without times."""
    train(check(TrainingConfig, TRAINING), folder)
    with open(folder / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


def test_prompts_are_token_for_token_the_same(golden):
    assert prompt_ids() == golden["prompts"]


def test_the_same_seeds_draw_the_same_streams(golden):
    assert seeds() == golden["seeds"]


def test_every_agent_answers_as_in_the_committed_evaluation(golden, tmp_path):
    found = evaluated(tmp_path / "evaluation")
    assert found.keys() == golden["evaluation"].keys()
    for agent, rows in found.items():
        assert rows == golden["evaluation"][agent], agent


def test_training_steps_are_the_same(golden, tmp_path):
    found = trained(tmp_path / "train")
    assert len(found) == len(golden["training"])
    for row, wanted in zip(found, golden["training"], strict=True):
        assert row.keys() >= wanted.keys()
        for name, value in wanted.items():
            # gradients add up in another order on another processor
            assert float(row[name] or 0) == pytest.approx(float(value or 0), rel=2e-3), (name, row["step"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        found = {
            "prompts": prompt_ids(), "seeds": seeds(), "evaluation": evaluated(Path(place) / "evaluation"),
            "training": trained(Path(place) / "train"),
        }  # fmt: skip
    GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
