"""Ledger-QA: the same bytes from the same seed, dialogues that say what the ledger holds, a ledger that adds up."""

import copy
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
from hypothesis import given, settings
from hypothesis import strategies as st

from uma_lib.ledger import (
    ALL_KINDS,
    CATEGORIES,
    QUESTION_KINDS,
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
from uma_lib.ledger.questions import _Questioner, answer
from uma_lib.ledger.state import PURCHASES, REVISIONS
from uma_lib.paths import REPO
from uma_lib.reward import score

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
    ]:
        with pytest.raises(ValueError):
            Stream(*arguments)
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


# --- questions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_questions_differ_and_a_gold_answer_is_right(size, rate):
    for sessions in (1, 2, 10, 30):
        asked = Stream(size, "test", sessions, 4, rate).questions(5)
        assert len({q.text for q in asked}) == len(asked)
        assert all(score(", ".join(q.gold.values), q.gold) == 1.0 for q in asked)


class FirstSessions(Stream):
    """A stream whose sessions after the first nine cannot be had."""

    def session(self, k: int) -> Session:
        if k >= 9:
            raise AssertionError("told later")
        return super().session(k)


@pytest.mark.parametrize(("size", "rate"), BOTH)
def test_questions_use_only_the_sessions_before_them(size, rate):
    stream = FirstSessions(size, "test", 20, 5, rate)
    asked = stream.questions(5, after=9)
    # a range ends before the next session, so that no later one could change the answer
    assert asked and all(max(q.sessions) < 9 and (q.end or "") < stream.dates[9] for q in asked)
    with pytest.raises(AssertionError, match="told later"):
        stream.questions(5, after=10)


def test_all_kinds_are_asked_and_no_constant_answer_wins():
    golds = defaultdict(list)
    for index in range(150):
        for question in Stream("small", "test", 10, index).questions():
            golds[question.kind].append(question.gold.values)
    assert set(golds) == set(QUESTION_KINDS)
    for kind, values in golds.items():
        assert len(values) > 140
        assert Counter(values).most_common(1)[0][1] / len(values) < 0.22, kind


def test_kinds_on_request():
    plain, revised = Stream("small", "test", 40, 0), Stream("small", "test", 500, 0, 0.2)
    assert {q.kind for q in plain.questions(kinds=["scene_date", "grand_total"])} == {"scene_date", "grand_total"}
    asked = {q.kind: q for q in revised.questions(kinds=ALL_KINDS)}
    assert set(ALL_KINDS) == set(asked)
    for kind in QUESTION_KINDS:  # a question does not depend on what else is asked
        assert asked[kind] == next(q for q in revised.questions() if q.kind == kind)


def test_the_number_of_cancelled_entries_is_asked_only_where_it_can_be_large():
    for sessions, asked in ((50, False), (100, True)):  # standard: 5.5 purchases, 1.1 revisions a session
        kinds = {q.kind for q in Stream("standard", "test", sessions, 1, 0.2).questions()}
        assert ("cancelled_count" in kinds) == asked


def test_what_was_split_is_only_refunded():
    """ "The coffee on Monday" would not say whether the whole payment is meant."""
    told = 0
    for index in range(4):
        stream, split = Stream("standard", "test", 120, index, 0.9), set()
        for session in stream:
            for event in session.events:
                if event.revises in split:
                    assert event.kind == "refund"
                    told += 1
                if event.kind == "split":
                    split |= {event.revises, event.entry}
        entries = stream.state().entries
        assert {e.name for e in entries.values() if e.split} | {e.name for e in entries.values() if e.part_of} == split
    assert told > 10


def test_a_late_or_moved_entry_never_meets_one_of_its_scene():
    for index in range(4):
        ledger = Ledger()
        for session in Stream("standard", "test", 200, index, 0.9):
            for event in session.events:
                before = ledger.at(event.date, event.scene or ledger.entries[event.revises].scene) if event.date else 0
                if event.kind in ("late", "date"):
                    assert before == 0
                ledger.apply(event)


def test_the_largest_expense_is_no_matter_of_opinion():
    """Parts of one payment, added up, are not larger than the largest entry."""
    asked = 0
    for index in range(60):
        stream = Stream("standard", "test", 10, index, 0.9)
        entries = stream.state().live()
        for q in stream.questions(3, kinds=["largest_range"]):
            payments: Counter = Counter()
            inside = [e for e in entries if q.start <= e.date <= q.end]
            for e in inside:
                payments[e.part_of or e.name] += e.amount
            assert max(payments.values()) == Decimal(q.gold.values[0])
            if any(e.part_of or e.split or e.refunded for e in inside):
                assert "at once" not in q.text
                asked += 1
    assert asked > 20


def test_ground_truth_grows_session_by_session():
    stream = Stream("small", "test", 12, 5)
    for after in range(13):
        assert stream.ledger(after) == tuple(e for k in range(after) for e in stream.session(k).expenses)


# --- the state machine --------------------------------------------------------------------------------------------

DAYS, THINGS = ("2024-05-01", "2024-05-02"), ("coffee", "taxi")
BOUGHT = [
    Event("purchase", 0, n, f"0.{n}", None, DAYS[0], CATEGORIES[n], THINGS[n], amount)
    for n, amount in enumerate((Decimal("5.00"), Decimal("9.50")))
]
AMOUNTS = [Decimal(a) for a in ("0.01", "1", "2", "2.50", "3", "5", "7")]
# most are possible for the entries above, or for what earlier events made of them
EVENTS = st.builds(
    Event,
    kind=st.sampled_from((*PURCHASES, *REVISIONS, "refund", "split", "nonsense")),
    session=st.integers(1, 5),
    turn=st.just(0),
    entry=st.sampled_from(("0.0", *(f"1.{n}" for n in range(6)))),
    revises=st.sampled_from(("0.0", "0.0", "0.1", "0.1", "1.0", "1.1", None)),
    date=st.sampled_from((*DAYS * 4, None)),
    category=st.sampled_from((*CATEGORIES[:2] * 4, None)),
    scene=st.sampled_from((*THINGS * 4, None)),
    amount=st.sampled_from((*AMOUNTS * 2, Decimal(-1), Decimal(0), None)),
)


def possible(ledger: Ledger, event: Event) -> bool:
    """Whether an event can be applied, from the meaning of the kinds."""
    above_zero = event.amount is not None and event.amount > 0
    if event.amount is not None and not above_zero:
        return False
    new = event.entry not in ledger.entries
    if event.kind in PURCHASES:
        return new and above_zero and None not in (event.date, event.category, event.scene)
    entry = ledger.entries.get(event.revises)
    if event.kind not in REVISIONS or entry is None or entry.cancelled:
        return False
    left = entry.paid - entry.refunded
    return {
        "amount": above_zero and event.amount > entry.refunded,
        "settled": above_zero and event.amount > entry.refunded,
        "category": event.category is not None,
        "date": event.date is not None,
        "refund": above_zero and event.amount <= left,
        "cancel": True,
        "split": new and above_zero and event.amount < left and None not in (event.category, event.scene),
    }[event.kind]


def change(ledger: Ledger, event: Event) -> Decimal:
    """By how much a possible event changes the grand total."""
    entry = ledger.entries.get(event.revises)
    if event.kind in PURCHASES:
        return event.amount
    if event.kind in ("amount", "settled"):
        return event.amount - entry.paid
    return {"refund": -(event.amount or 0), "cancel": -entry.amount}.get(event.kind, Decimal(0))


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, min_size=15, max_size=40))
def test_state_machine(events):
    ledger = Ledger()
    for event in BOUGHT + events:
        before, total = copy.deepcopy(vars(ledger)), sum(e.amount for e in ledger.live())
        if not possible(ledger, event):
            with pytest.raises(ValueError):
                ledger.apply(event)
            assert vars(ledger) == before  # nothing was changed
            continue
        expected = total + change(ledger, event)
        ledger.apply(event)
        entries = list(ledger.entries.values())
        live = ledger.live()
        assert sum(e.amount for e in live) == sum(e.amount for e in entries) == expected
        assert all(0 <= e.refunded <= e.paid for e in entries) and not any(e.amount for e in entries if e.cancelled)
        assert live == [e for e in entries if not e.cancelled and e.refunded < e.paid]
        assert ledger.refunded == sum(e.refunded for e in entries if not e.cancelled)
        assert ledger.cancelled == sum(e.cancelled for e in entries)
        assert ledger.names == [e.name for e in entries] == list(ledger.entries)
        for day in DAYS:
            for scene in THINGS:
                kept = [e for e in entries if (e.date, e.scene, e.cancelled) == (day, scene, False)]
                assert ledger.at(day, scene) == len(kept)
        assert all(e.versions[-1] == (e.date, e.category, e.scene) and e.sessions for e in entries)
        others = [e for e in before["entries"] if e not in (event.entry, event.revises)]
        assert all(ledger.entries[name] == before["entries"][name] for name in others)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=15, max_size=40), st.sampled_from(CATEGORIES[:2]), st.sampled_from(THINGS))
def test_the_sessions_of_a_question_are_enough(events, category, scene):
    """On any ledger: told those sessions alone, one gives the same answer."""
    ledger, told = Ledger(), []
    for event in sorted(BOUGHT + events, key=lambda e: e.session):
        if possible(ledger, event):
            ledger.apply(event)
            told.append(event)
    questioner = _Questioner(ledger, [], category)
    for day in DAYS:
        for kind, categories, thing in (("category_date", (category,), None), ("scene_date", (), scene)):
            sessions = questioner._sessions(categories, day, day, thing or "")
            alone = Ledger()
            for event in told:
                if event.session in sessions and possible(alone, event):
                    alone.apply(event)
            assert answer(alone, kind, categories, day, day, thing) == answer(ledger, kind, categories, day, day, thing)
