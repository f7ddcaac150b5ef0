"""The named test sets of Ledger-QA, and the manifest that says what they hold.

A name is TRACK/SIZE/test/SESSIONS, such as ``ledger-qa/small/test/10`` or ``ledger-qa-revised/hard/test/500``. A set is
the streams 0, 1, 2, ... of the split ``test`` with one question of each kind: 100 streams, 20 at 500 sessions. Nothing
is stored but the manifest ``data/ledger_qa.json`` (streams, questions and SHA-256 of every set): a set is made anew
wherever it is needed, and `verify` says whether it is the same.

How many questions are enough: the 95 % interval of an accuracy p over n independent questions reaches
1.96 * sqrt(p (1 - p) / n) to either side, at most 1.96 * 0.5 / sqrt(n), which is 0.040 for n = 600: four points. A set
of 100 streams has at least 795 questions (3.5 points), one of 20 streams at least 147 (8.1 points). Questions on one
stream share its memory, so real intervals are wider: bootstrap over streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from uma_lib.ledger import authors, files
from uma_lib.ledger.files import canonical, check_answers, check_shape, row, sample
from uma_lib.ledger.streams import SIZES, TRACKS, Stream
from uma_lib.paths import DATA
from uma_lib.runs import RunError, atomic_write_json, read_json, unknown

HORIZONS = (2, 5, 10, 20, 30, 40, 50, 100, 500)  # sessions a stream
NAMES = tuple(f"{track}/{size}/test/{n}" for track in TRACKS for size in SIZES for n in HORIZONS)
MANIFEST = DATA / "ledger_qa.json"
VERSION = 1  # of the manifest and of what is hashed


def size_of_set(sessions: int) -> int:
    """Streams in a set."""
    return 100 if sessions <= 100 else 20


def test_set(name: str) -> Iterator[Stream]:
    """The streams of a set, made one by one.

    >>> [stream.name for stream in test_set("ledger-qa/small/test/2")][:2]
    ['ledger-qa/small/test/2/0', 'ledger-qa/small/test/2/1']
    """
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
    n = int(sessions)
    return (Stream(size, split, n, index, revisions=TRACKS[track]) for index in range(size_of_set(n)))


def measure(name: str) -> dict[str, Any]:
    """A set as the manifest has it: name, streams, questions, sha256.

    The SHA-256 is over the canonical bytes of every stream in turn, so that one stream at a time is in memory. A
    parquet file of the set (`files.write_parquet`) has the same.
    """
    digest, streams, questions = hashlib.sha256(), 0, 0
    for stream in test_set(name):
        values = row(sample(stream))
        digest.update(canonical(values))
        streams += 1
        questions += len(values["questions"])
    return {"name": name, "streams": streams, "questions": questions, "sha256": digest.hexdigest()}


def fingerprint(name: str) -> str:
    """SHA-256 over the texts, events and questions of all streams of a set, in hex."""
    return measure(name)["sha256"]


def lock(path: Path = MANIFEST, names: Iterable[str] = NAMES) -> dict[str, Any]:
    """Measure the sets and write the manifest; returns it."""
    sets = [measure(name) for name in tqdm(list(names), desc="test sets", disable=None)]
    manifest = {"version": VERSION, "sets": sets}
    atomic_write_json(path, manifest)
    return manifest


def load(path: Path = MANIFEST) -> dict[str, dict[str, Any]]:
    """The manifest's entries by name."""
    manifest = read_json(path)
    check_shape(manifest, {"version": int}, str(path))
    if manifest["version"] != VERSION:
        raise RunError(f"{path}: version is {manifest['version']}, this package reads {VERSION}; write it with lock")
    entry = {"name": str, "streams": int, "questions": int, "sha256": str}
    check_shape(manifest, {"sets": [entry]}, str(path))
    return {entry["name"]: entry for entry in manifest["sets"]}


def verify(names: Iterable[str] | None = None, path: Path = MANIFEST) -> list[str]:
    """Make the sets anew (default: all) and compare with the manifest; returns the names that were compared.

    Raises `RunError` for the first set that is not in the manifest or differs from it.
    """
    entries = load(path)
    names = list(NAMES if names is None else names)
    for name in names:
        test_set(name)  # a name that cannot be is refused before any work
        if name not in entries:
            raise RunError(f"{path}: {unknown('test set', name, entries)}")
    for name in tqdm(names, desc="test sets", disable=None):
        found = measure(name)
        for field, value in found.items():
            if value != entries[name][field]:
                raise RunError(
                    f"{path}: test set {name}: {field} is {entries[name][field]} there, but {value} is made here; "
                    "the generator was changed (or write the manifest anew with lock)"
                )
    return names


def verify_file(path: Path) -> dict[str, Any]:
    """Check everything that can be checked of a file of any format; returns format, streams, questions, sha256.

    Shapes, values and SHA-256; for parquet and the authors' JSON also that the events give every answer. sha256 is that
    of the samples, in parquet and JSON that of the test set if it is one, for "rl" that of its own rows; None for a
    file that the authors wrote, whose answers cannot be checked.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        about = files.about(path)
        if about["format"] == "rl":
            questions = sum(len(values["reward_model"]["ground_truth"]) for values in authors.read_rl(path))
            return {"format": "rl", "streams": about["rows"], "questions": questions, "sha256": about["sha256"]}
        form, samples = "parquet", files.read_parquet(path)
    elif path.suffix == ".json" or path.name.endswith(".json.gz"):
        form, samples = "authors", authors.read_authors(path)
    else:
        raise RunError(f"{path}: the name must end in .parquet, .json or .json.gz")
    digest, count, questions, ours = hashlib.sha256(), 0, 0, True
    for k, one in enumerate(samples):
        ours = ours and one.track is not None
        if form == "parquet":  # reading the authors' JSON does it already
            check_answers(one, f"{path}: row {k}")
        if ours:
            digest.update(canonical(row(one)))
        count += 1
        questions += len(one.questions)
    return {"format": form, "streams": count, "questions": questions, "sha256": digest.hexdigest() if ours else None}
