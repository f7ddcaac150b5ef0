"""A scripted agent that plays every session through the real tools, with deliberately imperfect habits.

It knows the ground truth of the session it reads, as a person who writes demonstrations does; afterwards it answers
from its own memory only. Each habit is drawn anew for every session or operation: with probability ``p`` the right
variant, otherwise a lossy one. Its demonstrations warm-start the base model, so every right variant has a real share
in them (reinforcement learning cannot find what the warm start never does), and its own accuracy is the line that
learning has to beat.

``Habits.perfect()`` is the ceiling of what this way of keeping memory can reach.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator
from dataclasses import dataclass, fields
from decimal import Decimal

from uma_lib.environment import Limits, MemorySession, QuestionSession
from uma_lib.ledger import CATEGORIES, Expense, Question, Session, Stream, money
from uma_lib.ledger.schema import amounts_of, core_of, core_total, key_of, listed, value_of
from uma_lib.memory import CoreMemory, Memory
from uma_lib.tools import render_call

Turns = Generator[str, list[str], None]  # yields assistant texts, receives tool results


@dataclass(frozen=True, slots=True)
class Habits:
    """Probability of the right variant of each habit."""

    reads_all: float = 0.7  # else the last expense of a session with several is left out
    ignores_plans: float = 0.7  # else a planned purchase is stored as an expense
    merges: float = 0.7  # a category bought again that day: "12+7"; else only the later amount, or a failing add
    keeps_total: float = 0.85  # else the core memory keeps the old total
    ranges: float = 0.4  # lists the asked dates only; else all dates
    all_categories: float = 0.4  # else only some of the categories are looked at
    counts: float = 0.55  # compares counts of transactions; else answers the last date
    all_amounts: float = 0.45  # sums all amounts of an entry; else the first one only
    totals: float = 0.75  # grand total from the core or from all entries; else from one category

    @classmethod
    def perfect(cls) -> Habits:
        return cls(**{field.name: 1.0 for field in fields(cls)})


def chain(amounts: list[Decimal], start: Decimal | None = None) -> tuple[str, Decimal]:
    """A running sum as text, one addition at a time, and its value.

    >>> chain([Decimal(12), Decimal(7), Decimal(5)])
    ('12+7=19+5=24', Decimal('24'))
    """
    numbers = ([] if start is None else [start]) + amounts
    if not numbers:
        return "0", Decimal(0)
    text, total = money(numbers[0]), numbers[0]
    for number in numbers[1:]:
        total += number
        text += f"+{money(number)}={money(total)}"
    return text, total


class Demonstrator:
    """Plays sessions with the given habits.

    >>> stream = Stream("small", "train", sessions=3, index=0)
    >>> agent = Demonstrator(Habits.perfect(), random.Random(0))
    >>> memory = agent.keep(stream)
    >>> all(agent.ask(memory, q) == ", ".join(q.gold.values) for q in stream.questions())
    True
    """

    def __init__(self, habits: Habits, rng: random.Random, limits: Limits | None = None):
        self.habits, self.rng, self.limits = habits, rng, limits or Limits()

    def _does(self, habit: str) -> bool:
        return self.rng.random() < getattr(self.habits, habit)

    # Phase I

    def memory_turns(self, session: Session, core: str) -> Turns:
        """What it says in one memory session."""
        events = sorted(session.expenses + session.mentioned, key=lambda e: e.turn)
        if session.mentioned and self._does("ignores_plans"):
            events = [e for e in events if e not in session.mentioned]
        if len(events) > 1 and not self._does("reads_all"):
            events = events[:-1]
        stored: dict[str, list[Decimal]] = {}
        calls = [self._store(e, stored) for e in events]
        room = self.limits.calls_per_turn - 1  # further calls of a turn are refused; the last one is update_core
        while len(calls) > room:
            yield "\n".join(calls[:room])
            calls = calls[room:]
        total = core_total(core)
        if self._does("keeps_total"):
            sums, total = chain([e.amount for e in events], start=total)
            last = f"{sums}\n" + render_call("update_core", text=core_of(total))
        else:
            last = render_call("update_core", text=core_of(total))
        if self.rng.random() < 0.1:  # now and then it waits for the results before it commits
            yield "\n".join(calls)
            yield last
        else:
            yield "\n".join([*calls, last])

    def _store(self, e: Expense, stored: dict[str, list[Decimal]]) -> str:
        key = key_of(e)
        if key not in stored:
            stored[key] = [e.amount]
            return render_call("add", key=key, value=money(e.amount))
        if self._does("merges"):
            stored[key].append(e.amount)
            return render_call("update", key=key, value=value_of(stored[key]))
        if self.rng.random() < 0.5:
            stored[key] = [e.amount]
            return render_call("update", key=key, value=money(e.amount))
        return render_call("add", key=key, value=money(e.amount))  # fails: the key exists

    # Phase II

    def question_turns(self, question: Question, memory: Memory) -> Turns:
        """What it says in one question session."""
        kind, categories, start, end = question.kind, question.categories, question.start, question.end
        if kind == "grand_total":
            yield from self._grand_total(memory)
        elif kind == "category_date":
            result = (yield render_call("retrieve", key=f"{start} {categories[0]}"))[0]
            amounts = amounts_of(result) if re.fullmatch(r"[\d.+]+", result) else []
            yield self._sum(amounts if self._does("all_amounts") else amounts[:1])
        elif kind == "busiest_dates":
            result = (yield render_call("list", filter=categories[0]))[0]
            counts = {key[:10]: len(amounts) for key, amounts in listed(result)}
            lines = _counted(counts)
            if self._does("counts"):
                best = [day for day, n in counts.items() if n == max(counts.values())]
                yield f"{lines}\n" + self._answer(best)
            else:
                yield self._answer(list(counts)[-1:])
        elif kind == "largest_range":
            result = (yield self._list(None, start, end))[0]
            numbers = [a for _, amounts in listed(result) for a in amounts]
            steps, best = [], Decimal(0)
            for number in numbers:
                best = max(best, number)
                steps.append(f"{money(number)}:{money(best)}")
            yield (" ".join(steps) or "0") + "\n" + self._answer([money(best)])
        elif kind == "top_category_range":
            asked = CATEGORIES if self._does("all_categories") else CATEGORIES[: len(CATEGORIES) // 2]
            results = yield self._lists(asked, start, end)
            yield self._top(asked, results)
        elif kind == "total_range":
            result = (yield self._list(None, start, end))[0]
            yield self._sum([a for _, amounts in listed(result) for a in amounts])
        else:
            asked = categories if len(categories) == 1 or self._does("all_categories") else categories[:1]
            results = yield self._lists(asked, start, end)
            yield self._sum([a for result in results for _, amounts in listed(result) for a in amounts])

    def _grand_total(self, memory: Memory) -> Turns:
        if not self._does("totals"):
            result = (yield render_call("list", filter=self.rng.choice(CATEGORIES)))[0]
            yield self._sum([a for _, amounts in listed(result) for a in amounts])
        elif len(memory.bank) <= 30 and self.rng.random() < 0.4:
            result = (yield render_call("list"))[0]
            yield self._sum([a for _, amounts in listed(result) for a in amounts])
        else:
            yield self._answer([money(core_total(memory.core.text))])

    def _list(self, category: str | None, start: str, end: str) -> str:
        arguments = {"filter": category} if category else {}
        if self._does("ranges"):
            arguments |= {"start": start, "end": end}
        return render_call("list", **arguments)

    def _lists(self, categories: tuple[str, ...], start: str, end: str) -> str:
        bounds = {"start": start, "end": end} if self._does("ranges") else {}  # one habit for all calls of a turn
        return "\n".join(render_call("list", filter=category, **bounds) for category in categories)

    def _top(self, categories: tuple[str, ...], results: list[str]) -> str:
        lines, best, sums = [], Decimal(0), {}
        for category, result in zip(categories, results, strict=True):
            numbers = [a for _, amounts in listed(result) for a in amounts]
            if numbers:
                text, sums[category] = chain(numbers)
                best = max(best, sums[category])
                lines.append(f"{category} {text} best {money(best)}")
        tops = [category for category, total in sums.items() if total == best]
        return "\n".join([*lines, self._answer(tops)])

    def _sum(self, amounts: list[Decimal]) -> str:
        text, total = chain(amounts)
        return f"{text}\n" + self._answer([money(total)])

    def _answer(self, values: list[str]) -> str:
        return render_call("answer", text=", ".join(values) or "none")

    # whole streams

    def keep(self, stream: Stream) -> Memory:
        """Read a whole stream; the final memory."""
        memory = Memory(CoreMemory(budget=self.limits.core_tokens))
        for session in stream:
            play(MemorySession(memory, session.text, self.limits), self.memory_turns(session, memory.core.text))
        return memory

    def ask(self, memory: Memory, question: Question) -> str | None:
        """The answer to one question, None where it gave none."""
        session = QuestionSession(memory, question.text, self.limits)
        play(session, self.question_turns(question, memory))
        return session.answer


def _counted(counts: dict[str, int]) -> str:
    """Dates with several transactions and how many; every date where no date has several."""
    several = {day: n for day, n in counts.items() if n > 1}
    return "\n".join(f"{day} {n}" for day, n in (several or counts).items())


def play(session: MemorySession | QuestionSession, turns: Turns) -> list[tuple[str, list[str]]]:
    """Drive a session with scripted turns; the transcript as (assistant text, tool results)."""
    transcript = []
    text = next(turns)
    while True:
        results = session.step(text)
        transcript.append((text, results or []))
        if results is None:
            return transcript
        text = turns.send(results)


def read_aloud(question: Question, expenses: list[Expense]) -> str:
    """How a reader of raw sessions answers (Concat and RAG): the same chains, then a boxed value.

    ``expenses`` are those of the sessions it sees; it makes no deliberate mistake.
    """
    kind, categories = question.kind, question.categories
    seen = [
        e
        for e in expenses
        if (not categories or e.category in categories)
        and (question.start is None or question.start <= e.date <= question.end)
    ]
    amounts = [e.amount for e in seen]
    if kind == "busiest_dates":
        counts: dict[str, int] = {}
        for e in seen:
            counts[e.date] = counts.get(e.date, 0) + 1
        best = [day for day, n in counts.items() if n == max(counts.values())]
        lines, values = _counted(counts), best
    elif kind == "top_category_range":
        by_category = {c: [e.amount for e in seen if e.category == c] for c in CATEGORIES}
        rows, best, sums = [], Decimal(0), {}
        for category, numbers in by_category.items():
            if numbers:
                text, sums[category] = chain(numbers)
                best = max(best, sums[category])
                rows.append(f"{category} {text} best {money(best)}")
        lines, values = "\n".join(rows), [c for c, total in sums.items() if total == best]
    elif kind == "largest_range":
        best, steps = Decimal(0), []
        for amount in amounts:
            best = max(best, amount)
            steps.append(f"{money(amount)}:{money(best)}")
        lines, values = " ".join(steps) or "0", [money(best)]
    else:
        lines, total = chain(amounts)
        values = [money(total)]
    return f"{lines}\n\\boxed{{{', '.join(values) or 'none'}}}"
