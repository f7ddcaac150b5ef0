"""What a language model wrote, told apart: thought, speech, and the calls in it.

`split_thought` takes thought out of a turn, `parse_calls` reads the calls of what is left. Thought is never a call, a
core memory or an answer. Calls are asked for as ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>`` (Hermes,
Qwen); read are also the dresses in which other models were taught to write them:

- other tags (``<tools>``, ``<function_call>``, ``<|tool_call|>``, ``[TOOL_CALLS]``, ``<|python_tag|>``) and none;
- the name before the object or in the tag, and parameters as XML elements (``<function=add><parameter=key>a</...``);
- OpenAI's wrappers, ``parameters`` and the like for ``arguments``, and arguments beside the name.

Without a tag an object is a call if it names a tool and has arguments (`_is_call`), and it is run if nothing follows
it on its line. What looks like a call and cannot be read, or stands among other words, becomes a call with an error,
so that it is shown to the model. Other JSON is text.

Of a turn that was cut only those calls count that were whole before the cut.

The time is linear in the length of a turn, of which `TURN_CHARS` are read at most. What a model writes never raises.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from uma_lib.lenient import Unreadable, balanced, read, strict, strict_values, value_end
from uma_lib.memory import Result

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_WRITE = f'write {OPEN}{{"name": ..., "arguments": {{...}}}}{CLOSE}'
TURN_CHARS = 200_000  # of a turn; 8,192 tokens rarely have more than 40,000
MAX_CALLS = 100  # of a turn; what follows is not read

_NAMES = ("name", "tool", "tool_name", "function", "function_name", "action")  # where a call may say its name
_ARGUMENTS = ("arguments", "parameters", "args", "kwargs", "params", "input", "tool_input", "action_input")
_LISTS = ("tool_calls", "function_calls", "calls")
_WRAPPERS = ("function", "function_call", "tool_call")
_WRAPPED = {*_LISTS, *_WRAPPERS}
_USUAL = {"name", "arguments"}
_TELLING = {"key", "text", "filter", "query"}  # arguments that make an "action" a call
_METADATA = {"id", "type", "index", "call_id", "tool_call_id"}  # beside a name; says nothing to a tool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as the model wrote it. If it could not be read, `error` says why and `arguments` is empty.

    Arguments are texts and integers: other numbers keep the text they were written as (12.50 stays "12.50"),
    true and false become texts, nested values their JSON, and null counts as not given.
    """

    name: str
    arguments: dict[str, str | int]
    error: Result | None = None


# Tags, each with a bounded number of characters.

_WORD = r"[\w.:-]{1,64}"
_MARK = r"[|｜]\w{1,20}[|｜]"  # <｜DSML｜invoke> of DeepSeek
_TAG = re.compile(
    rf"""
    [<\[](?:                                                      # first, so that other text is passed over fast
        (?<=<)(?P<bar>\|?)(?P<slash>/?)(?:\w{{1,20}}:|{_MARK})?   # <tool_call>, </tool_call>, <minimax:tool_call>
            (?:start_|(?P<of>end_))?(?:(?:tool|function)[_ -]?calls?|tools?|functions?|invoke)
            (?:(?:\s*=\s*["']?|\()(?P<equals>{_WORD})["')]?|\s+name\s*=\s*["']?(?P<named>{_WORD})["']?)?
            (?:(?:\s[^<>]{{0,100}})?(?P<bars>\|?)>|(?(equals)\s{{0,9}}(?={{)|(?!)))  # Llama forgets the > before {{
        | (?<=\[)(?P<list>/?)TOOL_CALLS?\]                        # Mistral
        | (?<=<)(?P<begins>/?)[|｜](?:python_tag|START_ACTION|tool[_▁]calls?(?:_section)?[_▁]begin)[|｜]>
        | (?<=<)[|｜](?P<ends>END_ACTION|call|tool[_▁]calls?(?:_section)?[_▁]end)[|｜]>
        | (?<=<)(?:\|start\|>assistant<)?\|channel\|>commentary\ to=functions\.(?P<to>{_WORD})[^<>]{{0,20}}
            (?:<\|constrain\|>\w{{1,10}})?<\|message\|>          # gpt-oss
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_THOUGHT = re.compile(
    r"""
    [<\[◁](?:                                                     # first, so that other text is passed over fast
        (?<=<)(?P<alone>think(?:ing)?[ ]?/|\|(?:return|END_RESPONSE)\|)>  # holds nothing
        | (?<=<)[|｜](?:begin|start|(?P<of>end))[_▁](?:of[_▁])?(?:thought|thinking)[|｜]>  # Cohere and others
        | (?<=<)\|?[ ]{0,2}(?P<slash>/?)[ ]{0,2}\|?(?:\w{1,20}[:_]|ant)?
            (?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratch_?pad|analysis|rationale|monologue|cot)
            (?:_(?:content|process))?(?:\s[^<>]{0,100})?\|?>
        | (?<=\[)(?P<list>/?)THINK\]                              # Mistral
        | (?<=◁)(?P<kimi>/?)think▷
        | (?<=<)(?:\|channel>thought\b|unused94>(?:thought\b)?|(?P<gemma>channel\||unused95)>)
        | (?<=<)\|channel\|>analysis<\|message\|>                 # gpt-oss
        | (?P<final>(?<=<)(?:\|end\|>(?:<\|start\|>assistant)?(?:<\|channel\|>final<\|message\|>)?
            | (?:\|start\|>assistant<)?\|channel\|>final<\|message\|>|\|START_RESPONSE\|>))
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_QUOTED = re.compile(r"""(<escape>|<\|"\|>)(?:(.*?)\1)?""", re.DOTALL)  # a text of Gemma's
_LEAD = re.compile(r"\s*+(?:```\w*+\s*+)?")  # before a call
_SPARE = re.compile(r"[\s}`]*+")  # after a call whose tag is not closed
_FENCE = re.compile(r"^[ \t]*+```\w*+[ \t]*+$", re.MULTILINE)
_BORDER = re.compile(  # after a call without a tag
    r"[ \t\r\u200b]*+[`*.,;]{0,9}[ \t\r\u200b]*+(?:\n|\Z|//|\#|/\*)|[`,;]{0,3}\s*+[{\[<]|\s*+```"
)
_SAID = re.compile(  # a name before the object
    r"""(?:function\s*+<[|｜]tool[_▁]sep[|｜]>)?\s*+(?:call:|functions\.)?(?P<name>[A-Za-z_][\w.-]{0,63})(?::\d{1,9})?\s*+
    (?:\[ARGS\]|<\|tool_call_argument_begin\|>|<[|｜]tool[_▁]sep[|｜]>)?\s*+(?:```\w*+\s*+)?(?=[{<])""",
    re.VERBOSE,
)
_ELEMENT = re.compile(  # Qwen3-Coder, MiniMax, DeepSeek; GLM
    rf"""\s*+(?:<(?:{_MARK})?(?:param(?:eter)?|arg(?:ument)?)(?:\s*=\s*|\s+name\s*=\s*)["']?(?P<key>{_WORD})["']?
            (?:\s[^<>]{{0,100}})?>
        | <arg_key>(?P<glm>[^<>]{{1,64}})</arg_key>\s*(?:<arg_value>)?)
    (?P<value>.*?)
    (?:(?P<end></(?:{_MARK})?(?:param(?:eter)?|arg(?:ument)?|arg_value)>)
        | (?=<(?:{_MARK})?(?:param(?:eter)?|arg(?:ument)?)[\s=]|<arg_key>)|\Z)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


class _Tag(NamedTuple):
    begin: int
    end: int
    closing: bool
    name: str  # of a tool, if the tag says one
    alone: bool = False  # opens and closes nothing


def _tags(pattern: re.Pattern, text: str) -> list[_Tag]:
    """The tags of a text, without those that stand in backticks, which are only spoken of."""
    found = []
    for match in pattern.finditer(text):
        begin, end = match.span()
        if text.startswith("`", end) and text.startswith("`", begin - 1):
            continue
        tag = match.group()
        if tag == OPEN or tag == CLOSE:  # nearly all of them
            found.append(_Tag(begin, end, tag == CLOSE, ""))
            continue
        groups = match.groupdict()
        closing = any(groups.get(name) for name in ("slash", "list", "begins", "ends", "kimi", "gemma", "final", "of"))
        closing |= groups.get("bars") == "|" and not groups["bar"]  # <tool_call|> of Gemma
        name = groups.get("equals") or groups.get("named") or groups.get("to") or ""
        found.append(_Tag(begin, end, closing, _bare(name), groups.get("alone") is not None))
    return found


# Thought and speech.


def split_thought(text: str) -> tuple[str, str]:
    """The thought in a turn, and the rest of it, which is spoken.

    Thought stands between tags: <think>, <thought>, <analysis>, <inner_monologue>, [THINK] and the like. Before a
    closing tag without an opening one everything is thought, since many chat templates put the opening tag into the
    prompt; after an opening tag that is never closed the rest is. A tag inside of a string of JSON is data, in a call
    say; one in backticks is only spoken of.

    >>> split_thought("<think>30 + 40</think>\\n70")
    ('30 + 40', '70')
    >>> split_thought("30 + 40\\n</think>\\n70")
    ('30 + 40', '70')
    >>> split_thought("<think>30 + 40 is")
    ('30 + 40 is', '')
    """
    tags = _tags(_THOUGHT, text)
    if not tags:
        return "", text
    data = _in_strings(text, tags)
    thought: list[str] = []
    speech: list[str] = []
    position, thinking = 0, False
    for tag in tags:
        if tag.begin in data:
            continue
        if tag.alone:
            (thought if thinking else speech).append(text[position : tag.begin])
        elif tag.closing:
            if not thinking:  # its opening tag stands in the prompt
                thought, speech = [*thought, *speech], []
            thought.append(text[position : tag.begin])
            thinking = False
        elif thinking:
            continue
        else:
            speech.append(text[position : tag.begin])
            thinking = True
        position = tag.end
    (thought if thinking else speech).append(text[position:])
    return tuple("\n".join(part.strip() for part in parts if part.strip()) for parts in (thought, speech))


def _in_strings(text: str, tags: list[_Tag]) -> set[int]:
    """Where those tags begin that stand inside of strict JSON, or of a tagged call that can be read: in a string."""
    places = [tag.begin for tag in tags]
    found: set[int] = set()

    def inside(begin: int, end: int) -> list[int]:
        return places[bisect_left(places, begin) : bisect_left(places, end)]

    for begin, end in balanced(text)[0]:
        if (held := inside(begin, end)) and strict(text[begin:end]):
            found.update(held)
    for tag, following in pairwise(_tags(_TAG, text)):
        if not tag.closing and following.closing and (held := inside(tag.end, following.begin)):
            body = _unfence(text[tag.end : following.begin])
            try:
                found.update(held if body.startswith(("{", "[")) and read(body) else ())
            except Unreadable:
                continue
    return found


# Calls, from text.


def parse_calls(
    text: str, tools: Collection[str] | None = None, stopped: bool = True
) -> tuple[str, list[ToolCall]]:
    """Split a model's turn into the text that it speaks outside of its calls, and the calls. Never raises.

    tools: the names of the tools, by which a call without a tag is known. Without them any name is one, if
        arguments stand beside it.
    stopped: the turn ended by itself and was not cut.

    >>> parse_calls('Noted.\\n<tool_call>\\n{"name": "delete", "arguments": {"key": "a",}}')
    ('Noted.', [ToolCall(name='delete', arguments={'key': 'a'}, error=None)])
    """
    if len(text) > TURN_CHARS:
        message = f"the turn has {len(text)} characters, at most {TURN_CHARS}; nothing of it was read"
        return "", [ToolCall("", {}, Result.failure("limit", message))]
    thought, speech = split_thought(text)
    content: list[str] = []
    calls: list[ToolCall] = []
    tags = _tags(_TAG, speech)
    position = 0
    for number, tag in enumerate(tags):
        if tag.begin < position:  # in a string of the call before
            continue
        if len(calls) > MAX_CALLS:
            break
        calls += _read_untagged(speech[position : tag.begin], tools, content)
        position = tag.end
        if not tag.closing:
            found, position = _read_tagged(speech, tags, number, tools, stopped)
            calls += found
    else:
        calls += _read_untagged(speech[position:], tools, content, ended=False, cut=not stopped)
    if len(calls) > MAX_CALLS:
        message = f"more than {MAX_CALLS} calls in a turn; those that follow were not read"
        calls = [*calls[:MAX_CALLS], ToolCall("", {}, Result.failure("limit", message))]
    if calls:
        return "\n".join(part for part in (_FENCE.sub("", part).strip() for part in content) if part), calls
    said = "".join(content).strip()
    if said or not thought:
        return ("", [_malformed("", _WRITE)]) if tools and said.strip("`*()") in tools else (said, [])
    return "", [_malformed("", "there is thought and nothing after it")]


def _read_tagged(
    text: str, tags: list[_Tag], number: int, tools: Collection[str] | None, stopped: bool
) -> tuple[list[ToolCall], int]:
    """The calls after the opening tag ``tags[number]``, and where what follows them begins."""
    begin, name = tags[number].end, tags[number].name
    following = tags[number + 1] if number + 1 < len(tags) else None
    if following and not following.closing and not text[begin : following.begin].strip():
        return ([ToolCall(name, {})] if name else []), begin  # repeated, or one tag in another
    values, position, following = _strict_beyond_tags(text, tags, number)
    end = following.begin if following else len(text)
    if not values:
        ended = following is not None
        return _read_body(_unfence(text[begin:end]), name, tools, ended, not ended and not stopped), end
    calls = _calls(values, name, tools)
    if following is None or not following.closing:  # the call is whole, so the rest is text
        return calls, _SPARE.match(text, position, end).end()
    if "{" in text[position:end]:
        calls += _read_body(text[position:end], "", tools)
    return calls, end


def _strict_beyond_tags(text: str, tags: list[_Tag], number: int) -> tuple[list, int, _Tag | None]:
    """The strict JSON after a tag, whatever tags stand in its strings; where it ends, and the next tag."""
    values: list = []
    position = _LEAD.match(text, tags[number].end).end()
    number += 1
    while True:
        following = tags[number] if number < len(tags) else None
        end = following.begin if following else len(text)
        more, length = strict_values(text[position:end])
        values += more
        position += length
        beyond = value_end(text, position) if position < end and following and text[position] in "{[" else end
        found = strict(text[position:beyond]) if beyond > end else None
        if found is None:
            return values, position, following
        values += found[0] if isinstance(found[0], list) else [found[0]]
        position = beyond
        while number < len(tags) and tags[number].begin < position:
            number += 1


def _read_body(
    body: str, name: str, tools: Collection[str] | None, ended: bool = True, cut: bool = False
) -> list[ToolCall]:
    """The calls in what stands between tags, if it is not strict JSON; ``name`` is that in the tag."""
    said = None if name else _SAID.match(body)
    called = _bare(said["name"]) if said else name
    try:
        if called and _ELEMENT.match(body, said.end() if said else 0):
            return [ToolCall(called, _elements(body[said.end() if said else 0 :], ended))]
        if name and not body:
            return [ToolCall(name, {})]
        values = read(_QUOTED.sub(lambda quoted: '"' if quoted[2] is None else json.dumps(quoted[2]), body), ended, cut)
    except Unreadable as error:
        return [_malformed(name, str(error))]
    if said and (len(values) != 1 or _name_key(values[0])):
        called = ""  # the object has a name of its own; what stands before it is prose
    return _calls(values, called, tools)


def _elements(text: str, ended: bool) -> dict[str, str | int]:
    """Parameters as XML elements; of one without a closing tag the next one is the end."""
    arguments: dict[str, str | int] = {}
    position = 0
    while match := _ELEMENT.match(text, position):
        key, value, position = match["key"] or match["glm"], match["value"], match.end()
        if not match["end"] and (position == len(text) and not ended or value.rstrip().endswith(">")):
            raise Unreadable(f"{key[:40]!r} is not closed")
        if key in arguments:
            raise Unreadable(f"{key[:40]!r} stands twice")
        arguments[key] = _whole(value.strip())
    if text[position:].strip():
        raise Unreadable("there is text outside of the parameters")
    return arguments


def _read_untagged(
    text: str, tools: Collection[str] | None, content: list[str], ended: bool = True, cut: bool = False
) -> list[ToolCall]:
    """The calls in text outside of tags; what is none is appended to ``content``."""
    if not text.strip():
        return []
    found: list[ToolCall] = []
    position = 0
    spans, unclosed = balanced(text) if "{" in text else ([], None)
    said = {match.end(): match for match in _before_object(tuple(tools or ())).finditer(text)} if "{" in text else {}
    for begin, end in spans if unclosed is None else [*spans, (unclosed, len(text))]:
        if begin < position:
            continue
        state = (ended, cut) if begin == unclosed else (True, False)
        calls, before = _object_calls(text[begin:end], tools, *state), said.get(begin)
        if not calls and before:
            calls, begin = _read_body(text[begin:end], _bare(before["name"]), tools, *state), before.start()
        if calls:
            if not _BORDER.match(text, end):
                calls = [_malformed("", f"among other words it is not run; write it between {OPEN} and {CLOSE}")]
            content.append(text[position:begin])
            found += calls
            position = end
    content.append(text[position:])
    if tools and not found:
        text += "" if ended else "\n."  # a name at the end may belong to the tag that follows
        if any(all(part.search(text) for part in form) for form in _like_call(tuple(tools))):
            found.append(_malformed("", _WRITE))
    return found


def _object_calls(
    text: str, tools: Collection[str] | None, ended: bool = True, cut: bool = False
) -> list[ToolCall]:
    """The calls in the text of one object or list; none if it looks like anything else."""
    if found := strict(text):
        return _calls([found[0]], "", tools) if _is_call(found[0], tools) else []
    known, any_name, any_arguments = _like_json(None if tools is None else tuple(tools))
    if not (known.search(text) or any_name.search(text) and any_arguments.search(text)):
        return []
    try:
        values = read(text, ended, cut)
    except Unreadable as error:
        return [_malformed("", str(error))]
    return _calls(values, "", tools) if _is_call(values, tools) else []


# What looks like a call without a tag.


def _is_call(value: object, tools: Collection[str] | None) -> bool:
    """Whether JSON is a call, or a list with one: it names a tool, or it has a name and an object of arguments."""
    if isinstance(value, list):
        return any(_is_call(item, tools) for item in value)
    if not isinstance(value, dict):
        return False
    if any(isinstance(value.get(key), list) and _is_call(value[key], tools) for key in _LISTS):
        return True
    if any(isinstance(value.get(key), dict) and _name_key(value[key]) for key in _WRAPPERS):
        return True
    key = _name_key(value)
    if key is None:
        return isinstance(value.get("arguments"), dict) or bool(_shorthand(value, tools))
    known = tools is not None and isinstance(value[key], str) and _bare(value[key]) in tools
    own = {name for name in value if name not in _ARGUMENTS and name not in _METADATA} == {key}
    given = [value[name] for name in _ARGUMENTS if name in value]
    if known:
        return key != "action" or bool(given) or not _TELLING.isdisjoint(value)
    return "arguments" in value or own and any(isinstance(item, dict) for item in given)


@lru_cache
def _like_json(tools: tuple[str, ...] | None) -> tuple[re.Pattern, re.Pattern, re.Pattern]:
    """Patterns of a known tool's name, any name, and arguments, in what is not quite JSON."""
    key = rf"[{{,]\s{{0,20}}[\"']?(?:{'|'.join(_NAMES)})[\"']?\s{{0,9}}:\s{{0,9}}"
    names = "|".join(map(re.escape, tools or ())) or "(?!)"
    return (
        re.compile(rf"{key}[\"']?(?:functions\.)?(?:{names})(?:[\"']|\s{{0,9}}(?:[,}}\n]|\Z))"),
        re.compile(rf"{key}[\"']?[\w.-]{{1,64}}[\"']?"),
        re.compile(rf"[{{,]\s{{0,20}}[\"']?(?:{'|'.join(_ARGUMENTS)})[\"']?\s{{0,9}}:"),
    )


@lru_cache
def _before_object(tools: tuple[str, ...]) -> re.Pattern:
    """The name of a tool that begins a line and stands before an object, as in ``add {"key": "a", "value": "1"}``."""
    names = "|".join(map(re.escape, tools)) or "(?!)"
    fence = r"(?:```\w{0,10}\s{1,3})?(?=\{\s{0,9}(?:[\"'}]|\w{1,40}\s{0,9}:))"
    return re.compile(rf"^[ \t>*`-]{{0,9}}(?P<name>(?:functions\.)?(?:{names}))[*`]{{0,3}}:?\s{{0,9}}{fence}", re.M)


@lru_cache
def _like_call(tools: tuple[str, ...]) -> list[tuple[re.Pattern, ...]]:
    """Forms of calls that are not read, each as patterns that all occur in it."""
    names = rf"(?:functions\.)?(?:{'|'.join(map(re.escape, tools))})"
    quote = r"(?:\\{0,2}[\"'“”]|&quot;)"
    is_ = r"\s{0,9}(?::|=>?)\s{0,9}"
    code = r"\([ \t]{0,9}(?:\w{1,40}[ \t]{0,9}=|[\"'{%s])"
    label = rf"[`*_]{{0,3}}:[`*_ \t\"']{{0,9}}{names}"
    told = rf"(?i:name|(?:tool|function)(?:_name)?|call){quote}{is_}{quote}{names}{quote}"
    forms = (
        (rf"^[ \t\[`]{{0,9}}{names}{code % ')'}",),  # list()
        (rf"(?<![\w-]){names}{code % ''}",),  # bank.add(key="a")
        (rf"^[ \t>*`_#-]{{0,9}}Action{label}\b",),  # Action: add
        (rf"^[ \t>*`_#-]{{0,9}}(?i:(?:tool|function)(?:[ _](?:name|call))?|name|action){label}\W{{0,3}}$(?=\s*\S)",),
        (rf"<{names}(?:\s[^<>=]{{0,40}}=|\s{{0,9}}>\s{{0,9}}(?:\{{\s{{0,9}}[\"']|<\w))",),  # <add key="a"/>
        (rf"<(?:(?:tool_|function_)?name|action|tool|function)>\s{{0,9}}{names}\s{{0,9}}<",),
        (told,),  # what holds the call is unknown, or the quotes are
        (
            rf"{is_}{quote}{names}{quote}",  # {{"command": "add", "args": {{...}}}}
            rf"(?i:{quote}(?:(?:tool_|function_)?arg(?:ument)?s|param(?:eter)?s|kwargs|input|{'|'.join(_TELLING)}){quote}{is_})",
        ),
    )
    return [tuple(re.compile(part, re.MULTILINE) for part in form) for form in forms]


# From values to calls.


def _calls(values: list, name: str, tools: Collection[str] | None) -> list[ToolCall]:
    """The calls that some values are; ``name`` stood before them, which makes them arguments."""
    if not name:
        return [call for value in values for call in _to_calls(value, tools)]
    if len(values) != 1 or not isinstance(values[0], dict):
        return [_malformed(name, "arguments must be an object")]
    if values[0].get("name") == name and any(key in values[0] for key in _ARGUMENTS):
        return _to_calls(values[0], tools)
    return [_call(name, values[0])]


def _to_calls(value: object, tools: Collection[str] | None) -> list[ToolCall]:
    """The calls that a value is; whatever it is, at least one, perhaps with an error."""
    if isinstance(value, list):
        return _calls(value, "", tools)
    if not isinstance(value, dict):
        return [_malformed("", 'a call is an object {"name": ..., "arguments": {...}}')]
    if value.keys() == _USUAL and isinstance(value["name"], str) and isinstance(value["arguments"], dict):
        name, arguments = _bare(value["name"]), value["arguments"]
        if name:
            return [_tool_call(name, arguments)]
    for key in _WRAPPED & value.keys():
        inner = value[key]
        if isinstance(inner, list) and key in _LISTS:
            return _calls(inner, "", tools)
        if isinstance(inner, dict) and key in _WRAPPERS:
            outer = {k: v for k, v in value.items() if k != key and k not in _METADATA}
            if twice := outer.keys() & inner.keys():
                return [_malformed("", f"{min(twice)[:40]!r} stands twice")]
            return _to_calls(outer | inner, tools)
    key = _name_key(value)
    if key is None:
        return [_call(name, arguments) for name, arguments in _shorthand(value, tools).items()] or [
            _malformed("", "the call has no name")
        ]
    name = value[key]
    if not isinstance(name, str) or not name.strip():
        return [_malformed("", "the call has no name")]
    return [_call(_bare(name), {k: v for k, v in value.items() if k != key and k not in _METADATA})]


def _call(name: str, fields: dict) -> ToolCall:
    """A call from what stands beside its name: arguments in an object of their own, or as they are, or both."""
    arguments, groups = {}, []
    for key, item in fields.items():
        if key not in _ARGUMENTS:
            arguments[key] = item
            continue
        try:
            group = _group(item)
        except Unreadable as error:
            return _malformed(name, f"{key}: {error}" if isinstance(item, str) else f"{key} {error}")
        if group and group not in groups:
            groups.append(group)
    for group in groups:
        if twice := arguments.keys() & group.keys():
            return _malformed(name, f"{min(twice)[:40]!r} stands twice")
        arguments |= group
    return _tool_call(name, arguments)


def _tool_call(name: str, arguments: dict) -> ToolCall:
    return ToolCall(name, {_whole(key): _plain(item) for key, item in arguments.items() if item is not None})


def _group(value: object) -> dict:
    """Arguments as an object or as its JSON text; none in any spelling is {}."""
    if isinstance(value, str):
        if value.strip().lower() in ("", "null", "none", "[]"):
            return {}
        values = read(value)
        value = values[0] if len(values) == 1 else values
    if value is None or value == []:
        return {}
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise Unreadable("must be an object")
    return value


def _name_key(value: object) -> str | None:
    """Which member of an object says its name, if any does."""
    return next((key for key in _NAMES if value.get(key) is not None), None) if isinstance(value, dict) else None


def _shorthand(value: dict, tools: Collection[str] | None) -> dict:
    """The object itself if it is a short form of calls, {"add": {"key": ..., "value": ...}}; {} otherwise."""
    return value if all(key in (tools or ()) and isinstance(item, dict) for key, item in value.items()) else {}


def _bare(name: str) -> str:
    """A tool's name without ``functions.`` before it or a number after it."""
    name = _whole(name.strip()).removeprefix("functions.")
    return re.sub(r":\d+$", "", name) if ":" in name else name


def _plain(value: object) -> str | int:
    if isinstance(value, int):
        return str(value).lower() if isinstance(value, bool) else value
    return _whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _malformed(name: str, message: str) -> ToolCall:
    return ToolCall(name, {}, Result.failure("malformed", f"malformed tool call: {message}"))


def _whole(text: str) -> str:
    """The text with halves of characters (unpaired surrogates, from a bad \\u escape) joined or replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unfence(text: str) -> str:
    """The text without white space and code fences around it."""
    return re.sub(r"^```\w*", "", text.strip()).removesuffix("```").strip()
