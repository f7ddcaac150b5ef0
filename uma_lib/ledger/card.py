"""What a test set is like, in numbers, and the data card (Markdown with the front matter that Hugging Face reads).

`describe` measures one test set: lengths, amounts, how far constant answers get, how varied the language is. `card`
puts the measurements and the manifest into words. No number of the card is typed in by hand.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from tqdm import tqdm

from uma_lib.ledger import files, testsets
from uma_lib.ledger.language import CATEGORIES, MONTHS, NUMBERS, TAXONOMY, the
from uma_lib.ledger.questions import ALL_KINDS, Question
from uma_lib.ledger.streams import SIZES, TRACKS, Session, Stream

TRAINING_STREAMS = 20  # in which templates of a test set are looked for

_NUMBER = f"(?:{'|'.join(sorted(NUMBERS, key=len, reverse=True))})"
_MONTH = f"(?:{'|'.join(MONTHS)})"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d|{_MONTH} \d\d?, \d{{4}}|\d\d? {_MONTH} \d{{4}}")
# "twelve fifty", "eight dollars and five cents", "$12.50", "12.50 USD"; one number word alone is no amount ("one more")
_AMOUNT = re.compile(
    rf"\b{_NUMBER} (?:dollars?(?: and {_NUMBER} cents?)?|{_NUMBER})\b|\$?\d[\d,]*(?:\.\d+)?(?: dollars| USD)?",
    re.IGNORECASE,
)
_PHRASES = {words for scenes in TAXONOMY.values() for said in scenes.values() for words in (said, the(said))}
_THING = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, _PHRASES), key=len, reverse=True))})\b", re.IGNORECASE)
_CATEGORY = re.compile(rf"\b(?:{'|'.join(CATEGORIES)})\b")


# --- measurements -------------------------------------------------------------------------------------------------


def masked(text: str) -> str:
    """A text without its amounts and dates.

    >>> masked("Another thing: I paid twelve fifty for a taxi on May 1, 2024.")
    'Another thing: I paid <amount> for a taxi on <date>.'
    """
    return _AMOUNT.sub("<amount>", _DATE.sub("<date>", text))


def template(text: str) -> str:
    """What is left of a text without its facts: amounts, dates, purchases, categories.

    >>> template("I paid $12.50 for a taxi.")
    'I paid <amount> for <thing>.'
    """
    return _CATEGORY.sub("<category>", _THING.sub("<thing>", masked(text)))


def stands_in(values: Iterable[str], text: str) -> bool:
    """Whether every value of an answer stands in a text, as a word or a number of its own.

    >>> stands_in(["12"], "I paid $12 for a taxi."), stands_in(["12"], "I paid $12.50 on 2024-12-01.")
    (True, False)
    """
    return all(re.search(rf"(?<![\w.-])(?<!\d,){re.escape(value)}(?![\w-]|[.,]\d)", text) for value in values)


def user_lines(session: Session) -> list[str]:
    """What the user says, without date and speaker."""
    begin = f'[{session.date}] User said, "'
    return [line[len(begin) : -1] for line in session.text.split("\n") if line.startswith(begin)]


def describe(name: str) -> dict[str, Any]:
    """Measurements of one test set, as plain values.

    turns, characters, expenses: least, mean and largest number a session. variety: distinct n-grams of what users say,
    amounts and dates masked; ``templates`` are lines without any facts; ``most_frequent_template`` is the share of a
    stream's user lines with its commonest template, the mean over streams; ``seen_in_training`` the share of lines
    whose template occurs in the first 20 training streams. category_unsaid: of the questions that name categories, the
    share where the sessions that matter say none of them by name. answers_in_text: the share of gold answers that
    `stands_in` finds somewhere in their stream, by kind.
    """
    turns, characters, expenses, amounts = [], [], [], []
    questions: list[Question] = []
    events: Counter = Counter()
    grams: dict[int, set] = defaultdict(set)
    words_in_all, lines_in_all, commonest = 0, 0, []
    templates: Counter = Counter()
    named = unsaid = 0
    verbatim: dict[str, list[bool]] = defaultdict(list)
    for stream in tqdm(testsets.test_set(name), desc=name, disable=None, leave=False):
        sessions, asked = list(stream), stream.questions()
        in_stream: Counter = Counter()
        for session in sessions:
            turns.append(session.text.count("\n") + 1)
            characters.append(len(session.text))
            expenses.append(len(session.expenses))
            amounts += [e.amount for e in session.expenses]
            events.update(event.kind for event in session.events)
            for line in user_lines(session):
                in_stream[template(line)] += 1
                words = re.findall(r"<\w+>|[\w'-]+", masked(line).lower())
                words_in_all += len(words)
                for n in (1, 2, 3, 4):
                    grams[n].update(zip(*(words[k:] for k in range(n)), strict=False))
        templates.update(in_stream)
        lines_in_all += sum(in_stream.values())
        commonest.append(max(in_stream.values()) / sum(in_stream.values()))
        questions += asked
        whole = "\n".join(session.text for session in sessions)
        for q in asked:
            verbatim[q.kind].append(stands_in(q.gold.values, whole))
            verbatim["all"].append(verbatim[q.kind][-1])
            if q.categories:
                named += 1
                unsaid += not any(c in sessions[k].text for k in q.sessions for c in q.categories)
    track, size, _, sessions_in_stream = name.split("/")
    known = {
        template(line)
        for index in range(TRAINING_STREAMS)
        for session in Stream(size, "train", int(sessions_in_stream), index, TRACKS[track])
        for line in user_lines(session)
    }
    return {
        "streams": len(commonest),
        "questions": {kind: n for kind in ALL_KINDS if (n := sum(q.kind == kind for q in questions))},
        "turns": _spread(turns),
        "characters": _spread(characters),
        "expenses": _spread(expenses),
        "amounts": {
            "least": f"{min(amounts):f}",
            "largest": f"{max(amounts):f}",
            "different": len(set(amounts)),
            "whole_dollars": sum(a == a.to_integral_value() for a in amounts) / len(amounts),
        },
        "events": dict(events.most_common()),
        "category_unsaid": unsaid / named,
        "answers_in_text": {kind: sum(found) / len(found) for kind, found in verbatim.items()},
        "best_constants": testsets.constants(questions),
        "variety": {
            "user_lines": lines_in_all,
            "user_words": words_in_all,
            **{f"distinct_{n}_grams": len(found) for n, found in grams.items()},
            "templates": len(templates),
            "most_frequent_template": sum(commonest) / len(commonest),
            "seen_in_training": sum(n for line, n in templates.items() if line in known) / lines_in_all,
        },
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"least": min(values), "mean": sum(values) / len(values), "largest": max(values)}


# --- the card -----------------------------------------------------------------------------------------------------

_FIELDS = {
    "id": "TRACK/SIZE/SPLIT/SESSIONS/INDEX; TRACK@RATE where the rate of revisions is not the track's own",
    "track": "`ledger-qa`, or `ledger-qa-revised` with corrections, refunds, splits and cancellations",
    "size": "`small` (whole dollars, short sessions), `standard` or `hard` (cents, varied language)",
    "split": "`train`, `validation`, `test` or `demonstrations`",
    "sessions": "number of sessions",
    "index": "number of the stream; with the fields above it is the seed",
    "revisions": "revisions of earlier entries for each purchase",
    "rewritten_by": "model that has put the dialogues in other words; null in the test sets",
    "dates": "day of each session",
    "chunks": "dialogue of each session: what is read",
    "events": "everything that changes the ledger, in order",
    "questions": "asked after the last session",
}
_EVENT_FIELDS = {
    "kind": "`purchase`, `late`, or what happens to an earlier entry",
    "session": "session that tells it, from 0",
    "turn": "line of the chunk that tells it, from 0",
    "entry": "entry that is made or revised",
    "revises": "entry that is revised",
    "date": "of a purchase, or the new one",
    "category": "of a purchase, or the new one",
    "scene": "of a purchase, or the new one",
    "amount": "decimal text in dollars: paid, corrected, refunded or split off",
}
_QUESTION_FIELDS = {
    "kind": "kind of question",
    "question": "text",
    "answer": "`values` joined by commas",
    "answer_type": "`amount` (compare as decimals), `dates` or `categories` (compare as sets)",
    "values": "the right answer",
    "sessions": "sessions that the answer depends on",
    "categories": "categories in the question",
    "start": "first day of the range in the question",
    "end": "last day of the range",
    "scene": "purchase in the question",
}


def card(horizons: tuple[int, int] = (10, 50)) -> str:
    """The data card. Lengths and variety are those of the longer horizon, constant answers of both.

    Reads the manifest for counts and hashes (`RunError` where it is missing), measures the rest: about a minute.
    """
    entries = testsets.load()
    short, long = horizons
    kinds_of_streams = [(track, size) for track in TRACKS for size in SIZES]
    measured = {
        (track, size, n): describe(f"{track}/{size}/test/{n}")
        for track, size in tqdm(kinds_of_streams, desc="card", disable=None)
        for n in horizons
    }
    streams = sum(entry["streams"] for entry in entries.values())
    front = {
        "license": "cc-by-4.0",
        "language": ["en"],
        "pretty_name": "Ledger-QA",
        "task_categories": ["question-answering"],
        "tags": ["synthetic", "dialogue", "memory", "agents", "long-context"],
        "size_categories": [_size_category(streams)],
        "configs": [
            {"config_name": config_name(name), "data_files": [{"split": "test", "path": f"{name}.parquet"}]}
            for name in entries
        ],
    }
    heads = [f"{track} {size}" for track, size in kinds_of_streams]

    def row(label: str, value) -> list[str]:
        return [label, *(value(measured[track, size, long]) for track, size in kinds_of_streams)]

    def spread(field: str):
        return lambda m: f"{m[field]['mean']:.1f} ({m[field]['least']}-{m[field]['largest']})"

    def variety(field: str):
        return lambda m: f"{m['variety'][field]:,}"

    def constant(kind: str) -> list[str]:
        found = (
            measured[track, size, n]["best_constants"].get(kind) for track, size in kinds_of_streams for n in horizons
        )
        return [kind, *("" if one is None else f"{100 * one['accuracy']:.0f}" for one in found)]

    plain_long = {size: measured["ledger-qa", size, long] for size in SIZES}
    small = plain_long["small"]["amounts"]
    name = f"ledger-qa/small/test/{short}"
    phrases = sum(len(scenes) for scenes in TAXONOMY.values())
    return "\n".join([
        "---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "",
        "# Ledger-QA", "",
        "Dated dialogues in which a user tells an assistant about expenses, among small talk and amounts that must not "
        "be counted, and questions whose answers are values accumulated over many sessions. A program puts them "
        "together from templates, after the benchmark of Zhang et al., *Learning to Remember* (arXiv 2602.18493); no "
        "dialogue and no question is taken from there, and nobody's real expenses are in it. Every answer is computed "
        "from the ledger of all events, and every event is part of the data.", "",
        "Licence of the data: CC BY 4.0, by the uma_lib authors. Licence of the generator: Apache-2.0.", "",
        "## Make it", "",
        "Nothing needs to be downloaded: the same arguments give the same data on every machine.", "",
        "```",
        f"python -m uma_lib.ledger make --track ledger-qa --size small --split test --sessions {short} "
        f"--out {name}.parquet",
        f"python -m uma_lib.ledger verify {name}",
        f"python -m uma_lib.ledger verify --file {name}.parquet",
        "```", "",
        f'One file: `load_dataset("parquet", data_files="{name}.parquet")`. A folder with the files of all test sets '
        f'and this card as README.md: `load_dataset(folder, "{config_name(name)}")`. '
        "`--format authors` writes the JSON of the paper's authors, `--format rl` the columns of their training data.",
        "",
        "## Splits and seeds", "",
        "A stream is seeded by its size, split, number of sessions and index, by nothing else, so that no two splits "
        "share a stream. The streams of `ledger-qa-revised` have the same purchases as those of `ledger-qa`, and "
        f"{TRACKS['ledger-qa-revised']} revisions for each purchase, told in further turns (so that a session may have "
        "more turns than its size says). The test sets are the first streams of the split `test` with one question of "
        "each kind, without the few that would let one and the same answer be right for more than "
        f"{testsets.CONSTANT:.0%} of the questions of a kind (column *left out* below). Streams of other splits can be "
        "made in any number.", "",
        "## Fields", "",
        "One row is one stream.", "",
        *_table(["field", "", ""], _described(files.ROW, _FIELDS)),
        "", "`events`:", "",
        *_table(["field", "", ""], _described(files.EVENT, _EVENT_FIELDS)),
        "", "`questions`:", "",
        *_table(["field", "", ""], _described(files.QUESTION, _QUESTION_FIELDS)),
        "", "## An example", "", *_example(), "",
        f"## Streams of {long} sessions", "",
        "Mean (least-largest) a session; n-grams and templates of what users say, with amounts and dates masked "
        "(templates: purchases and categories too).", "",
        *_table(["", *heads], [
            row("turns", spread("turns")), row("characters", spread("characters")), row("expenses", spread("expenses")),
            row("amounts", lambda m: f"{m['amounts']['least']}-{m['amounts']['largest']}"),
            row("user lines", variety("user_lines")),
            *(row(f"distinct {n}-grams", variety(f"distinct_{n}_grams")) for n in (1, 2, 3, 4)),
            row("templates", variety("templates")),
            row("lines with a stream's commonest template", lambda m: _percent(m["variety"]["most_frequent_template"])),
        ]), "",
        "## Known shortcuts", "",
        "- *Templates are finite.* Of the user lines in the test sets of size small, standard and hard, "
        + ", ".join(_percent(m["variety"]["seen_in_training"]) for m in plain_long.values())
        + f" have a template that the first {TRAINING_STREAMS} training streams have too.",
        f"- *Small has few amounts.* {_percent(small['whole_dollars'])} are whole dollars, from {small['least']} to "
        f"{small['largest']}: {small['different']} different ones. In standard "
        f"{_percent(plain_long['standard']['amounts']['whole_dollars'])} are whole dollars.",
        f"- *Questions use the words of the dialogues.* There are {phrases} kinds of purchases, each with one name in "
        "dialogues and questions alike, and dates are asked for as YYYY-MM-DD.",
        "- *The category of a purchase must be known.* Where questions name categories, the sessions that matter say "
        "none of them in "
        + ", ".join(_percent(m["category_unsaid"]) for m in plain_long.values())
        + " of the cases (small, standard, hard): which purchases belong to Dining is for the reader to know.",
        "- *Answers that stand in the text.* Of the gold answers in the test sets of size small, standard and hard, "
        + ", ".join(_percent(measured["ledger-qa", s, short]["answers_in_text"]["all"]) for s in SIZES)
        + f" stand somewhere in their stream of {short} sessions as a word, number or date of its own: nearly always "
        "the largest purchase of a range and the busiest date, often the amount of a single purchase, others by "
        "chance. What the text does not say is that they are the answer.",
        f"- *Constant answers.* Accuracy in percent of the constant that is best on the set itself, at {short} and at "
        f"{long} sessions; over all sets and kinds it is at most "
        f"{_percent(max(max(e['constants'].values()) for e in entries.values()))}:", "",
        *_table(["", *(f"{head} {n}" for head in heads for n in horizons)], map(constant, [*ALL_KINDS, "all"])), "",
        "## What counts", "",
        "A refund lowers the purchase that it is for, on the day of that purchase. What is cancelled or refunded in "
        "full is no transaction. A split makes two entries of one. What was changed has its last value. A purchase "
        "that is mentioned again (only in standard and hard) is marked as such (*as I said*, *did you note it?*). In "
        "size small a few purchases are worded in a way that a reader might take for a total or a repetition (*For an "
        "escape room I paid $15 in all*, after another one on the same day): all of them are purchases of their own.",
        "",
        "## Test sets", "",
        f"{len(entries)} sets, {streams:,} streams, {sum(e['questions'] for e in entries.values()):,} questions. "
        "SHA-256 is over the rows as canonical JSON; a parquet file holds it in its metadata.", "",
        *_table(["test set", "streams", "left out", "questions", "SHA-256"],
                ([e["name"], str(e["streams"]), str(len(e["left_out"])), str(e["questions"]), f"`{e['sha256']}`"]
                 for e in entries.values())),
        "",
    ])  # fmt: skip


def config_name(name: str) -> str:
    """The configuration of a test set: ``ledger-qa-small-10``."""
    return name.replace("/test/", "-").replace("/", "-")


def _described(shape: dict[str, Any], fields: dict[str, str]) -> list[list[str]]:
    def kind(inner: Any) -> str:
        if isinstance(inner, list):
            return "list" if isinstance(inner[0], dict) else f"list of {kind(inner[0])}"
        return {str: "string", str | None: "string or null", int: "int", float: "float"}[inner]

    return [[f"`{name}`", kind(inner), fields[name]] for name, inner in shape.items()]


def _example() -> list[str]:
    values = files.row(files.sample(Stream("small", "test", 2, 0)))
    shown = {"events[0]": values["events"][0], "questions[0]": values["questions"][0]}
    lines = ["```", f"{values['id']}, chunks[0]", values["chunks"][0]]
    return [*lines, *(f"\n{name}\n{json.dumps(value)}" for name, value in shown.items()), "```"]


def _size_category(rows: int) -> str:
    for limit, text in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if rows < limit:
            return text
    return "1M<n<10M"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
