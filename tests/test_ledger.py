"""Ledger-QA: the same bytes from the same seed, and dialogues that say what the ledger holds."""

import doctest
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from decimal import Decimal

import pytest

from uma_lib.ledger import (
    CATEGORIES,
    SIZES,
    SPLITS,
    TAXONOMY,
    Entry,
    Event,
    Ledger,
    Session,
    Stream,
    language,
    questions,
    state,
    streams,
)
from uma_lib.ledger.state import REVISIONS
from uma_lib.paths import REPO

RATES = (0.0, 0.2)  # of the two tracks
BOTH = [pytest.param(size, rate, id=f"{size}-{rate}") for size in SIZES for rate in RATES]

# --- streams ------------------------------------------------------------------------------------------------------

FINGERPRINT = """
import hashlib
from uma_lib.ledger import SIZES, Stream
digest = hashlib.sha256()
for size in SIZES:
    for rate in (0.0, 0.2):
        stream = Stream(size, "test", 20, 3, rate)
        digest.update(repr([list(stream), stream.questions(3)]).encode())
print(digest.hexdigest())
"""


def test_same_seed_same_bytes_in_every_process_and_python():
    """With this Python and every other one that is there; the package needs nothing but the standard library."""
    names = ("python3.11", "python3.12", "python3.13", "python3.14")
    others = [path for name in names if (path := shutil.which(name)) and not subprocess.call([path, "-c", ""])]
    prints = {
        subprocess.run(
            [python, "-c", FINGERPRINT],
            env={**os.environ, "PYTHONPATH": str(REPO), "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for python in (sys.executable, *others) for seed in ("0", "1")
    }  # fmt: skip
    assert len(prints) == 1


def test_small_streams_never_change():
    """The committed policies were trained and measured on these bytes."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for sessions, index in ((1, 0), (3, 7), (10, 1), (40, 2)):
            stream = Stream("small", split, sessions, index)
            digest.update("\n".join(session.text for session in stream).encode())
            for q in stream.questions(3):
                digest.update(f"{q.kind}\n{q.text}\n{'|'.join(q.gold.values)}\n".encode())
    assert digest.hexdigest() == "b1417ea2d721de8c1b8f22696df03a15949057e8448d39afbb2bea07fc08efc6"


def test_splits_sizes_and_lengths_share_no_session():
    texts = [
        session.text
        for size in ("standard", "hard") for split in SPLITS for n in (2, 3) for i in range(5)
        for session in Stream(size, split, n, i)
    ]  # fmt: skip
    assert len(set(texts)) == len(texts)
    small = [
        "".join(session.text for session in Stream("small", split, n, i))
        for split in SPLITS for n in (3, 4) for i in range(40)
    ]  # fmt: skip
    assert len(set(small)) == len(small)


@pytest.mark.parametrize("sessions", [1, 2, 500, 700, 1500])
def test_dates_are_distinct_and_sorted(sessions):
    dates = Stream("small", "test", sessions, 0).dates
    assert len(set(dates)) == sessions and dates == sorted(dates)
    assert dates[0] >= "2023-01-01" and (sessions > 700 or dates[-1] <= "2024-12-31")


@pytest.mark.parametrize("sessions", [streams.MOST_SESSIONS - 1, streams.MOST_SESSIONS])
def test_the_longest_streams_end_before_the_last_year_that_can_be_written(sessions, monkeypatch):
    def last(self, days, number):  # instead of a random choice of millions
        assert number == sessions
        return [0, days[-1]]

    monkeypatch.setattr("random.Random.sample", last)
    first, last_day = Stream("small", "test", sessions, 0)._days
    assert first == date(2023, 1, 1) and last_day == date(9998, 12, 31)
    assert last_day + timedelta(days=15)  # the most that a question goes beyond the last session


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_a_session_needs_no_other_text(size, rate):
    alone = Stream(size, "test", 40, 1, rate)
    told = list(Stream(size, "test", 40, 1, rate))
    assert [alone.session(k) for k in (37, 5, 39)] == [told[k] for k in (37, 5, 39)]


@pytest.mark.parametrize("size", SIZES)
def test_the_revised_track_adds_utterances_and_changes_none(size):
    plain, revised = Stream(size, "test", 40, 2), Stream(size, "test", 40, 2, 0.3)
    for without, session in zip(plain, revised, strict=True):
        added = {e.turn for e in session.events if e.kind != "purchase"}
        lines = session.text.split("\n")
        assert without.text.split("\n") == [x for turn, x in enumerate(lines) if not {turn, turn - 1} & added]
        purchases = [(e.entry, e.date, e.scene, e.amount) for e in session.events if e.kind == "purchase"]
        assert purchases == [(e.entry, e.date, e.scene, e.amount) for e in without.events]
        assert all(e.kind == "purchase" for e in without.events)


def test_the_rate_of_revisions_is_the_parameter():
    """At most: now and then no entry fits, most of all in the first sessions."""
    measured = []
    for rate in (0.0, 0.1, 0.3, 0.9):
        told = Counter(
            e.kind == "purchase" for i in range(6) for s in Stream("standard", "test", 40, i, rate) for e in s.events
        )
        measured.append(told[False] / told[True])
        assert 0.75 * rate <= measured[-1] <= 1.1 * rate
    assert measured == sorted(measured) and measured[0] == 0


@pytest.mark.parametrize("size", ["standard", "hard"])
def test_turns_are_as_many_as_the_size_says(size):
    fewest, most = {"standard": (20, 50), "hard": (40, 80)}[size]
    turns = [session.text.count("\n") + 1 for i in range(5) for session in Stream(size, "test", 40, i)]
    assert fewest <= min(turns) < fewest + 5 and most - 5 < max(turns) <= most


def test_every_scene_is_bought():
    told = Counter((e.category, e.scene) for session in Stream("standard", "test", 150, 0) for e in session.expenses)
    assert set(told) == {(category, scene) for category, scenes in TAXONOMY.items() for scene in scenes}
    assert len(told) == 50 and len(CATEGORIES) == 8


def test_bad_arguments():
    for arguments in [
        ("tiny", "test", 2, 0),
        ("small", "dev", 2, 0),
        ("small", "test", 0, 0),
        ("small", "test", 2, -1),
        ("small", "test", 2, 0, 1.5),
        ("small", "test", 2, 0, float("nan")),
        ("small", "test", 2, 0, float("inf")),
        ("small", "test", 2, 0, -0.1),
        ("small", "test", streams.MOST_SESSIONS + 1, 0),
        ("small", "test", 10**9, 0),
        ("small", "test", 10**30, 0),
        ("small", "test", 2, 2**63),  # no integer of a parquet file
        ("small", "test", 2, 10**30),
    ]:
        with pytest.raises(ValueError):
            Stream(*arguments)
    with pytest.raises(ValueError, match="sessions must be at most 2791600"):
        Stream("hard", "train", 10**7, 0)
    assert str(Stream("small", "test", 2, 0, -0.0).revisions) == "0.0"
    stream = Stream("small", "test", 2, 0)
    for k in (-1, 2):
        with pytest.raises(IndexError):
            stream.session(k)
    for after in (0, 3):
        with pytest.raises(ValueError):
            stream.questions(after=after)
    with pytest.raises(ValueError, match="unknown kind of question 'median'"):
        stream.questions(kinds=["median"])


@pytest.mark.parametrize("module", [language, questions, state, streams])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


# --- what is said -------------------------------------------------------------------------------------------------
# A reader of its own: it shares the names of things with the generator, and none of its templates.

_UNITS = "one two three four five six seven eight nine".split()
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBERS = {word: n for n, word in enumerate(_UNITS + _TEENS, 1)}
NUMBERS |= {word: 10 * n for n, word in enumerate(_TENS, 2)}
NUMBERS |= {f"{tens}-{unit}": NUMBERS[tens] + NUMBERS[unit] for tens in _TENS for unit in _UNITS}
_NUMBER = "|".join(sorted(NUMBERS, key=len, reverse=True))
AMOUNT = re.compile(
    rf"\$(?P<signed>\d+(?:,\d\d\d)*(?:\.\d\d?)?)"
    rf"|(?P<plain>\d+(?:,\d\d\d)*\.\d\d)(?: dollars| USD)?"
    rf"|\b(?P<dollars>{_NUMBER}) (?:dollars?(?: and (?P<cents>{_NUMBER}) cents?)?|(?P<rest>{_NUMBER}))\b",
    re.IGNORECASE,
)
_MONTHS = "January February March April May June July August September October November December".split()
_MONTH = "|".join(_MONTHS)
DATE = re.compile(rf"(\d{{4}}-\d\d-\d\d)|(?P<m>{_MONTH}) (?P<d>\d+), (?P<y>\d+)|(?P<D>\d+) (?P<M>{_MONTH}) (?P<Y>\d+)")
_BARE = {
    re.sub("^(a|an|the) ", "", thing).lower(): scene for scenes in TAXONOMY.values() for scene, thing in scenes.items()
}
_THING = "|".join(sorted(_BARE, key=len, reverse=True))
SCENE = re.compile(rf"\b(?:an? |the )?({_THING})\b", re.IGNORECASE)
AGO = {"yesterday": 1, "two days ago": 2, "the day before yesterday": 2, "three days ago": 3}
DAYS_AGO = re.compile("|".join(sorted(AGO, key=len, reverse=True)), re.IGNORECASE)


# what a revision says of the entry as it was, where it says more than one amount, date or scene
AS_IT_WAS = {
    "a": re.compile(r"(?:\bnot|told you|\bthe) @a|(?<=@d, )@a in all", re.IGNORECASE),
    "d": re.compile(r"not on @d"),
    "x": re.compile(r"not on @x|@x on @d"),
}


class Said:
    """An utterance: its amounts, dates and scenes in their order, and its ``shape`` with @a, @d and @x for them."""

    def __init__(self, text: str):
        self.found = {"a": [], "d": [], "x": []}
        self.shape = DATE.sub(self._date, text)
        self.shape = AMOUNT.sub(self._amount, self.shape)
        self.shape = SCENE.sub(self._scene, self.shape)
        self.amounts, self.dates, self.scenes = self.found.values()
        self.days_ago = [AGO[words.lower()] for words in DAYS_AGO.findall(text)]
        self.categories = re.findall(rf"\b(?:{'|'.join(CATEGORIES)})\b", text)
        assert not re.search(r"[\d$<>{}]|dollar|USD|None", self.shape), text  # no amount in a form of its own

    def _date(self, found: re.Match) -> str:
        month, day, year = (found[a] or found[b] for a, b in ("mM", "dD", "yY"))
        self.found["d"].append(found[1] or date(int(year), _MONTHS.index(month) + 1, int(day)).isoformat())
        return "@d"

    def _amount(self, found: re.Match) -> str:
        if number := found["signed"] or found["plain"]:
            amount = Decimal(number.replace(",", ""))
        else:
            cents = found["cents"] or found["rest"]
            amount = NUMBERS[found["dollars"].lower()] + Decimal(NUMBERS[cents.lower()] if cents else 0) / 100
        self.found["a"].append(amount)
        return "@a"

    def _scene(self, found: re.Match) -> str:
        self.found["x"].append(_BARE[found[1].lower()])
        return "@x"

    def old_and_new(self, letter: str) -> tuple[list, list]:
        """What is said of an entry as it was, and the rest."""
        was = {m.start() + m[0].index("@") for m in AS_IT_WAS[letter].finditer(self.shape)}
        marks = [m.start() in was for m in re.finditer(f"@{letter}", self.shape)]
        pairs = list(zip(self.found[letter], marks, strict=True))
        return [value for value, old in pairs if old], [value for value, old in pairs if not old]


def check_revision(said: Said, event: Event, entry: Entry) -> None:
    """A line tells its event, and names the entry as it was."""
    old, new = said.old_and_new("a")
    assert old in ([], [entry.amount]) and new == ([] if event.amount is None else [event.amount])
    if event.kind == "date":
        assert said.old_and_new("d") == ([entry.date], [event.date])
    else:
        assert said.dates == [entry.date]
    if event.scene:
        assert said.old_and_new("x") == ([entry.scene], [event.scene])
    else:
        assert said.scenes == [entry.scene]
    if event.kind == "category" and not event.scene:
        assert said.categories == [event.category]
    if event.kind == "refund":
        assert bool(re.search("all @a|whole @a", said.shape)) == (event.amount == entry.amount)
    if event.kind in ("amount", "settled"):
        assert entry.corrected == (event.kind == "settled") == bool(re.search("corrected|told you", said.shape, re.I))


def check_session(session: Session, ledger: Ledger) -> Counter:
    """Every line of a session says what its events say and nothing else; the events are applied to ``ledger``."""
    kinds: Counter = Counter()
    lines = []
    for number, line in enumerate(session.text.split("\n")):
        speaker = "Assistant" if number % 2 else "User"
        assert (found := re.fullmatch(rf'\[{session.date}\] {speaker} said, "([^"]+)"', line)), line
        lines.append(Said(found[1]))
    told, mentioned = defaultdict(list), {e.turn: e for e in session.mentioned}
    for event in session.events:
        assert event.session == session.index and event.turn % 2 == 0
        told[event.turn].append(event)
    here = [e for e in session.events if e.kind == "purchase"]
    answers: dict[int, Event] = {}  # turn: the purchase whose amount was asked for
    last: list[Event] = []  # purchases told before this line, the last ones first
    for turn, said in enumerate(lines):
        events = told[turn]
        if turn % 2:
            assert set(said.amounts) <= {e.amount for e in last[:1]} and set(said.scenes) <= {e.scene for e in last[:1]}
            assert not said.dates and not said.days_ago
            if said.categories:  # it is asked whether the category is right
                reply, right = lines[turn + 1], last[0].category
                assert reply.categories in ([], [right])
                assert (said.categories == [right]) == (not re.match("No", reply.shape))
                kinds["category asked for"] += 1
        elif turn in mentioned:
            only = mentioned[turn]
            assert not events and (said.amounts, said.scenes, said.dates) == ([only.amount], [only.scene], [])
            kinds["mentioned"] += 1
        elif events and events[0].kind == "purchase":
            if not said.amounts:
                assert len(events) == 1 and "?" in session.text.split("\n")[turn + 1]
                answers[turn + 2] = events[0]
            else:
                assert said.amounts == [e.amount for e in events]
            scenes = [e.scene for e in events]
            assert said.scenes == (scenes[:1] if re.search("twice|two payments for", said.shape) else scenes)
            assert not said.dates and len(said.days_ago) <= 1
            for e in events:
                assert e.scene in TAXONOMY[e.category]
                assert date.fromisoformat(e.date) == date.fromisoformat(session.date) - timedelta(sum(said.days_ago))
                ledger.apply(e)
            last = events[::-1] + last
            kinds["two at once" if len(events) > 1 else "days ago" if said.days_ago else "purchase"] += 1
        elif events and events[0].kind == "late":
            (e,) = events
            assert (said.amounts, said.scenes, said.dates) == ([e.amount], [e.scene], [e.date])
            ledger.apply(e)
            last = [e, *last]
            kinds["late"] += 1
        elif events:
            (e,) = events
            entry = ledger.entries[e.revises]
            check_revision(said, e, entry)
            # the words mean one entry, and it is one of an earlier session
            assert ledger.at(entry.date, entry.scene) == 1 and entry.session < session.index
            assert all((x.date, x.scene) != (entry.date, entry.scene) for x in here)
            ledger.apply(e)
            kinds[e.kind] += 1
        elif turn in answers:
            assert set(said.amounts) == {answers[turn].amount} and not said.scenes and not said.dates
            kinds["amount asked for"] += 1
        elif said.amounts:
            repeated = (said.amounts, said.scenes)
            assert repeated in [([e.amount], [e.scene]) for e in last] and not said.dates
            kinds["again"] += 1
        else:
            assert not said.scenes and not said.dates
            kinds["talk"] += 1
    assert set(told) <= set(range(len(lines))) and set(answers) <= set(range(len(lines)))
    return kinds


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_every_line_says_what_the_ledger_holds(size, rate):
    kinds: Counter = Counter()
    many = 0.9 if rate else 0.0  # so that even a second correction of the same entry is said
    long = [(60, index, many) for index in range(3, 7)] + [(700, 7, many)]  # the last on almost every day
    for sessions, index, revisions in ((1, 0, rate), (2, 1, rate), (30, 2, rate), *long):
        stream, ledger = Stream(size, "test", sessions, index, revisions), Ledger()
        for session in stream:
            kinds += check_session(session, ledger)
        assert ledger.entries == stream.state().entries
    wanted = {"purchase", "two at once", "mentioned", "talk"}
    if size != "small":
        wanted |= {"days ago", "again", "amount asked for", "category asked for"}
    if many:
        wanted |= {"late", *REVISIONS}
    assert set(kinds) == wanted
