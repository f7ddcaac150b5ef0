"""Files, test sets and the command line of Ledger-QA: round trips, and what is refused with which words."""

import gzip
import hashlib
import itertools
import json
import os
import socket
import subprocess
import sys
from copy import deepcopy
from decimal import Decimal

import datasets
import pytest
import yaml

from uma_lib.files import RunError, read_json
from uma_lib.ledger import CATEGORIES, TRACKS, Stream, authors, card, files, testsets
from uma_lib.ledger.__main__ import main
from uma_lib.ledger.files import ROW, canonical, from_row, row, sample, write_rows
from uma_lib.paths import DATA, RESULTS
from uma_lib.scoring import Gold

SAMPLES = [sample(Stream(size, "test", n, 3, TRACKS[track]), per_kind=2)
           for track in TRACKS for size in ("small", "standard", "hard") for n in (1, 6)]  # fmt: skip
REWRITTEN = sample(Stream("small", "train", 2, 0), sessions=Stream("small", "train", 2, 0), rewritten_by="a model")


def refused(call, *arguments) -> str:
    """The line that ``call`` raises."""
    with pytest.raises(RunError) as caught:
        list(call(*arguments) or ())
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return line


# --- round trips


def test_every_format_gives_back_the_samples(tmp_path):
    assert {q.gold.kind for s in SAMPLES for q in s.questions} == {"amount", "dates", "categories"}
    digest = files.write_parquet(tmp_path / "a.parquet", SAMPLES)
    assert list(files.read_parquet(tmp_path / "a.parquet")) == SAMPLES
    assert digest == hashlib.sha256(b"".join(canonical(row(s)) for s in SAMPLES)).hexdigest()
    for name in ("a.json", "a.json.gz"):
        authors.write_authors(tmp_path / name, iter(SAMPLES))
        assert authors.read_authors(tmp_path / name) == SAMPLES
        assert testsets.verify_file(tmp_path / name)["sha256"] == digest
    authors.write_authors(tmp_path / "none.json", [])
    assert authors.read_authors(tmp_path / "none.json") == []
    authors.write_rl(tmp_path / "rl.parquet", SAMPLES)
    for one, found in zip(SAMPLES, authors.read_rl(tmp_path / "rl.parquet"), strict=True):
        assert found["prompt"] == [{"role": "user", "content": [q.text for q in one.questions]}]
        assert found["reward_model"]["ground_truth"] == [", ".join(q.gold.values) for q in one.questions]
        assert found["context"] == "\n\n".join(one.chunks)
    about = testsets.verify_file(tmp_path / "rl.parquet")
    assert (about["streams"], about["questions"]) == (len(SAMPLES), sum(len(s.questions) for s in SAMPLES))


def test_files_say_who_has_rewritten_them(tmp_path, monkeypatch, capsys):
    both = [REWRITTEN, SAMPLES[0]]
    digest = files.write_parquet(tmp_path / "a.parquet", both)
    authors.write_authors(tmp_path / "a.json", both)
    assert list(files.read_parquet(tmp_path / "a.parquet")) == authors.read_authors(tmp_path / "a.json") == both
    plain = [sample(Stream("small", "train", 2, 0)), SAMPLES[0]]
    assert both[0].chunks == plain[0].chunks and digest != files.write_parquet(tmp_path / "b.parquet", plain)
    for name, said in (("a.parquet", "a model"), ("a.json", "a model"), ("b.parquet", None)):
        run(monkeypatch, "verify", "--file", tmp_path / name)
        printed = capsys.readouterr().out
        assert ("it is no test set" in printed) == (said is not None) and (said or "") in printed
    for wrong in ({"sessions": ()}, {"rewritten_by": "a model"}, {"sessions": (), "rewritten_by": ""}):
        with pytest.raises(ValueError, match="rewritten_by"):
            sample(Stream("small", "train", 2, 0), **wrong)


def test_datasets_loads_the_parquet_files_of_a_card_without_network(tmp_path, monkeypatch):
    def no_network(*_):
        raise AssertionError("no network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    first, name = testsets.NAMES[0], "ledger-qa-revised/small/test/2"  # the first has to be there
    paths = [tmp_path / f"{n}.parquet" for n in (first, name)]
    files.write_parquet(paths[0], [SAMPLES[0]])
    assert files.write_parquet(paths[1], map(sample, testsets.test_set(name))) == testsets.fingerprint(name)
    cache = str(tmp_path / "cache")
    found = datasets.load_dataset("parquet", data_files=str(paths[1]), split="train", cache_dir=cache)
    assert [from_row(values, "") for values in found] == [sample(s) for s in testsets.test_set(name)]
    front = (DATA / "ledger_qa_card.md").read_text().split("---\n")[1]  # its configurations find the files
    (tmp_path / "README.md").write_text(f"---\n{front}---\n")
    found = datasets.load_dataset(str(tmp_path), card.config_name(name), split="test", cache_dir=cache)
    assert len(found) == 100


def test_datasets_loads_files_of_all_kinds_together(tmp_path, monkeypatch):
    """Columns that are null in one file and text in another have no type that fits both."""
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("no network"))
    kinds = {
        "plain": [sample(Stream("small", "test", 1, 0))],
        "revised": [sample(Stream("small", "test", 30, 0, 0.4))],
        "hard": [sample(Stream("hard", "test", 3, i)) for i in range(2)],
        "revised-hard": [sample(Stream("hard", "test", 6, 0, 0.4))],
        "rewritten": [REWRITTEN],
    }
    for kind, samples in kinds.items():
        authors.write_authors(tmp_path / f"{kind}.json", samples)
        authors.write_authors(tmp_path / f"{kind}.json.gz", samples)
        files.write_parquet(tmp_path / f"{kind}.parquet", samples)
        authors.write_rl(tmp_path / f"{kind}-rl.parquet", samples)
    count = itertools.count()

    def load(form, paths, **options):
        return datasets.load_dataset(
            form, data_files=[str(tmp_path / path) for path in paths], split="train",
            cache_dir=str(tmp_path / f"cache{next(count)}"), **options,
        )  # fmt: skip

    names = [one.id for samples in kinds.values() for one in samples]
    for ending, form, column in (
        (".json", "json", "task_id"), (".json.gz", "json", "task_id"), (".parquet", "parquet", "id"),
        ("-rl.parquet", "parquet", "agent_name"),
    ):  # fmt: skip
        wanted = names if column != "agent_name" else ["tool_mem_agent"] * len(names)
        for order in ([*kinds], [*kinds][::-1]):
            paths = [f"{kind}{ending}" for kind in order]
            assert sorted(load(form, paths)[column]) == sorted(wanted)
            assert sorted(row[column] for row in load(form, paths, streaming=True)) == sorted(wanted)
        alone = [load(form, [f"{kind}{ending}"]) for kind in kinds]
        assert all(one.features == alone[0].features for one in alone)
        assert list(datasets.concatenate_datasets(alone)[column]) == wanted
    for first, second in itertools.permutations(kinds, 2):
        assert len(load("json", [f"{first}.json", f"{second}.json"])) == len(kinds[first] + kinds[second])
    found = load("json", ["plain.json"])[0]
    assert found["metadata"]["ledger_qa"]["rewritten_by"] == "" and found["questions"][0]["scene"] == ""


def test_tasks_with_null_for_a_missing_text_are_read(tmp_path):
    """As files were written before."""

    def with_null(value):
        if isinstance(value, dict):
            return {name: with_null(inner) for name, inner in value.items()}
        return [with_null(inner) for inner in value] if isinstance(value, list) else None if value == "" else value

    path = tmp_path / "a.json"
    authors.write_authors(path, [*SAMPLES, REWRITTEN])
    tasks = json.loads(path.read_text())
    assert "" in {event["revises"] for task in tasks for event in task["metadata"]["ledger_qa"]["events"]}
    path.write_text(json.dumps(with_null(tasks)))
    assert "null" in path.read_text()
    assert authors.read_authors(path) == [*SAMPLES, REWRITTEN]


def test_same_bytes_in_every_process(tmp_path):
    code = (
        "import sys; from uma_lib.ledger import Stream, authors, files\n"
        "one = [files.sample(Stream('standard', 'test', 3, i, 0.2)) for i in range(3)]\n"
        "files.write_parquet(sys.argv[1] + '.parquet', one); authors.write_authors(sys.argv[1] + '.json.gz', one)\n"
        "import uma_lib.ledger.__main__; assert 'torch' not in sys.modules"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, str(tmp_path / seed)], env=environment, check=True)
    for ending in (".parquet", ".json.gz"):
        assert (tmp_path / f"1{ending}").read_bytes() == (tmp_path / f"2{ending}").read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    def samples():
        yield SAMPLES[0]
        raise RunError("no more")

    for write, path in ((files.write_parquet, tmp_path / "a.parquet"), (authors.write_authors, tmp_path / "a.json.gz")):
        path.write_bytes(b"old")
        assert refused(write, path, samples()) == "no more"
        assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    assert "cannot write" in refused(files.write_parquet, tmp_path, SAMPLES)


# --- refusals


def changed(values, place, value):
    """A copy with the field at ``place`` set to ``value``, or removed where it is `del`."""
    values = deepcopy(values)
    *way, last = place
    inner = values
    for step in way:
        inner = inner[step]
    if value is del_:
        del inner[last]
    else:
        inner[last] = value
    return values


del_ = object()
BAD_ROWS = [
    (("track",), "ledger", "unknown track 'ledger'; did you mean 'ledger-qa'?"),
    (("size",), "huge", "unknown size 'huge'; known: small, standard, hard"),
    (("split",), "tests", "unknown split 'tests'; did you mean 'test'?"),
    (("sessions",), 7, "id is 'ledger-qa-revised/standard/test/6/3', not 'ledger-qa-revised/standard/test/7/3'"),
    (("index",), -1, "index is -1, not at least 0"),
    (("revisions",), 0.0, "revisions is 0.0, not that of track ledger-qa-revised"),
    (("chunks",), ["one"], "chunks has 1 items for 6 sessions"),
    (("dates", 2), "2024-02-30", "dates[2] is '2024-02-30', not a date as YYYY-MM-DD"),
    (("track",), None, "track is None (NoneType), not str"),
    (("rewritten_by",), "", "rewritten_by is '', not the name of a model"),
    (("events", 1, "kind"), "purchases", "events[1]: unknown kind 'purchases'; did you mean 'purchase'?"),
    (("events", 1, "session"), 6, "events[1]: session is 6, not one of 0 to 5"),
    (("events", 1, "amount"), "1e3", "events[1]: amount is '1e3', not a decimal number"),
    (("events", 1, "amount"), "9" * 9999, "events[1]: amount is '9999999999"),
    (("events", 1, "amount"), "-0.0", "events[1]: amount is '-0.0', not a decimal number"),
    (("events", 1, "amount"), "nan", "events[1]: amount is 'nan', not a decimal number"),
    (("events", 1, "date"), "2024-13-01", "events[1]: date is '2024-13-01', not a date as YYYY-MM-DD"),
    (("events", 1, "date"), "10000-01-01", "events[1]: date is '10000-01-01', not a date"),
    (("events", 1, "date"), "", "events[1]: date is '', not a date"),
    (("dates", 0), "0000-01-01", "dates[0] is '0000-01-01', not a date as YYYY-MM-DD"),
    (("questions", 0, "start"), "9", "questions[0]: start is '9', not a date as YYYY-MM-DD"),
    (("questions", 0, "end"), "2024-00-01", "questions[0]: end is '2024-00-01', not a date as YYYY-MM-DD"),
    (("questions", 0, "kind"), "riddle", "questions[0]: unknown kind 'riddle'"),
    (("questions", 0, "answer_type"), "number", "questions[0]: Gold.kind is 'number'"),
    (("questions", 0, "values"), ["a", "b"], "questions[0]: amount gold ('a', 'b')"),
    (("questions", 0, "answer"), "1", "questions[0]: answer is '1', but values are"),
    (("questions", 0, "end"), None, "questions[0]: start is '2023-06-11' and end is None; a range has both"),
    (("questions", 0, "sessions"), [9], "questions[0]: sessions are [9], not among 0 to 5"),
]


@pytest.mark.parametrize(("place", "value", "said"), BAD_ROWS)
def test_bad_rows_are_refused(tmp_path, place, value, said):
    values = changed(row(SAMPLES[9]), place, value)
    write_rows(tmp_path / "a.parquet", "streams", ROW, [row(SAMPLES[0]), values])  # with a SHA-256 that is right
    assert f"{tmp_path}/a.parquet: row 1: {said}" in refused(files.read_parquet, tmp_path / "a.parquet")


def test_bad_parquet_files_are_refused(tmp_path):
    path, rows = tmp_path / "a.parquet", [row(s) for s in SAMPLES]
    less = {name: shape for name, shape in ROW.items() if name != "chunks"}
    write_rows(path, "streams", less, [changed(values, ("chunks",), del_) for values in rows])
    assert refused(files.read_parquet, path) == f"{path}: column 'chunks' is missing"
    other = {**ROW, "sessions": str}
    write_rows(path, "streams", other, [{**values, "sessions": "6"} for values in rows])
    assert refused(files.read_parquet, path) == f"{path}: row 0: sessions is '6' (str), not int"

    right = changed(rows[9], ("chunks", 2), '[2024-05-01] User said, "Hello."')  # a SHA-256 that is not its own
    digests = []
    for content in ([rows[9]], [right]):
        digests.append(write_rows(path, "streams", ROW, content))
    path.write_bytes(path.read_bytes().replace(digests[1].encode(), digests[0].encode()))
    assert f"{path}: SHA-256 of the content is {digests[1][:12]}" in refused(files.read_parquet, path)

    authors.write_rl(path, SAMPLES)
    assert f"{path}: holds format 'rl', not 'streams'" in refused(files.read_parquet, path)
    datasets.Dataset.from_list(rows).to_parquet(path)
    assert f"{path}: has no 'ledger_qa' in its metadata" in refused(files.read_parquet, path)
    files.write_parquet(path, SAMPLES)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"version": 2', b'"version": 1'))
    said = f"{path}: format version is 1, this package reads 2; make it again"
    assert refused(files.read_parquet, path) == refused(testsets.verify_file, path) == said
    middle = len(whole) // 3
    for damaged in (whole[:-9], b"", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        path.write_bytes(damaged)
        assert f"{path}: not a readable parquet file" in refused(files.read_parquet, path)
    assert f"{tmp_path}/b.parquet: no such file" in refused(files.read_parquet, tmp_path / "b.parquet")


BAD_TASKS = [
    (("task_id",), del_, "field 'task_id' is missing"),
    (("chunks", 0), 5, "chunks[0] is 5 (int), not str"),
    (("questions", 1), "why", "questions[1] is 'why' (str), not an object with fields"),
    (("questions", 1, "query"), del_, "questions[1]: field 'query' is missing"),
    (("questions", 1, "values"), del_, "questions[1]: field 'values' is missing"),
    (("questions", 1, "query"), "How?", "SHA-256 of the content is"),
    (("chunks", 0), "", "SHA-256 of the content is"),
    (("metadata",), [], "metadata is [] (list), not an object with fields"),
    (("metadata", "ledger_qa"), del_, "field 'metadata.ledger_qa' is missing"),
    (("metadata", "ledger_qa", "size"), "smal", "unknown size 'smal'; did you mean 'small'?"),
    (("metadata", "ledger_qa", "version"), 1, "metadata.ledger_qa: format version is 1, this package reads 2; make it"),
    (("metadata", "ledger_qa", "rewritten_by"), "a model", "SHA-256 of the content is"),
    (("metadata", "ledger_qa", "rewritten_by"), del_, "field 'rewritten_by' is missing"),
    (("metadata", "transaction_events", 0, "amount"), 1.5, "metadata.transaction_events[0].amount does not follow"),
    (("questions", 0, "position"), 2, "questions[0].position does not follow"),
]


@pytest.mark.parametrize(("place", "value", "said"), BAD_TASKS)
def test_bad_tasks_are_refused(tmp_path, place, value, said):
    path = tmp_path / "a.json"
    authors.write_authors(path, SAMPLES[8:10])
    tasks = json.loads(path.read_text())
    path.write_text(json.dumps([tasks[0], changed(tasks[1], place, value)]))
    assert f"{path}: task 1: {said}" in refused(authors.read_authors, path)


def test_bad_json_files_are_refused(tmp_path):
    path = tmp_path / "a.json.gz"
    authors.write_authors(path, SAMPLES)
    whole = path.read_bytes()
    for content, said in (
        (whole[:-20], "truncated gzip"),
        (whole[:100] + b"xxxx" + whole[104:], "damaged gzip"),
        (gzip.compress(b"[{]"), "not valid JSON (line 1)"),
        (gzip.compress(b"\xff"), "not UTF-8 text"),
        (gzip.compress(b"{}"), "holds dict, not a list of tasks"),
        (gzip.compress(b"[5]"), "task 0 is 5 (int), not an object with fields"),
        (gzip.compress(b"[" * 10**6), "not JSON that can be read (maximum recursion depth"),
        (gzip.compress(b'[{"a":' * 10**5), "not JSON that can be read (maximum recursion depth"),
        (gzip.compress(b"[" + b"9" * 5000 + b"]"), "not JSON that can be read (Exceeds the limit"),
        (gzip.compress(b"[" * 900 + b"]" * 900), "task 0 is [[[[[["),
        (gzip.compress(b"\xef\xbb\xbf[]"), "not valid JSON (line 1)"),
    ):
        path.write_bytes(content)
        assert refused(authors.read_authors, path).startswith(f"{path}: {said}")
    assert "the name must end in" in refused(testsets.verify_file, tmp_path / "a.csv")


def test_files_of_the_authors_themselves(tmp_path):
    def task(answer, **more):
        question = {"qid": "q", "query": "What?", "answer": answer, "position": 1, "category": "max_single_amount"}
        transaction = {"date": "2024-03-01", "scene": "Dining", "subscene": "Fast Food", "amount": 12.5}
        return {
            "task_id": "t", "questions": [question | more], "metadata": {"transaction_events": [transaction]},
            "chunks": ['[2024-02-01] User said, "Hi."', '[2024-03-01] User said, "A burger, 12.5."'],
        }  # fmt: skip

    path = tmp_path / "theirs.json"
    answers = {
        "12.50": Gold("amount", ("12.50",)),
        "1,234.50": Gold("amount", ("1234.50",)),
        "2024-03-01": Gold("dates", ("2024-03-01",)),
        "2024-03-01, 2024-03-05": Gold("dates", ("2024-03-01", "2024-03-05")),
        "Dining and medical": Gold("categories", ("Dining", "Medical")),
    }
    path.write_text(json.dumps([task(answer) for answer in answers]))
    found = authors.read_authors(path)
    assert [s.questions[0].gold for s in found] == list(answers.values())
    assert found[0].questions[0].kind == "largest_range" and found[0].dates == ("2024-02-01", "2024-03-01")
    [event] = found[0].events
    assert (event.session, event.category, event.scene, event.amount) == (1, "Dining", "Fast Food", Decimal("12.5"))
    assert testsets.verify_file(path)["sha256"] is None
    assert "only streams of this package" in refused(files.write_parquet, tmp_path / "a.parquet", found)
    path.write_text(json.dumps([{"task_id": "t", "chunks": ["a"], "questions": [{"question": "?", "answer": "5"}]}]))
    assert authors.read_authors(path)[0].questions[0].gold == Gold("amount", ("5",))  # no more than this is needed
    for bad, said in (
        (task("a lot"), "questions[0]: answer 'a lot' is no amount, no dates"),
        (task("2024-02-30"), "questions[0]: answer '2024-02-30' is no amount, no dates"),
        (task(12.5), "questions[0]: answer is 12.5 (float), not str"),
        (task("5", position=0), "questions[0]: position is 0; only questions after the last chunk"),
        (changed(task("5"), ("metadata", "transaction_events", 0, "date"), "2024-01-01"), "which no chunk begins with"),
    ):
        path.write_text(json.dumps([bad]))
        line = refused(authors.read_authors, path)
        assert line.startswith(f"{path}: task 0: ") and said in line


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("transaction_events", 0, "amount"), "1e400", "metadata.transaction_events[0].amount is inf (float), not"),
        (("transaction_events", 0, "amount"), "-1e400", "amount is -inf (float), not an amount above 0"),
        (("transaction_events", 0, "amount"), "NaN", "amount is nan (float), not an amount above 0"),
        (("transaction_events", 0, "amount"), "-0.0", "amount is -0.0 (float), not an amount above 0"),
        (("transaction_events", 0, "amount"), "-5", "amount is -5 (int), not an amount above 0"),
        (("transaction_events", 0, "amount"), "9" * 400, "999... (int), not an amount above 0"),
        (("transaction_events", 0, "amount"), "true", "amount is True (bool), not int | float"),
        (("transaction_events", 0, "date"), '"2024-02-31"', "date is '2024-02-31', which no chunk begins with"),
        (("transaction_events", 0, "date"), "20240301", "date is 20240301 (int), not str"),
        (("transaction_events",), "{}", "metadata.transaction_events is {} (dict), not a list"),
        (("chunks", 1), '"[2024-02-31] User said, \\"Hi.\\""', "chunks[1] begins with 2024-02-31, which is no day"),
        (("chunks", 0), '"[0000-00-00] Hi."', "chunks[0] begins with 0000-00-00, which is no day"),
        (("questions", 0, "answer"), f'"{"9" * 5000}x"', "questions[0]: answer '99999999"),
        (("questions", 0, "answer"), '"1e400"', "questions[0]: answer '1e400' is no amount"),
        (("questions", 0, "answer"), '"9999-99-99"', "questions[0]: answer '9999-99-99' is no amount"),
        (("questions", 0, "answer"), '"NaN"', "questions[0]: answer 'NaN' is no amount"),
        (("questions", 0, "position"), "9" * 400, "questions[0]: position is 9999"),
        (("questions", 0, "position"), "[" * 500 + "]" * 500, "questions[0]: position is [[[[[["),
    ],
)
def test_values_out_of_range_in_files_of_the_authors(tmp_path, place, value, said):
    task = {
        "task_id": "t", "questions": [{"query": "What?", "answer": "5", "position": 1}],
        "transaction_events": [{"date": "2024-03-01", "scene": "Dining", "amount": 12.5}],
        "chunks": ['[2024-02-01] User said, "Hi."', '[2024-03-01] User said, "A burger, 12.5."'],
    }  # fmt: skip
    bad = changed(task, place, "@")
    bad["metadata"] = {"transaction_events": bad.pop("transaction_events")}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps([bad]).replace('"@"', value))
    line = refused(authors.read_authors, path)
    assert line.startswith(f"{path}: task 0: ") and said in line and len(line) < 600


def test_verify_finds_answers_that_the_events_do_not_give(tmp_path):
    one = row(SAMPLES[9])
    k = next(k for k, q in enumerate(one["questions"]) if q["kind"] == "grand_total")
    wrong = changed(changed(one, ("questions", k, "values"), ["1.00"]), ("questions", k, "answer"), "1.00")
    path = tmp_path / "a.parquet"
    write_rows(path, "streams", ROW, [one, wrong])
    right = one["questions"][k]["answer"]
    said = f"{path}: row 1: questions[{k}].answer is '1.00'; its events give '{right}'"
    assert refused(testsets.verify_file, path) == said
    lost = changed(one, ("events", 0), {**one["events"][0], "kind": "cancel", "revises": "9.9"})
    write_rows(path, "streams", ROW, [lost])
    assert f"{path}: row 0: events: cancel in session 0: there is no entry 9.9" in refused(testsets.verify_file, path)


# --- test sets


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ledger/small/test/10", "unknown track 'ledger'; known: ledger-qa, ledger-qa-revised"),
        ("ledger-qa/tiny/test/10", "unknown size 'tiny'; known: small, standard, hard"),
        ("ledger-qa/small/train/10", "unknown split 'train'; known: test"),
        ("ledger-qa/small/test/11", "unknown horizon '11'; known: 2, 5, 10, 20, 30, 40, 50, 100, 500"),
        ("ledger-qa", "write TRACK/SIZE/test/SESSIONS, such as ledger-qa/small/test/10"),
    ],
)
def test_unknown_test_sets(name, said):
    assert said in refused(testsets.test_set, name)


def test_the_manifest_is_complete_and_what_it_says_is_made_here():
    entries = testsets.load()
    assert tuple(entries) == testsets.NAMES
    assert all(e["questions"] >= 600 for e in entries.values() if e["streams"] == 100)
    assert len({e["sha256"] for e in entries.values()}) == len(entries)
    assert all(share <= 0.15 for e in entries.values() for kind, share in e["constants"].items())
    assert all(e["streams"] == testsets.size_of_set(int(e["name"].rsplit("/")[-1])) for e in entries.values())
    small = [f"{track}/small/test/{n}" for track in TRACKS for n in testsets.HORIZONS if n <= 50]
    testsets.verify([*small, "ledger-qa-revised/standard/test/2", "ledger-qa/hard/test/2"])


@pytest.mark.parametrize("rate", [0.05, 0.4, 1])
def test_streams_at_any_rate_of_revisions_come_back(tmp_path, rate):
    samples = [sample(Stream("small", "train", 6, index, rate)) for index in range(2)]
    files.write_parquet(tmp_path / "a.parquet", samples)
    authors.write_authors(tmp_path / "a.json", samples)
    for found in (files.read_parquet(tmp_path / "a.parquet"), authors.read_authors(tmp_path / "a.json")):
        assert list(found) == samples
    assert samples[0].id == f"ledger-qa-revised@{float(rate)}/small/train/6/0"


def test_streams_are_left_out_only_where_an_answer_is_given_too_often():
    entries = testsets.load()
    for name in ("ledger-qa/small/test/2", "ledger-qa/small/test/5", "ledger-qa-revised/standard/test/10"):
        left_out = entries[name]["left_out"]
        assert testsets.leave_out(name) == left_out
        track, size, _, sessions = name.split("/")
        plain = [Stream(size, "test", int(sessions), i, TRACKS[track]) for i in range(100)]
        best = testsets.constants(q for stream in plain for q in stream.questions())
        assert (max(found["accuracy"] for found in best.values()) > 0.15) == bool(left_out)
        first = list(testsets.first_streams(size, "test", int(sessions), 100, TRACKS[track]))
        assert [s.name for s in first] == [s.name for s in testsets.test_set(name)]
        assert not {s.index for s in first} & set(left_out) and len(first) == 100
    # of other splits and rates no stream is left out
    for split, rate in (("train", 0.0), ("test", 0.3)):
        made = testsets.first_streams("small", split, 2, 100, rate)
        assert [stream.index for stream in made] == list(range(100))


def test_the_committed_evaluation_is_on_the_first_streams_of_the_test_sets():
    """It was made on the streams from index 0."""
    config = read_json(RESULTS / "evaluation" / "params.json")
    for sessions, number in zip(config["horizons"], config["streams"], strict=True):
        made = testsets.first_streams(config["size"], config["split"], sessions, number)
        assert [stream.index for stream in made] == list(range(number))


def test_a_manifest_that_differs(tmp_path):
    path, manifest = tmp_path / "m.json", read_json(testsets.MANIFEST)
    name = manifest["sets"][0]["name"]
    for place, value, said in (
        (("sets", 0, "sha256"), "0" * 64, f"test set {name}: sha256 is {'0' * 64} there, but"),
        (("sets", 0, "questions"), 7, f"test set {name}: questions is 7 there, but 800 is made here"),
        (("sets", 0, "questions"), "7", "sets[0].questions is '7' (str), not int"),
        (("sets", 0), {}, "sets[0]: field 'name' is missing"),
        (("sets", 0, "name"), "x", f"unknown test set '{name}'"),
        (("version",), 1, "version is 1, this package reads 2"),
    ):
        path.write_text(json.dumps(changed(manifest, place, value)))
        line = refused(testsets.verify, [name], path)
        assert line.startswith(f"{path}: ") and said in line
    assert "no such file" in refused(testsets.verify, [name], tmp_path / "none.json")


# --- the command line, measurements, the card


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["uma_lib.ledger", *map(str, arguments)])
    main()


def test_command_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "new" / "a.parquet"
    run(monkeypatch, "make", "--split", "test", "--sessions", 2, "--out", path)
    run(monkeypatch, "verify", "--file", path)
    assert "100 streams, 800 questions\nit is the test set ledger-qa/small/test/2" in capsys.readouterr().out
    path = tmp_path / "a.json"
    track = ("--track", "ledger-qa-revised", "--size", "standard")
    run(
        monkeypatch,
        "make",
        *track,
        "--sessions",
        2,
        "--streams",
        3,
        "--per-kind",
        5,
        "--format",
        "authors",
        "--out",
        path,
    )
    assert len(authors.read_authors(path)) == 3
    run(monkeypatch, "verify", "ledger-qa/small/test/2")
    assert capsys.readouterr().out.endswith("ledger-qa/small/test/2: as in the manifest\n")
    make = ("make", "--sessions", 2, "--out", tmp_path / "b.parquet")
    (tmp_path / "new.parquet").mkdir()
    for arguments, said in (
        ((*make, "--track", "ledger"), "--track: unknown track 'ledger'; did you mean 'ledger-qa'?"),
        ((*make, "--size", "big"), "--size: unknown size 'big'"),
        ((*make, "--format", "csv"), "--format: unknown format 'csv'"),
        ((*make, "--format", "authors"), "ends in .json or .json.gz"),
        ((*make, "--revisions", 0.5), "more is track ledger-qa-revised"),
        ((*make, "--streams", 0), "--streams 0: at least 1 is needed"),
        ((*make, "--streams", 10**12), "--streams 1000000000000: at most 1000000 is possible"),
        ((*make, "--per-kind", 0), "--per-kind 0: at least 1 is needed"),
        ((*make, "--per-kind", 10**6), "--per-kind 1000000: at most 1000 is possible"),
        ((*make, "--revisions", "nan"), "revisions is a rate between 0 and 1, not nan"),
        ((*make, "--revisions", "nan", "--track", "ledger-qa-revised"), "--revisions nan: 0 is track ledger-qa"),
        ((*make, "--revisions", "inf", "--track", "ledger-qa-revised"), "a rate between 0 and 1, not inf"),
        ((*make, "--out", tmp_path / "new.parquet"), "new.parquet: a folder is there; give the name of a file"),
        (("make", "--sessions", 0, "--out", tmp_path / "b.parquet"), "--sessions 0: at least 1 is needed"),
        (("make", "--sessions", 10**9, "--out", tmp_path / "b.parquet"), "--sessions 1000000000: at most 20000 is"),
        (("verify", "--file", path, "ledger-qa/small/test/2"), "not both"),
        (("verify", "ledger-qa/small/test/3"), "unknown horizon '3'"),
        (("describe", "--size", "big"), "unknown size 'big'"),
    ):
        with pytest.raises(SystemExit) as caught:
            run(monkeypatch, *arguments)
        assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "b.parquet").exists()


def test_measurements():
    assert card.template("Before I forget, I paid twelve fifty for a taxi on 1 May 2024, not $1,012.5.") == (
        "Before I forget, I paid <amount> for <thing> on <date>, not <amount>."
    )
    assert card.template("One more thing: a taxi for eight dollars and five cents, two days ago.") == (
        "One more thing: <thing> for <amount>, two days ago."
    )
    for size in ("small", "hard"):  # no fact is left in what is called a template
        lines = [line for session in Stream(size, "test", 20, 0, 0.2) for line in card.user_lines(session)]
        left = [t for t in map(card.template, lines) if any(c.isdigit() for c in t) or any(c in t for c in CATEGORIES)]
        assert len(lines) > 20 and not left
    found = card.describe("ledger-qa/small/test/2")
    assert found["turns"] == {**found["turns"], "least": 2} and found["amounts"]["whole_dollars"] == 1.0
    questions = [q for stream in testsets.test_set("ledger-qa/small/test/2") for q in stream.questions()]
    grand = [q.gold.values for q in questions if q.kind == "grand_total"]
    best = found["best_constants"]["grand_total"]
    assert best["accuracy"] == max(map(grand.count, grand)) / len(grand) == grand.count((best["answer"],)) / len(grand)


def test_the_card_is_that_of_the_manifest():
    text = (DATA / "ledger_qa_card.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0" and len(front["configs"]) == len(testsets.NAMES)
    for entry in testsets.load().values():
        row = (entry["name"], entry["streams"], len(entry["left_out"]), entry["questions"], f"`{entry['sha256']}`")
        assert f"| {' | '.join(map(str, row))} |" in text
    assert (ROW.keys(), files.EVENT.keys(), files.QUESTION.keys()) == (
        card._FIELDS.keys(), card._EVENT_FIELDS.keys(), card._QUESTION_FIELDS.keys(),
    )  # fmt: skip
