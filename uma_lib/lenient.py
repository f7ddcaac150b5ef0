"""JSON as language models write it.

`read` takes strict JSON first. Where that fails it tolerates what models really emit: trailing commas, comments,
single or unescaped quotes, line breaks in strings, doubled braces, words without quotes, missing or spare closing
braces. The backslash of an escape that JSON does not know stays (``C:\\Users`` is kept as it is written).

What it does not do is guess at a value: a string that never ends and an unquoted value that runs into the end of the
turn make the text unreadable; in a turn that was cut, so does anything that is not closed. Half a value must not be
written to memory. Nor does it choose between two values of one key, which make an object unreadable, too.

Every function reads each character a bounded number of times.
"""

from __future__ import annotations

import json
import re

MAX_DEPTH = 20  # of nested lists and objects


class Unreadable(Exception):
    """Why a text cannot be read, in words for the model."""


def read(text: str, ended: bool = True, cut: bool = False) -> list:
    """The objects in a text: one after the other, or in a list, with words between them.

    ``ended``: something closes the text, such as a tag, so that an unquoted value at its end is whole.
    ``cut``: the text was cut at its end, so nothing may be missing there.

    Raises `Unreadable` if there is no object, or one that cannot be read.

    >>> read('{"a": "x",} // the first' + chr(10) + "{b: 12.50")
    [{'a': 'x'}, {'b': '12.50'}]
    """
    values, position = strict_values(text)
    return values if values and not text[position:].strip() else _Lenient(text, ended, cut).values()


# Strictly.


def _integer(text: str) -> str | int:
    return int(text) if len(text) <= 18 else text  # Python refuses to convert very long ones


def _object(pairs: list[tuple[str, object]]) -> dict:
    entries = dict(pairs)
    if len(entries) < len(pairs) and any(entries[key] != value for key, value in pairs):
        raise ValueError("a key stands twice")
    return entries


_DECODER = json.JSONDecoder(parse_float=str, parse_int=_integer, parse_constant=str, object_pairs_hook=_object)
_BETWEEN = re.compile(r"[\s,]*")  # values


def strict(text: str, position: int = 0) -> tuple[object, int] | None:
    """The strict JSON value that begins at ``position``, and where it ends; None if there is none."""
    try:
        value, end = _DECODER.raw_decode(text, position)
        return None if _depth(value) > MAX_DEPTH else (value, end)
    except (ValueError, RecursionError):
        return None


def strict_values(text: str, position: int = 0) -> tuple[list, int]:
    """The strict JSON objects from a position on, lists of them unpacked, and where what follows them begins."""
    values: list = []
    position = _BETWEEN.match(text, position).end()
    while text[position : position + 1] in ("{", "[") and (found := strict(text, position)):
        value, end = found
        values.extend(value if isinstance(value, list) else [value])
        position = _BETWEEN.match(text, end).end()
    return values, position


def _depth(value: object) -> int:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return 0
    return 1 + max([_depth(item) for item in value], default=0)


# Where values begin and end.

_TOKEN = re.compile(r'[^"\\<{}\[\]]*+("(?:[^"\\]|\\.)*+"|[{}\[\]])', re.DOTALL)


def value_end(text: str, begin: int) -> int:
    """Where the object or list that begins at ``begin`` ends, whatever stands in its strings.

    Returns ``begin`` if its brackets do not match. Outside of strings it meets neither ``<`` nor ``\\``, as in
    strict JSON. So of two tags, at each of which reading is tried, only one can stand inside the other's string,
    and all tries together read a text a few times at most.
    """
    depth, position = 0, begin
    while match := _TOKEN.match(text, position):
        position = match.end()
        token = match.group(1)
        if token in "{[":
            depth += 1
        elif token in "}]":
            depth -= 1
            if depth <= 0:
                return position
    return begin


_IN_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\]"]', re.DOTALL)
_BRACKETS = re.compile(r"[{}\[\]]")
_OPENING = re.compile(r"[{\[]")


def balanced(text: str) -> tuple[list[tuple[int, int]], int | None]:
    """(begin, end) of the outermost objects and lists in a text, and the first bracket that is never closed.

    Quotes are those of strings only inside of brackets, so that an inch sign in prose hides nothing. What is whole
    inside of an unclosed bracket counts as outermost.

    >>> balanced('5" and {"a": "}"} or [ {}')
    ([(7, 17), (23, 25)], 21)
    """
    outermost: list[tuple[int, int]] = []
    frames: list[tuple[int, list[tuple[int, int]]]] = []  # of open brackets: where, what is whole inside
    tokens, position = _IN_BRACKETS, 0
    while match := (tokens if frames else _OPENING).search(text, position):
        position = match.end()
        token = match.group()
        if token == '"':  # never closed, and no later one will be
            tokens = _BRACKETS
        elif token in "{[":
            frames.append((match.start(), []))
        elif token in "}]":
            begin, _ = frames.pop()
            (frames[-1][1] if frames else outermost).append((begin, position))
    first = frames[0][0] if frames else None
    for _, inside in frames:
        outermost += inside
    return sorted(outermost), first


# Leniently.

_SKIPPED = re.compile(r"(?:\s++|//[^\n]*+|\#[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+")
_WORD = re.compile(r"(?!//|/\*)[^\s,:{}\[\]\"'](?:(?!//|/\*|\s\#)[^,:{}\[\]\"'\n])*+")
_STRINGS = {
    # A quote ends the string only where JSON can go on, so that 'don't' and "a "b" c" survive.
    quote: re.compile(rf"(?:[^{quote}\\]|\\.|{quote}(?!\s*+(?:[,:}}\]]|$|//|/\*|\#)))*+{quote}", re.DOTALL)
    for quote in "\"'"
}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"} | {character: character for character in "\"'\\/"}


class _Lenient:
    """A forgiving reader of JSON-like text in one pass."""

    def __init__(self, text: str, ended: bool, cut: bool):
        self.text = text
        self.ended, self.cut = ended, cut
        self.position = 0

    def values(self) -> list:
        found: list = []
        if self.peek() == "[":
            found += self.array(0)
        begin = self.text.find("{", self.position)
        while begin >= 0:
            self.position = begin
            found.append(self.value(0))
            begin = self.text.find("{", self.position)
        if not found:
            raise Unreadable("no JSON object found")
        return found

    def peek(self) -> str:
        """The next character after white space and comments; "" at the end."""
        self.position = _SKIPPED.match(self.text, self.position).end()
        return self.text[self.position : self.position + 1]

    def skip(self, characters: str) -> None:
        while (character := self.peek()) and character in characters:
            self.position += 1

    def close(self) -> None:
        """Take one closing bracket; the end of the text stands for it unless the text was cut."""
        if self.position >= len(self.text) and self.cut:
            raise Unreadable("the turn was cut before the call ended")
        self.position += 1

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise Unreadable(f"more than {MAX_DEPTH} levels")
        first = self.peek()
        if first == "{":
            return self.object(depth)
        if first == "[":
            return self.array(depth)
        return self.string(first) if first and first in "\"'" else self.word()

    def object(self, depth: int) -> dict:
        self.position += 1
        if self.peek() == "{":  # doubled, as in a template
            inner = self.value(depth + 1)
            if self.peek() not in ("}", ""):
                raise Unreadable(f"expected '}}', not {self.peek()!r}")
            self.close()
            return inner
        entries: dict = {}
        while True:
            self.skip(",")
            first = self.peek()
            if first in ("}", ""):
                self.close()
                return entries
            key = self.string(first) if first in "\"'" else str(self.word())
            if self.peek() != ":":
                raise Unreadable(f"expected ':' after {key[:40]!r}")
            self.position += 1
            value = self.value(depth + 1)
            if entries.setdefault(key, value) != value:
                raise Unreadable(f"{key[:40]!r} stands twice")

    def array(self, depth: int) -> list:
        self.position += 1
        items: list = []
        while True:
            self.skip(",")
            first = self.peek()
            if first in ("]", ""):
                self.close()
                return items
            if first == "}":  # it belongs to the object around; the bracket was forgotten
                return items
            items.append(self.value(depth + 1))

    def string(self, quote: str) -> str:
        match = _STRINGS[quote].match(self.text, self.position + 1)
        if match is None:
            raise Unreadable("a string is not closed")
        self.position = match.end()
        return _ESCAPE.sub(_unescape, match.group()[:-1])

    def word(self) -> object:
        """An unquoted value: a number, true, false, null, or the bare text up to the next border."""
        match = _WORD.match(self.text, self.position)
        if match is None:
            raise Unreadable(f"unexpected {self.text[self.position : self.position + 1]!r}")
        self.position = match.end()
        if self.position == len(self.text) and not self.ended:
            raise Unreadable("a value is not closed")
        word = match.group().strip()
        if re.fullmatch(r"[+-]?\d+", word, re.ASCII):
            return _integer(word)
        return {"true": True, "false": False, "null": None, "none": None}.get(word.lower(), word)


def _unescape(match: re.Match) -> str:
    code = match.group(1)
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return _ESCAPES.get(code, match.group())
