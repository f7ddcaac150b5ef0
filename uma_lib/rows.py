"""A row a question: what was asked and said, by whom, what it is worth and what it took; and files that keep them.

`Journal` is the file of a run that is under way: each answer is there as soon as it is given, a kill loses at most the
line that was being written, and nothing stands twice.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from uma_lib.agents.agent import Trace
from uma_lib.agents.all import AgentSpec
from uma_lib.files import RunError, atomic_write_text, file_error, read_text
from uma_lib.sample import Question, Sample
from uma_lib.scoring import Score
from uma_lib.statistics import Row

COLUMNS = {  # of answers.csv
    "agent": str,
    "seed": int,  # number of the checkpoint
    "set": str,  # name of the data set
    "horizon": int,  # chunks of the sample
    "stream": str,  # id of the sample
    "id": str,  # of the question
    "kind": str,
    "question": str,
    "gold": str,
    "answer": str,
    "correct": float,  # the data set's first metric; empty where the answer could not be scored, or none was given
    "tolerant": float,  # of Ledger-QA: right when read as free text; empty where there is no such metric
    "scores": str,  # all metrics, as JSON
    "prompt_tokens": int,  # prompt and tool results, of all sessions of the model that led to the answer
    "written_tokens": int,
    "memory_tokens": int,  # read and written to build the memory; the same for all questions of a stream
    "seconds": float,  # of the wall clock, others that were asked at the same time included
    "memory_seconds": float,
    "error": str,  # why it could not be asked; such rows count as failures and not as answers
}
TIMES = ("seconds", "memory_seconds")  # what differs between two runs of the same


def row_of(
    spec: AgentSpec, sample: Sample, question: Question, trace: Trace, scores: Sequence[Score], memory_tokens: int = 0,
    name: str = "", memory_seconds: float = 0.0,
) -> Row:  # fmt: skip
    """The row (see `COLUMNS`) of one answer in the set ``name``; without scores where there is none."""
    read, written = trace.cost
    values = {score.metric: score.value for score in scores}
    return {
        "agent": spec.name,
        "seed": spec.seed,
        "set": name,
        "horizon": len(sample.chunks),
        "stream": sample.id,
        "id": question.id,
        "kind": question.kind,
        "question": question.text,
        "gold": str(question.gold),
        "answer": " ".join((trace.answer or "").split()),  # on one line
        "correct": scores[0].value if scores else None,
        "tolerant": values.get("tolerant"),
        "scores": json.dumps(values),
        "prompt_tokens": read,
        "written_tokens": written,
        "memory_tokens": memory_tokens,
        "seconds": sum(one.seconds for one in trace.sessions),
        "memory_seconds": memory_seconds,
        "error": " ".join(trace.error.split()),
    }


# --- tables ---------------------------------------------------------------------------------------------------------


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """The rows as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: _written(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    )
    atomic_write_text(path, text.getvalue())


def read_table(path: Path) -> list[Row]:
    """The rows of a file that `write_table` wrote; RunError where it is missing or damaged."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise RunError(f"{path}: not a table ({error}); delete the file and run again") from error
    if rows and set(rows[0]) < set(COLUMNS) and "horizon" in rows[0]:
        missing = next(name for name in COLUMNS if name not in rows[0])
        raise RunError(f"{path}: has no column {missing}, an older version wrote it; evaluate into a new folder")
    if not rows or any(list(row) != list(COLUMNS) or None in row.values() for row in rows):
        raise RunError(f"{path}: not the rows of an evaluation; delete the file and run again")
    patterns = {int: "[0-9]{1,15}", float: r"([0-9]{1,15}(\.[0-9]{1,20})?)?", str: "(?s:.*)"}
    for number, row in enumerate(rows, start=2):
        for name, kind in COLUMNS.items():
            if not re.fullmatch(patterns[kind], row[name]):
                found = repr(row[name][:40])
                raise RunError(f"{path}, row {number}: {name} is {found}, no number; delete the file, run again")
    return [{name: _value(kind, row[name]) for name, kind in COLUMNS.items()} for row in rows]


def _written(value: float) -> str:
    """A number as a field: 1 and 0.5, never 1e-05."""
    return f"{value:.12f}".rstrip("0").rstrip(".")


def _value(kind: type, text: str) -> str | float | int | None:
    """A field as it was: a score is 1 or 0.5, and None where the field is empty."""
    if kind is float:
        return None if not text else int(text) if text.isdigit() else float(text)
    return kind(text)


# --- journals -------------------------------------------------------------------------------------------------------


class Journal:
    """Records of one agent on one set, in the order in which they came to be; a later one replaces an earlier.

    ``rows`` are those of questions, by id. ``chunks`` says of each (sample, number of a chunk) the tokens and seconds
    that it took to read it.

    Raises `RunError` naming file and line for a record that is damaged; a last line that a kill has cut is dropped.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.rows: dict[str, Row] = {}
        self.chunks: dict[tuple[str, int], tuple[int, float]] = {}
        self._file = None
        for number, record in enumerate(self._lines(), start=1):
            try:
                self._take(json.loads(record))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise RunError(
                    f"{self.path}:{number}: not a record of an evaluation ({error}); delete the line and run again"
                ) from error

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        try:
            data = self.path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(self.path, len(whole))
            return whole.decode("utf-8").splitlines()
        except OSError as error:
            raise file_error(error, self.path, "read") from error
        except UnicodeDecodeError as error:
            raise RunError(f"{self.path}: not UTF-8 text; delete the file and run again") from error

    def _take(self, record: dict[str, Any]) -> None:
        if "chunk" in record:
            self.chunks[record["stream"], record["chunk"]] = record["tokens"], record["seconds"]
        elif set(record) != set(COLUMNS):
            raise ValueError("its fields are others")
        else:
            self.rows[record["id"]] = record

    def holds(self, record: dict[str, Any]) -> bool:
        """Whether there is a record of the same question or chunk."""
        return (record["stream"], record["chunk"]) in self.chunks if "chunk" in record else record["id"] in self.rows

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Write some records, rows or ``{stream, chunk, tokens, seconds}``."""
        lines = []
        for record in records:
            self._take(record)
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
        if not lines:
            return
        data = "".join(lines).encode("utf-8", "replace")
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "ab", buffering=0)
            size = self._file.tell()
            try:
                self._file.write(data)
            except OSError:
                self._file.truncate(size)  # a disk that fills up within a line must not spoil the file
                raise
        except OSError as error:
            raise file_error(error, self.path, "write") from error

    def keep(self, wanted: Iterable[str], without_errors: bool = False) -> None:
        """Drop the records of all samples but some, and rows that failed if they are to be tried again."""
        wanted = set(wanted)
        self.close()
        rows = {n: r for n, r in self.rows.items() if r["stream"] in wanted and not (without_errors and r["error"])}
        chunks = {key: spent for key, spent in self.chunks.items() if key[0] in wanted}
        if len(rows) == len(self.rows) and len(chunks) == len(self.chunks):
            return
        self.rows, self.chunks = rows, chunks
        atomic_write_text(self.path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in self.records()))

    def records(self) -> list[dict[str, Any]]:
        """All that is there, once."""
        chunks = [
            {"stream": stream, "chunk": chunk, "tokens": tokens, "seconds": seconds}
            for (stream, chunk), (tokens, seconds) in self.chunks.items()
        ]
        return [*chunks, *self.rows.values()]

    def table(self, samples: Iterable[Sample]) -> list[Row]:
        """The rows of some samples in the order of their questions, with what their memories took."""
        spent: dict[str, list[float]] = {}
        for (stream, _), (tokens, seconds) in self.chunks.items():
            total = spent.setdefault(stream, [0, 0.0])
            total[0] += tokens
            total[1] += seconds
        return [
            self.rows[question.id]
            | dict(zip(("memory_tokens", "memory_seconds"), spent.get(sample.id, (0, 0.0)), strict=True))
            for sample in samples
            for question in sample.questions
            if question.id in self.rows
        ]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
