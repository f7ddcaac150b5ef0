"""Ledger-QA in the formats of the paper's authors: their JSON, both ways, and the columns of their training data.

JSON, plain or .gz, a list of tasks::

    {"task_id": "...", "chunks": ["[2024-05-01] User said, ...", ...],
     "questions": [{"qid": "...", "query": "...", "answer": "12.50", "position": 9, "category": "max_single_amount"}],
     "metadata": {"transaction_events": [{"date": ..., "scene": ..., "subscene": ..., "amount": 12.5, ...}], ...}}

A question is asked after the chunk ``position``; what is called scene and subscene there is category and scene here.
Our files have more fields beside these, from which the same samples come back; files without them are read too. Texts
that are not there (the scene of a question about everything) are "" in them, and null in files of earlier versions:
readers that find out the type of a column from its values (`datasets`) take plain and revised files together, as
nothing is null in one and text in the other. Dates that are not there are null, as "" is no date.
Whatever is wrong with a file is a `RunError` of one line: the file, the task (from 0), the field, and what is wrong.

The formats were found out by reading (names of fields, no code): github.com/ictnlp/unified-memory-agent.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import reprlib
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

from uma_lib.files import RunError, file_error, replacing
from uma_lib.ledger.files import (
    EVENT,
    MOST_AMOUNT,
    QUESTION,
    ROW,
    VERSION,
    Sample,
    canonical,
    check_answers,
    check_shape,
    check_version,
    from_row,
    is_day,
    read_rows,
    row,
    same_hash,
    short,
    write_rows,
)
from uma_lib.ledger.language import CATEGORIES, money, said_scene
from uma_lib.ledger.questions import Question
from uma_lib.ledger.state import Event
from uma_lib.scoring import Gold, parse_amount

# our kinds of questions under the authors' names; kinds that only we have keep theirs
_THEIR_KINDS = {
    "category_range": "time_range_scene_amount",
    "categories_range": "time_range_multiple_scenes_amount",
    "total_range": "time_range_total_amount",
    "top_category_range": "max_scene",
    "busiest_dates": "max_frequency_date",
    "largest_range": "max_single_amount",
    "category_date": "single_date_scene_amount",
    "grand_total": "total_amount",
}
_OUR_KINDS = {theirs: ours for ours, theirs in _THEIR_KINDS.items()}
# texts that may be None in the three parts of a row
_TEXTS = {
    part: {name for name, kind in shape.items() if kind == str | None} - {"date", "start", "end"}
    for part, shape in (("row", ROW), ("events", EVENT), ("questions", QUESTION))
}
_CHUNKS = {"create_kwargs": {"chunks": [str]}}
RL_ROW = {
    "data_source": str,
    "prompt": [{"role": str, "content": [str]}],
    "context": str,
    "reward_model": {"style": str, "ground_truth": [str]},
    "extra_info": {
        "index": int, "task_id": str, "num_chunks": int, "question": [str], "kinds": [str], "answer_types": [str],
        "tools_kwargs": {"memory_bm25_retrieve": _CHUNKS, "memory_embedding_retrieve": _CHUNKS},
    },
    "agent_name": str,
}  # fmt: skip


# --- the authors' JSON --------------------------------------------------------------------------------------------


def write_authors(path: Path, samples: Iterable[Sample]) -> None:
    """Write the authors' JSON, compressed where the name ends in .gz.

    A list of tasks: task_id, questions (qid, query, answer, position, category), chunks, and metadata with the
    transactions that count at the end. Their code needs no more and passes over the rest: the typed answer, the kind
    and the sessions of each question, and metadata.ledger_qa with all events and a SHA-256, from which `read_authors`
    gives back the same samples.
    """
    with replacing(path) as temporary:
        with open(temporary, "wb") as raw:
            # no name and no time in the header: the same samples give the same bytes
            zipped = Path(path).suffix == ".gz"
            with gzip.GzipFile("", "wb", 6, raw, 0) if zipped else nullcontext(raw) as file:
                before = b"["
                for one in samples:
                    task = json.dumps(_task(one), ensure_ascii=False, allow_nan=False)
                    file.write(before + b"\n" + task.encode("utf-8"))
                    before = b","
                file.write(b"\n]\n" if before == b"," else b"[]\n")


def _task(sample: Sample) -> dict[str, Any]:
    """A sample as a task of the authors, with our fields beside theirs."""
    values = row(sample)
    live = sample.ledger().live()
    digest = hashlib.sha256(canonical(values)).hexdigest()
    values = _with_texts(values, None, "")
    ours = {name: values[name] for name in ROW if name not in ("id", "chunks", "questions")}  # which the task has
    return {
        "task_id": sample.id,
        "questions": [
            {"qid": f"{sample.id}/{k}", "query": q["question"], "position": len(sample.chunks) - 1,
             "category": _THEIR_KINDS.get(q["kind"], q["kind"]), **{n: q[n] for n in q if n != "question"}}
            for k, q in enumerate(values["questions"])
        ],
        "chunks": values["chunks"],
        "metadata": {
            "num_sessions": len(sample.chunks),
            "num_turns": sum(chunk.count("\n") + 1 for chunk in sample.chunks),
            "num_transactions": len(live),
            "date_range": {"start": sample.dates[0], "end": sample.dates[-1]},
            "scenes": list(CATEGORIES),
            "total_amount": float(sum(e.amount for e in live)),
            # what they call scene and subscene are our category and scene
            "transaction_events": [
                {"date": e.date, "scene": e.category, "subscene": e.scene, "amount": float(e.amount),
                 "description": said_scene(e.scene)}
                for e in live
            ],
            "ledger_qa": {"version": VERSION, **ours, "sha256": digest},
        },
    }  # fmt: skip


def _with_texts(values: dict[str, Any], old: str | None, new: str | None) -> dict[str, Any]:
    """A row in which ``new`` stands for ``old`` wherever a text may be None."""

    def changed(part: dict[str, Any], texts: set[str]) -> dict[str, Any]:
        return part | {name: new for name in texts if name in part and part[name] == old}

    parts = {name: [changed(part, _TEXTS[name]) for part in values[name]] for name in ("events", "questions")}
    return changed(values, _TEXTS["row"]) | parts


def read_authors(path: Path) -> list[Sample]:
    """The samples of a JSON file of the authors, plain or compressed, written by us or by them.

    Of their own files the type of each answer is found from its text (`infer`), the dates from the beginning of the
    chunks, and the transactions become purchases: turn 0, as the file does not say where in the session they are told.
    The file is read as a whole.
    """
    tasks = _load(path)
    if not isinstance(tasks, list):
        raise RunError(f"{path}: holds {type(tasks).__name__}, not a list of tasks")
    return [_from_task(task, f"{path}: task {k}") for k, task in enumerate(tasks)]


def _load(path: Path) -> Any:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise file_error(error, path, "read") from error
    if Path(path).suffix == ".gz" or data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except EOFError as error:
            raise RunError(f"{path}: truncated gzip; copy the file again") from error
        except (OSError, zlib.error) as error:
            raise RunError(f"{path}: damaged gzip ({error}); copy the file again") from error
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 text; restore the file") from error
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not valid JSON (line {error.lineno}); restore the file") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise RunError(f"{path}: not JSON that can be read ({error}); restore the file") from error


def _from_task(task: Any, where: str) -> Sample:
    check_shape(task, {"task_id": str, "chunks": [str], "questions": [{}]}, where)
    metadata = task.get("metadata", {})
    check_shape(metadata, {}, where, "metadata")
    if "ledger_qa" not in metadata:
        if any("answer_type" in q for q in task["questions"]):
            raise RunError(f"{where}: field 'metadata.ledger_qa' is missing, though the questions are typed")
        return _foreign(task, metadata, where)
    ours = metadata["ledger_qa"]
    check_shape(ours, {"version": int, "sha256": str}, where, "metadata.ledger_qa")
    check_version(ours["version"], f"{where}: metadata.ledger_qa")
    check_shape(task["questions"], [{"query": str, "answer": str}], where, "questions")
    values = {name: ours[name] for name in ROW if name in ours}
    values |= {"id": task["task_id"], "chunks": task["chunks"]}
    values["questions"] = [{"question": q["query"], **{n: q[n] for n in QUESTION if n in q}} for q in task["questions"]]
    check_shape(values, ROW, where)
    values = _with_texts(values, "", None)
    sample = from_row(values, where)
    same_hash(where, hashlib.sha256(canonical(values)).hexdigest(), ours["sha256"])
    check_answers(sample, where)
    # the fields that follow from the others must still do so
    if different := _difference(_task(sample), task):
        raise RunError(f"{where}: {different} does not follow from the events; it was changed")
    return sample


def _difference(wanted: Any, found: Any, place: str = "") -> str:
    """The place of the first difference; what only ``found`` has does not count, nor None instead of ""."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        pairs = [(f"{place}.{n}" if place else n, value, found.get(n)) for n, value in wanted.items()]
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = [(f"{place}[{k}]", *pair) for k, pair in enumerate(zip(wanted, found, strict=True))]
    else:
        return "" if wanted == found or (wanted == "" and found is None) else place
    return next((place for p, a, b in pairs if (place := _difference(a, b, p))), "")


def _foreign(task: dict[str, Any], metadata: dict[str, Any], where: str) -> Sample:
    if not task["chunks"]:
        raise RunError(f"{where}: chunks is empty")
    last = len(task["chunks"]) - 1
    questions = []
    for k, q in enumerate(task["questions"]):
        place = f"{where}: questions[{k}]"
        text = "query" if "query" in q else "question"
        check_shape(q, {text: str, "answer": str}, place)
        if q.get("position", last) != last:
            position = reprlib.repr(q["position"])
            raise RunError(f"{place}: position is {position}; only questions after the last chunk can be read")
        gold = infer(q["answer"])
        if gold is None:
            raise RunError(f"{place}: answer {q['answer'][:80]!r} is no amount, no dates (YYYY-MM-DD) and no "
                           f"categories ({', '.join(CATEGORIES)})")  # fmt: skip
        kind = str(q.get("category") or "")
        questions.append(Question(_OUR_KINDS.get(kind, kind), q[text], gold, ()))
    begins = [re.match(r"\[([0-9]{4}-[0-9]{2}-[0-9]{2})\]", chunk) for chunk in task["chunks"]]
    dates = tuple(begin[1] for begin in begins) if all(begins) else ()
    if wrong := [k for k, day in enumerate(dates) if not is_day(day)]:
        raise RunError(f"{where}: chunks[{wrong[0]}] begins with {dates[wrong[0]]}, which is no day")
    events, field = [], "metadata.transaction_events"
    transactions = metadata.get("transaction_events", [])
    check_shape(transactions, [{"date": str, "scene": str, "amount": int | float}], where, field)
    for k, t in enumerate(transactions):
        if t["date"] not in dates:
            raise RunError(f"{where}: {field}[{k}].date is {t['date'][:40]!r}, which no chunk begins with")
        if not 0 < t["amount"] < MOST_AMOUNT:
            raise RunError(f"{where}: {field}[{k}].amount is {short(t['amount'])}, not an amount above 0")
        session = dates.index(t["date"])
        events.append(Event("purchase", session, 0, f"{session}.{k}", None, t["date"], t["scene"],
                            str(t.get("subscene") or ""), Decimal(str(t["amount"]))))  # fmt: skip
    return Sample(task["task_id"], None, None, None, None, None, None, dates, tuple(task["chunks"]), tuple(events),
                  tuple(questions))  # fmt: skip


def infer(text: str) -> Gold | None:
    """The typed answer that a text must mean: an amount, dates, or categories; None where it is none of them.

    >>> infer("12.50"), infer("2024-05-01, 2024-05-03").kind, infer("Dining").kind, infer("a lot")
    (Gold(kind='amount', values=('12.50',)), 'dates', 'categories', None)
    """
    amount = parse_amount(text)
    if amount is not None:
        return Gold("amount", (money(amount),))
    items = tuple(item.strip() for item in re.split(r"[,;]|\band\b", text) if item.strip())
    if items and all(is_day(item) for item in items):
        return Gold("dates", items)
    known = {category.casefold(): category for category in CATEGORIES}
    if items and all(item.casefold() in known for item in items):
        return Gold("categories", tuple(known[item.casefold()] for item in items))
    return None


# --- their training data ------------------------------------------------------------------------------------------


def write_rl(path: Path, samples: Iterable[Sample]) -> str:
    """Write the columns of the authors' training data, `RL_ROW`; returns the SHA-256 of the content.

    One row a stream, as a memory is built once and serves all questions: the content of the one message in ``prompt``
    is the list of questions, ``ground_truth`` the list of answers in their order. As the authors' code wants it,
    ``data_source`` is "synth" (their reward and prompts for Ledger-QA go by this name), ``context`` holds all chunks
    (they are cut at line ends into pieces of 15,000 characters), and the retrieval tools take the chunks from
    ``tools_kwargs``. That reward looks for the answer inside of what was said, so that 5 is found in 15:
    ``answer_types`` is there for a better one (`uma_lib.scoring.score`).
    """
    return write_rows(path, "rl", RL_ROW, (_rl_row(one) for one in samples))


def _rl_row(sample: Sample) -> dict[str, Any]:
    questions, chunks = [q.text for q in sample.questions], list(sample.chunks)
    tool = {"create_kwargs": {"chunks": chunks}}
    return {
        "data_source": "synth",
        "prompt": [{"role": "user", "content": questions}],
        "context": "\n\n".join(chunks),
        "reward_model": {"style": "rule", "ground_truth": [", ".join(q.gold.values) for q in sample.questions]},
        "extra_info": {
            "index": sample.index, "task_id": sample.id, "num_chunks": len(chunks), "question": questions,
            "kinds": [q.kind for q in sample.questions], "answer_types": [q.gold.kind for q in sample.questions],
            "tools_kwargs": {"memory_bm25_retrieve": tool, "memory_embedding_retrieve": tool},
        },
        "agent_name": "tool_mem_agent",
    }  # fmt: skip


def read_rl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of `write_rl` as plain values. The whole file is checked before the first is given."""
    return read_rows(path, "rl", RL_ROW, _checked)


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    check_shape(values, RL_ROW, where)
    asked = sum(len(message["content"]) for message in values["prompt"])
    answers = len(values["reward_model"]["ground_truth"])
    if asked != answers:
        raise RunError(f"{where}: {asked} questions in prompt, {answers} answers in reward_model.ground_truth")
    return values
