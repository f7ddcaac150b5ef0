"""Thought, speech and calls in what models write: every dress of a call, cut turns, lost arguments, hostile turns."""

import json
import re
import sys

import pytest

from uma_lib import calls, lenient
from uma_lib.tools import ToolCall, parse_calls, render_call, split_thought

TOOLS = ("add", "update", "delete", "retrieve", "list", "update_core", "answer")
ADD = {"key": "a", "value": "1"}
HERE = [ToolCall("add", ADD)]
ARGUMENTS = '{"key": "a", "value": "1"}'
CALL = f'{{"name": "add", "arguments": {ARGUMENTS}}}'
LLAMA = f'{{"name": "add", "parameters": {ARGUMENTS}}}'
TAGGED = f"<tool_call>\n{CALL}\n</tool_call>"


def errors(text: str, stopped: bool = True) -> list[str]:
    return [call.error.text if call.error else "" for call in parse_calls(text, TOOLS, stopped)[1]]


# Thought.


@pytest.mark.parametrize(
    ("text", "thought", "speech"),
    [
        ("70", "", "70"),
        ("<think>30+40=70</think>\n70", "30+40=70", "70"),
        ("<think>\n\n</think>\n\n70", "", "70"),
        ("30+40=70\n</think>\n\n70", "30+40=70", "70"),
        ("<think>30+40", "30+40", ""),
        ("<think>a</think>b<think>c</think>d", "a\nc", "b\nd"),
        ("<think>a<think>b</think>c</think>d", "a<think>b\nc", "d"),
        ("<think>a</think></think>d", "a", "d"),
        ("<think>a</think>\n70\n<think>b", "a\nb", "70"),
        ("<THINK>a</THINK>70", "a", "70"),
        ("<thinking>a</thinking>70", "a", "70"),
        ("<thought>a</thought>70", "a", "70"),
        ("<reasoning effort='high'>a</reasoning>70", "a", "70"),
        ("< think >a</ think >70", "a", "70"),
        ("<seed:think>a</seed:think>70", "a", "70"),
        ("<think>a</thinking>70", "a", "70"),
        ("[THINK]a[/THINK]70", "a", "70"),
        ("◁think▷a◁/think▷70", "a", "70"),
        ("<|begin_of_thought|>a<|end_of_thought|>70", "a", "70"),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>70", "a", "70"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>70<|END_RESPONSE|>", "a", "70"),
        ("<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>70<|return|>", "a", "70"),
        ("<|think|>a</|think|>70", "a", "70"),
        ("<analysis>a</analysis>70", "a", "70"),
        ("<inner_monologue>a</inner_monologue>70", "a", "70"),
        ("<chain_of_thought>a</chain_of_thought>70", "a", "70"),
        ("<reasoning_content>a</reasoning_content>70", "a", "70"),
        ("<scratch_pad>a</scratch_pad>70", "a", "70"),
        ("<antThinking>a</antThinking>70", "a", "70"),
        ("<longcat_think>a</longcat_think>70", "a", "70"),
        ("<|channel>thought\na<channel|>70", "a", "70"),
        ("<unused94>thought\na<unused95>70", "a", "70"),
        ("<think/>70", "", "70"),
        ("<think />\n70", "", "70"),
        (r"<think>perhaps \boxed{3}</think>\boxed{70}", r"perhaps \boxed{3}", r"\boxed{70}"),
        ("a <think> tag </think> 70", "tag", "a\n70"),
        ("The tag `</think>` ends it. 70", "", "The tag `</think>` ends it. 70"),
        (f"<think>a{TAGGED}</think>70", f"a{TAGGED}", "70"),
        (f"a{TAGGED}</think>70", f"a{TAGGED}", "70"),
        ("I think, <b>so</b> [I] am: 1 < 2", "", "I think, <b>so</b> [I] am: 1 < 2"),
    ],
)
def test_thought_and_speech_are_told_apart(text, thought, speech):
    assert split_thought(text) == (thought, speech)


@pytest.mark.parametrize("tag", ["</think>", "<think>", "[/THINK]", "<thinking>a</thinking>"])
@pytest.mark.parametrize(
    "form",
    [
        '<tool_call>{"name": "add", "arguments": {"key": "tag %s", "value": "1"}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": {"key": "tag %s", "value": "1"}}',
        '<tool_call>{"name": "add", "arguments": {"key": "tag %s", "value": "1",}}</tool_call>',
        "<tool_call>{'name': 'add', 'arguments': {'key': 'tag %s', 'value': '1'}}</tool_call>",
        '{"name": "add", "arguments": {"key": "tag %s", "value": "1"}}',
    ],
)
def test_a_tag_of_thought_in_a_string_of_a_call_is_data(form, tag):
    made = ToolCall("add", {"key": f"tag {tag}", "value": "1"})
    assert parse_calls(form % tag, TOOLS) == ("", [made])
    assert parse_calls(f"<think>hm</think>{form % tag}", TOOLS) == ("", [made])
    assert parse_calls(f"hm</think>{form % tag}", TOOLS) == ("", [made])


@pytest.mark.parametrize(
    ("text", "content", "found"),
    [
        (f"<think>delete it? {render_call('delete', key='a')}</think>\nTotal 30.", "Total 30.", []),
        (f"delete it? {render_call('delete', key='a')}</think>\nTotal 30.", "Total 30.", []),
        ("<think>I may use <tool_call> or not.</think>\nTotal 30.", "Total 30.", []),
        ("<think>{'name': 'delete', 'arguments': {'key': 'a'}}</think>\nTotal 30.", "Total 30.", []),
        (f"<think>a</think>{TAGGED}<think>b</think>{TAGGED}", "", HERE * 2),
        (f"<tool_call><think>a</think>{CALL}</tool_call>", "", HERE),
    ],
)
def test_thought_is_never_run(text, content, found):
    assert parse_calls(text, TOOLS) == (content, found)


@pytest.mark.parametrize("text", ["<think>all of it", f"<think>a {TAGGED}", "<think>a</think>", "a</think>\n"])
def test_a_turn_that_only_thinks_is_an_error(text):
    assert parse_calls(text, TOOLS)[0] == ""
    assert errors(text) == ["error: malformed tool call: there is thought and nothing after it"]


# Dresses.

DRESSES = [
    LLAMA,
    f"Sure.\n{LLAMA}",
    f"Sure: {LLAMA}",
    f"Sure.\n{LLAMA}\nDone.",
    f"1. {CALL},\n2. done",
    f"`{CALL}`",
    f"```tool_call\n{CALL}\n```",
    f"Sure.\n```json\n{CALL}\n```\nDone.",
    f"[{CALL}]",
    CALL.replace('"1"}', '"1",}'),
    CALL.replace('"', "'"),
    CALL[:-1],
    f"<think>hm</think>\n{LLAMA}",
    f"{{{CALL}}}",
    CALL.replace("{", "{{").replace("}", "}}"),
    f"<tools>{CALL}</tools>",
    f"<tools>\n{CALL}",
    f"<tool_calls>[{CALL}]</tool_calls>",
    f"<tool_calls>{TAGGED}</tool_calls>",
    f"<tool_call><tool_call>{CALL}</tool_call></tool_call>",
    f"<tool_call>\n<tool_call>\n{CALL}",
    f"<function_call>{CALL}</function_call>",
    f"<TOOL_CALL>{CALL}</TOOL_CALL>",
    f'<tool_call id="1">{CALL}</tool_call>',
    f'<tool_call name="add">{ARGUMENTS}</tool_call>',
    f"<tool_call>add\n{ARGUMENTS}</tool_call>",
    f"<tool_call>{{{CALL}}}</tool_call>",
    f"<|tool_call|>{CALL}<|/tool_call|>",
    f"<|tool_call>{CALL}<tool_call|>",
    '<|tool_call>call:add{key:<|"|>a<|"|>,value:<|"|>1<|"|>}<tool_call|>',
    "<start_function_call>call:add{key:<escape>a<escape>,value:<escape>1<escape>}<end_function_call>",
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="add">\n<｜DSML｜parameter name="key" string="true">a'
    '</｜DSML｜parameter>\n<｜DSML｜parameter name="value" string="true">1</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    "</｜DSML｜function_calls>",
    f"[TOOL_CALLS] [{CALL}]",
    f"[TOOL_CALLS]add[ARGS]{ARGUMENTS}",
    f"<|python_tag|>{LLAMA}",
    f"<function=add>{ARGUMENTS}</function>",
    "<function=add><parameter=key>a</parameter><parameter=value>\n1\n</parameter></function>",
    "<tool_call>\n<function=add>\n<parameter=key>\na\n<parameter=value>\n1\n</parameter>\n</function>\n</tool_call>",
    '<function_calls><invoke name="add"><parameter name="key">a</parameter><parameter name="value">1</parameter>'
    "</invoke></function_calls>",
    '<function name="add"><param name="key">a</param><param name="value">1</param></function>',
    "<tool_call>add\n<arg_key>key</arg_key>\n<arg_value>a</arg_value>\n<arg_key>value</arg_key>1</arg_value></tool_call>",
    f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{ARGUMENTS}\n```<｜tool▁call▁end｜>",
    f"<|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{ARGUMENTS}<|tool_call_end|>",
    f'<|START_ACTION|>[{{"tool_name": "add", "parameters": {ARGUMENTS}}}]<|END_ACTION|>',
    f"<|channel|>commentary to=functions.add <|constrain|>json<|message|>{ARGUMENTS}<|call|>",
    f'{{"id": "c1", "type": "function", "function": {CALL}}}',
    f'{{"type": "function", "function": {{"name": "add", "arguments": {json.dumps(ARGUMENTS)}}}}}',
    f'{{"tool_calls": [{{"function": {CALL}}}]}}',
    f'{{"function_call": {CALL}}}',
    f'{{"function": "add", "arguments": {ARGUMENTS}}}',
    f'{{"tool": "add", "args": {ARGUMENTS}}}',
    f'{{"action": "add", "action_input": {ARGUMENTS}}}',
    f'{{"type": "tool_use", "name": "add", "input": {ARGUMENTS}}}',
    f'{{"add": {ARGUMENTS}}}',
    '{"name": "functions.add", "key": "a", "value": "1"}',
    '{"action": "add", "key": "a", "value": "1"}',
    f"add\n{ARGUMENTS}",
    f"Sure.\n`add` {ARGUMENTS}\nDone.",
    f"add:\n```json\n{ARGUMENTS}\n```",
    f"<function=add{ARGUMENTS}</function>",
    f"<function(add)>{ARGUMENTS}</function>",
    f"Sure.\r\n{CALL}\r\nDone.\r\n",
    f"**{CALL}**",
    f"{CALL} ;\nDone.",
    f"{CALL} // one more",
    f"{CALL}\u200b",
    f"Tool: add\n{TAGGED}",
]
COMMENTS = [
    '{"name": "add", // which tool\n "arguments": {"key": "a", "value": "1"}}',
    '{"name": "add", # which tool\n "arguments": {"key": "a", "value": "1" # one\n}}',
    '{"name": "add", /* "x": {"y": */ "arguments": {"key": "a", /**/ "value": "1"}}',
    '// a call\n{"name": "add", "arguments": {"key": "a", "value": "1"}}',
]


@pytest.mark.parametrize("text", DRESSES + [f"<tool_call>\n{body}\n</tool_call>" for body in COMMENTS])
def test_a_call_is_read_in_any_dress(text):
    assert parse_calls(text, TOOLS)[1] == HERE
    assert parse_calls(f"{text}\n{render_call('list')}", TOOLS)[1][-1] == ToolCall("list", {})


def test_several_calls_without_tags():
    assert parse_calls(f"```json\n{CALL}\n```\n```json\n{CALL}\n```", TOOLS) == ("", HERE * 2)
    assert parse_calls(f"{CALL} {LLAMA}\n{CALL}", TOOLS) == ("", HERE * 3)
    assert parse_calls(f"First:\n{CALL}\nthen\n{LLAMA}", TOOLS) == ("First:\nthen", HERE * 2)
    assert parse_calls(f"{TAGGED}\nthen\n{LLAMA}", TOOLS)[1] == HERE * 2


def test_text_in_strings_is_no_comment_and_no_tag():
    for value in ("see https://a.b/c", "#1 /* 2 */", "a // b", "`<tool_call>`", "<tools>", "</function>"):
        made, text = [ToolCall("add", {"key": "a", "value": value})], render_call("add", key="a", value=value)
        assert parse_calls(text, TOOLS) == ("", made)
        if "<" not in value:
            assert parse_calls(text.replace('"}}', '",}}'), TOOLS) == ("", made)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('I would call {"name": "list", "arguments": {}} now.', "among other words it is not run"),
        ('{"name": 3, "arguments": {}}', "the call has no name"),
        ('{"name": ["add"], "arguments": {}}', "the call has no name"),
        (f'{{"arguments": {ARGUMENTS}}}', "the call has no name"),
        ('{"name": "add", "arguments": {"key": "a", "value": "1', "a string is not closed"),
        ('{"name": "add" "arguments": {"key": "a"}}', "expected ':'"),
        ('```json\n{"name": "add", "arguments": {"key" "a"}}\n```', "expected ':'"),
        ('{"tool_calls": [{"name": "add", "arguments": {"key": "a}]}', "a string is not closed"),
        ('{"name": "add", /* never closed', "unexpected '/'"),
        ('add(key="a", value="1")', "write <tool_call>"),
        ('[add(key="a", value="1")]', "write <tool_call>"),
        ("Action: add\nAction Input: a, 1", "write <tool_call>"),
        *((text, "write <tool_call>") for text in [
            'print(add(key="a", value="1"))', 'bank.add("a", "1")', 'I call add(key="a", value="1")', "list",
            "`list()`",
            "**Action**: add\n**Action Input**: a", "Tool: add\nInput: a, 1", "name: add\narguments:\n  key: a",
            "Function: `list`", f"<add>{ARGUMENTS}</add>",
            f"<action>add</action><action_input>{ARGUMENTS}</action_input>",
            '<add key="a" value="1"/>', "<add><key>a</key></add>",
            f"<tool_use><tool_name>add</tool_name>{ARGUMENTS}</tool_use>", f'{{"actions": [{CALL}]}}',
            f'{{"action": {CALL}}}', f'{{"command": "add", "args": {ARGUMENTS}}}', '{"op": "add", "key": "a"}',
            f'{{"recipient_name": "functions.add", "parameters": {ARGUMENTS}}}', '{“name”: “add”, “key”: “a”}',
            f'{{"Name": "add", "Arguments": {ARGUMENTS}}}', '{"name" => "add"}', json.dumps(CALL), json.dumps([CALL]),
        ]),
        (f"<function>add</function>{ARGUMENTS}", "no JSON object found"),
        ('add {"key": "a", "value": "1', "a string is not closed"),
        ('add {"key": "a", "value": "1"} now', "among other words it is not run"),
        ('<|python_tag|>add.call(key="a")', "no JSON object found"),
        ("I could use <tool_call> here.", "no JSON object found"),
        ("<function=add><parameter=key>a</parameter><parameter=value>1", "'value' is not closed"),
        ("<function=add><parameter=key>a</parameter>and<parameter=value>1</parameter></function>", "text outside"),
        ("<function=add><parameter=key>a</key><parameter=value>1</parameter></function>", "'key' is not closed"),
        ("<function=add><parameter=key>a</parameter><parameter=key>b</parameter></function>", "'key' stands twice"),
    ],
)
def test_what_looks_like_a_call_and_cannot_be_read_is_an_error(text, message):
    (error,) = errors(text)
    assert error.startswith("error: malformed tool call: ") and message in error


def test_junk_beside_a_call_is_an_error_of_its_own():
    for text in (f'[{CALL}, "junk"]', f'<tool_call>[{CALL}, "junk"]</tool_call>', f'[{CALL}, "junk",]'):
        found = parse_calls(text, TOOLS)[1]
        assert found[0] == HERE[0] and len(found) == 2 and "a call is an object" in found[1].error.text


@pytest.mark.parametrize(
    "text",
    [
        '{"total": 12}',
        "Total 30 {see notes}, [1, 2], 5\" and {a: b}",
        '{"2024-05-01 Dining": "12.50"}',
        '{"name": "Alice", "total": 5}',
        '{"name": "Alice", "parameters": "none"}',
        '{"name": "x", "description": "y", "parameters": {"type": "object"}}',
        '{"answer": "12"}',
        '{"tool": "hammer", "price": 12}',
        '{"action": "delete", "reason": "old"}',
        '{"function": "living room", "input": 3}',
        '[{"date": "2024-05-01", "amount": 12}]',
        "I add (12) and list (all) of it.",
        "Total 30\nlist: {a, b}",
        "answer: {70}",
        "<answer>{2024-05-01, 2024-05-03}</answer>",
        'The name: "list"',
        "Action: none\nTool: hammer, update: total 30",
        '{"type": "expense", "name": "coffee", "list": [1]}',
        "Use `<tool_call>` to call.",
        r"\boxed{12{,}000}",
    ],
)
def test_other_json_and_prose_stay_text(text):
    assert parse_calls(text, TOOLS) == (text, [])


# Arguments.


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        ('"filter": "x"', {"filter": "x"}),
        ('"args": {"filter": "x"}', {"filter": "x"}),
        ('"input": {"filter": "x"}', {"filter": "x"}),
        ('"kwargs": {"filter": "x"}', {"filter": "x"}),
        ('"params": "{\\"filter\\": \\"x\\"}"', {"filter": "x"}),
        ('"arguments": null, "parameters": {"filter": "x"}', {"filter": "x"}),
        ('"arguments": {}, "parameters": {"filter": "x"}', {"filter": "x"}),
        ('"arguments": "", "filter": "x"', {"filter": "x"}),
        ('"arguments": {"filter": "x"}, "parameters": {"filter": "x"}', {"filter": "x"}),
        ('"arguments": {"filter": "x"}, "start": "y", "id": "c1"', {"filter": "x", "start": "y"}),
        ('"arguments": [{"filter": "x"}]', {"filter": "x"}),
        ('"arguments": ""', {}),
        ('"arguments": "null"', {}),
        ('"arguments": []', {}),
        ('"arguments": "{}"', {}),
        ('"arguments": "[]"', {}),
        ('"filter": null', {}),
    ],
)
def test_no_argument_is_lost(fields, arguments):
    for text in (f'<tool_call>{{"name": "list", {fields}}}</tool_call>', f'{{"name": "list", {fields}}}'):
        assert parse_calls(text, TOOLS)[1] == [ToolCall("list", arguments)]


@pytest.mark.parametrize(
    "fields",
    [
        '"arguments": {"filter": "x"}, "parameters": {"filter": "y"}',
        '"arguments": {"filter": "x"}, "filter": "y"',
        '"input": {"filter": "x"}, "args": {"filter": "y"}',
        '"arguments": {"filter": "x", "filter": "y"}',
        '"arguments": {"filter": "x", "filter": "y",}',
        '"filter": "x", "filter": "y"',
        r'"arguments": "{\"filter\": \"x\", \"filter\": \"y\"}"',
    ],
)
def test_an_argument_that_stands_twice_is_an_error(fields):
    (error,) = errors(f'<tool_call>{{"name": "list", {fields}}}</tool_call>')
    assert "'filter' stands twice" in error


def test_an_argument_given_twice_alike_is_read():
    _, (call,) = parse_calls('{"name": "list", "arguments": {"filter": "x", "filter": "x"}}', TOOLS)
    assert call == ToolCall("list", {"filter": "x"})


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r"C:\Users\d", r"C:\Users\d"),
        (r"\d+\.\d", r"\d+\.\d"),
        (r"\x41 \u12 \$5", r"\x41 \u12 \$5"),
        (r"\q \" \\ \/ \t", '\\q " \\ / \t'),
        (r"\q é \u00e9", "\\q é é"),
    ],
)
def test_the_backslash_of_an_unknown_escape_stays(written, value):
    text = f'<tool_call>{{"name": "add", "arguments": {{"key": "a", "value": "{written}"}}}}</tool_call>'
    assert parse_calls(text) == ("", [ToolCall("add", {"key": "a", "value": value})])


# Cut turns.


@pytest.mark.parametrize(
    "text",
    [
        *(TAGGED[:length] for length in range(len("<tool_call>"), len(TAGGED) - len("\n</tool_call>") - 1)),
        *(CALL.replace('"1"', "12")[:length] for length in range(len(CALL) - 12, len(CALL) - 1)),
        f"<tool_call>[{CALL}, ",
        '<tool_call>{"name": "add", "arguments": {"key": "k", "value": 12',
        "<tool_call>{'name': 'add', 'arguments': {'key': 'k', 'value': '12'}",
        '{"name": "add", "arguments": {"key": "k", "value": "12"}',
        "<function=add><parameter=key>a</parameter><parameter=value>12",
        'add {"key": "k", "value": "12"',
        '<function=add{"key": "k", "value": "12"',
        '[TOOL_CALLS]add[ARGS]{"key": "a", "value": 12',
    ],
)
def test_a_call_that_was_cut_is_not_run(text):
    found = parse_calls(text, TOOLS, stopped=False)[1]
    assert [call for call in found if not call.error] == []


def test_a_call_that_was_whole_before_the_cut_is_run():
    whole = [CALL, CALL.replace('"1"}', '"1",}'), f"{TAGGED}\nAnd n"]
    for text in (*whole, TAGGED[:-3], TAGGED.removesuffix("\n</tool_call>")):
        assert parse_calls(text, TOOLS, stopped=False)[1] == HERE
    _, found = parse_calls(TAGGED + TAGGED[:-20], TOOLS, stopped=False)
    assert found[0] == HERE[0] and found[1].error.error == "malformed"


def test_half_a_value_is_not_guessed_at():
    for value in ("12", "12.5", "abc", "tru"):  # nothing says that it ends here
        text = f'<tool_call>{{"name": "add", "arguments": {{"key": "k", "value": {value}'
        for unclosed in (text, text.removeprefix("<tool_call>")):
            assert errors(unclosed) == ["error: malformed tool call: a value is not closed"]
        assert errors(f"{text}\n</tool_call>") == [""]


# Hostile turns.


def work(monkeypatch, text: str) -> int:
    """Characters that patterns and the JSON decoder went over, and calls of functions, in reading a turn."""
    total = 0

    class Counted:
        def __init__(self, pattern: re.Pattern):
            self.pattern = pattern

        def over(self, method, text, position=0, *end):
            nonlocal total
            found = method(text, position, *end)
            total += (found.end() if found else len(text)) - position if method != self.pattern.match or found else 1
            return found

        def match(self, *arguments):
            return self.over(self.pattern.match, *arguments)

        def search(self, *arguments):
            return self.over(self.pattern.search, *arguments)

        def __getattr__(self, name):
            return getattr(self.pattern, name)

    class Failed(json.JSONDecodeError):
        def __init__(self, message, text, position):
            nonlocal total
            total += len(text) if message.startswith("Unterminated") else position  # whose lines it counts
            super().__init__(message, text, position)

    def count(*_):
        nonlocal total
        total += 1

    with monkeypatch.context() as patch:
        patch.setattr("json.decoder.JSONDecodeError", Failed)
        for module in (calls, lenient):
            for name, value in list(vars(module).items()):
                if isinstance(value, re.Pattern):
                    patch.setattr(module, name, Counted(value))
        sys.setprofile(count)
        try:
            parse_calls(text, TOOLS)
        finally:
            sys.setprofile(None)
    return total


HOSTILE = [
    "<tool_call>{",
    "<tool_call>[",
    '<tool_call>{"',
    "<tool_call>{'a': \"x y\"z ",
    '<tool_call>{"a": "b',
    '<tool_call>["",',
    "<tool_call>",
    "</tool_call>",
    "<tool_call></tool_call>",
    "<function=add>",
    "<function=add><parameter=a>",
    "<think>",
    "</think>",
    "<think></think>",
    '</think>{"a": "',
    "{} ",
    "}{",
    "{",
    "[",
    '{"',
    '{"\\"',
    '"',
    "' ",
    '{"name":',
    '{"name": "add", ',
    '{"name": "add", "arguments": {"key": "',
    "{'name': 'add', 'arguments': {'key': '",
    CALL,
    CALL + " x ",
    "/*",
    '<tool_call>{"name": /* ',
    "\\",
    "```json\n",
    "`",
    "<tool_call ",
    "add(",
    " ",
    "\n",
]


@pytest.mark.parametrize("before", ["", '<tool_call>{"name": "', '{"name": "add", "arguments": {"key": '])
@pytest.mark.parametrize("unit", HOSTILE)
def test_the_work_grows_with_the_length_and_no_faster(monkeypatch, unit, before):
    def of(characters: int) -> int:
        return work(monkeypatch, before + unit * (characters // len(unit)))

    small, large = of(6_000), of(24_000)
    assert large < 5 * small + 20_000
    assert large < 100 * 24_000


def test_a_turn_has_a_largest_size_and_a_largest_number_of_calls():
    assert parse_calls("a" * calls.TURN_CHARS, TOOLS) == ("a" * calls.TURN_CHARS, [])
    content, (call,) = parse_calls(TAGGED + "a" * calls.TURN_CHARS, TOOLS)
    assert content == "" and call.error.error == "limit" and "at most 200000" in call.error.text
    _, found = parse_calls(TAGGED * 1_000, TOOLS)
    assert found[: calls.MAX_CALLS] == HERE * calls.MAX_CALLS
    assert len(found) == calls.MAX_CALLS + 1 and found[-1].error.error == "limit"
    assert len(parse_calls("<tool_call>{}" * 5_000, TOOLS)[1]) == calls.MAX_CALLS + 1
    assert len(parse_calls("<tool_call>" + "{} " * 60_000, TOOLS)[1]) == calls.MAX_CALLS + 1
