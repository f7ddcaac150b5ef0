"""Ledger-QA: seeded streams of dated expense dialogues with exact answers (paper section 4; method notes section 3).

A stream is a sequence of sessions on distinct, sorted dates. Every session is a dialogue that records expenses among
small talk and purchases that are only planned. Questions are asked after the last session and are computed from the
ground-truth ledger, so an answer is a value accumulated over many updates and never a span of the text.

One session of size ``small``::

    [2024-05-01] User said, "I spent $12 on coffee."
    [2024-05-01] Assistant said, "Noted."
    [2024-05-01] User said, "I might spend $9 on a movie next week."
    [2024-05-01] Assistant said, "Okay."

and a question on it: *How much did I spend on Dining from 2024-04-28 to 2024-05-03?* with the gold amount ``12``.

Deviations from the paper: dialogues come from templates instead of an LLM service, so that every amount, date and
category is right by construction and nothing has to be downloaded; the lengths of date ranges are log-uniform in
sessions, so that short and long ranges are both asked at every horizon; a planned purchase is never to be counted;
``small`` uses whole dollars and short sessions so that a policy of two million parameters can learn it. This module
knows nothing of models.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property

from uma_lib.reward import Gold

# category -> {scene: how one says it after "on" or "for"}
TAXONOMY: dict[str, dict[str, str]] = {
    "Dining": {
        "fast food": "fast food", "restaurant": "a restaurant meal", "coffee": "coffee", "bubble tea": "bubble tea",
        "BBQ": "a BBQ", "hot pot": "hot pot", "snacks": "snacks", "takeout": "takeout",
    },
    "Transportation": {
        "subway": "the subway", "bus": "the bus", "taxi": "a taxi", "gas": "gas for the car", "parking": "parking",
        "train": "a train ticket", "flight": "a flight",
    },
    "Shopping": {
        "clothing": "clothing", "electronics": "electronics", "daily necessities": "daily necessities",
        "cosmetics": "cosmetics", "books": "novels", "groceries": "groceries", "furniture": "furniture",
    },
    "Entertainment": {
        "movie": "a movie", "KTV": "KTV", "gaming": "a video game", "gym": "the gym", "travel": "a weekend trip",
        "concert": "a concert", "escape room": "an escape room",
    },
    "Utilities": {
        "water & electricity": "water and electricity",
        "property fee": "the property fee", "phone bill": "the phone bill",
        "internet": "the internet plan", "gas bill": "the gas bill", "rent": "the rent",
    },
    "Medical": {
        "medicine": "medicine", "doctor visit": "a doctor visit", "health checkup": "a health checkup",
        "dental": "dental care", "glasses": "new glasses",
    },
    "Education": {
        "training course": "a training course",
        "books & materials": "course materials", "online course": "an online course",
        "exam registration": "an exam registration", "tuition": "tuition",
    },
    "Other": {
        "transfer": "a transfer to a friend", "red envelope": "a red envelope", "donation": "a donation",
        "pet": "pet food", "beauty & salon": "the hair salon",
    },
}  # fmt: skip
CATEGORIES = tuple(TAXONOMY)

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

SPLITS = ("train", "validation", "test", "demonstrations")

_PAID = (
    "I spent {a} on {x}.", "Paid {a} for {x}.", "Please record {a} for {x}.", "Today I paid {a} for {x}.",
    "I had to pay {a} for {x}.", "Just paid for {x}, it was {a}.", "In the end {x} came to {a}.",
    "Put down {a} for {x}.",
    "For {x} I paid {a} in all.", "Another {a} went on {x}.", "{a} for {x}, please note it.",
    "I gave {a} for {x}.",
)  # fmt: skip
_PAID_TWO = (
    "I spent {a} on {x} and {b} on {y}.", "Paid {a} for {x}, then {b} for {y}.", "{a} went on {x} and {b} on {y}.",
    "Two things today: {x} for {a}, and {y} for {b}.",
)  # fmt: skip
_PLANNED = (
    "I might spend {a} on {x} next week.", "Maybe I will pay {a} for {x} tomorrow.",
    "They wanted {a} for {x}, so I said no.",
    "I am thinking of paying {a} for {x} soon.", "My sister paid {a} for {x}.",
    "I nearly paid {a} for {x}, but I did not.",
)  # fmt: skip
_CONFIRMED = (
    "Noted.",
    "Got it.",
    "Okay, recorded.",
    "Done, I wrote it down.",
    "All right.",
    "Saved.",
    "Okay.",
    "Sure, it is in the book.",
)
_ECHOED = ("Noted, {a}.", "Got it, {a} for {x}.", "Okay, {a}, recorded.")
_HEARD = ("Okay.", "I see.", "All right.", "Let me know what you decide.", "Understood.")
_SMALL_TALK = (
    ("How are you today?", "I am fine, thank you."), ("It is raining again.", "Take an umbrella with you."),
    ("I slept badly.", "I hope tonight is better."), ("The meeting was long.", "I am sorry to hear that."),
    ("What a nice day it was.", "I am glad to hear it."), ("I met an old friend.", "How lovely."),
    ("Work is busy this week.", "Do take a break."), ("I watched the birds for a while.", "That sounds calm."),
    ("My neighbour is moving out.", "Will you miss them?"), ("I should call my parents.", "They would like that."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    """How long and how rich the sessions of a stream are."""

    name: str
    expenses: tuple[float, ...]  # weights of 1, 2, 3, ... expenses a session
    amounts: tuple[int, int]  # least and largest amount in dollars, log-uniform: a largest one is hard to guess
    cents: bool  # amounts with two decimals
    repeat: float  # chance that a further expense repeats a category of its session
    pair: float  # chance that two expenses share one utterance
    planned: float  # chance of a purchase that is only planned, for each exchange that is not an expense
    echo: float  # chance that the confirmation repeats the amount
    exchanges: tuple[int, int]  # least and most exchanges that are no expense
    turns: tuple[int, int] | None = None  # least and most turns in all; small talk fills up


SIZES = {
    "small": Size("small", (0.4, 0.4, 0.2), (2, 200), False, 0.35, 0.25, 0.5, 0.2, (0, 1)),
    "standard": Size("standard", (1.0,) * 10, (2, 1000), True, 0.3, 0.2, 0.2, 0.4, (0, 3), (20, 50)),
}


@dataclass(frozen=True, slots=True)
class Expense:
    """One transaction: ``amount`` in dollars; ``session`` and ``turn`` say where it is recorded (both from 0)."""

    session: int
    turn: int
    date: str
    category: str
    scene: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Session:
    """One dated dialogue: ``text`` is the chunk that an agent reads, ``expenses`` is ground truth."""

    index: int
    date: str
    text: str
    expenses: tuple[Expense, ...]
    mentioned: tuple[Expense, ...] = ()  # amounts that must not be counted: plans, other people's purchases


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


def money(amount: Decimal) -> str:
    """Plain decimal text, as memories and answers write it: ``12`` or ``12.50``."""
    return f"{amount:f}"


class Stream:
    """A seeded stream: the same arguments give the same bytes in every process.

    >>> stream = Stream("small", "train", sessions=3, index=0)
    >>> [session.date for session in stream] == sorted(session.date for session in stream)
    True
    >>> stream.ledger(1) == stream.session(0).expenses   # the ground truth after one session
    True
    """

    def __init__(self, size: str, split: str, sessions: int, index: int):
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        if sessions < 1 or index < 0:
            raise ValueError(f"sessions must be at least 1 and index at least 0, not {sessions} and {index}")
        self.size, self.split, self.sessions, self.index = SIZES[size], split, sessions, index
        # the split is part of the seed, so that no two splits share a stream
        self.name = f"ledger-qa/{size}/{split}/{sessions}/{index}"

    def _random(self, part: str | int) -> random.Random:
        return random.Random(f"{self.name}/{part}")

    @cached_property
    def dates(self) -> list[str]:
        """Distinct sorted days; two years up to 700 sessions, one more year for each further 350."""
        years = 2 + max(0, math.ceil((self.sessions - 700) / 350))
        first, last = date(2023, 1, 1), date(2022 + years, 12, 31)
        days = self._random("dates").sample(range((last - first).days + 1), self.sessions)
        return [(first + timedelta(days=day)).isoformat() for day in sorted(days)]

    def __len__(self) -> int:
        return self.sessions

    def __iter__(self) -> Iterator[Session]:
        return (self.session(k) for k in range(self.sessions))

    def session(self, k: int) -> Session:
        """Session ``k`` (from 0), made from its own seed: no earlier text is needed."""
        if not 0 <= k < self.sessions:
            raise IndexError(f"session {k} is outside 0..{self.sessions - 1}")
        rng, size, day = self._random(k), self.size, self.dates[k]
        count = rng.choices(range(1, len(size.expenses) + 1), size.expenses)[0]
        exchanges: list[list[tuple[str, str, Decimal]]] = []  # expenses said together
        seen: list[str] = []
        left = count
        while left:
            together = []
            for _ in range(2 if left > 1 and rng.random() < size.pair else 1):
                category = rng.choice(seen) if seen and rng.random() < size.repeat else rng.choice(CATEGORIES)
                seen.append(category)
                together.append((category, rng.choice(tuple(TAXONOMY[category])), self._amount(rng)))
            left -= len(together)
            exchanges.append(together)
        others = rng.randint(*size.exchanges)
        if size.turns:
            others = max(others, rng.randint(*size.turns) // 2 - len(exchanges))
        plan: list[list | None] = exchanges + [None] * others
        rng.shuffle(plan)

        lines: list[str] = []
        expenses: list[Expense] = []
        mentioned: list[Expense] = []
        for together in plan:
            turn = len(lines)
            if together is not None:
                expenses += [Expense(k, turn, day, c, scene, amount) for c, scene, amount in together]
                said, heard = self._purchase(rng, together)
            elif rng.random() < size.planned:
                category = rng.choice(CATEGORIES)
                scene = rng.choice(tuple(TAXONOMY[category]))
                mentioned.append(Expense(k, turn, day, category, scene, self._amount(rng)))
                said = rng.choice(_PLANNED).format(a=f"${money(mentioned[-1].amount)}", x=TAXONOMY[category][scene])
                heard = rng.choice(_HEARD)
            else:
                said, heard = rng.choice(_SMALL_TALK)
            lines += [f'[{day}] User said, "{said}"', f'[{day}] Assistant said, "{heard}"']
        return Session(k, day, "\n".join(lines), tuple(expenses), tuple(mentioned))

    def _amount(self, rng: random.Random) -> Decimal:
        low, high = self.size.amounts
        dollars = math.exp(rng.uniform(math.log(low), math.log(high)))
        return Decimal(round(dollars * 100)) / 100 + Decimal("0.00") if self.size.cents else Decimal(round(dollars))

    def _purchase(self, rng: random.Random, together: list[tuple[str, str, Decimal]]) -> tuple[str, str]:
        (category, scene, amount), *more = together
        words = {"a": f"${money(amount)}", "x": TAXONOMY[category][scene]}
        if more:
            category, scene, amount = more[0]
            words |= {"b": f"${money(amount)}", "y": TAXONOMY[category][scene]}
            return rng.choice(_PAID_TWO).format(**words), rng.choice(_CONFIRMED)
        heard = rng.choice(_ECHOED if rng.random() < self.size.echo else _CONFIRMED).format(**words)
        return rng.choice(_PAID).format(**words), heard

    def ledger(self, after: int | None = None) -> tuple[Expense, ...]:
        """Ground truth after the first ``after`` sessions (default: all). Never shown to an agent."""
        return tuple(e for k in range(self.sessions if after is None else after) for e in self.session(k).expenses)

    def questions(self, per_kind: int = 1) -> list[Question]:
        """At most ``per_kind`` different questions of each kind (one grand total), asked after the last session.

        ``busiest_dates`` is left out where more than three dates tie in every category.
        """
        ledger = self.ledger()
        asked: dict[str, Question] = {}
        for kind in QUESTION_KINDS:
            rng = self._random(f"questions/{kind}")
            wanted = 1 if kind == "grand_total" else per_kind
            found = 0
            for _ in range(8 * wanted):  # repeats are possible on short streams
                question = self._ask(rng, kind, ledger)
                if question and question.text not in asked:
                    asked[question.text] = question
                    found += 1
                if found == wanted:
                    break
        return list(asked.values())

    def _range(self, rng: random.Random) -> tuple[int, int, str, str]:
        """First and last session of a range (log-uniform length) and days around them."""
        span = round(math.exp(rng.uniform(0.0, math.log(self.sessions)))) if self.sessions > 1 else 1
        first = rng.randint(0, self.sessions - span)
        last = first + span - 1
        days = [date.fromisoformat(d) for d in self.dates]
        before = days[first] - (days[first - 1] if first else days[first] - timedelta(days=8))
        behind = (days[last + 1] if last + 1 < self.sessions else days[last] + timedelta(days=8)) - days[last]
        start = days[first] - timedelta(days=rng.randint(0, min(7, before.days - 1)))
        end = days[last] + timedelta(days=rng.randint(0, min(7, behind.days - 1)))
        return first, last, start.isoformat(), end.isoformat()

    def _ask(self, rng: random.Random, kind: str, ledger: tuple[Expense, ...]) -> Question | None:
        if kind == "grand_total":
            text = rng.choice(("How much did I spend in total?", "What is the grand total of my spending?"))
            return Question(kind, text, _amount_gold(ledger), _sessions(ledger))

        if kind == "busiest_dates":
            counts: dict[str, Counter] = {}
            for e in ledger:
                counts.setdefault(e.category, Counter())[e.date] += 1
            tops = {c: [d for d, n in days.items() if n == max(days.values())] for c, days in counts.items()}
            fair = [c for c in tops if len(tops[c]) <= 3]
            # a category bought at most once a day has nothing to count: asked only where there is no other
            choice = [c for c in fair if max(counts[c].values()) > 1] or fair
            if not choice:
                return None
            category = rng.choice(choice)
            text = rng.choice((f"On which date did I have the most {category} transactions?",
                               f"Which date had the most {category} transactions?"))  # fmt: skip
            used = [e for e in ledger if e.category == category]
            return Question(kind, text, Gold("dates", tuple(sorted(tops[category]))), _sessions(used), (category,))

        if kind == "category_date":
            e = rng.choice(ledger)
            # now and then nothing was bought: the right answer is then 0
            category = e.category if rng.random() < 0.9 else rng.choice(CATEGORIES)
            used = [x for x in ledger if x.date == e.date and x.category == category]
            text = rng.choice((f"How much did I spend on {category} on {e.date}?",
                               f"What did {category} cost me on {e.date}?"))  # fmt: skip
            return Question(kind, text, _amount_gold(used), (e.session,), (category,), e.date, e.date)

        first, last, start, end = self._range(rng)
        inside = [e for e in ledger if first <= e.session <= last]
        if kind == "top_category_range":
            # every category is the right answer equally often, as far as the stream allows: no constant answer pays
            wanted = CATEGORIES[self.index % len(CATEGORIES)]
            for _ in range(20):
                if _top_categories(inside) == (wanted,):
                    break
                first, last, start, end = self._range(rng)
                inside = [e for e in ledger if first <= e.session <= last]
        period = f"from {start} to {end}"
        if kind == "category_range":
            categories = (rng.choice(inside).category,)
            text = rng.choice((f"How much did I spend on {categories[0]} {period}?",
                               f"What was my {categories[0]} spending {period}?"))  # fmt: skip
        elif kind == "categories_range":
            known = {rng.choice(inside).category}
            while len(known) < 2 + (rng.random() < 0.3):
                known.add(rng.choice(CATEGORIES))
            categories = tuple(sorted(known, key=CATEGORIES.index))
            text = f"How much did I spend on {', '.join(categories[:-1])} and {categories[-1]} {period}?"
        else:
            categories = ()
        used = [e for e in inside if not categories or e.category in categories]
        gold = _amount_gold(used)
        if kind == "total_range":
            text = rng.choice((f"How much did I spend in total {period}?", f"What was my total spending {period}?"))
        elif kind == "top_category_range":
            text = rng.choice((f"Which category had the highest spending {period}?",
                               f"On which category did I spend the most {period}?"))  # fmt: skip
            gold = Gold("categories", _top_categories(inside))
        elif kind == "largest_range":
            text = rng.choice((f"What was my largest single expense {period}?",
                               f"What is the largest amount I paid at once {period}?"))  # fmt: skip
            gold = Gold("amount", (money(max(e.amount for e in inside)),))
        return Question(kind, text, gold, _sessions(used), categories, start, end)


def _top_categories(expenses) -> tuple[str, ...]:
    totals = Counter()
    for e in expenses:
        totals[e.category] += e.amount
    return tuple(sorted(c for c, t in totals.items() if t == max(totals.values())))


def _amount_gold(expenses) -> Gold:
    return Gold("amount", (money(sum((e.amount for e in expenses), Decimal(0))),))


def _sessions(expenses) -> tuple[int, ...]:
    return tuple(sorted({e.session for e in expenses}))
