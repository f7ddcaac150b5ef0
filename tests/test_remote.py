"""Agents at an OpenAI-compatible server: both ways of calling tools, order, budgets, and servers that fail."""

import asyncio
import json
import subprocess
import sys

import pytest

from tests.memory_server import MemoryServer
from tests.model_server import completion, message, server
from uma_lib.agents.agent import Setting
from uma_lib.agents.uma import UMA
from uma_lib.engines.protocol import Ask, alone
from uma_lib.engines.remote import Remote
from uma_lib.environment import Limits
from uma_lib.files import RunError
from uma_lib.tools import render_call

LIMITS = Limits(session_tokens=4096)
FAST = {"patience": 20.0, "pause": 0.01}


def agent(engine: Remote, number: int = 0, limits: Limits = LIMITS) -> UMA:
    return UMA(Setting(limits, key=("k", number), count=engine.count, size=engine.size))


def keep(agent: UMA, chunks):
    """Read all chunks in one dialogue."""
    for chunk in chunks:
        yield from agent.observe(chunk)


def ask(text: str, **more):
    turn = yield Ask([{"role": "user", "content": text}], None, True, 50, **more)
    return turn


@pytest.mark.parametrize("native", [True, False])
def test_two_streams_at_once_arrive_in_order(native):
    script = MemoryServer(native)
    streams = [[f"{who}{k} likes thing{k}x{n}" for k in range(20)] for n, who in enumerate(("Ann", "Bob"))]
    with script.run() as (url, bodies):
        engine = Remote(url, "m", native_tools=native, parallel=2)
        agents = [agent(engine, n) for n in range(2)]
        engine.generate((keep(a, chunks) for a, chunks in zip(agents, streams, strict=True)), temperature=0.0)
        for n, (one, chunks, who) in enumerate(zip(agents, streams, ("Ann", "Bob"), strict=True)):
            assert [record["chunk"] for record in one.history] == chunks
            assert list(one.memory.bank.items()) == [(f"{who}{k}", f"thing{k}x{n}") for k in range(20)]
            assert one.memory.core.text == "20 facts"
        before = [dict(one.memory.bank.items()) for one in agents]
        asked = [one.answer(f"What does {who}7 like?") for one, who in zip(agents, ("Ann", "Bob"), strict=True)]
        traces = engine.generate(asked, temperature=0.0)
    assert [trace.answer for trace in traces] == ["thing7x0", "thing7x1"]
    assert [dict(one.memory.bank.items()) for one in agents] == before
    assert all(trace.tokens is None and trace.read > 0 and trace.written == 40 for trace in traces)
    assert all(("tools" in body) == native for body in bodies)
    if native:  # results are paired with the calls they belong to
        shown = [m for m in bodies[-1]["messages"] if m["role"] in ("assistant", "tool")]
        assert shown[0]["tool_calls"][0]["id"] == shown[1]["tool_call_id"]


def test_a_turn_with_calls_in_both_places_is_shown_again_as_text():
    """Every call that a server is shown has a result of its own, or it would refuse the conversation."""

    def play(body, number, headers):
        asked = [call["id"] for m in body["messages"] for call in m.get("tool_calls") or []]
        assert asked == [m["tool_call_id"] for m in body["messages"] if m["role"] == "tool"]
        call = {"id": "1", "type": "function", "function": {"name": "list", "arguments": "{}"}}
        if number == 1:  # one call taken out, and one left in the text
            return message("tool_calls", content=f"Look. {render_call('add', key='a', value='1')}", tool_calls=[call])
        if number == 2:  # a call that names no arguments
            return message("tool_calls", content=None, tool_calls=[{"id": "2", "function": {"name": "list"}}])
        return completion("One entry.")

    with server(play) as (url, bodies):
        engine = Remote(url, "m")
        one = agent(engine)
        (trace,) = engine.generate([one.observe("chunk")], temperature=0.0)
    assert trace.finished and one.memory.core.text == "One entry." and dict(one.memory.bank.items()) == {"a": "1"}
    assert [call.name for call, _ in trace.calls] == ["add", "list", "list"] and len(bodies) == 3


FAULTS = {
    "429": (429, {"error": "slow"}, ("Retry-After", "0.01")),
    "500": (500, {"error": "broken"}),
    "garbage": (200, b"<html>proxy</html>"),
    "half": (200, b'{"choices": [{"mess', ("Content-Length", "400")),
    "nothing": (0, None),
    "empty": (200, b""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_loses_no_chunk_and_doubles_none(fault):
    script = MemoryServer(True, [FAULTS[fault], None, FAULTS[fault], FAULTS[fault], None] * 3)
    chunks = [f"Ann{k} likes thing{k}" for k in range(10)]
    with script.run() as (url, _):
        engine = Remote(url, "m", parallel=2, **FAST)
        agents = [agent(engine, n) for n in range(2)]
        engine.generate([keep(one, chunks) for one in agents], temperature=0.0)
    for one in agents:
        assert [record["chunk"] for record in one.history] == chunks
        assert len(one.memory.bank) == 10 and one.memory.core.text == "10 facts"


def test_a_server_that_fails_for_good_leaves_the_memory_of_the_chunk_before():
    chunks = [f"Ann{k} likes thing{k}" for k in range(4)]
    script = MemoryServer(True, [None] * 5 + [(400, {"error": "no"})])  # in the third chunk, after its first turn
    with script.run() as (url, _):
        engine = Remote(url, "m", **FAST)
        one = agent(engine)
        with pytest.raises(RunError, match="HTTP 400"):
            engine.generate([keep(one, chunks)], temperature=0.0)
        assert len(one.history) == 2 and list(one.memory.bank) == ["Ann0", "Ann1"] and one.memory.core.text == "2 facts"
        engine.generate([keep(one, chunks[2:])], temperature=0.0)  # and it goes on
        assert len(one.history) == 4 and len(one.memory.bank) == 4


def test_calls_in_the_text_and_as_tool_calls_are_both_read_whatever_was_asked_for():
    answers = [
        completion('<tool_call>{"name": "add", "arguments": {"key": "a", "value": "1"}}</tool_call>'),
        message("tool_calls", content="Now.", tool_calls=[
            {"id": "q", "type": "function", "function": {"name": "update_core", "arguments": '{"text": "one"}'}}
        ]),
    ]  # fmt: skip
    for native in (True, False):
        with server(lambda body, number, headers: answers[number - 1]) as (url, bodies):
            engine = Remote(url, "m", native_tools=native)
            one = agent(engine)
            (trace,) = engine.generate([one.observe("chunk")], temperature=0.0)
        assert dict(one.memory.bank.items()) == {"a": "1"} and one.memory.core.text == "one" and trace.finished
        assert bodies[1]["messages"][-1] == {"role": "user", "content": "<tool_response>\nok\n</tool_response>"}


@pytest.mark.parametrize(
    "answer",
    [
        message(content="<think>12 or 13?</think>\n12"),
        message(content="12 or 13?\n</think>\n12"),
        message(content="12", reasoning_content="12 or 13?"),
        message(content="12", reasoning="12 or 13?"),
    ],
)
def test_thought_is_no_answer(answer):
    with server(lambda *_: answer) as (url, bodies):
        engine = Remote(url, "m", thinking=False)
        (trace,) = engine.generate([agent(engine).answer("How much?")], temperature=0.0)
    assert trace.answer == "12" and "12 or 13?" in str(trace.messages)
    assert bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_refusal_is_a_text_and_what_was_cut_is_no_answer():
    with server(lambda body, number, headers: message(content=None, refusal="I cannot.")) as (url, _):
        assert Remote(url, "m").generate([ask("?")], temperature=0.0)[0].text == "I cannot."
    with server(lambda *_: completion("It is 1", "length")) as (url, _):
        engine = Remote(url, "m")
        (trace,) = engine.generate([agent(engine).answer("How much?")], temperature=0.0)
    assert trace.answer is None and not trace.finished


def test_budgets_hold():
    def play(body, number, headers):
        told = {"id": str(number), "type": "function", "function": {"name": "list", "arguments": "{}"}}
        tokens = {"prompt_tokens": 300 * number, "completion_tokens": 10}
        return 200, message("tool_calls", content=None, tool_calls=[told])[1] | {"usage": tokens}

    with server(play) as (url, bodies):
        engine = Remote(url, "m", context_tokens=3000)
        (trace,) = engine.generate([agent(engine, limits=Limits(session_tokens=1024)).observe("x")], temperature=0.0)
    assert len(bodies) == 4 and not trace.finished  # 300, 600 and 900 fit; after the fourth nothing more does
    assert all(b["max_tokens"] <= 768 for b in bodies) and bodies[-1]["max_tokens"] < 120
    with pytest.raises(RunError, match="does not fit session_tokens=20"):
        engine.generate([ask("word " * 50, budget=20)], temperature=0.0)


def test_parallel_requests_are_bounded_and_keep_their_order():
    import threading
    import time

    live, most, lock = 0, 0, threading.Lock()

    def play(body, number, headers):
        nonlocal live, most
        with lock:
            live += 1
            most = max(most, live)
        time.sleep(0.02 * (number % 3))
        with lock:
            live -= 1
        return completion(body["messages"][0]["content"].upper())

    seen: list[int] = []

    def progress(done: int, tokens: int) -> None:
        seen.append(done)

    with server(play) as (url, _):
        engine = Remote(url, "m", parallel=3)
        made = engine.generate((ask(f"n{k}") for k in range(12)), temperature=0.0, progress=progress)
        assert [turn.text for turn in made] == [f"N{k}" for k in range(12)] and seen == list(range(1, 13))
        assert 1 < most <= 3
        again = asyncio.run(engine.agenerate([ask("a"), ask("b")], temperature=0.0))
        assert [turn.text for turn in again] == ["A", "B"]


def test_a_cache_keeps_answers_and_can_be_left_out(tmp_path):
    with server(lambda body, number, headers: completion(str(number))) as (url, bodies):
        for cache, texts in ((tmp_path / "cache", ["1", "1"]), (None, ["2", "3"])):
            found = [
                turn.text
                for engine in (Remote(url, "m", cache=cache), Remote(url, "m", cache=cache))
                for turn in engine.generate([ask("?", seed=4)], temperature=0.0)
            ]
            assert found == texts
    assert len(bodies) == 3 and bodies[0]["seed"] == 4


def test_settings_are_checked_and_the_first_failure_ends_the_call(tmp_path):
    for values, said in (
        ({"parallel": 0}, "parallel is 0"), ({"model": ""}, "model is empty"), ({"patience": -1.0}, "patience is -1"),
        ({"tokenizer": tmp_path}, "holds tokenizer.json"),
    ):  # fmt: skip
        with pytest.raises(RunError, match=said):
            Remote("http://localhost:1/v1", **{"model": "m"} | values)
    engine = Remote("http://localhost:1/v1", "m", patience=0.0)
    with pytest.raises(RunError, match="no connection"):
        engine.generate([ask("?")] * 1, temperature=0.0)


def test_a_tokenizer_counts():
    engine = Remote("http://localhost:1/v1", "m", tokenizer="data/nano")
    assert 0 < engine.count("2024-05-01 Dining") < 12 < Remote("http://localhost:1/v1", "m").count("x" * 60)
    assert alone(iter_nothing()) == 3


def iter_nothing():
    return 3
    yield


def test_no_torch():
    code = "import sys, json, uma_lib.engines.remote, uma_lib.agents.uma; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.lower()) is False


def test_several_servers_share_the_work_and_outlive_one_another():
    gone = []

    def mortal(body, number, headers):
        if number > 3:
            gone.append(number)
            return 0, None  # breaks every connection from now on
        return completion("b")

    texts = [f"question {n}" for n in range(12)]
    with server(lambda *_: completion("a")) as (one, of_one), server(mortal) as (other, of_other):
        engine = Remote(f"{one}, {other}", "m", parallel=3, patience=0.4, pause=0.01)
        turns = engine.generate([ask(text) for text in texts], temperature=0.0)
    assert [turn.text for turn in turns].count("b") == 3 and {turn.text for turn in turns} == {"a", "b"}
    assert turns[0].text == "a" and turns[1].text == "b"  # dealt out, and in order
    assert gone and len(of_one) == 9  # nothing is asked twice of the one that stays
    asked = [body["messages"][0]["content"] for body in of_one] + [b["messages"][0]["content"] for b in of_other[:3]]
    assert sorted(asked) == sorted(texts)
    with pytest.raises(RunError, match=r"127\.0\.0\.1.*(base_url|server)"):
        engine.generate([ask("anybody there?")], temperature=0.0)  # both are down now
