"""Data sets: real samples where they are at hand, small files in the original schema where they are not."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests import set_files
from tests.contracts import check_dataset
from uma_lib.datasets.build import Build
from uma_lib.datasets.sets import SETS, load_set
from uma_lib.datasets.source import Source, rows
from uma_lib.files import RunError, sha256
from uma_lib.ledger import Stream
from uma_lib.ledger.authors import write_authors
from uma_lib.ledger.files import sample as ledger_sample
from uma_lib.ledger.files import write_parquet
from uma_lib.paths import REPO

REAL = Path(os.environ.get("UMA_SAMPLES", REPO.parent / "shared" / "data"))
FOLDERS = {"memalpha": "derived_memoryagentbench", "memoryagentbench": "derived_memoryagentbench"}


def tokens(text: str) -> int:
    """About what a tokenizer finds, for tests."""
    return (len(text) + 3) // 4


BUILD = Build(tokens, chunk_tokens=1024)


@pytest.fixture
def real(tmp_path):
    """`load_set` on a real sample; skips where the samples are not."""

    def load(name: str, build: Build = BUILD):
        folder = {"trec-coarse": "trec", "trec-fine": "trec"}.get(name, name)
        place = REAL / FOLDERS.get(name, folder)
        if not place.is_dir():
            pytest.skip(f"the real sample of {name} is not in {REAL}: name its folder in UMA_SAMPLES")
        (tmp_path / folder).mkdir()
        for path in place.iterdir():
            if name not in FOLDERS or (path.suffix == ".parquet") == (name == "memalpha"):
                (tmp_path / folder / path.name).symlink_to(path)
        return load_set(name, tmp_path, build)

    return load


# name: samples, chunks of each, questions, kinds, first and last question (their beginning and gold)
EXPECTED = {
    "banking77": ([135], 100, {"label": 100}),
    "clinc150": ([140], 100, {"label": 100}),
    "trec-coarse": ([103], 100, {"label": 100}),
    "trec-fine": ([104], 100, {"label": 100}),
    "hotpotqa": ([202, 200, 200, 200], 4, {"question": 4}),
    "locomo": (
        [27, 21], 304,
        {"single-hop": 114, "adversarial": 71, "temporal": 63, "multi-hop": 43, "open-domain": 13},
    ),
    "longmemeval": ([10, 10], 2, {"knowledge-update": 1, "abstention": 1}),
    "squad": ([10, 9], 200, {"question": 200}),
    "memalpha": ([4, 7, 3, 3, 3], 100, None),
    "memoryagentbench": ([3, 5, 2, 2, 2], 100, None),
}
ENDS = {
    "banking77": ("I don't understand where this debit came from", "29", None, None),
    "hotpotqa": ("Which movie was filmed first", "You're Next", None, None),
    "locomo": ("When did Caroline go to the LGBTQ support group?", "7 May 2023", None, None),
    "longmemeval": ("[2023/06/01 (Thu) 00:58] What was my personal best", "25 minutes and 50 seconds (or 25:50)",
                    "[2023/05/30 (Tue) 08:08] Which task did I complete first", "The information provided"),
    "squad": ("When did the Siege of Antioch take place?", "1097", None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_real_samples(name, real):
    data = real(name)
    check_dataset(data, splits=("test",), draws=False)
    samples = list(data.samples("test"))
    chunks, asked, kinds = EXPECTED[name]
    questions = [question for sample in samples for question in sample.questions]
    assert [len(sample.chunks) for sample in samples] == chunks and len(questions) == asked
    if kinds:
        assert Counter(question.kind for question in questions) == kinds
    assert all(0 < tokens(chunk) <= BUILD.chunk_tokens for sample in samples for chunk in sample.chunks)
    first, gold, last, last_gold = ENDS.get(name, (None,) * 4)
    if first:
        assert first in questions[0].text and str(questions[0].gold) == gold
    if last:
        assert last in questions[-1].text and str(questions[-1].gold).startswith(last_gold)
    place, digest = next(iter(data.source.read.items()))
    assert digest == sha256(Path(data.source.folder) / place)


def test_labels_are_balanced_and_questions_are_held_out(real):
    data = real("banking77", Build(tokens, 1024, stream_tokens=12_000))
    (sample,) = data.samples("test")
    shown = [block.split("\nLabel: ") for chunk in sample.chunks for block in chunk.split("\n\n")]
    counts = Counter(label.strip() for _, label in shown)
    assert len(counts) == 77 and max(counts.values()) - min(counts.values()) <= 1
    with open(REAL / "banking77" / "test.csv", newline="") as file:
        gold = {" ".join(row["text"].split()): row["category"] for row in csv.DictReader(file)}
    names = sorted(set(gold.values()))
    for question in sample.questions:
        text = question.text.removeprefix("Sentence: ").partition("\nWhich")[0]
        assert names[int(question.gold.values[0])] == gold[text] == question.gold.values[1]
        assert text not in {sentence.removeprefix("Sentence: ") for sentence, _ in shown}
    (again,) = data.samples("test")
    assert list(again.chunks) == list(sample.chunks)
    other = load_set("banking77", data.source.folder, Build(tokens, 1024, seed=1, stream_tokens=12_000))
    assert list(next(other.samples("test")).chunks) != list(sample.chunks)
    with pytest.raises(RunError, match="no room for every label; raise stream_tokens"):
        list(load_set("banking77", data.source.folder, Build(tokens, 1024, stream_tokens=500)).samples("test"))


def test_locomo_by_its_audit(real):
    """Both golds are scored where errors.json lies beside the data."""
    data = real("locomo")
    assert data.metrics == ("f1", "exact", "rouge_l")
    errors = [
        {"question": "When did Melanie paint a sunrise?", "golden_answer": "2022", "category": 2,
         "error_type": "WRONG_CITATION", "correct_answer": "2022"},
        {"question": "What fields would Caroline be likely to pursue in her educaton?", "category": 3,
         "golden_answer": "Psychology, counseling certification", "error_type": "HALLUCINATION",
         "correct_answer": "Counseling or mental health"},
    ]  # fmt: skip
    set_files.write(Path(data.source.folder) / "locomo" / "errors.json", errors)
    assert data.metrics[-1] == "f1_corrected"
    first, *_ = data.samples("test")
    question = first.questions[2]
    scores = {score.metric: score.value for score in data.scores(question, "counseling or mental health")}
    assert scores["f1_corrected"] == 1.0 and scores["f1"] < 0.5
    same = {score.metric: score.value for score in data.scores(first.questions[1], "2022")}
    assert same["f1"] == same["f1_corrected"] == 1.0


def test_locomo_options_and_evidence(real):
    data = real("locomo")
    (first, _) = data.samples("test")
    letters = Counter()
    for question in first.questions:
        if question.kind == "adversarial":
            letter, text = question.gold.values
            letters[letter] += 1
            assert f"({letter}) Not mentioned" in question.text and text.startswith("Not mentioned")
        if question.kind == "temporal":
            assert question.text.endswith("approximate date.")
    assert min(letters["a"], letters["b"]) > 10
    question = next(q for q in first.questions if q.text.startswith("What did Caroline research?"))
    assert any("adoption agencies" in first.chunks[k].lower() for k in question.evidence)


def test_hotpotqa_from_plain_files(real, tmp_path):
    ready = real("hotpotqa")
    (Path(ready.source.folder) / "hotpotqa" / "eval_200.derived.json.gz").unlink()
    data = load_set("hotpotqa", ready.source.folder, Build(tokens, 1024, samples=3))
    check_dataset(data, splits=("test",), draws=False)
    for sample in data.samples("test"):
        (question,) = sample.questions
        assert 200 <= len(sample.chunks) < 210
        assert len({chunk.partition(": ")[2].partition("\n")[0] for chunk in sample.chunks}) >= 195
        assert len(question.evidence) >= 2


def test_squad_from_the_nested_files_of_the_authors(real):
    flat = real("squad")
    wanted = sum(len(sample.questions) for sample in flat.samples("test"))
    (Path(flat.source.folder) / "squad" / "squad_plain_text.sample.jsonl.gz").unlink()
    nested = load_set("squad", flat.source.folder, BUILD)
    assert sum(len(sample.questions) for sample in nested.samples("test")) == wanted
    for sample in nested.samples("test"):
        for question in sample.questions:
            assert any(str(question.gold) in sample.chunks[k] for k in question.evidence)


MADE = {
    "nlu": (set_files.nlu, 1, 12),
    "pubmed-rct": (set_files.pubmed, 10, 400),
    "msc": (set_files.msc, 3, 12),
    "perltqa": (set_files.perltqa, 2, 120),
    "convomem": (set_files.convomem, 2, 2),
    "memalpha": (set_files.summaries, 4, 4),
}


@pytest.mark.parametrize("name", MADE)
def test_made_files_in_the_original_schema(name, tmp_path, monkeypatch):
    make, samples, questions = MADE[name]
    make(tmp_path)
    monkeypatch.setattr(SETS["convomem"], "longest", 10)
    data = load_set(name, tmp_path, Build(tokens, 200, stream_tokens=1500))
    check_dataset(data, splits=("test",), draws=False)
    found = list(data.samples("test"))
    assert len(found) == samples and sum(len(sample.questions) for sample in found) == questions
    assert all(tokens(chunk) <= 200 for sample in found for chunk in sample.chunks)
    cards = [kind.card for kind in SETS.values()]
    assert all(card.title and card.licence and card.built and card.differs for card in cards)


def test_msc_asks_in_mid_stream_and_tells_speakers_apart(tmp_path):
    set_files.msc(tmp_path)
    first, _, last = load_set("msc", tmp_path, BUILD).samples("test")
    assert [question.after for question in first.questions] == [5, 10, 15, 20, 25] and len(first.chunks) == 25
    assert [question.after for question in last.questions] == [5, 10]
    assert first.chunks[0].splitlines()[2] == "Speaker 1: Hello from 0.0"  # a turn that repeats an earlier one
    assert first.questions[1].evidence == (5, 6, 7, 8, 9) and first.questions[1].gold.values == ("You had 4 boats.",)


def test_perltqa_keywords_are_anchors_that_the_answer_holds(tmp_path):
    set_files.perltqa(tmp_path)
    data = load_set("perltqa", tmp_path, BUILD)
    question = next(data.samples("test")).questions[0]
    assert question.gold.values == ("2 trees", "Riga") and question.evidence == (0,)
    assert data.scores(question, "It was Riga.")[0].value == 0.5


def test_golds_of_processed_rows(tmp_path):
    set_files.summaries(tmp_path)
    golds = {s.questions[0].kind: s.questions[0].gold for s in load_set("memalpha", tmp_path, BUILD).samples("test")}
    assert {kind: (gold.kind, gold.values) for kind, gold in golds.items()} == {
        "squad": ("text", ("Bohemond",)), "perltqa": ("keywords", ("Riga", "2 trees")),
        "booksum": ("keywords", ("storm", "the old house")), "pubmed-rct": ("label", ("4",)),
    }  # fmt: skip
    only = load_set("memalpha:squad,perltqa", tmp_path, BUILD)
    assert [sample.id for sample in only.samples("test")] == ["memalpha/squad/0", "memalpha/perltqa/1"]
    with pytest.raises(RunError, match="only memalpha and memoryagentbench"):
        load_set("squad:x", tmp_path)


def test_ledger_qa_from_files(tmp_path):
    streams = [ledger_sample(Stream("small", "test", 3, index)) for index in range(2)]
    (tmp_path / "ledger-qa-files").mkdir()
    write_authors(tmp_path / "ledger-qa-files" / "theirs.json", streams)
    data = load_set("ledger-qa-files", tmp_path, BUILD)
    check_dataset(data, splits=("test",), draws=False)
    first = next(data.samples("test"))
    assert len(first.chunks) == 3 and first.questions[0].evidence
    (tmp_path / "ledger-qa-files" / "theirs.json").unlink()
    write_parquet(tmp_path / "ledger-qa-files" / "ours.parquet", streams)
    assert [s.id for s in data.samples("test")] == [f"ledger-qa-files/{one.id}" for one in streams]


def test_long_lines_and_words_are_split():
    build = Build(tokens, 20)
    parts = build.cut("word " * 300 + "\n" + "x" * 500)
    assert all(tokens(part) <= 20 for part in parts)
    assert "".join("".join(parts).split()) == "".join(("word " * 300 + "x" * 500).split())


def test_a_set_for_evaluation_is_not_trained_on(tmp_path):
    set_files.msc(tmp_path)
    data = load_set("msc", tmp_path, BUILD)
    with pytest.raises(RunError, match="msc is for evaluation: it has the split test, no train"):
        next(data.samples("train"))
    with pytest.raises(RunError, match="train on another set"):
        data.draw(None, 0.0)


# --- damaged, truncated, foreign ------------------------------------------------------------------------------------


def drop(record, *path):
    """The record without a field."""
    *way, name = path
    for step in way:
        record = record[step]
    del record[name]


def msc_without(*path):
    def write(folder):
        record = set_files.msc_record(0)
        drop(record, *path)
        set_files.write(folder / "msc" / "a.jsonl", json.dumps(set_files.msc_record(1)) + "\n" + json.dumps(record))

    return write


def files(place, value):
    return lambda folder: set_files.write(folder / place, value)


LOCOMO = {"sample_id": "a", "conversation": {"speaker_a": "A", "speaker_b": "B", "session_1_date_time": "May 1",
          "session_1": [{"speaker": "A", "dia_id": "D1:1", "text": "Hi"}]},
          "qa": [{"question": "Q?", "answer": "A", "category": 4, "evidence": ["D1:1"]}]}  # fmt: skip


def asking(category):
    return LOCOMO | {"qa": [{"question": "Q?", "category": category, "evidence": []}]}


LONG = {"question_id": "q", "question_type": "t", "question": "Q?", "answer": "A", "question_date": "d",
        "haystack_dates": ["d"], "haystack_session_ids": ["s"], "answer_session_ids": ["s"],
        "haystack_sessions": [[{"role": "user", "content": "hi"}]]}  # fmt: skip
HOTPOT = {"question": "Q?", "answer": "A", "context": [["T", ["One."]]], "supporting_facts": [["T", 0]]}


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("msc", msc_without("self_instruct", "A"), "a.jsonl: record 1: self_instruct: field 'A' is missing"),
        ("msc", msc_without("dialog", 0, "id"), "a.jsonl: record 1: dialog[0]: field 'id' is missing"),
        ("msc", files("msc/a.jsonl", '{"dialog"'), "a.jsonl: record 0: not a line of JSON"),
        ("msc", files("msc/other.txt", ""), "msc: no *.jsonl"),
        ("locomo", files("locomo/locomo10.json", [LOCOMO, {"sample_id": "b"}]),
         "record 1: field 'conversation' is missing"),
        ("locomo", files("locomo/locomo10.json", [asking(9)]),
         "record 0: qa[0]: category is 9 (int), not one of 1 to 5"),
        ("locomo", files("locomo/locomo10.json", [asking(1)]),
         "record 0: qa[0]: answer is None"),
        ("locomo", files("locomo/locomo10.json", "[{"), "locomo10.json: not valid JSON"),
        ("longmemeval", files("longmemeval/longmemeval_s.json", [LONG | {"haystack_dates": []}]),
         "record 0: haystack_dates, _session_ids and _sessions have lengths [0, 1, 1]"),
        ("longmemeval", files("longmemeval/longmemeval_s.json", [LONG | {"answer": ""}]), "record 0: answer is ''"),
        ("hotpotqa", files("hotpotqa/eval_200.json", [{"context": "no documents", "input": "Q?", "answers": ["A"]}]),
         "record 0: context holds no 'Document 1:'"),
        ("hotpotqa", files("hotpotqa/hotpot_dev_distractor_v1.json", [HOTPOT, HOTPOT | {"context": [["T"]]}]),
         "record 1: context is no list of [title, sentences]"),
        ("squad", files("squad/dev.json", {"data": [{"paragraphs": [{"context": "C"}]}]}),
         "record 0: data[0].paragraphs[0]: field 'qas' is missing"),
        ("banking77", files("banking77/train.csv", "text,category\nHello\n"), "record 0 has more or fewer fields"),
        ("banking77", files("banking77/train.csv", "words,topic\nHello,a\n"), "record 0: has no field text"),
        ("clinc150", files("clinc150/data_full.json", {"train": [["one"]], "test": []}), "train[0] has 1 items"),
        ("trec-fine", files("trec/train_5500.label", "DESC What is it ?\n"),
         "record 0: label is 'DESC', not COARSE:fine"),
        ("pubmed-rct", files("pubmed-rct/train.txt", "###1\nRESULTS no tab\n"),
         "train.txt: record 1: 'RESULTS no tab'"),
        ("memoryagentbench", files("memoryagentbench/a.jsonl", json.dumps(
            {"context": "c", "questions": ["q"], "answers": [], "metadata": {"source": "s"}})),
         "record 0: 1 questions and 0 answers"),
        ("memalpha", files("memalpha/a.jsonl", json.dumps(
            {"chunks": "[1]", "questions_and_answers": "[]", "data_source": "squad"})),
         "record 0: chunks[0] is 1 (int)"),
        ("convomem", files("convomem/a.json", [{"evidenceItems": []}]), "record 0: field 'conversations' is missing"),
        ("perltqa", files("perltqa/perltmem.json", [{"profile": {}}]), "no *perltqa*.json"),
        ("ledger-qa-files", files("ledger-qa-files/a.json", [{"task_id": "a"}]), "task 0: field 'chunks' is missing"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused_in_one_line(name, write, said, tmp_path):
    write(tmp_path)
    with pytest.raises(RunError) as error:
        list(load_set(name, tmp_path, BUILD).samples("test"))
    line = str(error.value)
    assert said in line and "\n" not in line and str(tmp_path / name.replace("trec-fine", "trec")) in line


def test_truncated_files_are_refused(real, tmp_path):
    for name, file in (
        ("banking77", "train.csv.gz"), ("locomo", "locomo10.sample2.json.gz"),
        ("memalpha", "memalpha_memoryagentbench.derived.test.parquet"),
    ):  # fmt: skip
        data = real(name)
        path = Path(data.source.folder) / name / file
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RunError, match=f"{file}: not a whole (gzip|parquet) file"):
            list(data.samples("test"))


def test_rows_of_every_format(tmp_path):
    for name, text in (
        ("a.json", '[{"a": 1}, {"a": 2}]'), ("b.jsonl", '{"a": 1}\n\n{"a": 2}\n'), ("c.csv", "\ufeffa\n1\n2\n"),
        ("d.tsv", "a\tb\n1\tx\n2\ty\n"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        for path in (tmp_path / name, tmp_path / f"{name}.gz"):
            assert [int(row["a"]) for _, row in rows(path)] == [1, 2]
    (tmp_path / "e.xml").write_text("<a/>")
    with pytest.raises(RunError, match="a file of records ends in"):
        list(rows(tmp_path / "e.xml"))


# --- the hub --------------------------------------------------------------------------------------------------------

FROM_HUB = """
import sys
from uma_lib.datasets.build import Build
from uma_lib.datasets.sets import load_set
data = load_set("msc", "", Build())
print(len(list(data.samples("test"))), *data.source.read.items())
"""


def test_a_set_from_the_hub(tmp_path):
    """Of the commit that the hub names; nothing but the files that were asked for, and no code."""
    import subprocess
    import sys

    from tests.model_hub import COMMIT, ModelHub

    set_files.msc(tmp_path)
    lines = (tmp_path / "msc" / "msc_self_instruct.jsonl").read_bytes()
    hub = ModelHub(datasets={"MemGPT/MSC-Self-Instruct": {"msc.jsonl": lines, "msc.py": b"raise SystemExit"}})
    try:
        environment = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        environment = os.environ | environment
        done = subprocess.run([sys.executable, "-c", FROM_HUB], env=environment, capture_output=True, text=True)
    finally:
        hub.stop()
    assert done.returncode == 0, done.stderr
    count, pair = done.stdout.split(" ", 1)
    assert count == "3" and f"MemGPT/MSC-Self-Instruct@{COMMIT}/msc.jsonl" in pair
    assert not any("msc.py" in path for path in hub.asked)


def test_without_a_hub_it_is_said(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RunError, match="locomo is not on the hub: set data to a folder that holds locomo/locomo10"):
        list(load_set("locomo").samples("test"))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="msc: MemGPT/MSC-Self-Instruct could not be read from the hub"):
        list(load_set("msc").samples("test"))
    assert Source("x").has("*") is False
