"""The named test sets of Ledger-QA, and the manifest that says what they hold.

A name is TRACK/SIZE/test/SESSIONS, such as ``ledger-qa/small/test/10`` or ``ledger-qa-revised/hard/test/500``. A set is
the first 100 streams of the split ``test`` (20 at 500 sessions) with one question of each kind, without the few that
would let a constant answer be right for more than 15 % of the questions of one kind. Nothing is stored but the manifest
``data/ledger_qa.json`` (streams left out, counts, best constant answers and SHA-256 of every set): a set is made anew
wherever it is needed, and `verify` says whether it is the same.

How many questions are enough: the 95 % interval of an accuracy p over n independent questions reaches
1.96 * sqrt(p (1 - p) / n) to either side, at most 1.96 * 0.5 / sqrt(n), which is 0.040 for n = 600: four points. A set
of 100 streams has at least 800 questions (3.5 points), one of 20 streams at least 160 (7.7 points). Questions on one
stream share its memory, so real intervals are wider: bootstrap over streams.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import count, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from uma_lib.files import RunError, atomic_write_json, read_json
from uma_lib.ledger import authors, files
from uma_lib.ledger.files import canonical, check_answers, check_shape, row, sample
from uma_lib.ledger.questions import ALL_KINDS, Question
from uma_lib.ledger.streams import SIZES, TRACKS, Stream
from uma_lib.parameters import unknown
from uma_lib.paths import DATA
from uma_lib.scoring import parse_amount, score

HORIZONS = (2, 5, 10, 20, 30, 40, 50, 100, 500)  # sessions a stream
NAMES = tuple(f"{track}/{size}/test/{n}" for track in TRACKS for size in SIZES for n in HORIZONS)
MANIFEST = DATA / "ledger_qa.json"
VERSION = 2  # of the manifest and of what is hashed
CONSTANT = Decimal("0.15")  # of the questions of one kind, at most, one and the same answer is right for


def size_of_set(sessions: int) -> int:
    """Streams in a set."""
    return 100 if sessions <= 100 else 20


def test_set(name: str, path: Path = MANIFEST) -> Iterator[Stream]:
    """The streams of a set, made one by one.

    >>> [stream.name for stream in test_set("ledger-qa/small/test/2")][:2]
    ['ledger-qa/small/test/2/0', 'ledger-qa/small/test/2/1']
    """
    track, size, sessions = _parts(name)
    entries = load(path)
    if name not in entries:
        raise RunError(f"{path}: {unknown('test set', name, entries)}")
    return _without(entries[name]["left_out"], size_of_set(sessions), size, "test", sessions, TRACKS[track])


def first_streams(
    size: str, split: str, sessions: int, number: int | None, revisions: float = 0.0
) -> Iterator[Stream]:
    """The first ``number`` streams of a split, one by one; of ``test`` without those that the test set leaves out."""
    track = next((track for track, rate in TRACKS.items() if rate == revisions), None)
    name = f"{track}/{size}/{split}/{sessions}"
    return _without(load()[name]["left_out"] if name in NAMES else (), number, size, split, sessions, revisions)


def _without(
    left_out: Sequence[int], number: int | None, size: str, split: str, sessions: int, revisions: float
) -> Iterator[Stream]:
    indices = (index for index in count() if index not in left_out)
    return (Stream(size, split, sessions, index, revisions) for index in islice(indices, number))


def _parts(name: str) -> tuple[str, str, int]:
    parts = name.split("/")
    if len(parts) != 4:
        raise RunError(f"unknown test set {name!r}; write TRACK/SIZE/test/SESSIONS, such as {NAMES[2]}")
    track, size, split, sessions = parts
    for what, value, values in (
        ("track", track, TRACKS),
        ("size", size, SIZES),
        ("split", split, ["test"]),
        ("horizon", sessions, [str(n) for n in HORIZONS]),
    ):
        if value not in values:
            raise RunError(f"test set {name!r}: unknown {what} {value!r}; known: {', '.join(values)}")
    return track, size, int(sessions)


# --- constant answers ---------------------------------------------------------------------------------------------


def best_constant(questions: Sequence[Question]) -> dict[str, Any]:
    """The one answer that is right most often, and its accuracy.

    It is chosen on the same questions, so it is an upper bound for any constant that is chosen without seeing them.
    """
    counts = Counter(_value(q) for q in questions)
    value = counts.most_common(1)[0][0]
    text = f"{value:f}" if isinstance(value, Decimal) else ", ".join(sorted(value))
    return {"answer": text, "accuracy": sum(score(text, q.gold) for q in questions) / len(questions)}


def constants(questions: Iterable[Question]) -> dict[str, dict[str, Any]]:
    """`best_constant` of each kind of question, and of all together."""
    questions = list(questions)
    by_kind = {kind: [q for q in questions if q.kind == kind] for kind in ALL_KINDS}
    return {kind: best_constant(asked) for kind, asked in by_kind.items() if asked} | {"all": best_constant(questions)}


def _value(question: Question) -> Decimal | frozenset[str]:
    """What is right, so that equal values are the same answer: 12.5 and 12.50, two dates in any order."""
    values = question.gold.values
    return parse_amount(values[0]) if question.gold.kind == "amount" else frozenset(values)


def leave_out(name: str) -> list[int]:
    """The streams to leave out of a set, so that no answer is right for more than `CONSTANT` of a kind's questions.

    One after the other, the last stream that has an answer given too often makes room for the next one of the split.
    """
    track, size, sessions = _parts(name)
    wanted, following = size_of_set(sessions), count()
    answers: dict[int, set] = {}
    left_out: list[int] = []
    while True:
        while len(answers) < wanted:
            index = next(following)
            stream = Stream(size, "test", sessions, index, revisions=TRACKS[track])
            answers[index] = {(q.kind, _value(q)) for q in stream.questions()}
        given = Counter(answer for found in answers.values() for answer in found)
        asked = Counter(kind for found in answers.values() for kind, _ in found)
        too_often = {(kind, value) for (kind, value), n in given.items() if n > CONSTANT * asked[kind]}
        if not too_often:
            return sorted(left_out)
        if len(left_out) > wanted:
            kinds = ", ".join(sorted({kind for kind, _ in too_often}))
            raise RunError(f"test set {name}: {kinds}: no choice of streams keeps constant answers at {CONSTANT:.0%}")
        last = max(index for index, found in answers.items() if found & too_often)
        del answers[last]
        left_out.append(last)


# --- the manifest -------------------------------------------------------------------------------------------------


def measure(name: str, left_out: Sequence[int]) -> dict[str, Any]:
    """A set as the manifest has it.

    constants: accuracy of the best constant answer to each kind of question. The SHA-256 is over the canonical bytes of
    every stream in turn, so that one stream at a time is in memory. A parquet file of the set (`files.write_parquet`)
    has the same.
    """
    track, size, sessions = _parts(name)
    digest, streams = hashlib.sha256(), 0
    questions: list[Question] = []
    for stream in _without(left_out, size_of_set(sessions), size, "test", sessions, TRACKS[track]):
        made = sample(stream)
        digest.update(canonical(row(made)))
        streams += 1
        questions += made.questions
    best = {kind: round(found["accuracy"], 4) for kind, found in constants(questions).items()}
    return {"name": name, "streams": streams, "left_out": list(left_out), "questions": len(questions),
            "constants": best, "sha256": digest.hexdigest()}  # fmt: skip


def fingerprint(name: str) -> str:
    """SHA-256 over the texts, events and questions of all streams of a set, in hex."""
    return measure(name, load()[name]["left_out"])["sha256"]


def lock(path: Path = MANIFEST, names: Iterable[str] = NAMES) -> dict[str, Any]:
    """Choose the streams of the sets, measure them and write the manifest; returns it."""
    sets = [measure(name, leave_out(name)) for name in tqdm(list(names), desc="test sets", disable=None)]
    manifest = {"version": VERSION, "sets": sets}
    atomic_write_json(path, manifest)
    return manifest


def load(path: Path = MANIFEST) -> dict[str, dict[str, Any]]:
    """The manifest's entries by name."""
    manifest = read_json(path)
    check_shape(manifest, {"version": int}, str(path))
    if manifest["version"] != VERSION:
        raise RunError(f"{path}: version is {manifest['version']}, this package reads {VERSION}; write it with lock")
    entry = {"name": str, "streams": int, "left_out": [int], "questions": int, "constants": dict, "sha256": str}
    check_shape(manifest, {"sets": [entry]}, str(path))
    return {entry["name"]: entry for entry in manifest["sets"]}


def verify(names: Iterable[str] | None = None, path: Path = MANIFEST) -> list[str]:
    """Make the sets anew (default: all) and compare with the manifest; returns the names that were compared.

    Raises `RunError` for the first set that is not in the manifest or differs from it.
    """
    entries = load(path)
    names = list(NAMES if names is None else names)
    for name in names:
        test_set(name, path)  # a name that cannot be is refused before any work
    for name in tqdm(names, desc="test sets", disable=None):
        found = measure(name, entries[name]["left_out"])
        for field, value in found.items():
            if value != entries[name][field]:
                raise RunError(
                    f"{path}: test set {name}: {field} is {entries[name][field]} there, but {value} is made here; "
                    "the generator was changed (or write the manifest anew with lock)"
                )
    return names


def verify_file(path: Path) -> dict[str, Any]:
    """Check everything that can be checked of a file of any format.

    Returns format, streams, questions, sha256 and rewritten_by, the models whose words it is in (unknown for "rl").

    Shapes, values and SHA-256; for parquet and the authors' JSON also that the events give every answer. sha256 is that
    of the samples, in parquet and JSON that of the test set if it is one, for "rl" that of its own rows; None for a
    file that the authors wrote, whose answers cannot be checked.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        about = files.about(path)
        if about["format"] == "rl":
            questions = sum(len(values["reward_model"]["ground_truth"]) for values in authors.read_rl(path))
            return {"format": "rl", "streams": about["rows"], "questions": questions, "sha256": about["sha256"],
                    "rewritten_by": []}  # fmt: skip
        form, samples = "parquet", files.read_parquet(path)
    elif path.suffix == ".json" or path.name.endswith(".json.gz"):
        form, samples = "authors", authors.read_authors(path)
    else:
        raise RunError(f"{path}: the name must end in .parquet, .json or .json.gz")
    digest, streams, questions, ours = hashlib.sha256(), 0, 0, True
    models: set[str | None] = set()
    for k, one in enumerate(samples):
        ours = ours and one.track is not None
        if form == "parquet":  # reading the authors' JSON does it already
            check_answers(one, f"{path}: row {k}")
        if ours:
            digest.update(canonical(row(one)))
        models.add(one.rewritten_by)
        streams += 1
        questions += len(one.questions)
    return {"format": form, "streams": streams, "questions": questions,
            "sha256": digest.hexdigest() if ours else None, "rewritten_by": sorted(models - {None})}  # fmt: skip
