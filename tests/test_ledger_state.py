"""Ledger-QA: questions with fair answers, and a ledger that adds up."""

import copy
import random
from collections import Counter, defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uma_lib.ledger import (
    ALL_KINDS,
    CATEGORIES,
    QUESTION_KINDS,
    Event,
    Ledger,
    Session,
    Stream,
    questions,
)
from uma_lib.ledger.questions import _Questioner, answer
from uma_lib.ledger.state import PURCHASES, REVISIONS
from uma_lib.scoring import score

from .test_ledger import BOTH

# --- questions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_questions_differ_and_a_gold_answer_is_right(size, rate):
    for sessions in (1, 2, 10, 30):
        asked = Stream(size, "test", sessions, 4, rate).questions(5)
        assert len({q.text for q in asked}) == len(asked)
        assert all(score(", ".join(q.gold.values), q.gold) == 1.0 for q in asked)


class FirstSessions(Stream):
    """A stream whose sessions after the first nine cannot be had."""

    def session(self, k: int) -> Session:
        if k >= 9:
            raise AssertionError("told later")
        return super().session(k)


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_as_many_questions_as_there_are(size, rate, monkeypatch):
    """The work is bounded by the questions that there are, however many are wanted."""
    draw, draws = questions._Questioner.ask, []

    def counted(self, kind, rng):
        draws.append(kind)
        assert len(draws) < 100_000
        return draw(self, kind, rng)

    monkeypatch.setattr(questions._Questioner, "ask", counted)
    stream = Stream(size, "test", 1, 4, rate)
    asked = stream.questions(10**6)
    texts = [q.text for q in asked]
    assert len(set(texts)) == len(texts) and len(draws) < 30 * len(asked) + 64 * len(ALL_KINDS)
    assert texts == [q.text for q in stream.questions(10**30)]
    assert {q.text for q in stream.questions(8)} <= set(texts)
    draws.clear()
    empty = questions.ask(Ledger(), stream._days, {kind: random.Random(0) for kind in ALL_KINDS}, 10**6, "Dining")
    assert {q.kind for q in empty} <= {"grand_total", "cancelled_count"} and len(draws) <= 64 * len(ALL_KINDS)


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_questions_use_only_the_sessions_before_them(size, rate):
    stream = FirstSessions(size, "test", 20, 5, rate)
    asked = stream.questions(5, after=9)
    # a range ends before the next session, so that no later one could change the answer
    assert asked and all(max(q.sessions) < 9 and (q.end or "") < stream.dates[9] for q in asked)
    with pytest.raises(AssertionError, match="told later"):
        stream.questions(5, after=10)


def test_all_kinds_are_asked_and_no_constant_answer_wins():
    golds = defaultdict(list)
    for index in range(150):
        for question in Stream("small", "test", 10, index).questions():
            golds[question.kind].append(question.gold.values)
    assert set(golds) == set(QUESTION_KINDS)
    for kind, values in golds.items():
        assert len(values) > 140
        assert Counter(values).most_common(1)[0][1] / len(values) < 0.22, kind


def test_kinds_on_request():
    plain, revised = Stream("small", "test", 40, 0), Stream("small", "test", 500, 0, 0.2)
    assert {q.kind for q in plain.questions(kinds=["scene_date", "grand_total"])} == {"scene_date", "grand_total"}
    asked = {q.kind: q for q in revised.questions(kinds=ALL_KINDS)}
    assert set(ALL_KINDS) == set(asked)
    for kind in QUESTION_KINDS:  # a question does not depend on what else is asked
        assert asked[kind] == next(q for q in revised.questions() if q.kind == kind)


def test_the_number_of_cancelled_entries_is_asked_only_where_it_can_be_large():
    for sessions, asked in ((50, False), (100, True)):  # standard: 5.5 purchases, 1.1 revisions a session
        kinds = {q.kind for q in Stream("standard", "test", sessions, 1, 0.2).questions()}
        assert ("cancelled_count" in kinds) == asked


def test_what_was_split_is_only_refunded():
    """ "The coffee on Monday" would not say whether the whole payment is meant."""
    told = 0
    for index in range(4):
        stream, split = Stream("standard", "test", 120, index, 0.9), set()
        for session in stream:
            for event in session.events:
                if event.revises in split:
                    assert event.kind == "refund"
                    told += 1
                if event.kind == "split":
                    split |= {event.revises, event.entry}
        entries = stream.state().entries
        assert {e.name for e in entries.values() if e.split} | {e.name for e in entries.values() if e.part_of} == split
    assert told > 10


def test_a_late_or_moved_entry_never_meets_one_of_its_scene():
    for index in range(4):
        ledger = Ledger()
        for session in Stream("standard", "test", 200, index, 0.9):
            for event in session.events:
                before = ledger.at(event.date, event.scene or ledger.entries[event.revises].scene) if event.date else 0
                if event.kind in ("late", "date"):
                    assert before == 0
                ledger.apply(event)


def test_the_largest_expense_is_no_matter_of_opinion():
    """Parts of one payment, added up, are not larger than the largest entry."""
    asked = 0
    for index in range(60):
        stream = Stream("standard", "test", 10, index, 0.9)
        entries = stream.state().live()
        for q in stream.questions(3, kinds=["largest_range"]):
            payments: Counter = Counter()
            inside = [e for e in entries if q.start <= e.date <= q.end]
            for e in inside:
                payments[e.part_of or e.name] += e.amount
            assert max(payments.values()) == Decimal(q.gold.values[0])
            if any(e.part_of or e.split or e.refunded for e in inside):
                assert "at once" not in q.text
                asked += 1
    assert asked > 20


def test_ground_truth_grows_session_by_session():
    stream = Stream("small", "test", 12, 5)
    for after in range(13):
        assert stream.ledger(after) == tuple(e for k in range(after) for e in stream.session(k).expenses)


# --- the state machine --------------------------------------------------------------------------------------------

DAYS, THINGS = ("2024-05-01", "2024-05-02"), ("coffee", "taxi")
BOUGHT = [
    Event("purchase", 0, n, f"0.{n}", None, DAYS[0], CATEGORIES[n], THINGS[n], amount)
    for n, amount in enumerate((Decimal("5.00"), Decimal("9.50")))
]
AMOUNTS = [Decimal(a) for a in ("0.01", "1", "2", "2.50", "3", "5", "7")]
# most are possible for the entries above, or for what earlier events made of them
EVENTS = st.builds(
    Event,
    kind=st.sampled_from((*PURCHASES, *REVISIONS, "refund", "split", "nonsense")),
    session=st.integers(1, 5),
    turn=st.just(0),
    entry=st.sampled_from(("0.0", *(f"1.{n}" for n in range(6)))),
    revises=st.sampled_from(("0.0", "0.0", "0.1", "0.1", "1.0", "1.1", None)),
    date=st.sampled_from((*DAYS * 4, None)),
    category=st.sampled_from((*CATEGORIES[:2] * 4, None)),
    scene=st.sampled_from((*THINGS * 4, None)),
    amount=st.sampled_from((*AMOUNTS * 2, Decimal(-1), Decimal(0), None)),
)


def possible(ledger: Ledger, event: Event) -> bool:
    """Whether an event can be applied, from the meaning of the kinds."""
    above_zero = event.amount is not None and event.amount > 0
    if event.amount is not None and not above_zero:
        return False
    new = event.entry not in ledger.entries
    if event.kind in PURCHASES:
        return new and above_zero and None not in (event.date, event.category, event.scene)
    entry = ledger.entries.get(event.revises)
    if event.kind not in REVISIONS or entry is None or entry.cancelled:
        return False
    left = entry.paid - entry.refunded
    return {
        "amount": above_zero and event.amount > entry.refunded,
        "settled": above_zero and event.amount > entry.refunded,
        "category": event.category is not None,
        "date": event.date is not None,
        "refund": above_zero and event.amount <= left,
        "cancel": True,
        "split": new and above_zero and event.amount < left and None not in (event.category, event.scene),
    }[event.kind]


def change(ledger: Ledger, event: Event) -> Decimal:
    """By how much a possible event changes the grand total."""
    entry = ledger.entries.get(event.revises)
    if event.kind in PURCHASES:
        return event.amount
    if event.kind in ("amount", "settled"):
        return event.amount - entry.paid
    return {"refund": -(event.amount or 0), "cancel": -entry.amount}.get(event.kind, Decimal(0))


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, min_size=15, max_size=40))
def test_state_machine(events):
    ledger = Ledger()
    for event in BOUGHT + events:
        before, total = copy.deepcopy(vars(ledger)), sum(e.amount for e in ledger.live())
        if not possible(ledger, event):
            with pytest.raises(ValueError):
                ledger.apply(event)
            assert vars(ledger) == before  # nothing was changed
            continue
        expected = total + change(ledger, event)
        ledger.apply(event)
        entries = list(ledger.entries.values())
        live = ledger.live()
        assert sum(e.amount for e in live) == sum(e.amount for e in entries) == expected
        assert all(0 <= e.refunded <= e.paid for e in entries) and not any(e.amount for e in entries if e.cancelled)
        assert live == [e for e in entries if not e.cancelled and e.refunded < e.paid]
        assert ledger.refunded == sum(e.refunded for e in entries if not e.cancelled)
        assert ledger.cancelled == sum(e.cancelled for e in entries)
        assert ledger.names == [e.name for e in entries] == list(ledger.entries)
        for day in DAYS:
            for scene in THINGS:
                kept = [e for e in entries if (e.date, e.scene, e.cancelled) == (day, scene, False)]
                assert ledger.at(day, scene) == len(kept)
        assert all(e.versions[-1] == (e.date, e.category, e.scene) and e.sessions for e in entries)
        others = [e for e in before["entries"] if e not in (event.entry, event.revises)]
        assert all(ledger.entries[name] == before["entries"][name] for name in others)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=15, max_size=40), st.sampled_from(CATEGORIES[:2]), st.sampled_from(THINGS))
def test_the_sessions_of_a_question_are_enough(events, category, scene):
    """On any ledger: told those sessions alone, one gives the same answer."""
    ledger, told = Ledger(), []
    for event in sorted(BOUGHT + events, key=lambda e: e.session):
        if possible(ledger, event):
            ledger.apply(event)
            told.append(event)
    questioner = _Questioner(ledger, [], category)
    for day in DAYS:
        for kind, categories, thing in (("category_date", (category,), None), ("scene_date", (), scene)):
            sessions = questioner._sessions(categories, day, day, thing or "")
            alone = Ledger()
            for event in told:
                if event.session in sessions and possible(alone, event):
                    alone.apply(event)
            assert answer(alone, kind, categories, day, day, thing) == answer(ledger, kind, categories, day, day, thing)
