"""Ground truth: the ledger as a state machine over events.

Every event has its provenance: the session and turn that tell it, and the entry that it revises. A session's events
are applied in the order of their turns; an impossible event (refunding more than was paid, changing what was
cancelled) is a ValueError, so a stream that can be made is a consistent one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

PURCHASES = ("purchase", "late")  # make a new entry
REVISIONS = ("amount", "settled", "category", "date", "refund", "cancel", "split")
# what an event of each kind must say
_NEEDS = dict.fromkeys(PURCHASES, ("date", "category", "scene", "amount")) | {
    "amount": ("amount",), "settled": ("amount",), "category": ("category",), "date": ("date",),
    "refund": ("amount",), "cancel": (), "split": ("category", "scene", "amount"),
}  # fmt: skip


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
class Event:
    """A row of the event table.

    kind: "purchase"; "late", a purchase told in a later session; or what happens to the entry ``revises``: "amount",
    "settled" (a contradiction ended), "category", "date", "refund", "cancel", "split".
    entry: the entry made by a purchase or split, else the revised one. Entries are named "session.number".
    date, category, scene, amount: of a purchase; else the new value where the kind changes it, the refunded amount, or
    the part that is split off with its category and scene; None where nothing is said.
    """

    kind: str
    session: int
    turn: int
    entry: str
    revises: str | None = None
    date: str | None = None
    category: str | None = None
    scene: str | None = None
    amount: Decimal | None = None


@dataclass(slots=True)
class Entry:
    """What became of one purchase so far."""

    name: str
    session: int
    turn: int
    date: str
    category: str
    scene: str
    paid: Decimal
    refunded: Decimal = Decimal(0)
    cancelled: bool = False
    corrected: bool = False  # its amount was corrected, so that a contradiction can be settled
    split: bool = False  # a part of it was split off
    part_of: str | None = None  # the entry that it was split off from
    # of a part that was split off, both begin with those of its entry up to then
    sessions: list[int] = field(default_factory=list)  # that told something about it
    versions: list[tuple[str, str, str]] = field(default_factory=list)  # (date, category, scene) it ever had

    @property
    def amount(self) -> Decimal:
        """What it counts for now: paid less refunded; 0 once cancelled."""
        return Decimal(0) if self.cancelled else self.paid - self.refunded


class Ledger:
    """All entries, after the events applied so far.

    >>> ledger = Ledger()
    >>> ledger.apply(Event("purchase", 0, 0, "0.0", None, "2024-05-01", "Dining", "coffee", Decimal(12)))
    >>> ledger.apply(Event("refund", 3, 2, "0.0", "0.0", amount=Decimal(5)))
    >>> ledger.entries["0.0"].amount
    Decimal('7')
    >>> ledger.apply(Event("refund", 4, 0, "0.0", "0.0", amount=Decimal(8)))
    Traceback (most recent call last):
    ...
    ValueError: refund of 8 in session 4: only 7 of entry 0.0 are left
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.names: list[str] = []  # of all entries, in the order they were made
        self.refunded = Decimal(0)
        self.cancelled = 0
        self._at: dict[tuple[str, str], int] = {}  # (date, scene) -> entries that one could mean by it

    def apply(self, event: Event) -> None:
        """Apply one event; ValueError, and nothing is changed, where it cannot be."""
        entry = self._revised(event)
        if entry is None:
            self._make(event, event.date)
            return
        if event.kind in ("amount", "settled"):
            entry.paid, entry.corrected = event.amount, True
        elif event.kind == "refund":
            entry.refunded += event.amount
            self.refunded += event.amount
        elif event.kind == "cancel":
            self._leave(entry)
            self.refunded -= entry.refunded  # a cancelled entry counts nowhere
            entry.cancelled = True
            self.cancelled += 1
        elif event.kind == "split":
            entry.paid -= event.amount
            entry.split = True
            self._make(event, entry.date, entry)
        else:  # category, date
            self._leave(entry)
            entry.date, entry.category = event.date or entry.date, event.category or entry.category
            entry.scene = event.scene or entry.scene
            entry.versions.append((entry.date, entry.category, entry.scene))
            self._enter(entry)
        entry.sessions.append(event.session)

    def _revised(self, event: Event) -> Entry | None:
        """The entry that an event revises, None for a purchase. ValueError where the event cannot be applied."""
        where = f"{event.kind} in session {event.session}"
        if event.kind not in _NEEDS:
            raise ValueError(f"{where}: unknown kind; use one of {', '.join(_NEEDS)}")
        missing = [name for name in _NEEDS[event.kind] if getattr(event, name) is None]
        if missing:
            raise ValueError(f"{where}: {' and '.join(missing)} must be given")
        if event.amount is not None and event.amount <= 0:
            raise ValueError(f"{where}: an amount above 0 is needed, not {event.amount}")
        if event.kind in (*PURCHASES, "split") and event.entry in self.entries:
            raise ValueError(f"{where}: entry {event.entry} exists already")
        if event.kind in PURCHASES:
            return None
        entry = self.entries.get(event.revises or "")
        if entry is None:
            raise ValueError(f"{where}: there is no entry {event.revises}")
        if entry.cancelled:
            raise ValueError(f"{where}: entry {entry.name} was cancelled")
        if event.kind in ("refund", "split") and event.amount > entry.amount:
            raise ValueError(f"{where.replace(' in', f' of {event.amount} in', 1)}: only {entry.amount} of entry "
                             f"{entry.name} are left")  # fmt: skip
        if event.kind == "split" and event.amount == entry.amount:
            raise ValueError(f"{where}: nothing of entry {entry.name} would be left")
        if event.kind in ("amount", "settled") and event.amount <= entry.refunded:
            raise ValueError(f"{where}: {entry.refunded} of entry {entry.name} were refunded already")
        return entry

    def _make(self, event: Event, date: str, whole: Entry | None = None) -> None:
        """A new entry. A part has the past of the ``whole``: what was told of the whole was told of the part."""
        entry = Entry(event.entry, event.session, event.turn, date, event.category, event.scene, event.amount)
        entry.part_of = whole.name if whole else None
        entry.sessions += [*(whole.sessions if whole else ()), event.session]
        dates = [when for when, _, _ in whole.versions] if whole else [date]
        entry.versions += [(when, entry.category, entry.scene) for when in dates]
        self.entries[entry.name] = entry
        self.names.append(entry.name)
        self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        key = entry.date, entry.scene
        self._at[key] = self._at.get(key, 0) + 1

    def _leave(self, entry: Entry) -> None:
        key = entry.date, entry.scene
        self._at[key] -= 1
        if not self._at[key]:
            del self._at[key]

    def at(self, date: str, scene: str) -> int:
        """Entries of a scene on a date that were not cancelled: 1 where "the coffee on 2024-05-01" means just one."""
        return self._at.get((date, scene), 0)

    def live(self) -> list[Entry]:
        """Entries that count: neither cancelled nor fully refunded, in the order they were made."""
        return [entry for entry in self.entries.values() if entry.amount > 0]
