"""All gold answers of Ledger-QA once more: in SQL, from the event table and the words of the questions alone."""

import re
from collections import Counter
from decimal import Decimal

import duckdb
import pandas as pd
import pytest

from uma_lib.ledger import ALL_KINDS, CATEGORIES, TAXONOMY, Event, Question, Stream

RATES = (0.0, 0.2, 0.8)
LENGTHS = {2: 3, 3: 2, 6: 2, 12: 2, 25: 2, 40: 1, 60: 1}  # sessions: streams of each size and rate
PER_KIND = 30

# Amounts are net of refunds; a part that is split off is an entry of its own; the last word on an amount, a date, a
# category counts, parts taken off before it included; what was cancelled counts nowhere.
STATE = """
CREATE TABLE made AS SELECT * FROM events WHERE kind IN ('purchase', 'late', 'split');

CREATE TABLE entries AS
WITH RECURSIVE
lineage AS (  -- a part has the date that its whole had when it was split off
    SELECT ledger, entry, entry AS ancestor, 1000000 AS until FROM made
    UNION ALL
    SELECT l.ledger, l.entry, m.revises, m.n
    FROM lineage l JOIN made m ON m.ledger = l.ledger AND m.entry = l.ancestor AND m.kind = 'split'
),
dated AS (
    SELECT l.ledger, l.entry, arg_max(e.date, e.n) AS date
    FROM lineage l JOIN events e ON e.ledger = l.ledger AND e.entry = l.ancestor AND e.n < l.until
    WHERE e.date IS NOT NULL GROUP BY ALL
),
priced AS (
    SELECT ledger, entry, arg_max(amount, n) AS amount, max(n) AS n
    FROM events WHERE kind IN ('purchase', 'late', 'split', 'amount', 'settled') GROUP BY ALL
),
parts AS (
    SELECT p.ledger, p.entry, sum(e.amount) AS amount
    FROM priced p JOIN events e ON e.ledger = p.ledger AND e.revises = p.entry AND e.kind = 'split' AND e.n > p.n
    GROUP BY ALL
),
told AS (
    SELECT ledger, entry, arg_max(category, n) AS category, arg_max(scene, n) AS scene,
           coalesce(sum(amount) FILTER (kind = 'refund'), 0) AS refunded, bool_or(kind = 'cancel') AS cancelled
    FROM events GROUP BY ALL
)
SELECT ledger, entry, m.session, dated.date, t.category, t.scene, refunded, cancelled,
       priced.amount - coalesce(parts.amount, 0) - refunded AS amount
FROM made m JOIN dated USING (ledger, entry) JOIN priced USING (ledger, entry) JOIN told t USING (ledger, entry)
     LEFT JOIN parts USING (ledger, entry);

CREATE TABLE used AS  -- every question with what counts for it
SELECT q.id, q.kind, e.*
FROM questions q JOIN entries e ON e.ledger = q.ledger AND NOT e.cancelled AND e.amount > 0
WHERE (q.first IS NULL OR e.date BETWEEN q.first AND q.last)
  AND (q.categories = '' OR list_contains(string_split(q.categories, ','), e.category))
  AND (q.scene IS NULL OR e.scene = q.scene);
"""

# Rows (id, value): several where a set is asked for.
ANSWERS = """
SELECT q.id, CAST(coalesce(sum(u.amount), 0) AS VARCHAR)
FROM questions q LEFT JOIN used u USING (id)
WHERE q.kind IN ('category_range', 'categories_range', 'total_range', 'category_date', 'scene_date', 'entry_amount',
                 'grand_total')
GROUP BY q.id
UNION ALL
SELECT id, CAST(max(amount) AS VARCHAR) FROM used WHERE kind = 'largest_range' GROUP BY id
UNION ALL
SELECT id, category FROM used WHERE kind = 'top_category_range' GROUP BY id, category
QUALIFY rank() OVER (PARTITION BY id ORDER BY sum(amount) DESC) = 1
UNION ALL
SELECT id, date FROM used WHERE kind = 'busiest_dates' GROUP BY id, date
QUALIFY rank() OVER (PARTITION BY id ORDER BY count(*) DESC) = 1
UNION ALL
SELECT q.id, CAST(coalesce(sum(e.refunded), 0) AS VARCHAR)
FROM questions q LEFT JOIN entries e ON e.ledger = q.ledger AND NOT e.cancelled
WHERE q.kind = 'refunded_total' GROUP BY q.id
UNION ALL
SELECT q.id, CAST(count(e.entry) AS VARCHAR)
FROM questions q LEFT JOIN entries e ON e.ledger = q.ledger AND e.cancelled
WHERE q.kind = 'cancelled_count' GROUP BY q.id
"""

SCENES = {re.sub("^(an?|the) ", "", phrase): scene for scenes in TAXONOMY.values() for scene, phrase in scenes.items()}
Asked = list[tuple[list[Event], list[Question]]]  # the events of a ledger, and questions on it


def read(question: Question) -> dict[str, str | None]:
    """What a question asks for, read from its text."""
    days = re.findall(r"\d{4}-\d\d-\d\d", question.text)
    categories = re.findall(rf"\b(?:{'|'.join(CATEGORIES)})\b", question.text)
    scene = None
    if question.kind in ("scene_date", "entry_amount"):
        thing = re.search(r"(?:spend on|amount of) (?:an? |the )?(.+) on \d", question.text)[1]
        scene = SCENES[thing]
    return {
        "kind": question.kind, "categories": ",".join(categories), "scene": scene,
        "first": days[0] if days else None, "last": days[-1] if days else None,
    }  # fmt: skip


def database(asked: Asked) -> duckdb.DuckDBPyConnection:
    """Events, entries and questions (numbered in their order) of many ledgers."""
    events = pd.DataFrame(
        [
            {"ledger": ledger, "n": n, "kind": e.kind, "session": e.session, "entry": e.entry, "revises": e.revises,
             "date": e.date, "category": e.category, "scene": e.scene, "amount": e.amount and f"{e.amount:f}"}
            for ledger, (told, _) in enumerate(asked)
            for n, e in enumerate(told)
        ],
        dtype=object,
    )  # fmt: skip
    about = [(ledger, question) for ledger, (_, questions) in enumerate(asked) for question in questions]
    questions = pd.DataFrame(
        [{"id": number, "ledger": ledger, **read(question)} for number, (ledger, question) in enumerate(about)],
        dtype=object,
    )
    connection = duckdb.connect(config={"threads": 1})
    types = dict.fromkeys(("id", "ledger", "n", "session"), "INTEGER") | {"amount": "DECIMAL(18, 2)"}
    for name, table in (("events", events), ("questions", questions)):
        connection.register("given", table)
        columns = ", ".join(f"CAST({c} AS {types.get(c, 'VARCHAR')}) AS {c}" for c in table.columns)
        connection.execute(f"CREATE TABLE {name} AS SELECT {columns} FROM given")
        connection.unregister("given")
    connection.execute(STATE)
    return connection


def assert_gold(asked: Asked) -> duckdb.DuckDBPyConnection:
    """Every gold answer equals the one in SQL."""
    connection = database(asked)
    found: dict[int, set[str]] = {}
    for number, value in connection.execute(ANSWERS).fetchall():
        found.setdefault(number, set()).add(value)
    for number, question in enumerate(question for _, questions in asked for question in questions):
        values, gold = found.get(number, set()), set(question.gold.values)
        if question.gold.kind == "amount":
            values, gold = {Decimal(v) for v in values}, {Decimal(v) for v in gold}
        assert values == gold, question
    return connection


@pytest.fixture(scope="module")
def asked() -> Asked:
    """Streams of both tracks and all sizes, half of the long ones asked before their end."""
    found = []
    for size in ("small", "standard", "hard"):
        for rate in RATES:
            for sessions, count in LENGTHS.items():
                for index in range(count):
                    stream = Stream(size, "test", sessions, index, rate)
                    after = sessions if index or sessions < 12 else sessions - sessions // 5
                    events = [event for k in range(after) for event in stream.session(k).events]
                    found.append((events, stream.questions(PER_KIND, after)))
    return found


def test_sql_gives_every_gold_answer(asked):
    kinds = Counter(question.kind for _, questions in asked for question in questions)
    assert set(kinds) == set(ALL_KINDS) and kinds.total() >= 20_000, kinds
    connection = assert_gold(asked)
    # a question about "the coffee on 2024-05-01" means one entry, as it was said to: whatever was not cancelled counts
    meant = """SELECT count(*) FROM questions q JOIN entries e
               ON e.ledger = q.ledger AND NOT e.cancelled AND e.date = q.first AND e.scene = q.scene
               WHERE q.kind = 'entry_amount' GROUP BY q.id"""
    assert {n for (n,) in connection.execute(meant).fetchall()} == {1}


def test_listed_sessions_are_enough(asked):
    """The events of `Question.sessions` give the gold answer, without any other event."""
    alone = []
    for number, (events, questions) in enumerate(asked):
        for question in questions[number % 11 :: 11]:
            told = [event for event in events if event.session in question.sessions]
            known = {event.entry for event in told if event.kind in ("purchase", "late")}
            for event in told:  # in order: a part of what is not known is not known either
                if event.kind == "split" and event.revises in known:
                    known.add(event.entry)
            alone.append(([event for event in told if (event.revises or event.entry) in known], [question]))
    assert len(alone) > 1_500
    assert_gold(alone)


def test_listed_sessions_are_not_too_many(asked):
    """Without revisions they are the sessions of what counts, and one where nothing does."""
    plain = [(events, questions) for events, questions in asked if all(e.kind == "purchase" for e in events)]
    told: dict[int, set[int]] = {}
    for number, session in database(plain).execute("SELECT id, session FROM used").fetchall():
        told.setdefault(number, set()).add(session)
    for number, question in enumerate(question for _, questions in plain for question in questions):
        if number in told:
            assert set(question.sessions) == told[number], question
        else:
            assert len(question.sessions) == 1, question
