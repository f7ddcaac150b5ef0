"""Calls as models really write them, the schemas they are told, and what reaches the tools."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from uma_lib.lenient import MAX_DEPTH
from uma_lib.memory import MemoryBank, Result
from uma_lib.tools import SHORTEST_CUT, ToolCall, cut, dispatch, parse_calls, render_call, schema

ADD = {"key": "a", "value": "1"}


def call(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (render_call("add", **ADD), ADD),
        (call('{"name": "add", "arguments": {"key": "a", "value": "1",},}'), ADD),
        (call("{'name': 'add', 'arguments': {'key': 'a', 'value': '1'}}"), ADD),
        (call("{'name': 'add', 'arguments': {'key': 'a', 'value': 'don't'}}"),
         {"key": "a", "value": "don't"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": "x "y" z"}}'),
         {"key": "a", "value": 'x "y" z'}),
        (call('{"name": "add", "arguments": {"key": "a", "value": "1\n2"}}'), {"key": "a", "value": "1\n2"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": "1"}'), ADD),
        (call('{"name": "add", "arguments": {"key": "a", "value": "1"'), ADD),
        (call('{"name": "add", "arguments": {"key": "a", "value": "1"}}}'), ADD),
        ('<tool_call>{"name": "add", "arguments": {"key": "a", "value": "1"}}', ADD),
        ('<tool_call>{"name": "add", "arguments": {"key": "a", "value": "1"}', ADD),
        (call('```json\n{"name": "add", "arguments": {"key": "a", "value": "1"}}\n```'), ADD),
        (f"```json\n{render_call('add', **ADD)}\n```", ADD),
        ('```json\n{"name": "add", "arguments": {"key": "a", "value": "1"}}\n```', ADD),
        ('{"name": "add", "arguments": {"key": "a", "value": "1"}}\n</tool_call>', ADD),
        (call('{"name": "add", "arguments": "{\\"key\\": \\"a\\", \\"value\\": \\"1\\"}"}'), ADD),
        (call('{"name": "add", "arguments": "{\'key\': \'a\', \'value\': \'1\',}"}'), ADD),
        (call('{"name": "add", "parameters": {"key": "a", "value": "1"}}'), ADD),
        (call('[{"name": "add", "arguments": {"key": "a", "value": "1"}}]'), ADD),
        (call('{name: add, arguments: {key: a, value: "1"}}'), ADD),
        (call('{"name": "add", "arguments": {"key": "a", "value": 12.50}}'), {"key": "a", "value": "12.50"}),
        (call("{'name': 'add', 'arguments': {'key': 'a', 'value': 12.50}}"), {"key": "a", "value": "12.50"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": 12}}'), {"key": "a", "value": 12}),
        (call('{"name": "add", "arguments": {"key": "a", "value": true}}'), {"key": "a", "value": "true"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": None, "x": null,}}'), {"key": "a"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": ["1", 2]}}'),
         {"key": "a", "value": '["1", 2]'}),
        (call('{"name": "add", "arguments": {"key": "a", "value": NaN}}'), {"key": "a", "value": "NaN"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": "\\ud83d\\ude00 \\ud83d"}}'),
         {"key": "a", "value": "\U0001f600 \ufffd"}),
        (call("{'name': 'add', 'arguments': {'key': 'a', 'value': '\\ud83d\\ude00\\t\\/'}}"),
         {"key": "a", "value": "\U0001f600\t/"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": "see </tool_call> <tool_call>"}}'),
         {"key": "a", "value": "see </tool_call> <tool_call>"}),
        (call('{"name": "add", "arguments": {"key": "a", "value": ' + "9" * 5_000 + "}}"),
         {"key": "a", "value": "9" * 5_000}),
        (call('{"name": " add ", "arguments": null}'), {}),
        (call('{"name": "add"}'), {}),
    ],
)  # fmt: skip
def test_one_call_is_read_whatever_its_form(text, arguments):
    assert parse_calls(text) == ("", [ToolCall("add", arguments)])
    assert parse_calls(f"{text}\n{render_call('list')}")[1][-1] == ToolCall("list", {})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "no JSON object found"),
        ("add a 1", "no JSON object found"),
        ('{"name": "add", "arguments": {"key": "a", "value": "12.5', "a string is not closed"),
        ('{"name": "add", "arguments": {"key": "a", "value": "12.5}}', "a string is not closed"),
        ('{"arguments": {"key": "a"}}', "the call has no name"),
        ('{"name": 3, "arguments": {}}', "the call has no name"),
        ('{"name": " ", "arguments": {}}', "the call has no name"),
        ('{"name": "add", "arguments": ["a", "1"]}', "arguments must be an object"),
        ('{"name": "add", "arguments": 3}', "arguments must be an object"),
        ('{"name": "add", "arguments": "a, 1"}', "arguments: no JSON object found"),
        ('{"name": "add", "arguments": {key; "a"}}', "expected ':' after 'key;'"),
        ('{"name": "add", "arguments": {"key": }}', "unexpected '}'"),
        ("[1]", "a call is an object"),
        ('{"a": ' * 30 + "1" + "}" * 30, f"more than {MAX_DEPTH} levels"),
        ('{"a": ' * 30_000, f"more than {MAX_DEPTH} levels"),
    ],
)
def test_what_cannot_be_read_is_a_typed_error(body, message):
    content, (found,) = parse_calls(call(body))
    assert content == ""
    assert found.arguments == {}
    assert found.error.error == "malformed"
    assert message in found.error.text
    assert dispatch({}, found) is found.error


def test_text_around_and_between_calls_is_kept():
    text = f"I note it.\n{render_call('list')}\nThen:{render_call('add', **ADD)} Done."
    assert parse_calls(text) == ("I note it.\nThen:\nDone.", [ToolCall("list", {}), ToolCall("add", ADD)])


def test_several_calls_in_one_tag_and_unclosed_tags():
    one = '{"name": "list", "arguments": {}}'
    assert parse_calls(call(f"{one}\n{one}")) == ("", [ToolCall("list", {})] * 2)
    assert parse_calls(f"<tool_call>{one}<tool_call>{one}") == ("", [ToolCall("list", {})] * 2)
    assert parse_calls(f"<tool_call>{one}\n{one}\nDone.") == ("Done.", [ToolCall("list", {})] * 2)


def test_a_broken_call_does_not_take_the_next_one_along():
    _, calls = parse_calls(call('{"name": "add", "arguments": {"key": "a') + render_call("list"))
    assert [found.error is None for found in calls] == [False, True]
    assert calls[1] == ToolCall("list", {})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The total is \\boxed{12.50}.",
        '{"total": 12.5}',
    ],
)
def test_text_without_calls_stays_text(text):
    assert parse_calls(text) == (text, [])


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXT, TEXT | st.integers(-(10**16), 10**16)))
def test_rendered_calls_are_read_back(arguments):
    arguments.pop("name", None)
    assert parse_calls(render_call("add", **arguments)) == ("", [ToolCall("add", arguments)])


# Whatever a model writes.


def check_turn(text: str) -> None:
    """Parse and run a turn: no exception, typed calls and results, a bank that only valid calls changed."""
    bank = MemoryBank()
    bank.add("2024-05-01 Dining", "12.50")
    bank.add("rent", "900")
    tools = {name: getattr(bank, name) for name in ("add", "update", "delete", "retrieve", "list")}
    content, calls = parse_calls(text)
    assert isinstance(content, str)
    for found in calls:
        assert isinstance(found.name, str)
        assert all(type(key) is str and type(item) in (str, int) for key, item in found.arguments.items())
        before, version = dict(bank.items()), bank.version
        result = dispatch(tools, found)
        assert isinstance(result, Result)
        assert result.ok == (result.error is None) == (not result.text.startswith("error: "))
        result.text.encode()
        if not result.ok:
            assert (dict(bank.items()), bank.version) == (before, version)
    assert bank.at(bank.version) == dict(bank.items())
    assert all(key == key.strip() and key and value for key, value in bank.items())


TURNS = [
    render_call("add", key="2024-05-02 Dining", value="7"),
    render_call("update", key="rent", value="950", new_key="rent 2024"),
    "Noted.\n"
    + render_call("retrieve", key="rent")
    + "\n"
    + render_call("list", filter="Dining", start="2024"),
    "```json\n" + render_call("delete", key="rent") + "\n```",
    '{"name": "add", "arguments": "{\\"key\\": \\"caf\\u00e9\\", \\"value\\": [1, 2.50, null]}"}',
    "<tool_call>{'name': 'add', 'arguments': {'key': 'x', 'value': 'don't',}}</tool_call>",
]
FRAGMENTS = [
    *"{}[]\"':,\\`\n\t \0é\u2028\ud800",
    *("<tool_call>", "</tool_call>", "```", "```json\n", "\\u00", "\\ud83d", "null", "True", "NaN", "-1e999"),
    *(
        '"name"',
        '"arguments": ',
        '"key": ',
        "{" * 40,
        "[" * 1_200,
        "9" * 4_400,
        " " * 300,
        "\\" * 7,
        '" ' * 50,
    ),
]


def mutate(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 6)):
        at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:at] + rng.choice(FRAGMENTS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[min(to, at + 4) :]
        elif kind == 2:
            text = text[:at]
        elif kind == 3:
            text = text[:at] + text[at:to] * 2 + text[to:]
        elif kind == 4:
            text = text[:at] + rng.choice(TURNS)
        else:
            text = text[:at] + chr(rng.choice([rng.randrange(128), rng.randrange(0x3000)])) + text[at + 1 :]
    return text


def test_mutated_turns_never_raise():
    rng = random.Random(0)
    errors = set()
    for _ in range(8_000):
        text = mutate(rng.choice(TURNS), rng)
        check_turn(text)
        errors |= {found.error is None for found in parse_calls(text)[1]}
    assert errors == {True, False}  # the mutations leave some calls whole and break others


def test_random_turns_never_raise():
    rng = random.Random(1)
    for _ in range(4_000):
        check_turn("".join(rng.choice(FRAGMENTS) for _ in range(rng.randint(0, 20))))


@settings(max_examples=300, deadline=None)
@example("<tool_call>" * 300)
@given(st.text() | st.lists(st.sampled_from(FRAGMENTS) | st.sampled_from(TURNS) | st.text()).map("".join))
def test_any_text_never_raises(text):
    check_turn(text)
    check_turn(f"<tool_call>{text}")


@pytest.mark.parametrize(
    "unit", [" ", '"', "' ", "\\", "```", "<tool_call>", "</tool_call>", "{", "[1,", '{"a":', "a "]
)
def test_long_turns_are_read_in_about_linear_time(unit):
    # Far longer than any turn of a model; reading it in quadratic time would take minutes. Every tag begins a
    # call with an error of its own, so there are fewer of them.
    check_turn('<tool_call>{"name": "' + unit * (2_000 if unit == "<tool_call>" else 400_000 // len(unit)))


# Schemas and dispatch.


def echo(key: str, count: int = 5, note: str | None = None, limit: int | None = None) -> Result:
    """Say it
    again.

    Not for the model.

    Args:
        key: what to say,
            in one line.
        count: how often.

    Returns:
        nothing: special.
    """
    return Result(True, f"{key!r} {count!r} {note!r} {limit!r}")


def test_schema_comes_from_signature_and_docstring():
    assert schema(echo) == {
        "type": "function",
        "function": {
            "name": "echo",
            "description": "Say it again.",
            "parameters": {
                "type": "object",
                "properties": {
                    "key": {"type": "string", "description": "what to say, in one line."},
                    "count": {"type": "integer", "description": "how often."},
                    "note": {"type": "string"},
                    "limit": {"type": "integer"},
                },
                "required": ["key"],
            },
        },
    }


@pytest.mark.parametrize(
    ("name", "properties", "required"),
    [
        ("add", ["key", "value"], ["key", "value"]),
        ("update", ["key", "value", "new_key"], ["key", "value"]),
        ("delete", ["key"], ["key"]),
        ("retrieve", ["key"], ["key"]),
        ("list", ["filter", "start", "end"], []),
    ],
)
def test_bank_tools_are_described_in_full(name, properties, required):
    function = schema(getattr(MemoryBank(), name))["function"]
    assert function["name"] == name
    assert function["description"].endswith(".") and "\n" not in function["description"]
    assert list(function["parameters"]["properties"]) == properties
    assert all(entry["description"] for entry in function["parameters"]["properties"].values())
    assert function["parameters"]["required"] == required


def test_schema_refuses_what_a_model_cannot_be_told():
    def undocumented(key: str) -> Result: ...

    def untyped(key) -> Result:
        """A tool."""

    def several(*keys: str) -> Result:
        """A tool."""

    with pytest.raises(ValueError, match="undocumented: write a docstring"):
        schema(undocumented)
    for tool in (untyped, several):
        with pytest.raises(TypeError, match="as str or int"):
            schema(tool)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"key": "a"}, "'a' 5 None None"),
        ({"key": 3, "count": "4"}, "'3' 4 None None"),
        ({"key": "a", "count": " -4.0 ", "limit": "2"}, "'a' -4 None 2"),
        ({"key": "a", "note": "n", "limit": 7}, "'a' 5 'n' 7"),
        ({}, "error: echo needs the argument 'key'"),
        ({"key": "a", "count": "many"}, "error: count must be an integer"),
        ({"key": "a", "count": "2.5"}, "error: count must be an integer"),
        ({"key": ["a"]}, "error: key must be a text"),
        ({"key": "a", "when": "now"}, "error: echo takes key, count, note, limit, not 'when'"),
    ],
)
def test_dispatch_converts_and_checks_arguments(arguments, text):
    result = dispatch({"echo": echo}, ToolCall("echo", arguments))
    assert result.text == text
    assert result.error == ("argument" if text.startswith("error") else None)


def test_dispatch_refuses_unknown_tools_and_lets_defects_through():
    result = dispatch({"echo": echo}, ToolCall("shout" * 100, {}))
    assert result.error == "unknown_tool"
    assert result.text.endswith("the tools are echo") and len(result.text) < 100

    def broken(key: str) -> Result:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dispatch({"broken": broken}, ToolCall("broken", {"key": "a"}))


def test_tools_of_several_objects_do_not_mix():
    banks = [MemoryBank(), MemoryBank()]
    for number, bank in enumerate(banks):
        assert dispatch({"add": bank.add}, ToolCall("add", {"key": "a", "value": number})).ok
    assert [dict(bank.items()) for bank in banks] == [{"a": "0"}, {"a": "1"}]


# Results, cut.


def test_cut_keeps_whole_lines_and_says_what_is_missing():
    text = "\n".join(f"2024-05-{day:02} Dining: {day}" for day in range(1, 31))
    short = cut(text, 150)
    *lines, note = short.split("\n")
    assert len(short) <= 150
    assert lines == text.split("\n")[: len(lines)] and len(lines) >= 3
    assert note == f"({30 - len(lines)} more lines; narrow the filter or pass start)"
    assert cut(text, len(text)) == text


@given(st.text("ab\n", max_size=400), st.integers(SHORTEST_CUT, 300))
@settings(max_examples=200, deadline=None)
def test_cut_never_exceeds_the_limit(text, limit):
    short = cut(text, limit)
    assert len(short) <= limit
    kept, _, note = short.rpartition("\n")
    assert short == text if len(text) <= limit else text.startswith(kept) and note.startswith("(")


def test_cut_inside_a_long_line_and_refuses_tiny_limits():
    assert cut("x" * 200, 100) == "x" * 76 + "\n(200 characters in all)"
    with pytest.raises(ValueError, match="allow at least"):
        cut("x", SHORTEST_CUT - 1)
