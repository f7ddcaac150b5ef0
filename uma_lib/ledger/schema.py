"""How an entry of an expense memory is keyed, written, read and summed: the one place that knows.

The schema that prompts give (`dataset.guide`): key ``YYYY-MM-DD Category``, value the amounts joined by ``+``, with
what they were for where questions are about scenes; the core holds ``total N``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from uma_lib.ledger.language import money, said_scene
from uma_lib.ledger.state import Entry
from uma_lib.ledger.streams import Stream
from uma_lib.memory import Memory

_PART = re.compile(r" *([0-9]+(?:\.[0-9]+)?)(?: [^0-9+]+)? *")  # of a value: "12", "12.50 coffee"


def key_of(entry: Entry) -> str:
    """The key that an entry, an expense or any other thing with date and category is stored under."""
    return f"{entry.date} {entry.category}"


def value_of(amounts: Iterable[Decimal]) -> str:
    """A value without scenes.

    >>> value_of([Decimal(12), Decimal("7.50")])
    '12+7.50'
    """
    return "+".join(map(money, amounts))


def amounts_in(value: str) -> Counter[Decimal] | None:
    """The amounts of a value as a multiset; None if it is written in another way.

    >>> amounts_in("12+7") == amounts_in("12 coffee + 7 a taxi") == Counter([Decimal(12), Decimal(7)])
    True
    """
    parts = [_PART.fullmatch(part) for part in value.split("+")]
    return Counter(Decimal(part[1]) for part in parts) if all(parts) else None


def amounts_of(value: str) -> list[Decimal]:
    """The amounts of a value such as ``12+7``, in its order."""
    return [Decimal(part) for part in value.split("+")]


def listed(result: str) -> list[tuple[str, list[Decimal]]]:
    """Lines of a ``list`` result as (key, amounts); lines of another shape are passed over."""
    found = re.findall(r"^(\d{4}-\d\d-\d\d \w+): ([\d.+]+)$", result, flags=re.MULTILINE)
    return [(key, amounts_of(value)) for key, value in found]


def core_of(total: Decimal | int) -> str:
    """The core memory of a grand total."""
    return f"total {money(total)}"


def core_total(core: str) -> Decimal:
    """The grand total that a core memory such as ``total 345`` holds; 0 where it holds none."""
    found = re.search(r"total (\d+(?:\.\d+)?)", core)
    return Decimal(found.group(1)) if found else Decimal(0)


def true_memory(stream: Stream, after: int | None = None) -> Memory:
    """The memory that perfect habits would have kept of the first ``after`` sessions (default: all)."""
    memory, scenes = Memory(), stream.size.asks_scenes
    amounts: dict[str, list[str]] = {}
    total = 0
    for e in stream.ledger(after):
        said = f"{money(e.amount)} {said_scene(e.scene)}" if scenes else money(e.amount)
        amounts.setdefault(key_of(e), []).append(said)
        total += e.amount
    for key, parts in amounts.items():
        memory.bank.add(key, (" + " if scenes else "+").join(parts))
    memory.core.write(core_of(total))
    return memory
