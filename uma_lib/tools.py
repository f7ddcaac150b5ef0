"""Tools between a language model and Python methods: schemas out, calls in.

`schema` derives the OpenAI function schema from a method, `parse_calls` reads Hermes/Qwen calls
(``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``) from whatever the model wrote, and `dispatch`
runs one. What a model writes never raises: every failure is a `Result` with an error that the model can read.

The parser reads strict JSON first. Where that fails it tolerates what models really emit: unclosed tags,
trailing commas, single or unescaped quotes, line breaks in strings, missing or spare closing braces, code
fences. Of duplicate keys the last counts, as in Python's json. A string that never ends makes the call
malformed rather than being guessed at: it is mostly a call that was cut off, and half a value must not be
written to memory.

The module knows nothing of the environment's limits, prompts or rewards.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from uma_lib.memory import Result

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_DEPTH = 20  # of nested lists and objects in a call
SHORTEST_CUT = 80  # characters; room for the note of `cut`


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as the model wrote it. If it could not be read, `error` says why and `arguments` is empty.

    Arguments are texts and integers: other numbers keep the text they were written as (12.50 stays "12.50"),
    true and false become texts, nested values their JSON, and null counts as not given.
    """

    name: str
    arguments: dict[str, str | int]
    error: Result | None = None


# Calls, from text.


_THOUGHT = re.compile(r"<(/?)(?:think(?:ing)?|thought|reasoning)(?:\s[^<>]{0,100})?>", re.IGNORECASE)


def split_thought(text: str) -> tuple[str, str]:
    """The thought in a turn, and the rest of it, which is spoken.

    Thought stands between tags such as <think>. Before a closing tag without an opening one everything is thought,
    since many chat templates put the opening tag into the prompt; after an opening tag that is never closed the rest.

    >>> split_thought("30 + 40\\n</think>\\n70")
    ('30 + 40', '70')
    """
    thought: list[str] = []
    speech: list[str] = []
    position, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if tag[1] and not thinking:
            thought, speech = [*thought, *speech], []
        (thought if tag[1] or thinking else speech).append(text[position : tag.start()])
        position, thinking = tag.end(), not tag[1]
    (thought if thinking else speech).append(text[position:])
    return "\n".join(filter(None, map(str.strip, thought))), "\n".join(filter(None, map(str.strip, speech)))


def parse_calls(text: str) -> tuple[str, list[ToolCall]]:
    """Split a model's turn into the text outside its calls and the calls. Never raises.

    A turn without any tag counts as calls only if it is nothing but calls (in a code fence, perhaps).

    >>> parse_calls('Noted.\\n<tool_call>\\n{"name": "delete", "arguments": {"key": "a",}}')
    ('Noted.', [ToolCall(name='delete', arguments={'key': 'a'}, error=None)])
    """
    if OPEN not in text:
        values, rest = _read_values(_unfence(text.replace(CLOSE, " ")))
        named = all(isinstance(value, dict) and {"name", "arguments"} <= value.keys() for value in values)
        if values and named and not rest:
            return "", [_to_call(value) for value in values]
        return text.replace(CLOSE, "").strip(), []
    head, *parts = _split(text)
    content, calls = [_unfence(head)], []
    for body, tail in parts:
        content.append(_unfence(tail))
        calls.extend(_read_body(body))
    return "\n".join(part for part in content if part).replace(CLOSE, "").strip(), calls


def _split(text: str) -> list:
    """[text before the first tag, (body of a call, text after it), ...]."""
    position = text.index(OPEN)
    parts: list = [text[:position]]
    while position < len(text):
        begin = position + len(OPEN)
        # A call that is strict JSON ends where the JSON does, whatever tags stand inside its strings.
        json_end = _strict_end(text, begin)
        following = text.find(OPEN, json_end)
        following = len(text) if following < 0 else following
        close = text.find(CLOSE, json_end, following)
        if close >= 0:
            parts.append((text[begin:close], text[close + len(CLOSE) : following]))
        elif json_end > begin:  # unclosed, but the call itself is whole: the rest is text
            end = _match_end(r"[\s}`]*", text, json_end, following)
            parts.append((text[begin:end], text[end:following]))
        else:
            parts.append((text[begin:following], ""))
        position = following
    return parts


def _read_body(body: str) -> list[ToolCall]:
    try:
        return [_to_call(value) for value in _read(_unfence(body))]
    except _Unreadable as error:
        return [_malformed("", str(error))]


def _to_call(value: object) -> ToolCall:
    if not isinstance(value, dict):
        return _malformed("", 'a call is an object {"name": ..., "arguments": {...}}')
    name = value.get("name")
    if not isinstance(name, str) or not name.strip():
        return _malformed("", "the call has no name")
    name = _whole(name.strip())
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):  # arguments as a JSON text
        try:
            values = _read(arguments)
        except _Unreadable as error:
            return _malformed(name, f"arguments: {error}")
        arguments = values[0] if len(values) == 1 else values
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return _malformed(name, "arguments must be an object")
    return ToolCall(name, {_whole(key): _plain(item) for key, item in arguments.items() if item is not None})


def _plain(value: object) -> str | int:
    if value is True or value is False:
        return str(value).lower()
    if isinstance(value, int):
        return value
    return _whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _malformed(name: str, message: str) -> ToolCall:
    return ToolCall(name, {}, Result.failure("malformed", f"malformed tool call: {message}"))


def _whole(text: str) -> str:
    """The text with halves of characters (unpaired surrogates, from a bad \\u escape) joined or replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unfence(text: str) -> str:
    """The text without white space and code fences around it."""
    return re.sub(r"^```\w*", "", text.strip()).removesuffix("```").strip()


def _match_end(pattern: str, text: str, begin: int, end: int | None = None) -> int:
    return re.compile(pattern).match(text, begin, len(text) if end is None else end).end()


# JSON, strict and lenient.


def _integer(text: str) -> str | int:
    return int(text) if len(text) <= 18 else text  # Python refuses to convert very long ones


_DECODER = json.JSONDecoder(parse_float=str, parse_int=_integer, parse_constant=str)


def _strict_end(text: str, begin: int) -> int:
    """Where the strict JSON objects or lists that follow a tag end; `begin` itself if there is none."""
    end = begin
    position = _match_end(r"\s*(?:```\w*\s*)?", text, begin)
    while text[position : position + 1] in ("{", "["):
        try:
            _, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            break
        position = _match_end(r"[\s,]*", text, end)
    return end


def _read_values(text: str) -> tuple[list, str]:
    """The strict JSON objects a text begins with, lists of them unpacked, and the rest of the text."""
    values: list = []
    position = 0
    while text[position : position + 1] in ("{", "["):
        try:
            value, end = _DECODER.raw_decode(text, position)
            if _depth(value) > MAX_DEPTH:
                break
        except (ValueError, RecursionError):
            break
        values.extend(value if isinstance(value, list) else [value])
        position = _match_end(r"[\s,]*", text, end)
    return values, text[position:]


def _read(text: str) -> list:
    """The objects in the text of a call: as strict JSON if it is, leniently otherwise."""
    values, rest = _read_values(text)
    return values if values and not rest else _Lenient(text).values()


def _depth(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


class _Unreadable(Exception):
    pass


class _Lenient:
    """A forgiving reader of JSON-like text in one pass; braces and brackets may be missing at its end."""

    def __init__(self, text: str):
        self.text = text
        self.position = 0

    def values(self) -> list:
        """All top-level objects; raises _Unreadable if there is none or one cannot be read."""
        found: list = []
        begin = self.text.find("{")
        while begin >= 0:
            self.position = begin
            found.append(self.value(0))
            begin = self.text.find("{", self.position)
        if not found:
            raise _Unreadable("no JSON object found")
        return found

    def peek(self) -> str:
        """The next character after white space; "" at the end."""
        self.position = _match_end(r"\s*", self.text, self.position)
        return self.text[self.position : self.position + 1]

    def skip(self, characters: str) -> None:
        while (character := self.peek()) and character in characters:
            self.position += 1

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise _Unreadable(f"more than {MAX_DEPTH} levels")
        first = self.peek()
        if first == "{":
            return self.object(depth)
        if first == "[":
            return self.array(depth)
        return self.string(first) if first and first in "\"'" else self.word()

    def object(self, depth: int) -> dict:
        self.position += 1
        entries: dict = {}
        while True:
            self.skip(",")
            first = self.peek()
            if first in ("}", ""):
                self.position += 1
                return entries
            key = self.string(first) if first in "\"'" else str(self.word())
            if self.peek() != ":":
                raise _Unreadable(f"expected ':' after {key[:40]!r}")
            self.position += 1
            entries[key] = self.value(depth + 1)

    def array(self, depth: int) -> list:
        self.position += 1
        items: list = []
        while True:
            self.skip(",")
            first = self.peek()
            if first in ("]", "}", ""):
                self.position += (
                    first == "]"
                )  # a brace belongs to the object around; the bracket was forgotten
                return items
            items.append(self.value(depth + 1))

    def string(self, quote: str) -> str:
        # A quote ends the string only where JSON can go on, so that 'don't' and "a "b" c" survive.
        end = re.compile(rf"(?:[^{quote}\\]|\\.|{quote}(?!\s*(?:[,:}}\]]|$)))*+{quote}", re.DOTALL)
        match = end.match(self.text, self.position + 1)
        if match is None:
            raise _Unreadable("a string is not closed")
        self.position = match.end()
        return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _unescape, match.group()[:-1], flags=re.DOTALL)

    def word(self) -> object:
        """An unquoted value: a number, true, false, null, or the bare text up to the next border."""
        match = re.compile(r"[^\s,:{}\[\]\"'][^,:{}\[\]\"'\n]*").match(self.text, self.position)
        if match is None:
            raise _Unreadable(f"unexpected {self.text[self.position : self.position + 1]!r}")
        self.position = match.end()
        word = match.group().strip()
        if re.fullmatch(r"[+-]?\d+", word, re.ASCII):
            return _integer(word)
        return {"true": True, "false": False, "null": None, "none": None}.get(word.lower(), word)


def _unescape(match: re.Match) -> str:
    code = match.group(1)
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}.get(code, code)


# Methods, as tools.


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    type: type  # str or int
    required: bool


_parameters_of: WeakKeyDictionary[Callable, tuple[_Parameter, ...]] = WeakKeyDictionary()


def _parameters(method: Callable) -> tuple[_Parameter, ...]:
    """The parameters of a tool, read once a function (reading a signature is slow beside a call)."""
    function = method.__func__ if inspect.ismethod(method) else method
    if function not in _parameters_of:
        found = []
        for parameter in inspect.signature(method, eval_str=True).parameters.values():
            kinds = {str: str, int: int, str | None: str, int | None: int}
            if parameter.annotation not in kinds or parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
                raise TypeError(f"tool {method.__name__}: annotate {parameter.name!r} as str or int")
            required = parameter.default is parameter.empty
            found.append(_Parameter(parameter.name, kinds[parameter.annotation], required))
        _parameters_of[function] = tuple(found)
    return _parameters_of[function]


def schema(method: Callable[..., Result]) -> dict:
    """The OpenAI function schema of a method, from its signature and docstring.

    The description is the docstring's first paragraph, each parameter's the text after its name under
    ``Args:`` (left out if there is none). A parameter with a default is optional.

    Raises:
        ValueError: the method has no docstring.
        TypeError: a parameter is neither str nor int (perhaps with ``| None``).
    """
    text = inspect.getdoc(method)
    if not text:
        raise ValueError(f"tool {method.__name__}: write a docstring, the model reads it")
    described = _described(text)
    properties = {}
    for parameter in _parameters(method):
        properties[parameter.name] = {"type": "string" if parameter.type is str else "integer"}
        if parameter.name in described:
            properties[parameter.name]["description"] = described[parameter.name]
    return {
        "type": "function",
        "function": {
            "name": method.__name__,
            "description": " ".join(text.split("\n\n")[0].split()),
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": [parameter.name for parameter in _parameters(method) if parameter.required],
            },
        },
    }


def _described(docstring: str) -> dict[str, str]:
    """The lines under ``Args:``, a parameter each; deeper lines continue the one above."""
    _, _, section = docstring.partition("\nArgs:\n")
    described: dict[str, str] = {}
    for line in section.splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name, text = match.groups()
            described[name] = text.strip()
        elif re.match(r" {5,}\S", line) and described:
            described[name] += " " + line.strip()
        elif line:
            break
    return described


def dispatch(tools: Mapping[str, Callable[..., Result]], call: ToolCall) -> Result:
    """Run a call. Unknown names and missing, unknown or wrong-typed arguments are errors the model reads.

    Integers become texts where a text is wanted, and texts such as "3" integers where one is. What a tool
    itself raises is a defect of the program and is not caught.

    >>> from uma_lib.memory import MemoryBank
    >>> bank = MemoryBank()
    >>> dispatch({"add": bank.add}, ToolCall("add", {"key": "a", "value": 3})).text
    'ok'
    >>> dispatch({"add": bank.add}, ToolCall("add", {"key": "a"})).text
    "error: add needs the argument 'value'"
    """
    if call.error is not None:
        return call.error
    if call.name not in tools:
        known = ", ".join(tools)
        return Result.failure("unknown_tool", f"unknown tool {call.name[:40]!r}; the tools are {known}")
    method = tools[call.name]
    parameters = {parameter.name: parameter for parameter in _parameters(method)}
    arguments = {}
    for name, value in call.arguments.items():
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            return Result.failure("argument", f"{call.name} takes {known}, not {name[:40]!r}")
        converted = _convert(value, parameters[name].type)
        if converted is None:
            wanted = "a text" if parameters[name].type is str else "an integer"
            return Result.failure("argument", f"{name} must be {wanted}")
        arguments[name] = converted
    for parameter in parameters.values():
        if parameter.required and parameter.name not in arguments:
            return Result.failure("argument", f"{call.name} needs the argument {parameter.name!r}")
    return method(**arguments)


def _convert(value: object, wanted: type) -> str | int | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    if wanted is str:
        return str(value)
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"\s*([+-]?\d{1,18})(?:\.0*)?\s*", value, re.ASCII)
    return int(match.group(1)) if match else None


# Text, for the model.


def render_call(name: str, /, **arguments: str | int) -> str:
    """A call as the model should write it.

    >>> print(render_call("add", key="a", value="12.50"))
    <tool_call>
    {"name": "add", "arguments": {"key": "a", "value": "12.50"}}
    </tool_call>
    """
    return f"{OPEN}\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n{CLOSE}"


def cut(text: str, limit: int) -> str:
    """A tool result of at most `limit` characters, cut after a line, with a note on what is missing.

    If not even the first line fits, it is cut inside.

    Raises:
        ValueError: the limit is under `SHORTEST_CUT` characters.
    """
    if limit < SHORTEST_CUT:
        raise ValueError(f"a tool result cannot be cut to {limit} characters; allow at least {SHORTEST_CUT}")
    if len(text) <= limit:
        return text
    lines = text.split("\n")
    room = limit - len(_lines_note(len(lines))) - 1  # the note never grows when fewer lines are missing
    kept = length = 0
    while length + len(lines[kept]) <= room:
        length += len(lines[kept]) + 1
        kept += 1
    if kept:
        return "\n".join([*lines[:kept], _lines_note(len(lines) - kept)])
    note = f"({len(text)} characters in all)"
    return f"{text[: limit - len(note) - 1]}\n{note}"


def _lines_note(missing: int) -> str:
    return f"({missing} more line{'' if missing == 1 else 's'}; narrow the filter or pass start)"
