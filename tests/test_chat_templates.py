"""Chat templates of the kinds that models have: thinking, calls in several forms, options; and which are refused."""

import pytest
from tokenizers import AddedToken

from uma_lib.agents.agent import Setting
from uma_lib.agents.uma import UMA
from uma_lib.engines.chat import ChatFormat, as_tokens
from uma_lib.engines.local import Sampled
from uma_lib.environment import Limits
from uma_lib.files import RunError

HEAD = """{%- if messages[0].role == 'system' -%}<|im_start|>system
{{ messages[0].content }}{% if tools %}
{{ tools | tojson }}{% endif %}<|im_end|>
{% elif tools -%}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif -%}
{%- for m in messages if m.role != 'system' -%}
{%- if m.role == 'tool' -%}<|im_start|>user
<tool_response>{{ m.content }}</tool_response><|im_end|>
{% else -%}<|im_start|>{{ m.role }}
{{ m.content }}{% if m.tool_calls %}{% for c in m.tool_calls %}{% set f = c.function %}"""
TAIL = """{% endfor %}{% endif %}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
PROMPT{%- endif -%}"""
CALLS = {
    "hermes": '<tool_call>\n{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}\n</tool_call>',
    "llama": '{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}',
    "python tag": '<|python_tag|>{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}',
    "mistral": '[TOOL_CALLS][{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}]',
    "text arguments": '<tool_call>\n{"name": "{{ f.name }}", "arguments": {{ "" + f.arguments }}}\n</tool_call>',
    "xml": "<tool_call>\n<function={{ f.name }}>\n{% for k, v in f.arguments.items() %}<parameter={{ k }}>\n{{ v }}\n"
    "</parameter>\n{% endfor %}</function>\n</tool_call>",
    "glm": "<tool_call>{{ f.name }}\n{% for k, v in f.arguments.items() %}<arg_key>{{ k }}</arg_key>\n"
    "<arg_value>{{ v }}</arg_value>\n{% endfor %}</tool_call>",
}
UNREAD = {
    "words": "CALL {{ f.name }} WITH {% for k, v in f.arguments.items() %}{{ k }} IS {{ v }} {% endfor %}",
    "python": "{{ f.name }}({% for k, v in f.arguments.items() %}{{ k }}={{ v | tojson }}, {% endfor %})",
    "yaml": "tool: {{ f.name }}\n{% for k, v in f.arguments.items() %}{{ k }}: {{ v }}\n{% endfor %}",
}
PROMPTS = {  # what the template adds to the assistant's beginning
    "none": "", "opened": "<think>\n", "closed": "<think>\n\n</think>\n\n",
    "option": "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "option opens": "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}",
}  # fmt: skip


def chat(tokenizer, calls: str, prompt: str = "", options=None) -> ChatFormat:
    import copy

    own = copy.deepcopy(tokenizer)
    own.chat_template = HEAD + calls + TAIL.replace("PROMPT", prompt)
    return ChatFormat(own, options)


def play(format: ChatFormat, session, *texts: str):
    """Let a dialogue hear what a model writes; returns its result and the text of the first prompt."""
    rollout, prompt = as_tokens(session, format), None
    ask = next(rollout)
    for text in texts:
        prompt = prompt or format.decode(ask.tokens)
        ids = [*format.tokenizer.encode(text, add_special_tokens=False), format.end_id]
        try:
            ask = rollout.send(Sampled(ids, [-0.1] * len(ids), True))
        except StopIteration as end:
            return end.value, prompt
    raise AssertionError("the session goes on")


def agent(format: ChatFormat) -> UMA:
    return UMA(Setting(Limits(session_tokens=9000), count=format.count))


@pytest.mark.parametrize("form", CALLS)
def test_what_a_template_asks_for_is_read(form, tiny_tokenizer):
    format = chat(tiny_tokenizer, CALLS[form])
    assert format.opened == ""
    one = agent(format)
    written = {
        "hermes": '<tool_call>\n{"name": "add", "arguments": {"key": "a", "value": "1"}}\n</tool_call>',
        "llama": '{"name": "add", "parameters": {"key": "a", "value": "1"}}',
        "python tag": '<|python_tag|>{"name": "add", "parameters": {"key": "a", "value": "1"}}',
        "mistral": '[TOOL_CALLS][{"name": "add", "arguments": {"key": "a", "value": "1"}}]',
        "text arguments": '<tool_call>\n{"name": "add", "arguments": {"key": "a", "value": "1"}}\n</tool_call>',
        "xml": "<tool_call>\n<function=add>\n<parameter=key>\na\n</parameter>\n<parameter=value>\n1\n</parameter>\n"
        "</function>\n</tool_call>",
        "glm": "<tool_call>add\n<arg_key>key</arg_key>\n<arg_value>a</arg_value>\n<arg_key>value</arg_key>\n"
        "<arg_value>1</arg_value>\n</tool_call>",
    }[form]
    trace, prompt = play(format, one.observe("Ann likes tea."), written, "One entry.")
    assert dict(one.memory.bank.items()) == {"a": "1"} and one.memory.core.text == "One entry." and trace.finished
    assert '"update_core"' in prompt


@pytest.mark.parametrize("form", UNREAD)
def test_what_nobody_could_read_is_refused_when_the_model_is_loaded(form, tiny_tokenizer):
    with pytest.raises(RunError, match="writes calls in a form that is not read") as caught:
        chat(tiny_tokenizer, UNREAD[form])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_thought_is_neither_core_nor_answer(prompt, tiny_tokenizer):
    format = chat(tiny_tokenizer, CALLS["hermes"], PROMPTS[prompt])
    opened = prompt in ("opened", "option opens")
    assert format.opened == ("<think>\n" if opened else "")
    for said in ["Hm, 12 or 13?\n</think>\n12"] if opened else ["<think>Hm, 12 or 13?</think>\n12", "12"]:
        trace, _ = play(format, agent(format).answer("How much?"), said)
        assert trace.answer == "12"
        assert ("12 or 13" in trace.said) == ("13" in said)
    if opened:  # a thought that was never closed is no answer, although the model wrote no tag at all: it is told so
        trace, _ = play(format, agent(format).answer("How much?"), "Hm, 12 or 13?", "So it is.</think>12")
        assert trace.answer == "12" and [call.error.error for call, _ in trace.calls] == ["malformed"]


def test_options_reach_the_template(tiny_tokenizer):
    opens = PROMPTS["option opens"]
    for options, opened in (({}, True), ({"enable_thinking": True}, True), ({"enable_thinking": False}, False)):
        assert bool(chat(tiny_tokenizer, CALLS["hermes"], opens, options).opened) == opened
    closes = PROMPTS["option"]
    for options, text in (({}, "assistant\n"), ({"enable_thinking": False}, "</think>\n\n")):
        format = chat(tiny_tokenizer, CALLS["hermes"], closes, options)
        assert format.decode(format.open([{"role": "user", "content": "Hi"}], None)).endswith(text)


def test_tool_results_follow_a_turn_whatever_the_thought_was(tiny_tokenizer):
    tiny_tokenizer = __import__("copy").deepcopy(tiny_tokenizer)
    tiny_tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    format = chat(tiny_tokenizer, CALLS["hermes"], PROMPTS["opened"])
    one = agent(format)
    call = '{"name": "add", "arguments": {"key": "a", "value": "1"}}'
    turns = [
        f"I store it.</think><tool_call>{call}</tool_call>",
        'Done.</think><tool_call>{"name": "update_core", "arguments": {"text": "x"}}</tool_call>',
    ]
    trace, _ = play(format, one.observe("Ann likes tea."), *turns)
    text = format.decode(trace.tokens.ids)
    assert text.count("<think>") == 2 and text.count("<tool_response>ok</tool_response>") == 1
    assert dict(one.memory.bank.items()) == {"a": "1"} and one.memory.core.text == "x"
