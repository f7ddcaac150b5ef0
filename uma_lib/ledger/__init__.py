"""Ledger-QA: seeded streams of dated expense dialogues with exact answers (paper section 4; method notes section 3).

A stream is a sequence of sessions on distinct, sorted dates. Every session is a dialogue that records expenses among
small talk and amounts that must not be counted. Questions are computed from the ground-truth ledger, so an answer is a
value to be worked out, most often from many sessions. It may stand in the text as well, like the largest purchase of a
range, or by chance (`card.stands_in`, counted in the data card and in notebook 01), but nothing there says that it is
the answer. On the track ``ledger-qa-revised`` later sessions also correct, refund, split or cancel what was recorded
before.

One session of size ``small``::

    [2024-05-01] User said, "I spent $12 on coffee."
    [2024-05-01] Assistant said, "Noted."
    [2024-05-01] User said, "I might spend $9 on a movie next week."
    [2024-05-01] Assistant said, "Okay."

and a question on it: *How much did I spend on Dining from 2024-04-28 to 2024-05-03?* with the gold amount ``12``.

Deviations from the paper: dialogues come from templates instead of an LLM service, so that every amount, date and
category is right by construction and nothing has to be downloaded; an amount that was not paid by the user is never to
be counted; ``small`` uses whole dollars and short sessions so that a policy of two million parameters can learn it.
This package knows nothing of models.
"""

from uma_lib.ledger.language import CATEGORIES, TAXONOMY, money
from uma_lib.ledger.questions import ALL_KINDS, QUESTION_KINDS, REVISED_KINDS, Question
from uma_lib.ledger.state import Entry, Event, Expense, Ledger
from uma_lib.ledger.streams import MOST_SESSIONS, SIZES, SPLITS, TRACKS, Session, Size, Stream

__all__ = [
    "ALL_KINDS", "CATEGORIES", "MOST_SESSIONS", "QUESTION_KINDS", "REVISED_KINDS", "SIZES", "SPLITS", "TAXONOMY",
    "TRACKS", "Entry", "Event", "Expense", "Ledger", "Question", "Session", "Size", "Stream", "money",
]  # fmt: skip
