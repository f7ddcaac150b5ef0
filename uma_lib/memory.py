"""The agent's dual memory: a short core text and a key -> value bank (paper, section 2: M_t = (m_core, B)).

`CoreMemory` is the text that stands in every prompt. `MemoryBank` holds the entries the agent reads and
writes by tools. Every operation answers with a `Result`, which the model reads: a refused operation is an
observation, never an exception, and changes nothing. The docstrings of the bank's tools are also what the
model is told about them (see `uma_lib.tools.schema`): first paragraph and `Args:`.

The module knows nothing of models, prompts or rewards.

Deviations from the paper: `list` takes `start` and `end` beside the filter, so that a range of dates fits
into one tool result; key and value lengths are limited; the bank lives in memory (the authors re-read and
rewrite a file at every call) and keeps a journal, so that any earlier state can be shown without a copy
having been made.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, ItemsView, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uma_lib import views
from uma_lib.files import RunError, atomic_write_text, read_text

MAX_KEY = 200  # characters
MAX_VALUE = 2_000  # characters


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool answers.

    Attributes:
        ok: whether the call did what it asked for.
        text: what the model reads: ``ok``, a value, or ``error: key 'a' already exists; use update``.
        error: None, or one of exists, missing, argument, budget, unknown_tool, malformed, limit.
    """

    ok: bool
    text: str
    error: str | None = None

    @classmethod
    def failure(cls, error: str, message: str) -> Result:
        """A refused call; the model reads ``error: <message>``."""
        return cls(False, f"error: {message}", error)


_OK = Result(True, "ok")


def count_words(text: str) -> int:
    """The default measure of a core memory: words. A policy passes its tokenizer's count instead."""
    return len(text.split())


class CoreMemory:
    """The short text that is always in the prompt, with a budget.

    Args:
        text: the text to begin with.
        budget: the most tokens it may have, as measured by `count`.
        count: text -> number of tokens.

    Raises:
        ValueError: the first text is over the budget.

    >>> core = CoreMemory(budget=3)
    >>> core.write("keys are dates").ok
    True
    >>> core.write("keys are dates, values amounts").text
    'error: the text has 5 tokens, at most 3'
    >>> core.text
    'keys are dates'
    """

    def __init__(self, text: str = "", budget: int = 1_000, count: Callable[[str], int] = count_words):
        self.budget = budget
        self.count = count
        self._text = ""
        result = self.write(text)
        if not result.ok:
            raise ValueError(f"core memory: {result.text.removeprefix('error: ')}; shorten it")

    def __repr__(self) -> str:
        return f"CoreMemory({self._text!r}, budget={self.budget})"

    @property
    def text(self) -> str:
        return self._text

    def write(self, text: str) -> Result:
        """Replace the text. Over the budget (error "budget") or no text ("argument"): the old one stays."""
        problem = _text_problem("text", text)
        if problem is not None:
            return Result.failure("argument", problem)
        tokens = self.count(text)
        if tokens > self.budget:
            return Result.failure("budget", f"the text has {tokens} tokens, at most {self.budget}")
        self._text = text
        return _OK

    def restore(self, text: str) -> None:
        """Put an earlier text back, whatever its length."""
        self._text = text


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two versions of a bank. `print` shows it a line a change.

    An entry is followed through its renames: it stands in `renamed` (old key -> new key) and not in `added`
    or `removed`; if its value changed as well, also in `changed` under its new key. A key that was deleted
    and added again counts as changed.
    """

    added: dict[str, str] = field(default_factory=dict)
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)  # key -> (old value, new value)
    removed: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.renamed)

    def apply(self, entries: dict[str, str]) -> dict[str, str]:
        """The entries after the change, for entries before it; their order is not told.

        >>> Diff(changed={"a": ("1", "2")}).apply({"a": "1", "b": "3"})
        {'b': '3', 'a': '2'}
        """
        gone = {*self.removed, *self.renamed, *self.changed}
        kept = {key: value for key, value in entries.items() if key not in gone}
        moved = {new: entries[old] for old, new in self.renamed.items() if new not in self.changed}
        return kept | moved | {key: new for key, (_, new) in self.changed.items()} | self.added

    def __str__(self) -> str:
        lines = [f"- {key}: {value}" for key, value in self.removed.items()]
        lines += [f"> {old} => {new}" for old, new in self.renamed.items()]
        lines += [f"~ {key}: {old} -> {new}" for key, (old, new) in self.changed.items()]
        lines += [f"+ {key}: {value}" for key, value in self.added.items()]
        return "\n".join(lines) or "(no change)"

    def _repr_html_(self) -> str:
        rows = [("-", key, value, "") for key, value in self.removed.items()]
        rows += [(">", old, "", new) for old, new in self.renamed.items()]
        rows += [("~", key, old, new) for key, (old, new) in self.changed.items()]
        rows += [("+", key, "", value) for key, value in self.added.items()]
        if not rows:
            return views.paragraph("(no change)")
        return views.table(("", "key", "before", "after"), rows, [views.COLOURS[row[0]] for row in rows])


class MemoryBank:
    """An insertion-ordered key -> value store with unique keys; add, update, delete and retrieve are O(1).

    Keys are the same if they look the same (see `canonical`); they are one line of at most `MAX_KEY` characters.
    Capitals count in keys. Values are non-empty and have at most `MAX_VALUE` characters (error "argument"
    otherwise); they are kept as they are written, in Unicode's composed form (NFC).

    >>> bank = MemoryBank()
    >>> bank.add("2024-05-01 Dining", "12.50").text
    'ok'
    >>> before = bank.snapshot()
    >>> bank.add("2024-05-01 Dining", "7").text
    "error: key '2024-05-01 Dining' already exists; use update"
    >>> bank.update("2024-05-01 Dining", "12.50+7").text
    'ok'
    >>> bank.retrieve("2024-05-01 Dining").text
    '12.50+7'
    >>> print(bank.diff(before, bank.snapshot()))
    ~ 2024-05-01 Dining: 12.50 -> 12.50+7
    """

    def __init__(self) -> None:
        self._entries: dict[str, str] = {}
        # One tuple a mutation: (key, old value, new key, new value). No old value: add; no new key: delete.
        self._journal: list[tuple[str, str | None, str | None, str | None]] = []

    # The tools.

    def add(self, key: str, value: str) -> Result:
        """Add a new entry to the memory bank.

        Args:
            key: name of the entry; must not exist yet.
            value: what to remember.
        """
        key, problem = _key("key", key)
        problem = problem or _value_problem(value)
        if problem is not None:
            return Result.failure("argument", problem)
        value = _composed(value)
        if key in self._entries:
            return Result.failure("exists", f"key {key!r} already exists; use update")
        self._entries[key] = value
        self._journal.append((key, None, key, value))
        return _OK

    def update(self, key: str, value: str, new_key: str | None = None) -> Result:
        """Replace the value of an existing entry, and rename it if new_key is given.

        A renamed entry moves to the end of the bank's order (a rename in place would cost O(n)).

        Args:
            key: name of the entry; must exist.
            value: the new value.
            new_key: new name of the entry; must not exist yet.
        """
        key, problem = _key("key", key)
        problem = problem or _value_problem(value)
        if problem is None and new_key is not None:
            new_key, problem = _key("new_key", new_key)
        if problem is not None:
            return Result.failure("argument", problem)
        value = _composed(value)
        old = self._entries.get(key)
        if old is None:
            return _missing(key)
        new_key = key if new_key is None else new_key
        if new_key != key:
            if new_key in self._entries:
                return Result.failure("exists", f"key {new_key!r} already exists; choose another new_key")
            del self._entries[key]
        self._entries[new_key] = value
        self._journal.append((key, old, new_key, value))
        return _OK

    def delete(self, key: str) -> Result:
        """Delete an entry from the memory bank.

        Args:
            key: name of the entry; must exist.
        """
        key, problem = _key("key", key)
        if problem is not None:
            return Result.failure("argument", problem)
        old = self._entries.pop(key, None)
        if old is None:
            return _missing(key)
        self._journal.append((key, old, None, None))
        return _OK

    def retrieve(self, key: str) -> Result:
        """Read the value of one entry.

        Args:
            key: name of the entry; must exist.
        """
        key, problem = _key("key", key)
        if problem is not None:
            return Result.failure("argument", problem)
        value = self._entries.get(key)
        return _missing(key) if value is None else Result(True, value)

    def list(self, filter: str | None = None, start: str | None = None, end: str | None = None) -> Result:
        """List the entries as lines "key: value", oldest first.

        O(n). `start` and `end` are our extension of the paper's tool. `end` is compared with as many
        characters of the key as it has, so that end="2024-05-31" includes "2024-05-31 Dining". Line breaks in
        a value are shown as spaces here, so that a line is an entry; `retrieve` shows them. Filter and bounds are
        compared in the form of keys (`canonical`), the filter with "ß" like "SS".

        Args:
            filter: only keys that contain this text; case is ignored.
            start: only keys from this one on, in alphabetical order.
            end: only keys up to this one, in alphabetical order; keys that begin with it are included.
        """
        for name, bound in (("filter", filter), ("start", start), ("end", end)):
            problem = None if bound is None else _text_problem(name, bound)
            if problem is not None:
                return Result.failure("argument", problem)
        entries = self._entries.items()
        if filter is not None:
            wanted = _folded(canonical(filter))
            entries = [entry for entry in entries if wanted in _folded(entry[0])]
        if start is not None:
            start = canonical(start)
            entries = [entry for entry in entries if entry[0] >= start]
        if end is not None:
            end = canonical(end)
            entries = [entry for entry in entries if entry[0][: len(end)] <= end]
        lines = [f"{key}: {' '.join(value.splitlines())}" for key, value in entries]
        return Result(True, "\n".join(lines) or "(empty)")

    # Reading it from Python.

    def __repr__(self) -> str:
        return f"MemoryBank({len(self)} entries, version {self.version})"

    def _repr_html_(self) -> str:
        return views.table(("key", "value"), self.items()) if len(self) else views.paragraph("(empty)")

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and canonical(key) in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self) -> ItemsView[str, str]:
        """A live view of the entries in the bank's order."""
        return self._entries.items()

    # History.

    @property
    def version(self) -> int:
        """The number of successful mutations so far."""
        return len(self._journal)

    def snapshot(self) -> int:
        """A mark to come back to with `at` and `diff`: the version. Nothing is copied."""
        return len(self._journal)

    def at(self, version: int) -> dict[str, str]:
        """The entries at a version, in their order then. O(version): the journal is replayed."""
        self._check_version(version)
        entries: dict[str, str] = {}
        for key, _, new_key, value in self._journal[:version]:
            if new_key != key:
                del entries[key]
            if new_key is not None:
                entries[new_key] = value
        return entries

    def diff(self, a: int, b: int) -> Diff:
        """What changed from version `a` to version `b`. O(b - a).

        Raises:
            ValueError: not 0 <= a <= b <= version.
        """
        self._check_version(a)
        self._check_version(b)
        if a > b:
            raise ValueError(f"diff from version {a} to {b}: the first must not be later")
        # Touched entries that live at b: key -> (key at a, value at a, value at b); key at a is None if it is
        # new.
        live: dict[str, tuple[str | None, str | None, str]] = {}
        removed: dict[str, str] = {}
        for key, old, new_key, value in self._journal[a:b]:
            if old is None:
                live[key] = (None, None, value)
                continue
            first_key, first_value, _ = live.pop(key, (key, old, old))
            if new_key is not None:
                live[new_key] = (first_key, first_value, value)
            elif first_key is not None:
                removed[first_key] = first_value
        diff = Diff(removed=removed)
        for key, (first_key, first_value, value) in live.items():
            if first_key is None and key in removed:
                first_key, first_value = key, removed.pop(key)
            if first_key is None:
                diff.added[key] = value
                continue
            if first_key != key:
                diff.renamed[first_key] = key
            if first_value != value:
                diff.changed[key] = (first_value, value)
        return diff

    def _check_version(self, version: int) -> None:
        if not 0 <= version <= len(self._journal):
            raise ValueError(f"version {version} is not between 0 and {len(self._journal)}")

    def journal(self, since: int = 0) -> list[tuple[str, str | None, str | None, str | None]]:
        """The mutations after version ``since``: (key, old value, new key, new value); None: there was, or is, none."""
        self._check_version(since)
        return self._journal[since:]

    def replay(self, changes: Iterable[Sequence[str | None]]) -> None:
        """Make the mutations of another bank's `journal` here, too.

        Raises:
            ValueError: one does not fit the entries.
        """
        for key, old, new_key, value in changes:
            if old is None:
                result = self.add(key, value)
            elif new_key is None:
                result = self.delete(key)
            else:
                result = self.update(key, value, new_key)
            if not result.ok:
                raise ValueError(result.text.removeprefix("error: "))

    def revert(self, version: int) -> None:
        """Go back to an earlier version, as if nothing had happened since. O(version)."""
        if version != len(self._journal):
            self._entries = self.at(version)
            del self._journal[version:]

    # Files.

    def save(self, path: str | Path) -> None:
        """Write the entries as JSON lines ``{"key": ..., "value": ...}``, in order; the history is not kept.

        The file appears whole or not at all.

        Raises:
            RunError: the folder is read-only or the disk is full; an earlier file is left as it was.
        """
        lines = [json.dumps({"key": key, "value": value}, ensure_ascii=False) for key, value in self.items()]
        atomic_write_text(Path(path), "".join(line + "\n" for line in lines))

    @classmethod
    def load(cls, path: str | Path) -> MemoryBank:
        """Read a bank that `save` wrote. Its history begins with one add an entry.

        Raises:
            RunError: the file cannot be read, a line is not an entry, or its key is that of an earlier line; the
                message names file and line.
        """
        bank = cls()
        # Not splitlines: a value may hold one of the rarer line breaks of Unicode, which JSON does not
        # escape.
        lines = read_text(Path(path)).removesuffix("\n").split("\n")
        if lines == [""]:
            return bank
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RunError(f"{path}:{number}: not a line of JSON ({error})") from None
            if not isinstance(entry, dict) or entry.keys() != {"key", "value"}:
                raise RunError(f'{path}:{number}: not an entry; write {{"key": ..., "value": ...}}')
            result = bank.add(entry["key"], entry["value"])
            if not result.ok:
                raise RunError(f"{path}:{number}: {result.text.removeprefix('error: ')}")
        return bank


@dataclass
class Memory:
    """The dual memory M_t = (m_core, B)."""

    core: CoreMemory = field(default_factory=CoreMemory)
    bank: MemoryBank = field(default_factory=MemoryBank)

    def __repr__(self) -> str:
        return f"Memory(core={self.core.text[:60]!r}, {self.bank!r})"

    def _repr_html_(self) -> str:
        core = views.block("Core memory", views.paragraph(self.core.text or "(empty)"))
        return core + views.block(f"Memory bank, {len(self.bank)} entries", self.bank._repr_html_())


# What is not seen: control characters, soft hyphens, zero-width blanks and joiners, fillers, marks of direction,
# variation selectors, tags.
_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def canonical(text: str) -> str:
    """The one form of all keys that look the same.

    Composed characters (NFC), nothing that has no width, one blank for every run of white space of any kind, none
    around the text.

    >>> canonical("Cafe\\u0301\\u00a0\\u200b  de Flore ") == "Caf\\u00e9 de Flore"
    True
    """
    if not text.isascii() or not text.isprintable():
        text = _composed(_UNSEEN.sub("", text))
    return " ".join(text.split())


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else _composed(text.casefold())


def _text_problem(name: str, text: object) -> str | None:
    if not isinstance(text, str):
        return f"{name} must be a text"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # such a text could be neither saved nor shown to a tokenizer
            return f"{name} contains half a character (an unpaired surrogate)"
    return None


def _key(name: str, key: object) -> tuple[str, str | None]:
    """The canonical form of a key, and what is wrong with it."""
    if isinstance(key, str) and key.isascii() and key.isprintable():  # as nearly all are
        key = key.strip() if "  " not in key else canonical(key)
        if 0 < len(key) <= MAX_KEY:
            return key, None
    problem = _text_problem(name, key)
    if problem is None and len(key.strip().splitlines()) > 1:
        problem = f"{name} must be one line"
    if problem is not None:
        return "", problem
    key = canonical(key)
    if not key:
        return "", f"{name} must not be empty"
    if len(key) > MAX_KEY:
        return "", f"{name} has {len(key)} characters, at most {MAX_KEY}"
    return key, None


def _value_problem(value: object) -> str | None:
    problem = _text_problem("value", value)
    if problem is not None:
        return problem
    if not value or value.isspace() or not (value.isascii() or canonical(value)):
        return "value must not be empty"
    if len(value) > MAX_VALUE:
        return f"value has {len(value)} characters, at most {MAX_VALUE}"
    return None


def _missing(key: str) -> Result:
    return Result.failure("missing", f"key {key!r} does not exist")
