"""Questions on a ledger, with exact typed answers and the sessions that each answer depends on.

The eight types of the paper, a point query on a scene, and three types that only streams with revisions have. Amounts
are what counts in the end: corrected, less what was refunded, nothing for what was cancelled.

Deviations from the paper: the lengths of date ranges are log-uniform in sessions, so that short and long ranges are
both asked at every horizon; the category that is the right answer to "which category" rotates from stream to stream,
so that no constant answer pays.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property

from uma_lib.ledger.language import CATEGORIES, money, said_scene, the
from uma_lib.ledger.state import Entry, Ledger
from uma_lib.scoring import Gold

QUESTION_KINDS = (
    "category_range",  # amount of one category in a date range
    "categories_range",  # amount of two or three categories in a date range
    "total_range",  # everything in a date range
    "top_category_range",  # category with the highest spending in a date range (ties: all)
    "busiest_dates",  # date(s) with the most transactions of a category (ties: all)
    "largest_range",  # largest single amount in a date range
    "category_date",  # amount of one category on one date
    "grand_total",  # everything
)
REVISED_KINDS = (
    "refunded_total",  # everything that was refunded
    "cancelled_count",  # number of cancelled entries
    "entry_amount",  # present amount of an entry that was revised or split off
)
ALL_KINDS = (*QUESTION_KINDS, "scene_date", *REVISED_KINDS)
ASKED_ONCE = ("grand_total", "refunded_total", "cancelled_count")
IN_VAIN = 64  # draws in a row without a new question: hardly any is left, or none is fair


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its typed gold answer and the sessions that the answer depends on."""

    kind: str
    text: str
    gold: Gold
    sessions: tuple[int, ...]
    categories: tuple[str, ...] = ()
    start: str | None = None  # first and last day of the range, where there is one
    end: str | None = None
    scene: str | None = None


def ask(
    ledger: Ledger, days: list[date], rngs: dict[str, random.Random], per_kind: int, favourite: str
) -> list[Question]:
    """At most ``per_kind`` different questions of every kind in ``rngs``, see `Stream.questions`.

    The time is bounded by the number of questions that there are, however many are wanted.

    days: those of the sessions so far. favourite: the category that "which category" should be answered with.
    """
    questioner = _Questioner(ledger, days, favourite)
    asked: dict[str, Question] = {}
    for kind, rng in rngs.items():
        wanted = 1 if kind in ASKED_ONCE else per_kind
        found = in_vain = 0
        for _ in range(8 * wanted):  # repeats are possible on short streams
            question = questioner.ask(kind, rng)
            in_vain += 1
            if question and question.text not in asked:
                asked[question.text] = question
                found, in_vain = found + 1, 0
            if found == wanted or in_vain == IN_VAIN:
                break
    return list(asked.values())


def answer(
    ledger: Ledger,
    kind: str,
    categories: tuple[str, ...] = (),
    start: str | None = None,
    end: str | None = None,
    scene: str | None = None,
) -> Gold | None:
    """The right answer to a question on a ledger; None where there is none, as for the largest of no amounts.

    >>> from uma_lib.ledger import Stream
    >>> stream = Stream("small", "train", sessions=5, index=0)
    >>> all(answer(stream.state(), q.kind, q.categories, q.start, q.end, q.scene) == q.gold for q in stream.questions())
    True
    """
    if kind == "refunded_total":
        return Gold("amount", (money(ledger.refunded),))
    if kind == "cancelled_count":
        return Gold("amount", (str(ledger.cancelled),))
    used = [
        e
        for e in ledger.live()
        if (not categories or e.category in categories)
        and (start is None or start <= e.date <= end)
        and (scene is None or e.scene == scene)
    ]
    if kind in ("busiest_dates", "top_category_range", "largest_range") and not used:
        return None
    if kind == "busiest_dates":
        counts = Counter(e.date for e in used)
        return Gold("dates", tuple(sorted(d for d, n in counts.items() if n == max(counts.values()))))
    if kind == "top_category_range":
        return Gold("categories", _top_categories(used))
    if kind == "largest_range":
        return Gold("amount", (money(max(e.amount for e in used)),))
    return Gold("amount", (money(sum((e.amount for e in used), Decimal(0))),))


class _Questioner:
    def __init__(self, ledger: Ledger, days: list[date], favourite: str):
        self.ledger, self.days, self.favourite = ledger, days, favourite
        self.live = ledger.live()

    def ask(self, kind: str, rng: random.Random) -> Question | None:
        """One question; None where the draw gives no fair one."""
        return getattr(self, f"_{kind}")(rng)

    def _question(
        self, kind: str, text: str, categories=(), start=None, end=None, scene=None, sessions=None
    ) -> Question | None:
        gold = answer(self.ledger, kind, categories, start, end, scene)
        if gold is None:
            return None
        sessions = sessions or self._sessions(categories, start or "", end or "9", scene or "")
        return Question(kind, text, gold, sessions, categories, start, end, scene)

    # points

    def _grand_total(self, rng: random.Random) -> Question:
        text = rng.choice(("How much did I spend in total?", "What is the grand total of my spending?"))
        return self._question("grand_total", text)

    def _busiest_dates(self, rng: random.Random) -> Question | None:
        if not self._countable:
            return None
        category = rng.choice(self._countable)
        text = rng.choice((f"On which date did I have the most {category} transactions?",
                           f"Which date had the most {category} transactions?"))  # fmt: skip
        return self._question("busiest_dates", text, (category,))

    @cached_property
    def _countable(self) -> list[str]:
        """Categories whose busiest dates can be asked for."""
        counts, tops = _counts(self.live)
        # whether a purchase that was refunded in full is a transaction, people do not agree on
        other = _counts([e for e in self.ledger.entries.values() if not e.cancelled])[1]
        fair = [c for c in tops if len(tops[c]) <= 3 and tops[c] == other[c]]
        # a category bought at most once a day has nothing to count: asked only where there is no other
        return [c for c in fair if max(counts[c].values()) > 1] or fair

    def _category_date(self, rng: random.Random) -> Question | None:
        if not self.live:
            return None
        e = rng.choice(self.live)
        # now and then nothing was bought: the right answer is then 0
        category = e.category if rng.random() < 0.9 else rng.choice(CATEGORIES)
        text = rng.choice((f"How much did I spend on {category} on {e.date}?",
                           f"What did {category} cost me on {e.date}?"))  # fmt: skip
        # that nothing was bought is seen in the session of that day
        sessions = self._sessions((category,), e.date, e.date) or (e.session,)
        return self._question("category_date", text, (category,), e.date, e.date, sessions=sessions)

    def _scene_date(self, rng: random.Random) -> Question | None:
        return self._scene(rng, "scene_date", self.live, "How much did I spend on {x} on {d}?")

    def _entry_amount(self, rng: random.Random) -> Question | None:
        revised = [e for e in self.live if len(e.sessions) > 1 and self.ledger.at(e.date, e.scene) == 1]
        return self._scene(rng, "entry_amount", revised, "What is the present amount of {t} on {d}?")

    def _scene(self, rng: random.Random, kind: str, entries: list[Entry], text: str) -> Question | None:
        if not entries:
            return None
        e = rng.choice(entries)
        thing = said_scene(e.scene)
        text = text.format(x=thing, t=the(thing), d=e.date)
        return self._question(kind, text, (), e.date, e.date, e.scene)

    def _refunded_total(self, rng: random.Random) -> Question | None:
        if not self.ledger.refunded:
            return None
        text = rng.choice(("How much was refunded to me in total?", "How much money did I get back in all?"))
        touched = {k for e in self.ledger.entries.values() if e.refunded for k in e.sessions}
        return self._question("refunded_total", text, sessions=tuple(sorted(touched)))

    def _cancelled_count(self, rng: random.Random) -> Question:
        text = "How many entries were cancelled?"
        touched = {k for e in self.ledger.entries.values() if e.cancelled for k in e.sessions}
        return self._question("cancelled_count", text, sessions=tuple(sorted(touched)))

    # ranges

    def _range(self, rng: random.Random) -> tuple[str, str, list[Entry]]:
        """A range of sessions (log-uniform length), days around it that reach no other session, and what is inside."""
        days, count = self.days, len(self.days)
        span = round(math.exp(rng.uniform(0.0, math.log(count)))) if count > 1 else 1
        first = rng.randint(0, count - span)
        last = first + span - 1
        before = days[first] - (days[first - 1] if first else days[first] - timedelta(days=8))
        behind = (days[last + 1] if last + 1 < count else days[last] + timedelta(days=8)) - days[last]
        start = (days[first] - timedelta(days=rng.randint(0, min(7, before.days - 1)))).isoformat()
        end = (days[last] + timedelta(days=rng.randint(0, min(7, behind.days - 1)))).isoformat()
        return start, end, [e for e in self.live if start <= e.date <= end]

    def _category_range(self, rng: random.Random) -> Question | None:
        start, end, inside = self._range(rng)
        if not inside:
            return None
        category = rng.choice(inside).category
        text = rng.choice((f"How much did I spend on {category} from {start} to {end}?",
                           f"What was my {category} spending from {start} to {end}?"))  # fmt: skip
        return self._question("category_range", text, (category,), start, end)

    def _categories_range(self, rng: random.Random) -> Question | None:
        start, end, inside = self._range(rng)
        if not inside:
            return None
        known = {rng.choice(inside).category}
        while len(known) < 2 + (rng.random() < 0.3):
            known.add(rng.choice(CATEGORIES))
        categories = tuple(sorted(known, key=CATEGORIES.index))
        text = f"How much did I spend on {', '.join(categories[:-1])} and {categories[-1]} from {start} to {end}?"
        return self._question("categories_range", text, categories, start, end)

    def _total_range(self, rng: random.Random) -> Question | None:
        start, end, inside = self._range(rng)
        text = rng.choice((f"How much did I spend in total from {start} to {end}?",
                           f"What was my total spending from {start} to {end}?"))  # fmt: skip
        return self._question("total_range", text, (), start, end) if inside else None

    def _top_category_range(self, rng: random.Random) -> Question | None:
        start, end, inside = self._range(rng)
        for _ in range(20):
            if inside and _top_categories(inside) == (self.favourite,):
                break
            start, end, inside = self._range(rng)
        text = rng.choice((f"Which category had the highest spending from {start} to {end}?",
                           f"On which category did I spend the most from {start} to {end}?"))  # fmt: skip
        return self._question("top_category_range", text, (), start, end)

    def _largest_range(self, rng: random.Random) -> Question | None:
        start, end, inside = self._range(rng)
        text = rng.choice((f"What was my largest single expense from {start} to {end}?",
                           f"What is the largest amount I paid at once from {start} to {end}?"))  # fmt: skip
        if any(e.part_of or e.split or e.refunded for e in inside):
            # "at once" more was paid than counts now, and the parts of a payment might be meant together
            text = f"What was my largest single expense from {start} to {end}?"
            payments: Counter = Counter()
            for e in inside:
                payments[e.part_of or e.name] += e.amount
            if max(payments.values()) != max(e.amount for e in inside):
                return None
        return self._question("largest_range", text, (), start, end)

    def _sessions(
        self, categories: tuple[str, ...] = (), start: str = "", end: str = "9", scene: str = ""
    ) -> tuple[int, ...]:
        """Sessions that told anything about an entry that matches now, or that would with some of them left out.

        With these sessions alone the answer is the same, since no further entry can come to match: its date, category
        and scene are always among those that it ever had.
        """
        found: set[int] = set()
        for dates, had, scenes, sessions in self._pasts:
            if (
                (not categories or not had.isdisjoint(categories))
                and (not scene or scene in scenes)
                and any(start <= d <= end for d in dates)
            ):
                found.update(sessions)
        return tuple(sorted(found))

    @cached_property
    def _pasts(self) -> list[tuple[set[str], set[str], set[str], list[int]]]:
        """Of every entry all dates, categories and scenes that it ever had, and its sessions."""
        return [(*map(set, zip(*e.versions, strict=True)), e.sessions) for e in self.ledger.entries.values()]


def _counts(entries: list[Entry]) -> tuple[dict[str, Counter], dict[str, set[str]]]:
    """Of every category the number of entries by date, and the dates that have the most."""
    counts: dict[str, Counter] = {}
    for e in entries:
        counts.setdefault(e.category, Counter())[e.date] += 1
    return counts, {c: {d for d, n in dates.items() if n == max(dates.values())} for c, dates in counts.items()}


def _top_categories(entries: list[Entry]) -> tuple[str, ...]:
    totals = Counter()
    for e in entries:
        totals[e.category] += e.amount
    return tuple(sorted(c for c, t in totals.items() if t == max(totals.values())))
