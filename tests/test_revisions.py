"""Agents on revised streams: readings, what an answer depends on, what became of a memory, whole evaluations."""

import json
import random
from decimal import Decimal

import pytest

from uma_lib import revisions
from uma_lib.agents.all import AgentSpec
from uma_lib.evaluation import EvaluationConfig, evaluate
from uma_lib.files import RunError
from uma_lib.ledger import Event, Ledger, Session, Stream
from uma_lib.ledger.dataset import LedgerQA, sample_of
from uma_lib.ledger.questions import answer
from uma_lib.ledger.schema import true_memory
from uma_lib.nano.agents import Oracle
from uma_lib.nano.script import Demonstrator, Habits
from uma_lib.parameters import check
from uma_lib.revisions import (
    FATES,
    KINDS,
    OUTCOMES,
    RevisionsConfig,
    explain,
    fates,
    readings,
    revisions_behind,
    run,
)

STREAMS = [Stream("small", "test", 12, index, 0.4) for index in range(20)]


def test_readings_are_wrong_only_where_something_was_revised():
    differ = 0
    for stream in STREAMS:
        wrong = readings(stream)
        assert set(wrong) == {"ignored", "added"}
        for q in stream.questions():
            asked = (q.kind, q.categories, q.start, q.end, q.scene)
            for ledger in wrong.values():
                if answer(ledger, *asked) != q.gold:
                    differ += 1
        plain = readings(Stream("small", "test", 12, stream.index))
        truth = Stream("small", "test", 12, stream.index).state()
        assert all([e.amount for e in ledger.live()] == [e.amount for e in truth.live()] for ledger in plain.values())
    assert differ > 60


def test_an_answer_that_depends_on_no_revision_is_right_for_who_ignores_them():
    free = 0
    for stream in STREAMS:
        ignored = readings(stream)["ignored"]
        for q in stream.questions():
            if not revisions_behind(q, stream):
                free += 1
                assert answer(ignored, q.kind, q.categories, q.start, q.end, q.scene) == q.gold
    assert free > 20


def test_answers_are_explained():
    config = EvaluationConfig(agents=("oracle", "demonstrator"))
    spec = AgentSpec("oracle", Oracle, informed=True)
    oracle = [found for s in STREAMS for found in explain(evaluate(spec, LedgerQA(), [sample_of(s)], config)[0], s)]
    assert {found["outcome"] for found in oracle} == {"right"}
    assert set(KINDS) - {"settled"} <= {kind for found in oracle for kind in found["revised"]} <= set(KINDS)

    # a script of perfect habits that never acts on a revision: what it gets wrong, it gets wrong by that
    outcomes = {"yes": set(), "no": set()}
    for stream in STREAMS:
        agent = Demonstrator(Habits.perfect(), random.Random(0))
        memory = agent.keep(stream)
        rows = [
            {"id": f"{stream.name}/{n}", "answer": agent.ask(memory, q), "correct": 0}
            for n, q in enumerate(stream.questions())
        ]
        for row, q in zip(rows, stream.questions(), strict=True):
            row["correct"] = int(row["answer"] == ", ".join(q.gold.values))
        for found in explain(rows, stream):
            outcomes["yes" if found["revised"] else "no"].add(found["outcome"])
    assert outcomes == {"yes": {"right", "ignored"}, "no": {"right"}}


def test_a_true_memory_answers_everything():
    """The bank, in the schema of the prompts, can hold what the revised track asks for."""
    for stream in STREAMS:
        agent, memory = Demonstrator(Habits.perfect(), random.Random(0)), true_memory(stream)
        assert all(agent.ask(memory, q) == ", ".join(q.gold.values) for q in stream.questions())


def ledger() -> Ledger:
    made = Ledger()
    made.apply(Event("purchase", 0, 0, "0.0", None, "2024-05-01", "Dining", "coffee", Decimal(12)))
    return made


def session(*events: Event) -> Session:
    return Session(1, "2024-05-03", "", (), (), events)


@pytest.mark.parametrize(
    ("event", "before", "after", "fate"),
    [
        (Event("refund", 1, 0, "0.0", "0.0", amount=Decimal(5)), "12", {"2024-05-01 Dining": "7"}, "applied"),
        (Event("refund", 1, 0, "0.0", "0.0", amount=Decimal(5)), "12", {"2024-05-01 Dining": "12"}, "nothing"),
        (Event("refund", 1, 0, "0.0", "0.0", amount=Decimal(5)), "12", {"2024-05-01 Dining": "17"}, "changed"),
        (Event("refund", 1, 0, "0.0", "0.0", amount=Decimal(5)), "9", {"2024-05-01 Dining": "9"}, "unknown"),
        (
            Event("refund", 1, 0, "0.0", "0.0", amount=Decimal(5)), "12",
            {"2024-05-01 Dining": "12", "2024-05-03 Dining": "5"}, "added",
        ),
        (Event("cancel", 1, 0, "0.0", "0.0"), "12", {}, "applied"),
        (Event("cancel", 1, 0, "0.0", "0.0"), None, {}, "unknown"),  # what is missing anyway needs no cancelling
        (Event("amount", 1, 0, "0.0", "0.0", amount=Decimal(8)), None, {"2024-05-01 Dining": "8"}, "applied"),
        (Event("cancel", 1, 0, "0.0", "0.0"), "12", {"2024-05-01 Dining": "12"}, "nothing"),
        (Event("date", 1, 0, "0.0", "0.0", date="2024-05-02"), "12", {"2024-05-02 Dining": "12"}, "applied"),
        (
            Event("date", 1, 0, "0.0", "0.0", date="2024-05-02"), "12",
            {"2024-05-01 Dining": "12", "2024-05-02 Dining": "12"}, "changed",
        ),
        (
            Event("late", 1, 0, "1.0", None, "2024-05-02", "Medical", "dental", Decimal(8)), "12",
            {"2024-05-01 Dining": "12", "2024-05-02 Medical": "8"}, "applied",
        ),
        (
            Event("late", 1, 0, "1.0", None, "2024-05-02", "Medical", "dental", Decimal(8)), "12",
            {"2024-05-01 Dining": "12", "2024-05-03 Medical": "8"}, "added",
        ),
    ],
)  # fmt: skip
def test_fates(event, before, after, fate):
    held = {} if before is None else {"2024-05-01 Dining": before}
    assert fates(session(event), held, after, ledger()) == [(event.kind, fate)]
    assert fate in FATES


def test_a_purchase_of_the_same_amount_is_no_revision_stored():
    here = Event("purchase", 1, 0, "1.0", None, "2024-05-03", "Dining", "coffee", Decimal(5))
    refund = Event("refund", 1, 2, "0.0", "0.0", amount=Decimal(5))
    before, truth = {"2024-05-01 Dining": "12"}, ledger()
    after = before | {"2024-05-03 Dining": "5"}
    assert fates(session(here, refund), before, after, truth) == [("refund", "nothing")]
    assert truth.entries["0.0"].amount == 7  # brought to the end of the session


@pytest.fixture()
def config(tiny_policy, tmp_path) -> RevisionsConfig:
    for name in ("base", "one"):
        tiny_policy.model.save_pretrained(tmp_path / name)
        tiny_policy.tokenizer.save_pretrained(tmp_path / name)
    return check(RevisionsConfig, {
        "model": str(tmp_path / "base"), "trained": [str(tmp_path / "one")], "rates": [0, 0.5], "audited": 2,
        "agents": ["uma_base", "uma_rl", "question_only", "demonstrator", "oracle"], "horizons": [4], "streams": [3],
        "session_tokens": 1500, "turn_tokens": 12, "smoke": True,
    })  # fmt: skip


def test_an_evaluation_and_its_continuation(config, tmp_path, monkeypatch):
    found = run(config, tmp_path / "run")
    assert found["smoke"] and found["config"]["rates"] == [0.0, 0.5]
    by = {(r["agent"], r["rate"], r["depends"]): r for r in found["accuracy"]}
    assert {rate for _, rate, depends in by if depends == "revised"} == {0.5}
    assert all(by["oracle", rate, "all"]["accuracy"] == 1 for rate in (0.0, 0.5))
    whole, parts = by["demonstrator", 0.5, "all"], [by["demonstrator", 0.5, d] for d in ("revised", "not revised")]
    assert whole["questions"] == sum(part["questions"] for part in parts)
    for record in found["outcomes"]:
        assert sum(record[outcome] for outcome in OUTCOMES) == record["answers"] > 0
    told = [e.kind for i in range(2) for s in Stream("small", "test", 4, i, 0.5) for e in s.events]
    for agent in ("uma_base", "uma_rl"):
        mine = [record for record in found["memory"] if record["agent"] == agent]
        assert {r["kind"]: r["revisions"] for r in mine} == {k: told.count(k) for k in KINDS if k in told}
        assert all(sum(record[fate] for fate in FATES) == record["revisions"] for record in mine)

    (tmp_path / "run" / "manifest.json").unlink()  # killed before its end: nothing is asked anew
    results = (tmp_path / "run" / "results.json").read_bytes()
    monkeypatch.setattr(revisions.evaluation, "evaluate", None)
    assert run(config, tmp_path / "run") == json.loads(results)
    assert (tmp_path / "run" / "results.json").read_bytes() == results


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rates": [0.1, 0.1]}, "rates must be different numbers"),
        ({"rates": [1.5]}, "between 0 and 1"),
        ({"revisions": 0.2}, "name the rates in rates"),
        ({"audited": 0}, "audited is 0"),
        ({"rate": [0.1]}, "did you mean 'rates'"),
    ],
)
def test_refusals(values, said):
    with pytest.raises(RunError, match=said):
        check(RevisionsConfig, {"agents": ["oracle"]} | values)
