"""Why answers on revised streams are wrong: what each answer would be right for.

On the track ``ledger-qa-revised`` a wrong answer often is the right answer to another reading of the stream. Two such
readings are replayed on the ledger:

- ``ignored``: nothing that was said about earlier entries was acted on;
- ``added``: an amount that was said about an earlier entry was taken for a new purchase of that day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from uma_lib.ledger import Event, Ledger, Question, Stream
from uma_lib.ledger.questions import answer
from uma_lib.ledger.state import PURCHASES
from uma_lib.reward import score


def readings(stream: Stream) -> dict[str, Ledger]:
    """The ledgers of the two wrong readings.

    >>> stream = Stream("small", "test", 10, 0, revisions=0.5)
    >>> found = readings(stream)
    >>> len(found["ignored"].entries) < len(found["added"].entries)
    True
    """
    ignored, added = Ledger(), Ledger()
    for session in stream:
        for number, event in enumerate(session.events):
            if event.kind in PURCHASES:
                ignored.apply(event)
                added.apply(event)
            elif event.amount is not None:
                of = added.entries[event.revises] if event.revises in added.entries else None
                category = event.category or (of.category if of else None)
                if category is None:  # a part of a part: its entry is none of this reading's
                    continue
                name = f"{session.index}.said{number}"
                scene = event.scene or of.scene
                added.apply(Event("purchase", session.index, event.turn, name, None, session.date, category, scene,
                                  event.amount))  # fmt: skip
    return {"ignored": ignored, "added": added}


def touched(question: Question, stream: Stream) -> set[str]:
    """The kinds of revisions that the answer depends on: those of entries that match the question or once did."""
    entries, kinds = stream.state().entries, defaultdict(set)
    for session in stream:
        for event in session.events:
            if event.revises:
                kinds[event.revises].add(event.kind)
                kinds[event.entry].add(event.kind)
    return {
        kind
        for name, entry in entries.items()
        if name in kinds
        and any(
            (question.start is None or question.start <= day <= question.end)
            and (not question.categories or category in question.categories)
            for day, category, _ in entry.versions
        )
        for kind in kinds[name]
    }


def explain(rows: Sequence[dict[str, Any]], stream: Stream) -> list[dict[str, Any]]:
    """What became of each answer on one stream.

    rows: those of an evaluation (`evaluation.COLUMNS`) on this stream. Returns a dict a row: ``agent``, ``touched``
    (kinds of revisions that the answer depends on), ``outcome``: "right", "ignored" or "added" (right for that
    reading, and for no better one), else "other".
    """
    questions = {question.text: question for question in stream.questions()}
    ledgers = readings(stream)
    kinds = {text: touched(question, stream) for text, question in questions.items()}
    found = []
    for row in rows:
        q = questions[row["question"]]
        outcome = "other"
        if row["correct"]:
            outcome = "right"
        else:
            for name, ledger in ledgers.items():
                gold = answer(ledger, q.kind, q.categories, q.start, q.end, q.scene)
                if gold and score(row["answer"], gold):
                    outcome = name
                    break
        found.append({"agent": row["agent"], "touched": sorted(kinds[q.text]), "outcome": outcome})
    return found
