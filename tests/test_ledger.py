"""Ledger-QA: determinism, exact answers, what is and is not counted."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from uma_lib.ledger import CATEGORIES, QUESTION_KINDS, SPLITS, Stream, money
from uma_lib.reward import score

STREAMS = [Stream(size, "test", n, i) for size in ("small", "standard") for n in (1, 2, 10, 30) for i in range(6)]
FINGERPRINT = """
import hashlib
from uma_lib.ledger import Stream
stream = Stream("small", "test", 20, 3)
text = "".join(s.text for s in stream) + repr(stream.questions(3)) + Stream("standard", "train", 2, 1).session(1).text
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_same_seed_same_bytes_in_every_process():
    prints = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }  # fmt: skip
    assert len(prints) == 1


def test_splits_sizes_and_lengths_share_no_stream():
    texts = [
        "".join(s.text for s in Stream(size, split, 3, i))
        for size in ("small", "standard") for split in SPLITS for i in range(20)
    ]  # fmt: skip
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("sessions", [1, 2, 500, 700, 1500])
def test_dates_are_distinct_and_sorted(sessions):
    dates = Stream("small", "test", sessions, 0).dates
    assert len(set(dates)) == sessions and dates == sorted(dates)
    assert dates[0] >= "2023-01-01" and (sessions > 700 or dates[-1] <= "2024-12-31")


def test_a_session_needs_no_earlier_one():
    stream = Stream("small", "test", 50, 1)
    alone = stream.session(37)
    assert list(stream)[37] == alone


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: s.name)
def test_dialogue_and_ledger_agree(stream):
    for session in stream:
        lines = session.text.split("\n")
        assert all(line.startswith(f"[{session.date}] ") and line.endswith('"') for line in lines)
        assert not re.search(r"[{}]|\$\$|\bNone\b", session.text)
        for e in session.expenses + session.mentioned:
            assert f"${money(e.amount)}" in lines[e.turn] and e.session == session.index and e.date == session.date
        said = Counter(a for k, line in enumerate(lines) if k % 2 == 0 for a in re.findall(r"\$([\d.]*\d)", line))
        assert said == Counter(money(e.amount) for e in session.expenses + session.mentioned)


def plain_answer(question, ledger):
    """Written again from the meaning of the kinds, on plain rows."""
    rows = [e for e in ledger if not question.categories or e.category in question.categories]
    rows = [e for e in rows if question.start is None or question.start <= e.date <= question.end]
    if question.kind == "top_category_range":
        totals = defaultdict(Decimal)
        for e in rows:
            totals[e.category] += e.amount
        return {c for c in totals if totals[c] == max(totals.values())}
    if question.kind == "busiest_dates":
        counts = Counter(e.date for e in rows)
        return {d for d in counts if counts[d] == max(counts.values())}
    if question.kind == "largest_range":
        return max(e.amount for e in rows)
    return sum((e.amount for e in rows), Decimal(0))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda s: s.name)
def test_gold_answers(stream):
    ledger = stream.ledger()
    questions = stream.questions(5)
    assert len({q.text for q in questions}) == len(questions)
    for question in questions:
        answer = plain_answer(question, ledger)
        if question.gold.kind == "amount":
            assert Decimal(question.gold.values[0]) == answer
        else:
            assert set(question.gold.values) == answer
        assert score(", ".join(question.gold.values), question.gold) == 1.0
        assert all(c in question.text for c in question.categories)
        assert question.start is None or question.start in question.text
        used = {e.session for e in ledger if not question.categories or e.category in question.categories}
        assert set(question.sessions) <= used or question.kind == "category_date"


def test_all_kinds_are_asked_and_no_constant_answer_wins():
    golds = defaultdict(list)
    for index in range(150):
        for question in Stream("small", "test", 10, index).questions():
            golds[question.kind].append(question.gold.values)
    assert set(golds) == set(QUESTION_KINDS)
    for kind, values in golds.items():
        assert len(values) > 140
        assert Counter(values).most_common(1)[0][1] / len(values) < 0.22, kind


def test_taxonomy_and_bad_arguments():
    assert len(CATEGORIES) == 8
    for arguments in [
        ("tiny", "test", 2, 0),
        ("small", "dev", 2, 0),
        ("small", "test", 0, 0),
        ("small", "test", 2, -1),
    ]:
        with pytest.raises(ValueError):
            Stream(*arguments)
    with pytest.raises(IndexError):
        Stream("small", "test", 2, 0).session(2)


def test_ground_truth_grows_session_by_session():
    stream = Stream("small", "test", 12, 5)
    for after in range(13):
        assert stream.ledger(after) == tuple(e for k in range(after) for e in stream.session(k).expenses)
    assert hashlib.sha256(repr(stream.ledger()).encode()).digest()
