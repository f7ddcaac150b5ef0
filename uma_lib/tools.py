"""Tools between a language model and Python methods: schemas out, calls in.

`schema` derives the OpenAI function schema from a method, `parse_calls` reads calls from whatever the model wrote
(see `uma_lib.calls`), and `dispatch` runs one. What a model writes never raises: every failure is a `Result` with an
error that the model can read.

The module knows nothing of the environment's limits, prompts or rewards.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from uma_lib.calls import CLOSE, OPEN, ToolCall, parse_calls, split_thought
from uma_lib.memory import Result

__all__ = ["ToolCall", "cut", "dispatch", "parse_calls", "render_call", "schema", "split_thought"]

SHORTEST_CUT = 80  # characters; room for the note of `cut`


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


def dispatch(
    tools: Mapping[str, Callable[..., Result]], call: ToolCall, offered: Iterable[str] | None = None
) -> Result:
    """Run a call. Unknown names and missing, unknown or wrong-typed arguments are errors the model reads.

    An unknown name is answered with those of the tools that are ``offered`` (default: all).

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
        known = ", ".join(tools if offered is None else offered)
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
