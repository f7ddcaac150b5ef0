"""Seeded streams of dated sessions (paper section 4; method notes, section 3)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property

from uma_lib.ledger import language
from uma_lib.ledger.language import CATEGORIES, MENTIONS, SCENES, TAXONOMY, money, phrase
from uma_lib.ledger.questions import ALL_KINDS, QUESTION_KINDS, REVISED_KINDS, Question, ask
from uma_lib.ledger.state import Entry, Event, Expense, Ledger

TRACKS = {"ledger-qa": 0.0, "ledger-qa-revised": 0.2}  # name: revisions for each purchase
SPLITS = ("train", "validation", "test", "demonstrations")
LAST_YEAR = 9998  # so that what is said of a few days later can still be written
MOST_SESSIONS = 700 + 350 * (LAST_YEAR - 2024)  # a year has days for 350 sessions, see `Stream._days`
COUNTED_FROM = 100  # revisions that are expected in a stream before the number of cancelled entries is asked for


@dataclass(frozen=True, slots=True)
class Size:
    """How long and how rich the sessions of a stream are."""

    name: str
    expenses: tuple[float, ...]  # weights of 1, 2, 3, ... expenses a session
    amounts: tuple[int, int]  # least and largest amount in dollars, log-uniform: a largest one is hard to guess
    cents: bool  # amounts with two decimals
    repeat: float  # chance that a further expense repeats a category of its session
    pair: float  # chance that two expenses share one utterance
    echo: float  # chance that the confirmation repeats the amount
    planned: float = 0.0  # small: chance that an exchange that is no expense names a price all the same
    others: tuple[int, int] = (0, 1)  # small: least and most exchanges that are no expense
    turns: tuple[int, int] | None = None  # rich: least and most turns in all; small talk fills up
    mentions: tuple[int, int] = (0, 0)  # rich: least and most amounts that must not be counted
    again: float = 0.0  # rich: chance for each purchase to be mentioned once more
    days_ago: float = 0.0  # rich: chance that a purchase was made one to three days earlier
    asks: float = 0.0  # rich: chance that the assistant asks back
    kinds: tuple[str, ...] = QUESTION_KINDS  # of questions; the bank of the CPU policy holds no scenes

    @property
    def asks_scenes(self) -> bool:
        """Whether questions are about scenes ("the coffee"), so that a memory has to hold them."""
        return "scene_date" in self.kinds

    @property
    def mean_expenses(self) -> float:
        """Purchases a session, on average."""
        return sum(n * weight for n, weight in enumerate(self.expenses, 1)) / sum(self.expenses)


SIZES = {
    "small": Size("small", (0.4, 0.4, 0.2), (2, 200), False, 0.35, 0.25, 0.2, planned=0.5),
    "standard": Size(
        "standard", (1.0,) * 10, (2, 1000), True, 0.3, 0.15, 0.3, turns=(20, 50), mentions=(0, 3), again=0.05,
        days_ago=0.06, asks=0.25, kinds=(*QUESTION_KINDS, "scene_date"),
    ),
    "hard": Size(
        "hard", (1.0,) * 10, (2, 2000), True, 0.4, 0.25, 0.1, turns=(40, 80), mentions=(4, 12), again=0.2,
        days_ago=0.15, asks=0.4, kinds=(*QUESTION_KINDS, "scene_date"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Session:
    """One dated dialogue: ``text`` is the chunk that an agent reads, the rest is ground truth."""

    index: int
    date: str
    text: str
    expenses: tuple[Expense, ...]  # told here, late ones too
    mentioned: tuple[Expense, ...] = ()  # amounts that must not be counted: plans, prices, other people's purchases
    events: tuple[Event, ...] = ()  # everything that changes the ledger, in the order of the turns


@dataclass(frozen=True, slots=True)
class _Bought:
    """A purchase before it is put in words."""

    category: str
    scene: str
    amount: Decimal
    days_ago: int = 0


@dataclass(frozen=True, slots=True)
class _Step:
    """A revision before it is put in words: a form of `language`, its event (turn still 0), the entry as it was."""

    form: str
    event: Event
    before: Entry | None = None
    amount_before: Decimal | None = None


def name_of(track: str, revisions: float, size: str, split: str, sessions: int, index: int) -> str:
    """A name for every stream; the rate of revisions is part of it where it is not the track's own.

    >>> name_of("ledger-qa", 0.0, "small", "test", 10, 0), name_of("ledger-qa-revised", 0.4, "small", "test", 10, 0)
    ('ledger-qa/small/test/10/0', 'ledger-qa-revised@0.4/small/test/10/0')
    """
    rate = "" if revisions == TRACKS[track] else f"@{revisions}"
    return f"{track}{rate}/{size}/{split}/{sessions}/{index}"


class Stream:
    """A seeded stream: the same arguments give the same bytes in every process.

    revisions: revisions of earlier entries for each purchase; above 0 the stream is on the track
    ``ledger-qa-revised``. It has the same purchases as the stream without, and further utterances.

    >>> stream = Stream("small", "train", sessions=3, index=0)
    >>> [session.date for session in stream] == sorted(session.date for session in stream)
    True
    >>> stream.ledger(1) == stream.session(0).expenses   # the ground truth after one session
    True
    """

    def __init__(self, size: str, split: str, sessions: int, index: int, revisions: float = 0.0):
        if size not in SIZES:
            raise ValueError(f"unknown size {size!r}: choose one of {', '.join(SIZES)}")
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
        if sessions < 1 or index < 0:
            raise ValueError(f"sessions must be at least 1 and index at least 0, not {sessions} and {index}")
        if sessions > MOST_SESSIONS:
            raise ValueError(f"sessions must be at most {MOST_SESSIONS} (they reach year {LAST_YEAR}), not {sessions}")
        if index >= 2**63:
            raise ValueError(f"index must be below 2**63, as files hold it, not {index}")
        if not 0.0 <= revisions <= 1.0:
            raise ValueError(f"revisions is a rate between 0 and 1, not {revisions}")
        self.size, self.split, self.sessions, self.index = SIZES[size], split, sessions, index
        self.revisions = abs(float(revisions))  # 1 and 1.0 are the same stream, and so are 0.0 and -0.0
        self.track = "ledger-qa-revised" if revisions else "ledger-qa"
        self.name = name_of(self.track, self.revisions, size, split, sessions, index)
        # the split is part of the seed, so that no two splits share a stream; the track is not, so that both tracks
        # have the same purchases
        self._seed = f"ledger-qa/{size}/{split}/{sessions}/{index}"
        self._told: list[tuple[_Step, ...]] = []  # revisions of the first sessions
        self._state = Ledger()  # after them; turns are not filled in

    def _random(self, part: str | int) -> random.Random:
        return random.Random(f"{self._seed}/{part}")

    @cached_property
    def _days(self) -> list[date]:
        """Distinct sorted days; two years up to 700 sessions, one more year for each further 350."""
        years = 2 + max(0, math.ceil((self.sessions - 700) / 350))
        first, last = date(2023, 1, 1), date(2022 + years, 12, 31)
        days = self._random("dates").sample(range((last - first).days + 1), self.sessions)
        return [first + timedelta(days=day) for day in sorted(days)]

    @cached_property
    def dates(self) -> list[str]:
        """The day of every session as YYYY-MM-DD."""
        return [day.isoformat() for day in self._days]

    def __len__(self) -> int:
        return self.sessions

    def __iter__(self) -> Iterator[Session]:
        return (self.session(k) for k in range(self.sessions))

    # what happens

    def _plan(self, k: int) -> tuple[random.Random, list[list[_Bought] | None]]:
        """Purchases of session ``k``, those said together in one list, None for an exchange that is no purchase."""
        rng, size = self._random(k), self.size
        left = rng.choices(range(1, len(size.expenses) + 1), size.expenses)[0]
        plan: list[list[_Bought] | None] = []
        seen: list[str] = []
        while left:
            together = []
            for _ in range(2 if left > 1 and rng.random() < size.pair else 1):
                category = rng.choice(seen) if seen and rng.random() < size.repeat else rng.choice(CATEGORIES)
                seen.append(category)
                together.append(_Bought(category, rng.choice(tuple(TAXONOMY[category])), self._amount(rng)))
            left -= len(together)
            if size.days_ago and len(together) == 1 and rng.random() < size.days_ago:
                days = rng.choice((1, 1, 2, 3))
                if self._days[k] - timedelta(days=days) >= date(2023, 1, 1):
                    one = together[0]
                    together = [_Bought(one.category, one.scene, one.amount, days)]
            plan.append(together)
        if size.turns is None:
            plan += [None] * rng.randint(*size.others)
            rng.shuffle(plan)
        return rng, plan

    def _amount(self, rng: random.Random) -> Decimal:
        low, high = self.size.amounts
        dollars = math.exp(rng.uniform(math.log(low), math.log(high)))
        return Decimal(round(dollars * 100)) / 100 + Decimal("0.00") if self.size.cents else Decimal(round(dollars))

    def _purchases(self, k: int, plan: list[list[_Bought] | None]) -> list[Event]:
        """The events of a plan, in the order they are told; turns are not filled in."""
        bought = [one for together in plan if together for one in together]
        return [
            Event("purchase", k, 0, f"{k}.{n}", None, (self._days[k] - timedelta(days=one.days_ago)).isoformat(),
                  one.category, one.scene, one.amount)
            for n, one in enumerate(bought)
        ]  # fmt: skip

    @cached_property
    def _mix(self) -> list[float]:
        """How often this stream has each form of revision: streams differ, so that no count can be guessed."""
        rng = self._random("revisions/mix")
        return [0.2 + rng.expovariate(1.0) for _ in language.REVISION_FORMS]

    def _steps(self, k: int) -> tuple[_Step, ...]:
        """Revisions told in session ``k``. They depend on the events of all earlier sessions, on no text."""
        while len(self._told) <= k:
            now = len(self._told)
            purchases = self._purchases(now, self._plan(now)[1])
            rng = self._random(f"revisions/{now}")
            steps: list[_Step] = []
            taken = {(e.date, e.scene) for e in purchases}  # a reference must not mean one of these
            made = len(purchases)
            for _ in purchases:
                if rng.random() < self.revisions and (step := self._revise(rng, now, f"{now}.{made}", taken)):
                    self._state.apply(step.event)
                    steps.append(step)
                    made += step.event.kind in ("late", "split")
            for event in purchases:
                self._state.apply(event)
            self._told.append(tuple(steps))
        return self._told[k]

    def _revise(self, rng: random.Random, k: int, name: str, taken: set[tuple[str, str]]) -> _Step | None:
        """One revision in session ``k``; None where no entry fits. ``name`` is for an entry that it makes."""
        day = self._days[k]
        form = rng.choices(language.REVISION_FORMS, self._mix)[0]
        if form == "late":
            when = day - timedelta(days=rng.randint(1, 30))
            category, scene = rng.choice(SCENES)
            if when < date(2023, 1, 1) or self._is_there(when, scene, taken):
                return None
            event = Event("late", k, 0, name, None, when.isoformat(), category, scene, self._amount(rng))
            return _Step(form, event)
        entry = self._target(rng, k, taken)
        if entry is None:
            return None
        if (entry.split or entry.part_of) and form not in ("refund", "full_refund"):
            return None  # whether the whole payment is meant or a part of it would not be clear
        if form == "amount" and entry.corrected:
            form = "settled"  # a second correction contradicts the first: the later statement counts
        words: dict = {}
        if form in ("amount", "settled"):
            words["amount"] = self._amount(rng)
            if words["amount"] == entry.amount:
                return None
        elif form == "scene":
            words["category"], words["scene"] = rng.choice(SCENES)
            # what was filed under another category than its own keeps that one
            if words["scene"] == entry.scene or entry.scene not in TAXONOMY[entry.category]:
                return None
        elif form == "category":
            words["category"] = rng.choice([c for c in CATEGORIES if c != entry.category])
        elif form == "date":
            when = date.fromisoformat(entry.date) + timedelta(days=rng.choice((-1, 1)) * rng.randint(1, 10))
            if not date(2023, 1, 1) <= when <= day or self._is_there(when, entry.scene, taken):
                return None
            words["date"] = when.isoformat()
        elif form in ("refund", "split"):
            step = Decimal("0.01") if self.size.cents else Decimal(1)
            parts = int(entry.amount / step)
            if parts < 2:
                return None
            words["amount"] = rng.randint(1, parts - 1) * step
            if form == "split":
                words["category"], words["scene"] = rng.choice(SCENES)
                if words["category"] == entry.category:  # one payment would be two transactions of a category
                    return None
        elif form == "full_refund":
            words["amount"] = entry.amount
        kind = {"scene": "category", "full_refund": "refund"}.get(form, form)
        event = Event(kind, k, 0, name if kind == "split" else entry.name, entry.name, **words)
        return _Step(form, event, _as_it_was(entry), entry.amount)

    def _is_there(self, when: date, scene: str, taken: set[tuple[str, str]]) -> bool:
        """Whether an entry of the scene is on that day already, so that one more would sound like a correction."""
        return bool(self._state.at(when.isoformat(), scene)) or (when.isoformat(), scene) in taken

    def _target(self, rng: random.Random, k: int, taken: set[tuple[str, str]]) -> Entry | None:
        """An entry made before session ``k`` that "the coffee on 2024-05-01" names without doubt; half are recent."""
        names = self._state.names
        for _ in range(8 if names else 0):
            recent = rng.random() < 0.5
            entry = self._state.entries[names[rng.randrange(max(0, len(names) - 12) if recent else 0, len(names))]]
            if entry.session == k or entry.cancelled or entry.refunded or (entry.date, entry.scene) in taken:
                continue
            if self._state.at(entry.date, entry.scene) == 1:
                return entry
        return None

    # how it is told

    def session(self, k: int) -> Session:
        """Session ``k`` (from 0), made from its own seed: no earlier text is needed."""
        if not 0 <= k < self.sessions:
            raise IndexError(f"session {k} is outside 0..{self.sessions - 1}")
        rng, plan = self._plan(k)
        blocks = (self._small if self.size.turns is None else self._rich)(rng, k, plan)
        if self.revisions:
            self._insert_revisions(k, blocks)

        day = self.dates[k]
        lines: list[str] = []
        events: list[Event] = []
        mentioned: list[Expense] = []
        for turns, told, mention in blocks:
            turn = len(lines)
            events += [_at_turn(event, turn) for event in told]
            if mention:
                mentioned.append(Expense(k, turn, day, *mention))
            lines += [
                f'[{day}] {"Assistant" if n % 2 else "User"} said, "{said}"' for n, said in enumerate(turns)
            ]  # fmt: skip
        expenses = tuple(
            Expense(k, e.turn, e.date, e.category, e.scene, e.amount) for e in events if e.kind in ("purchase", "late")
        )
        return Session(k, day, "\n".join(lines), expenses, tuple(mentioned), tuple(events))

    def _small(self, rng: random.Random, k: int, plan: list[list[_Bought] | None]) -> list[tuple]:
        """Blocks of (turns, events, what is only mentioned)."""
        purchases, blocks = iter(self._purchases(k, plan)), []
        for together in plan:
            if together:
                said = [(one.category, one.scene, one.amount) for one in together]
                blocks.append(
                    (language.small_purchases(rng, said, self.size.echo), [next(purchases) for _ in said], None)
                )
            elif rng.random() < self.size.planned:
                category = rng.choice(CATEGORIES)
                mention = category, rng.choice(tuple(TAXONOMY[category])), self._amount(rng)
                blocks.append((language.small_mention(rng, *mention), [], mention))
            else:
                blocks.append((language.small_talk(rng), [], None))
        return blocks

    def _rich(self, rng: random.Random, k: int, plan: list[list[_Bought] | None]) -> list[tuple]:
        size = self.size
        purchases, blocks = iter(self._purchases(k, plan)), []
        length, bought = 0, set()
        wanted = rng.randint(*size.turns)

        def insert(after: int, block: tuple) -> None:
            nonlocal length
            blocks.insert(rng.randint(after, len(blocks)), block)
            length += len(block[0])

        for together in plan:
            one, *more = together
            if more:
                turns = language.rich_two(rng, *((b.category, b.scene, b.amount) for b in together))
            else:
                turns = language.rich_purchase(
                    rng, one.category, one.scene, one.amount, one.days_ago, one.scene in bought, size.echo, size.asks
                )
            bought |= {b.scene for b in together}
            blocks.append((turns, [next(purchases) for _ in together], None))
            length += len(turns)
        for together, block in zip(plan, list(blocks), strict=True):
            if rng.random() < size.again and length + 2 <= size.turns[1]:
                one = together[0]
                insert(
                    blocks.index(block) + 1, (language.rich_again(rng, one.category, one.scene, one.amount), [], None)
                )
        for _ in range(rng.randint(*size.mentions)):
            if length + 2 <= size.turns[1]:
                mention = *rng.choice(SCENES), self._amount(rng)
                insert(0, (language.rich_mention(rng, rng.choice(MENTIONS), *mention), [], mention))
        said: set[str] = set()
        while length + 2 <= wanted:
            turns = language.rich_talk(rng)
            if turns[0] not in said:
                said.add(turns[0])
                insert(0, (turns, [], None))
        return blocks

    def _insert_revisions(self, k: int, blocks: list[tuple]) -> None:
        """Put the revisions of session ``k`` between what is said already, in their order."""
        steps = self._steps(k)
        rng = self._random(f"revisions/{k}/words")
        places = sorted(rng.randint(0, len(blocks)) for _ in steps)
        for shift, (place, step) in enumerate(zip(places, steps, strict=True)):
            words = self._words(rng, step)
            speak = language.small_revision if self.size.turns is None else language.rich_revision
            blocks.insert(place + shift, (speak(rng, step.form, words), [step.event], None))

    def _words(self, rng: random.Random, step: _Step) -> dict[str, str]:
        rich, event, before = self.size.turns is not None, step.event, step.before

        def amount(value: Decimal) -> str:
            return language.said_amount(rng, value) if rich else f"${money(value)}"

        way = rng.random()

        def day(value: str) -> str:
            return language.said_day(way, value) if rich else value

        words = {"d": day(before.date if before else event.date)}
        if before:
            words |= {"t": language.the(language.said_scene(before.scene)), "o": amount(step.amount_before)}
        if event.amount is not None:
            words["a"] = amount(event.amount)
        if step.form == "late":
            words["x"] = phrase(event.category, event.scene)
        if step.form in ("scene", "split"):
            words["y"] = phrase(event.category, event.scene)
        if step.form == "category":
            words["c"] = event.category
        if step.form == "date":
            words["e"] = day(event.date)
        return words

    # ground truth

    def state(self, after: int | None = None) -> Ledger:
        """The ledger after the first ``after`` sessions (default: all), with provenance. Never shown to an agent."""
        ledger = Ledger()
        for k in range(self.sessions if after is None else after):
            for event in self.session(k).events:
                ledger.apply(event)
        return ledger

    def ledger(self, after: int | None = None) -> tuple[Expense, ...]:
        """What counts after the first ``after`` sessions (default: all), with its present amounts."""
        return expenses_of(self.state(after))

    def questions(
        self, per_kind: int = 1, after: int | None = None, kinds: Sequence[str] | None = None
    ) -> list[Question]:
        """At most ``per_kind`` different questions of each kind, asked after ``after`` sessions (default: all).

        kinds: some of `ALL_KINDS` in any order; default: those of the size, on revised streams with those that only
        such streams have. Kinds that have one question (the grand total) are asked once; a kind for which the stream
        has no fair question is left out: the busiest dates where more than three tie in every category, refunds where
        there were none, the number of cancelled entries where it must be so small that it is easy to guess.
        """
        seen = self.sessions if after is None else after
        if not 1 <= seen <= self.sessions:
            raise ValueError(f"questions can be asked after 1 to {self.sessions} sessions, not after {after}")
        if kinds is None:
            kinds = (*self.size.kinds, *(REVISED_KINDS if self.revisions and self.size.asks_scenes else ()))
        elif unknown := sorted(set(kinds) - set(ALL_KINDS)):
            raise ValueError(f"unknown kind of question {unknown[0]!r}: choose from {', '.join(ALL_KINDS)}")
        if self.size.mean_expenses * self.revisions * seen < COUNTED_FROM:
            kinds = [kind for kind in kinds if kind != "cancelled_count"]
        part = "questions" if seen == self.sessions else f"questions/{seen}"
        rngs = {kind: self._random(f"{part}/{kind}") for kind in kinds}
        return ask(self.state(seen), self._days[:seen], rngs, per_kind, CATEGORIES[self.index % len(CATEGORIES)])


def expenses_of(ledger: Ledger) -> tuple[Expense, ...]:
    """The live entries of a ledger as expenses."""
    return tuple(Expense(e.session, e.turn, e.date, e.category, e.scene, e.amount) for e in ledger.live())


def _as_it_was(entry: Entry) -> Entry:
    return Entry(entry.name, entry.session, entry.turn, entry.date, entry.category, entry.scene, entry.paid)


def _at_turn(event: Event, turn: int) -> Event:
    return Event(event.kind, event.session, turn, event.entry, event.revises, event.date, event.category, event.scene,
                 event.amount)  # fmt: skip
