"""The core memory and the bank, held against a plain dictionary that is copied after every operation."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uma_lib.files import RunError
from uma_lib.memory import MAX_KEY, MAX_VALUE, CoreMemory, Diff, MemoryBank, canonical

# Few keys, so that they collide, and some that no bank accepts.
KEYS = st.sampled_from(["a", "b", "c", "d", " a ", "", " ", "x\ny", "é", "k" * (MAX_KEY + 1), "\ud800"])
VALUES = st.sampled_from(["1", "2", "3", "two\nlines", "", "\n", "v" * (MAX_VALUE + 1), "\udfff"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, VALUES),
        st.tuples(st.just("update"), KEYS, VALUES),
        st.tuples(st.just("update"), KEYS, VALUES, KEYS),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("retrieve"), KEYS),
    ),
    max_size=40,
)


def valid_key(key: str) -> bool:
    return bool(key.strip()) and len(key) <= MAX_KEY and "\n" not in key and "\ud800" not in key


def valid_value(value: str) -> bool:
    return bool(value.strip()) and len(value) <= MAX_VALUE and "\udfff" not in value


def expected(entries: dict[str, str], name: str, key: str, value: str = "1", new_key: str | None = None):
    """(error, entries afterwards) of one operation, written from its description."""
    if not valid_key(key) or not valid_value(value) or (new_key is not None and not valid_key(new_key)):
        return "argument", entries
    key, target = key.strip(), key.strip() if new_key is None else new_key.strip()
    if name == "add":
        return ("exists", entries) if key in entries else (None, {**entries, key: value})
    if key not in entries:
        return "missing", entries
    if name == "retrieve":
        return None, entries
    if name == "update" and target == key:
        return None, {**entries, key: value}
    if name == "update" and target in entries:
        return "exists", entries
    rest = {k: v for k, v in entries.items() if k != key}
    return None, rest if name == "delete" else {**rest, target: value}


def apply(diff: Diff, entries: dict[str, str]) -> dict[str, str]:
    """The entries after a change, from those before it."""
    rest = {k: v for k, v in entries.items() if k not in diff.removed and k not in diff.renamed}
    rest |= {new: entries[old] for old, new in diff.renamed.items()}
    return rest | {key: new for key, (_, new) in diff.changed.items()} | diff.added


@settings(max_examples=300, deadline=None)
@given(OPERATIONS)
def test_bank_agrees_with_a_copied_dictionary(operations):
    bank = MemoryBank()
    versions = [{}]
    for name, *arguments in operations:
        error, entries = expected(versions[-1], name, *arguments)
        result = getattr(bank, name)(*arguments)
        assert (result.ok, result.error) == (error is None, error)
        assert result.text.startswith("error: ") == (error is not None)
        if error is None and name != "retrieve":
            versions.append(entries)
        elif error is None:
            assert result.text == entries[arguments[0].strip()]
        # A refused operation changed nothing; the order counts too.
        assert list(bank.items()) == list(versions[-1].items())
        assert bank.version == bank.snapshot() == len(versions) - 1
    assert len(set(bank)) == len(bank) == len(versions[-1])
    for version, entries in enumerate(versions):
        assert list(bank.at(version).items()) == list(entries.items())


@settings(max_examples=200, deadline=None)
@given(OPERATIONS)
def test_diff_leads_from_one_version_to_another(operations):
    bank = MemoryBank()
    for name, *arguments in operations:
        getattr(bank, name)(*arguments)
    for a in range(bank.version + 1):
        for b in range(a, bank.version + 1):
            before, after, diff = bank.at(a), bank.at(b), bank.diff(a, b)
            assert apply(diff, before) == after
            assert before.keys() >= diff.removed.keys() | diff.renamed.keys()
            assert all(before[key] == value for key, value in diff.removed.items())
            assert all(old != new and key in after for key, (old, new) in diff.changed.items())
            assert not diff.removed.keys() & diff.renamed.keys()
            assert bool(diff) == (before != after or bool(diff.renamed))


def test_diff_follows_renames():
    bank = MemoryBank()
    for key in ("a", "b", "c", "d"):
        bank.add(key, "1")
    start = bank.snapshot()
    assert bank.update("a", "1", "t").ok and bank.update("b", "1", "a").ok and bank.update("t", "1", "b").ok
    assert bank.update("c", "2", "e").ok and bank.add("c", "3").ok
    assert bank.delete("d").ok and bank.add("d", "4").ok
    diff = bank.diff(start, bank.version)
    assert diff == Diff(
        added={"c": "3"},
        changed={"e": ("1", "2"), "d": ("1", "4")},
        renamed={"a": "b", "b": "a", "c": "e"},
    )
    assert str(diff).splitlines() == [
        "> b => a",
        "> a => b",
        "> c => e",
        "~ e: 1 -> 2",
        "~ d: 1 -> 4",
        "+ c: 3",
    ]
    assert str(bank.diff(3, 3)) == "(no change)"


@pytest.mark.parametrize(("a", "b"), [(-1, 0), (0, 2), (1, 0)])
def test_diff_refuses_versions_that_are_not_there(a, b):
    bank = MemoryBank()
    bank.add("a", "1")
    with pytest.raises(ValueError, match="version"):
        bank.diff(a, b)


def test_update_keeps_the_place_and_rename_moves_to_the_end():
    bank = MemoryBank()
    for key in ("a", "b", "c"):
        bank.add(key, "1")
    bank.update("a", "2")
    assert list(bank) == ["a", "b", "c"]
    bank.update("a", "2", "z")
    assert list(bank) == ["b", "c", "z"]
    bank.update("b", "3", "b")
    assert list(bank) == ["b", "c", "z"]


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ({}, "2024-05-30 Dining|2024-05-31 Dining|2024-06-01 Medical|rent"),
        ({"filter": "DIN"}, "2024-05-30 Dining|2024-05-31 Dining"),
        ({"start": "2024-05-31", "end": "2024-05-31"}, "2024-05-31 Dining"),
        ({"start": "2024-05-31", "end": "2024-06"}, "2024-05-31 Dining|2024-06-01 Medical"),
        ({"filter": "dining", "start": "2024-05-31"}, "2024-05-31 Dining"),
        ({"filter": "", "start": "", "end": "2024-05-30"}, "2024-05-30 Dining"),
        ({"filter": "school"}, "(empty)"),
        ({"start": "2024-06", "end": "2024-05"}, "(empty)"),
    ],
)
def test_list_filters_by_text_and_range(arguments, keys):
    bank = MemoryBank()
    for key in ("2024-05-30 Dining", "2024-05-31 Dining", "2024-06-01 Medical", "rent"):
        bank.add(key, "1\n2")
    result = bank.list(**arguments)
    assert result.ok
    assert result.text == "\n".join(key if key == "(empty)" else f"{key}: 1 2" for key in keys.split("|"))


SAME = [
    ("2024-05-01 Caf\u00e9", "2024-05-01 Cafe\u0301"),
    ("2024-05-01 Dining", "2024-05-01\u00a0Dining"),
    ("2024-05-01 Dining", "2024-05-01  Dining"),
    ("2024-05-01 Dining", "2024-05-01\tDining"),
    ("2024-05-01 Dining", "2024-05-01\u3000Dining\u2009"),
    ("2024-05-01 Dining", "2024-05-01 Din\u200bing"),
    ("2024-05-01 Dining", "\ufeff2024-05-01 Dining\u200d"),
    ("2024-05-01 Dining", "2024-05-01 Din\u00ading"),
    ("2024-05-01 Dining", "2024-05-01 \u200b Dining"),
    ("2024-05-01 Dining", "2024-05-01 Dining\x00"),
    ("2024-05-01 Dining", "2024-05-01\x1b Dining\x7f"),
    ("2024-05-01 Dining", "2024-05-01 Dining\u3164"),
    ("2024-05-01 Dining", "2024-05-01 Din\U000e0064ing"),
    ("2024-05-01 caf\u00e9", "2024-05-01 caf\u00e9\x9c"),
    ("2024-05-01 caf\u00e9", "2024-05-01 cafe\u200b\u0301"),
    ("\u2615 coffee", "\u2615\ufe0f coffee"),
    ("\uac00", "\u1100\u1161"),
]


@pytest.mark.parametrize("written", [(a, b) for a, b in SAME] + [(b, a) for a, b in SAME])
def test_keys_that_look_the_same_are_one(written, tmp_path):
    one, other = written
    bank = MemoryBank()
    assert bank.add(one, "1").ok and bank.add(other, "2").error == "exists"
    assert list(bank) == [canonical(one)] == [canonical(other)] and one in bank and other in bank
    assert bank.retrieve(other).text == "1" and bank.update(other, "3", one).ok and list(bank.items())[0][1] == "3"
    for bounds in ({"filter": other}, {"start": other}, {"end": other}, {"filter": other.upper()}):
        assert bank.list(**bounds).text == f"{canonical(one)}: 3"
    assert bank.add("b", "1").ok and bank.update("b", "1", other).error == "exists"
    assert bank.delete(other).ok and len(bank) == 1
    path = tmp_path / "bank.jsonl"
    path.write_text("".join(json.dumps({"key": key, "value": "1"}) + "\n" for key in ("b", one, other)))
    with pytest.raises(RunError, match="bank.jsonl:3: key .* already exists"):
        MemoryBank.load(path)


def test_keys_that_look_different_are_two():
    bank = MemoryBank()
    for key in ("dining", "Dining", "Caf\u00e9", "Cafe", "a b", "ab", "Stra\u00dfe", "Strasse"):
        assert bank.add(key, "1").ok
    assert len(bank) == 8


@pytest.mark.parametrize(
    ("key", "filter"),
    [
        ("2024-05-01 Stra\u00dfe", "STRASSE"),
        ("2024-05-01 STRASSE", "stra\u00dfe"),
        ("2024-05-01 \u1e9e", "SS"),
        ("2024-05-01 Cafe\u0301", "CAF\u00c9"),
        ("2024-05-01 \u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),
        ("2024-05-01 Dining", "  DIN\u200b"),
    ],
)
def test_filters_ignore_case_in_every_script(key, filter):
    bank = MemoryBank()
    bank.add(key, "1")
    bank.add("rent", "2")
    assert bank.list(filter=filter).text == f"{canonical(key)}: 1"


@pytest.mark.parametrize("key", ["\u200b", " \u00a0\u00ad", "\ufeff", "a\u2028b", "a\u200b\nb"])
def test_keys_of_nothing_that_is_seen_or_of_two_lines_are_refused(key):
    assert MemoryBank().add(key, "1").error == "argument"


def test_values_are_composed_and_otherwise_kept_as_written():
    bank = MemoryBank()
    assert bank.add("a", "Cafe\u0301\u00a0 \u200d12").ok
    assert bank.retrieve("a").text == "Caf\u00e9\u00a0 \u200d12"
    assert bank.add("b", "\u200b \u00a0").error == "argument"


@pytest.mark.parametrize("name", ["filter", "start", "end"])
@pytest.mark.parametrize("value", [3, "\ud800"])
def test_list_refuses_what_is_no_text(name, value):
    assert MemoryBank().list(**{name: value}).error == "argument"


@pytest.mark.parametrize("value", [None, 3, 1.5, ["a"]])
def test_other_types_are_refused_as_arguments(value):
    bank = MemoryBank()
    bank.add("a", "1")
    results = [bank.add(value, "1"), bank.add("b", value), bank.update("a", value), bank.update(value, "1")]
    results += [bank.delete(value), bank.retrieve(value)]
    assert {result.error for result in results} == {"argument"}
    assert (list(bank.items()), bank.version) == ([("a", "1")], 1)


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(LINES, st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), max_size=8))
def test_save_and_load_agree(tmp_path_factory, entries):
    path = tmp_path_factory.getbasetemp() / "bank.jsonl"
    bank = MemoryBank()
    for key, value in entries.items():
        bank.add(key, value)  # some are refused: blank ones, and rare line breaks in keys
    bank.save(path)
    loaded = MemoryBank.load(path)
    assert list(loaded.items()) == list(bank.items())
    assert loaded.version == len(bank)


def test_saved_file_is_readable(tmp_path):
    bank = MemoryBank()
    bank.add("2024-05-01 Café", "12,50 €\n+ tip")
    bank.save(tmp_path / "bank.jsonl")
    assert (tmp_path / "bank.jsonl").read_text(encoding="utf-8") == (
        '{"key": "2024-05-01 Café", "value": "12,50 €\\n+ tip"}\n'
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bank.jsonl"]


def test_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    bank = MemoryBank()
    bank.add("a", "1")
    bank.save(tmp_path / "bank.jsonl")
    bank.add("b", "2")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="disk is full"):
        bank.save(tmp_path / "bank.jsonl")
    assert list(MemoryBank.load(tmp_path / "bank.jsonl").items()) == [("a", "1")]
    assert [path.name for path in tmp_path.iterdir()] == ["bank.jsonl"]


GOOD = json.dumps({"key": "a", "value": "1"}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b"\n{", r"bank.jsonl:2: not a line of JSON"),
        (GOOD + b"\n" + GOOD, r"bank.jsonl:2: key 'a' already exists"),
        (b'{"key": "a"}\n', r"bank.jsonl:1: not an entry"),
        (b"[1]\n", r"bank.jsonl:1: not an entry"),
        (b'{"key": "a", "value": 1}\n', r"bank.jsonl:1: value must be a text"),
        (GOOD + b"\n\n", r"bank.jsonl:2: not a line of JSON"),
        (b"[" * 100_000, r"bank.jsonl:1: not a line of JSON"),
        (b"\xff\n", r"bank.jsonl: not UTF-8"),
    ],
)
def test_damaged_files_give_one_clear_line(tmp_path, content, message):
    path = tmp_path / "bank.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        MemoryBank.load(path)
    assert "\n" not in str(caught.value)


def test_missing_file_gives_one_clear_line(tmp_path):
    with pytest.raises(RunError, match="no such file"):
        MemoryBank.load(tmp_path / "none.jsonl")


def test_core_memory_keeps_its_budget():
    core = CoreMemory("one two", budget=3)
    assert core.write("one two three four").error == "budget"
    assert core.write(None).error == "argument"
    assert core.write("half \ud800").error == "argument"
    assert core.text == "one two"
    assert core.write("one two three").ok
    assert core.text == "one two three"
    with pytest.raises(ValueError, match="4 tokens, at most 3"):
        CoreMemory("a b c d", budget=3)


def test_core_memory_counts_as_it_is_told():
    core = CoreMemory(budget=4, count=len)
    assert core.write("four").ok
    assert core.write("fives").error == "budget"
