"""Ledger-QA in files: one row a stream, as parquet that Hugging Face `datasets` can load.

    id, track, size, split, sessions, index, revisions   which stream it is; with the generator this is all one needs
    rewritten_by                                         model that has put the dialogues in other words, if any
    dates, chunks                                        one a session; a chunk is the dialogue that an agent reads
    events                                               everything that changes the ledger, with session and turn
    questions                                            with typed answers and the sessions that they depend on

Files are written stream by stream under a temporary name that is renamed at the end. Each holds the SHA-256 of its
content (`canonical`), so a file that was changed is refused. Whatever is wrong with a file is a `RunError` of one line:
the file, the row (from 0), the field, and what is wrong with it.

The formats of the paper's authors are in `authors`. This module knows nothing of agents, and imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from uma_lib.files import RunError, file_error, replacing
from uma_lib.ledger.language import money
from uma_lib.ledger.questions import ALL_KINDS, Question, answer
from uma_lib.ledger.state import PURCHASES, REVISIONS, Event, Ledger
from uma_lib.ledger.streams import SIZES, SPLITS, TRACKS, Session, Stream, name_of
from uma_lib.parameters import type_name, unknown
from uma_lib.scoring import Gold

VERSION = 2  # of the format
MOST_AMOUNT = 10**15  # dollars; decimals of more digits would be rounded in sums
# A row group is written and read at once: enough rows of short streams, not too much text of long ones.
GROUP_ROWS, GROUP_CHARACTERS = 1000, 1 << 24

EVENT = {
    "kind": str, "session": int, "turn": int, "entry": str, "revises": str | None, "date": str | None,
    "category": str | None, "scene": str | None, "amount": str | None,
}  # fmt: skip
QUESTION = {
    "kind": str, "question": str, "answer": str, "answer_type": str, "values": [str], "sessions": [int],
    "categories": [str], "start": str | None, "end": str | None, "scene": str | None,
}  # fmt: skip
ROW = {
    "id": str, "track": str, "size": str, "split": str, "sessions": int, "index": int, "revisions": float,
    "rewritten_by": str | None, "dates": [str], "chunks": [str], "events": [EVENT], "questions": [QUESTION],
}  # fmt: skip
T = TypeVar("T")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


# --- samples ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """One stream as a file holds it. Without track, size, split, index and revisions where the authors made it."""

    id: str
    track: str | None
    size: str | None
    split: str | None
    index: int | None
    revisions: float | None  # for each purchase
    rewritten_by: str | None  # name of the model that has put the chunks in other words; None: as this package says it
    dates: tuple[str, ...]  # one a session, YYYY-MM-DD
    chunks: tuple[str, ...]  # what an agent reads, one a session
    events: tuple[Event, ...]
    questions: tuple[Question, ...]  # asked after the last chunk

    def ledger(self) -> Ledger:
        """The ground truth after all events; ValueError where one of them cannot be applied."""
        ledger = Ledger()
        for event in self.events:
            ledger.apply(event)
        return ledger


def sample(
    stream: Stream, per_kind: int = 1, sessions: Iterable[Session] | None = None, rewritten_by: str | None = None
) -> Sample:
    """A stream with at most ``per_kind`` questions of each kind.

    sessions, rewritten_by: the same sessions in the words of a model, and its name; ValueError for one without the
    other, so that no rewritten stream passes for the original.

    >>> one = sample(Stream("small", "test", sessions=2, index=0))
    >>> one.id, len(one.chunks), len(one.questions)
    ('ledger-qa/small/test/2/0', 2, 8)
    """
    if (sessions is None) != (not rewritten_by):
        raise ValueError("sessions in other words need rewritten_by, and rewritten_by needs them")
    sessions = list(stream if sessions is None else sessions)
    return Sample(
        stream.name, stream.track, stream.size.name, stream.split, stream.index, stream.revisions, rewritten_by,
        tuple(s.date for s in sessions), tuple(s.text for s in sessions), tuple(e for s in sessions for e in s.events),
        tuple(stream.questions(per_kind)),
    )  # fmt: skip


def row(sample: Sample) -> dict[str, Any]:
    """A sample as plain values in the shape `ROW`; amounts are decimal text, as floats would not be exact."""
    if sample.track is None:
        raise RunError(f"sample {sample.id}: its track and size are not known; only streams of this package are rows")
    return {
        "id": sample.id, "track": sample.track, "size": sample.size, "split": sample.split,
        "sessions": len(sample.chunks), "index": sample.index, "revisions": sample.revisions,
        "rewritten_by": sample.rewritten_by, "dates": list(sample.dates), "chunks": list(sample.chunks),
        "events": [_event_row(event) for event in sample.events],
        "questions": [_question_row(question) for question in sample.questions],
    }  # fmt: skip


def _event_row(event: Event) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in EVENT}
    return values | {"amount": None if event.amount is None else money(event.amount)}


def _question_row(q: Question) -> dict[str, Any]:
    return {
        "kind": q.kind, "question": q.text, "answer": ", ".join(q.gold.values), "answer_type": q.gold.kind,
        "values": list(q.gold.values), "sessions": list(q.sessions), "categories": list(q.categories),
        "start": q.start, "end": q.end, "scene": q.scene,
    }  # fmt: skip


def from_row(values: dict[str, Any], where: str) -> Sample:
    """The sample of a row; `RunError` beginning with ``where`` for the first field that is not right."""
    check_shape(values, ROW, where)
    for field, name, known in (("track", "track", TRACKS), ("size", "size", SIZES), ("split", "split", SPLITS)):
        if values[field] not in known:
            raise RunError(f"{where}: {unknown(name, values[field], known)}")
    n = values["sessions"]
    name = name_of(*(values[field] for field in ("track", "revisions", "size", "split", "sessions", "index")))
    for field, right, wanted in (
        ("sessions", n >= 1, "at least 1"),
        ("index", values["index"] >= 0, "at least 0"),
        ("rewritten_by", values["rewritten_by"] != "", "the name of a model"),
        ("revisions", 0 <= values["revisions"] <= 1, "between 0 and 1"),
        ("revisions", (values["revisions"] > 0) == (TRACKS[values["track"]] > 0), f"that of track {values['track']}"),
        ("id", values["id"] == name, repr(name)),
    ):
        if not right:
            raise RunError(f"{where}: {field} is {values[field]!r}, not {wanted}")
    for field in ("chunks", "dates"):
        if len(values[field]) != n:
            raise RunError(f"{where}: {field} has {len(values[field])} items for {n} sessions")
    for k, day in enumerate(values["dates"]):
        if not is_day(day):
            raise RunError(f"{where}: dates[{k}] is {day!r}, not a date as YYYY-MM-DD")
    events = tuple(_event(e, n, f"{where}: events[{k}]") for k, e in enumerate(values["events"]))
    questions = tuple(_question(q, n, f"{where}: questions[{k}]") for k, q in enumerate(values["questions"]))
    return Sample(
        values["id"], values["track"], values["size"], values["split"], values["index"], values["revisions"],
        values["rewritten_by"], tuple(values["dates"]), tuple(values["chunks"]), events, questions,
    )  # fmt: skip


def _event(values: dict[str, Any], sessions: int, where: str) -> Event:
    if values["kind"] not in PURCHASES + REVISIONS:
        raise RunError(f"{where}: {unknown('kind', values['kind'], PURCHASES + REVISIONS)}")
    if not 0 <= values["session"] < sessions:
        raise RunError(f"{where}: session is {values['session']}, not one of 0 to {sessions - 1}")
    amount = values["amount"]
    if amount is not None and not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", amount):
        raise RunError(f"{where}: amount is {amount[:40]!r}, not a decimal number")
    if values["date"] is not None and not is_day(values["date"]):
        raise RunError(f"{where}: date is {values['date'][:40]!r}, not a date as YYYY-MM-DD")
    return Event(**{n: values[n] for n in EVENT} | {"amount": None if amount is None else Decimal(amount)})


def _question(values: dict[str, Any], sessions: int, where: str) -> Question:
    if values["kind"] not in ALL_KINDS:
        raise RunError(f"{where}: {unknown('kind', values['kind'], ALL_KINDS)}")
    if (values["start"] is None) != (values["end"] is None):
        raise RunError(f"{where}: start is {values['start']!r} and end is {values['end']!r}; a range has both")
    for name in ("start", "end"):
        if values[name] is not None and not is_day(values[name]):
            raise RunError(f"{where}: {name} is {values[name][:40]!r}, not a date as YYYY-MM-DD")
    try:
        gold = Gold(values["answer_type"], tuple(values["values"]))
    except ValueError as error:
        raise RunError(f"{where}: {error}") from error
    if values["answer"] != ", ".join(gold.values):
        raise RunError(f"{where}: answer is {values['answer']!r}, but values are {list(gold.values)}")
    if not all(0 <= k < sessions for k in values["sessions"]):
        raise RunError(f"{where}: sessions are {values['sessions']}, not among 0 to {sessions - 1}")
    return Question(
        values["kind"], values["question"], gold, tuple(values["sessions"]), tuple(values["categories"]),
        values["start"], values["end"], values["scene"],
    )  # fmt: skip


def check_answers(sample: Sample, where: str) -> None:
    """Replay the events and answer every question anew; `RunError` for the first answer that is another one."""
    try:
        ledger = sample.ledger()
    except ValueError as error:
        raise RunError(f"{where}: events: {error}") from error
    for k, q in enumerate(sample.questions):
        right = answer(ledger, q.kind, q.categories, q.start, q.end, q.scene)
        if q.gold != right:
            told = "none" if right is None else repr(", ".join(right.values))
            raise RunError(f"{where}: questions[{k}].answer is {', '.join(q.gold.values)!r}; its events give {told}")


def canonical(value: Any) -> bytes:
    """Plain values as one line of JSON: UTF-8, sorted keys, no blanks. Equal values have equal bytes.

    >>> canonical({"b": [1, 2.5], "a": "é"})
    b'{"a":"\\xc3\\xa9","b":[1,2.5]}\\n'
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"  # half a surrogate pair is a wrong hash, no crash


def check_shape(value: Any, shape: Any, where: str, field: str = "") -> None:
    """`RunError` unless ``value`` has the shape: a type, ``[shape]`` for a list, ``{name: shape}`` for a dict.

    >>> check_shape({"a": [1, "2"]}, {"a": [int]}, "my.json")
    Traceback (most recent call last):
    ...
    uma_lib.files.RunError: my.json: a[1] is '2' (str), not int
    """
    here = f"{where}: {field}" if field else where
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise RunError(f"{here} is {short(value)}, not an object with fields")
        for name, inner in shape.items():
            if name not in value:
                raise RunError(f"{here}: field {name!r} is missing")
            check_shape(value[name], inner, where, f"{field}.{name}" if field else name)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise RunError(f"{here} is {short(value)}, not a list")
        for k, item in enumerate(value):
            check_shape(item, shape[0], where, f"{field}[{k}]")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        raise RunError(f"{here} is {short(value)}, not {type_name(shape)}")


def short(value: Any) -> str:
    text = reprlib.repr(value) if isinstance(value, list | dict) else repr(value)  # which fails on deep ones
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"


def is_day(text: str) -> bool:
    with suppress(ValueError):
        return bool(_ISO.fullmatch(text) and date.fromisoformat(text))
    return False


# --- parquet ------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, samples: Iterable[Sample]) -> str:
    """Write one row a sample (`ROW`); returns the SHA-256 of the content, which the file also holds.

    The same samples give the same bytes with the same version of pyarrow, and the same SHA-256 with every version.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "two.parquet"
    >>> _ = write_parquet(path, (sample(Stream("small", "train", 5, i)) for i in range(2)))
    >>> [one.id for one in read_parquet(path)]
    ['ledger-qa/small/train/5/0', 'ledger-qa/small/train/5/1']
    >>> import datasets                                                                   # doctest: +SKIP
    >>> datasets.load_dataset("parquet", data_files=str(path), split="train")["chunks"]   # doctest: +SKIP
    """
    return write_rows(path, "streams", ROW, (row(one) for one in samples))


def read_parquet(path: Path) -> Iterator[Sample]:
    """The samples of a file of `write_parquet`, one by one. The whole file is checked before the first is given."""
    return read_rows(path, "streams", ROW, from_row)


def _arrow(shape: Any) -> pa.DataType:
    if isinstance(shape, dict):
        return pa.struct([(name, _arrow(inner)) for name, inner in shape.items()])
    if isinstance(shape, list):
        return pa.list_(_arrow(shape[0]))
    return {str: pa.string(), str | None: pa.string(), int: pa.int64(), float: pa.float64()}[shape]


def write_rows(path: Path, form: str, shape: dict, rows: Iterable[dict]) -> str:
    """Write rows of one shape, with ``form``, their number and SHA-256 in the metadata; returns the SHA-256."""
    schema = pa.schema([(name, _arrow(inner)) for name, inner in shape.items()])
    digest, count = hashlib.sha256(), 0
    with replacing(path) as temporary:
        # a damaged page is refused before anything decodes it; statistics would repeat whole dialogues
        options = {"compression": "zstd", "write_page_checksum": True, "write_statistics": False}
        with pq.ParquetWriter(temporary, schema, **options) as writer:
            group, size = [], 0
            for values in rows:
                line = canonical(values)
                digest.update(line)
                count += 1
                group.append(values)
                size += len(line)
                if len(group) >= GROUP_ROWS or size >= GROUP_CHARACTERS:
                    writer.write_table(pa.Table.from_pylist(group, schema))
                    group, size = [], 0
            if group:
                writer.write_table(pa.Table.from_pylist(group, schema))
            about = {"version": VERSION, "format": form, "rows": count, "sha256": digest.hexdigest()}
            writer.add_key_value_metadata({"ledger_qa": json.dumps(about)})
    return digest.hexdigest()


def read_rows(path: Path, form: str, shape: dict, parse: Callable[[dict, str], T]) -> Iterator[T]:
    """What ``parse(row, "FILE: row 3")`` makes of every row, after the whole file has passed it and its SHA-256."""
    held = about(path)
    if held["format"] != form:
        raise RunError(f"{path}: holds format {held['format']!r}, not {form!r}; read it with the other reader")
    digest, count = hashlib.sha256(), 0
    for values in _rows(path, shape):
        parse(values, f"{path}: row {count}")
        digest.update(canonical(values))
        count += 1
    if count != held["rows"]:
        raise RunError(f"{path}: has {count} rows instead of {held['rows']}; the file was changed, make it again")
    same_hash(path, digest.hexdigest(), held["sha256"])
    return (parse(values, f"{path}: row {k}") for k, values in enumerate(_rows(path, shape)))


def same_hash(where: Any, found: str, wanted: str) -> None:
    if found != wanted:
        raise RunError(f"{where}: SHA-256 of the content is {found[:12]}..., not {wanted[:12]}...; it was changed")


def about(path: Path) -> dict[str, Any]:
    """What a parquet file says of itself: version, format, rows, sha256."""
    with _parquet(path) as file:
        found = (file.metadata.metadata or {}).get(b"ledger_qa")
    if found is None:
        raise RunError(f"{path}: has no 'ledger_qa' in its metadata; make it with python -m uma_lib.ledger make")
    try:
        about = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: 'ledger_qa' in its metadata is not valid JSON; make it again") from error
    check_shape(about, {"version": int, "format": str, "rows": int, "sha256": str}, str(path), "metadata")
    check_version(about["version"], path)
    return about


def check_version(version: int, where: Any) -> None:
    if version != VERSION:
        raise RunError(f"{where}: format version is {version}, this package reads {VERSION}; make it again")


def _rows(path: Path, shape: dict) -> Iterator[dict]:
    with _parquet(path) as file:
        for name in shape:
            if name not in file.schema_arrow.names:
                raise RunError(f"{path}: column {name!r} is missing")
        for batch in file.iter_batches(batch_size=16, columns=list(shape)):
            yield from batch.to_pylist()


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise file_error(error, path, "read") from error
        first = (str(error).splitlines() or [""])[0]
        raise RunError(f"{path}: not a readable parquet file ({first}); copy or make it again") from error
