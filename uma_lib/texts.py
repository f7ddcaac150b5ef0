"""Texts as they come: chat exports to messages, messages to units, and units to chunks that fit. Imports no torch."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from uma_lib.files import RunError, read_text


def text_of(path: Path) -> str:
    """The text of a file, without the mark that some programs put at its beginning."""
    return read_text(path).removeprefix("\ufeff")


def whole(text: str) -> str:
    r"""The text with a sign for each half of a character, which no server or file could be sent.

    >>> whole("a\ud800b")
    'a\ufffdb'
    """
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def units_of(messages: Sequence[dict[str, Any]]) -> list[str]:
    """Messages as texts, with time and speaker.

    >>> units_of([{"role": "user", "content": "Hi!", "time": "2024-05-01"}, {"content": "Noted."}])
    ['[2024-05-01] user: Hi!', 'Noted.']
    """
    if not isinstance(messages, list | tuple):
        raise RunError(f"a {type(messages).__name__} cannot be read: give a text, a Path, or a list of messages")
    units = []
    for number, message in enumerate(messages, start=1):
        content = message.get("content") if isinstance(message, dict) else None
        if content is None and isinstance(message, dict) and "content" in message:
            continue  # of an assistant that only called tools
        if isinstance(content, list):  # parts, as chat completions have them
            content = "\n".join(part["text"] for part in content if isinstance(part, dict) and part.get("text"))
        if not isinstance(content, str):
            raise RunError(f"message {number} has no text: give dicts with content, and role and time where known")
        when, who = message.get("time"), message.get("role")
        units.append((f"[{when}] " if when else "") + (f"{who}: " if who else "") + content)
    return units


def messages_in(path: Path) -> list[dict[str, Any]]:
    """The messages of a chat export.

    ``.jsonl``: one message a line. ``.json``: a list of messages, a dict with ``messages``, a list of such dicts, or
    conversations as ChatGPT exports them (``mapping``). Other names that are read: ``text`` for content, ``from`` and
    ``author`` for role, ``date``, ``timestamp`` and ``create_time`` for time. Raises `RunError` for other shapes.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        found = []
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if line.strip():
                try:
                    found.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise RunError(f"{path}:{number}: not a line of JSON ({error})") from error
    else:
        try:
            found = json.loads(text_of(path))
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path}: not valid JSON ({error}); correct the file") from error
    try:
        return list(_messages(found))
    except (KeyError, TypeError, AttributeError, ValueError, OSError, OverflowError, RecursionError) as error:
        raise RunError(
            f'{path}: no chat export that is known; write a list of {{"role": ..., "content": ..., "time": ...}}'
        ) from error


def _messages(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict) and "mapping" in found:
        yield from _of_tree(found)
    elif isinstance(found, dict) and isinstance(found.get("messages"), list):
        yield from _messages(found["messages"])
    elif isinstance(found, list):
        for one in found:
            if isinstance(one, dict) and ("content" in one or "text" in one):
                yield _message(one)
            else:
                yield from _messages(one)
    else:
        raise ValueError("no messages")


def _message(one: dict[str, Any]) -> dict[str, Any]:
    def first(*names: str) -> Any:
        return next((one[name] for name in names if one.get(name) is not None), None)

    author = first("role", "from", "author")
    role = author.get("role") if isinstance(author, dict) else author
    content, when = first("content", "text"), first("time", "date", "timestamp", "create_time")
    if isinstance(content, dict):  # of ChatGPT: parts, of which some are pictures
        content = "\n".join(part for part in content.get("parts", []) if isinstance(part, str))
    if isinstance(when, int | float):
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(when))
    return {"content": content, "role": role, "time": when}


def _of_tree(conversation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The branch of a conversation that was shown last, from its first message on."""
    mapping, place, branch = conversation["mapping"], conversation.get("current_node"), []
    seen: set[str] = set()
    if place is None:
        place = next(name for name in reversed(mapping) if not mapping[name].get("children"))
    while place is not None and place not in seen:
        seen.add(place)
        branch.append(mapping[place])
        place = mapping[place].get("parent")
    for node in reversed(branch):
        message = node.get("message")
        if message and message.get("content"):
            made = _message(message)
            if made["content"] and made["role"] != "system":
                yield made


def chunks_of(
    text: str, units: Sequence[str], count: Callable[[str], int], limit: int, start: int = 0
) -> Iterator[tuple[int, int]]:
    r"""Cut ``text[start:]``, the units joined by line ends, into spans of at most ``limit`` tokens that are not blank.

    It is cut between units; within a unit that is too long between its lines, within such a line at blanks, and
    anywhere within such a word.

    >>> text = "one two\nthree four five\nsix"
    >>> [text[a:b] for a, b in chunks_of(text, text.split("\n"), lambda text: len(text.split()), 4)]
    ['one two', 'three four five', 'six']
    """
    begin = end = start
    tokens = 0  # of text[begin:end], about: a part and its line end may be more together than apart
    for first, last, alone in _parts(text, units, count, limit, start):
        more = count(text[end if end > begin else first : last]) + 1  # with blank lines in between
        if end > begin and (alone or tokens + more > limit):
            if text[begin:end].strip():
                yield begin, end
            begin, tokens, more = first, 0, count(text[first:last]) + 1
        elif end == begin:
            begin = first
        end, tokens = last, tokens + more
        if alone:
            if text[begin:end].strip():
                yield begin, end
            begin, tokens = end, 0
    if text[begin:end].strip():
        yield begin, end


def _parts(
    text: str, units: Sequence[str], count: Callable[[str], int], limit: int, start: int
) -> Iterator[tuple[int, int, bool]]:
    """Spans that are not cut further, and whether one stands alone, since it is a part of what did not fit."""
    at = 0
    for unit in units:
        first, last = max(at, start), at + len(unit)
        at = last + 1
        if first >= last:
            continue
        if count(text[first:last]) + 1 <= limit:
            yield first, last, False
            continue
        for line in _lines(text, first, last):
            if count(text[line[0] : line[1]]) + 1 <= limit:
                yield *line, False
            else:
                yield from ((a, b, True) for a, b in _words(text, *line, count, limit))


def _lines(text: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    while first < last:
        end = text.find("\n", first, last)
        end = last if end < 0 else end
        if end > first:
            yield first, end
        first = end + 1


def _words(
    text: str, first: int, last: int, count: Callable[[str], int], limit: int
) -> Iterator[tuple[int, int]]:
    """Cut a line that is too long: the most that fits, by halving, then back to a blank."""
    while first < last:
        low, high = 1, min(last - first, 16 * limit)  # a token seldom has more characters
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count(text[first : first + middle]) + 1 <= limit else (low, middle - 1)
        end = first + low
        if end < last and (blank := text.rfind(" ", first + 1, end + 1)) > 0:
            end = blank
        yield first, end
        first = end + (text[end : end + 1] == " ")
