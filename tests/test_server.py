"""Asking a model server (a local one): answers are kept, what passes is waited out, a failure is one line, keys stay
secret."""

import json
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest

from tests.model_server import KEY, completion, message, server
from uma_lib.files import RunError
from uma_lib.server import Reply, Server
from uma_lib.tools import parse_calls

SOON = ("Retry-After", "0.01")


def request(text):
    return {"model": "toy", "messages": [{"role": "user", "content": text}], "temperature": 0.0}


def ask(url, cache, text="Hello", **settings):
    """One answer and the number of requests; the line of the error instead where there is one."""
    try:
        with closing(Server(url, cache, **{"timeout": 5.0, "pause": 0.002, **settings})) as one:
            try:
                return one.ask(request(text)), one.requests
            except RunError as error:
                assert error.__cause__ is None and error.__context__ is None  # they would hold the request
                return str(error), one.requests
    except RunError as error:
        return str(error), 0


HELLO, HI, FINE = Reply("HELLO"), Reply("HI"), Reply("fine")


def test_answers_are_kept(tmp_path):
    with server(lambda body, *_: completion(body["messages"][0]["content"].upper())) as (url, bodies):
        assert ask(url, tmp_path) == (HELLO, 1)
        assert ask(url, tmp_path) == (HELLO, 0)
        assert ask(url, tmp_path, "hi") == (HI, 1)
        assert bodies == [request("Hello"), request("hi")]
        for damaged in ("null", '{"request": {}, "reply": "x", "finish_reason": "stop"}', '{"request": ', "[]"):
            for path in tmp_path.rglob("*.json"):
                path.write_text(damaged)
            assert ask(url, tmp_path) == (HELLO, 1)
    assert ask(url, tmp_path) == (HELLO, 0)  # the server is down


def test_the_cache_of_earlier_versions_is_read_where_nothing_was_lost(tmp_path):
    with server(lambda *_: message("tool_calls", content="new")) as (url, bodies):
        ask(url, tmp_path)
        [path] = tmp_path.rglob("*.json")
        for entry, kept in (
            ({"reply": "old", "finish_reason": "stop"}, Reply("old")),
            ({"reply": "", "finish_reason": "length"}, Reply("", ended="length")),
            ({"reply": "", "finish_reason": "tool_calls"}, None),  # the calls were not written down
            ({"reply": "x", "finish_reason": "function_call"}, None),
            ({"reply": "x", "finish_reason": "stop", "calls": [5]}, None),
            ({"reply": "x", "finish_reason": "stop", "calls": "y"}, None),
            ({"reply": "x", "finish_reason": "stop", "thought": None}, None),
        ):
            path.write_text(json.dumps({"request": request("Hello"), **entry}))
            assert ask(url, tmp_path) == ((kept, 0) if kept else (Reply("new", ended="tool_calls"), 1)), entry


def test_a_cache_that_cannot_be_is_refused_before_anything_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    with server(lambda *_: completion("x")) as (url, bodies):
        for cache in ("file", "file/below", "a" * 300):
            line, _ = ask(url, tmp_path / cache)
            assert line.startswith(f"{tmp_path / cache}: ") and len(line.splitlines()) == 1
    assert not bodies


def test_texts_that_are_none_or_broken(tmp_path):
    answers = [completion(None, "length"), completion("a\ud83d"), completion("", None)]
    with server(lambda _, number, __: answers[number - 1]) as (url, _):
        found = [ask(url, tmp_path, str(n))[0] for n in range(3)]
    assert found == [Reply("", ended="length"), Reply("a\ufffd\ufffd\ufffd"), Reply("", ended="None")]


ARGUMENTS = '{"key": "a", "value": 12.50}'
ADD = {"name": "add", "arguments": ARGUMENTS}
CALL = f'{{"name": "add", "arguments": {ARGUMENTS}}}'
TEXT = CALL.replace("12.50", '"12.50"')  # of a call that came as an object: its numbers are read as text


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        ({"content": None, "tool_calls": [{"id": "1", "type": "function", "function": ADD}]}, Reply("", calls=(CALL,))),
        ({"tool_calls": [{"function": ADD}, {"function": {"name": "list", "arguments": ""}}]},
         Reply("", calls=(CALL, '{"name": "list", "arguments": {}}'))),
        ({"content": "Noted.", "tool_calls": [{"function": ADD}] * 2}, Reply("Noted.", calls=(CALL, CALL))),
        ({"content": "", "tool_calls": [{"function": ADD | {"arguments": {"key": "a", "value": 12.5}}}]},
         Reply("", calls=(TEXT.replace("12.50", "12.5"),))),
        ({"content": "", "tool_calls": {"id": "1", **ADD}}, Reply("", calls=(CALL,))),
        ({"content": "", "function_call": ADD}, Reply("", calls=(CALL,))),
        ({"content": "", "function_call": ADD, "tool_calls": [{"function": ADD}]}, Reply("", calls=(CALL,))),
        ({"tool_calls": [{"type": "custom", "custom": {"name": "add", "input": "x"}}]},
         Reply("", calls=('{"name": "add", "input": "x"}',))),
        ({"tool_calls": [{"function": {"name": "add", "arguments": "{}", "parameters": {"key": "a"}}}]},
         Reply("", calls=('{"name": "add", "arguments": "{}", "parameters": {"key": "a"}}',))),
        # what cannot be read is there as it came
        ({"tool_calls": [{"function": ADD | {"arguments": '{"key": "a'}}]},
         Reply("", calls=('{"name": "add", "arguments": {"key": "a',))),
        ({"tool_calls": [{"function": ADD | {"arguments": "[" * 9999}}]},
         Reply("", calls=(f'{{"name": "add", "arguments": {"[" * 9999}',))),
        ({"tool_calls": [{"function": {"name": None, "arguments": None}}, {"function": None}, "add a", None, 5]},
         Reply("", calls=('{"name": null, "arguments": null}', '{"function": null}', "add a", "null", "5"))),
        ({"tool_calls": CALL}, Reply("", calls=(CALL,))),
        ({"content": "x", "tool_calls": None, "function_call": None, "refusal": None}, Reply("x")),
        ({"content": "x", "tool_calls": []}, Reply("x")),
        # what is sent apart
        ({"content": None, "reasoning_content": "30 + 40"}, Reply("", "30 + 40")),
        ({"content": "70", "reasoning": "30 + 40", "reasoning_content": "30 + 40"}, Reply("70", "30 + 40")),
        ({"content": "70", "reasoning": [{"text": "hm"}]}, Reply("70", '[{"text": "hm"}]')),
        ({"content": "<think>a</think>70", "reasoning_content": ""}, Reply("<think>a</think>70")),
        ({"content": None, "refusal": "I cannot."}, Reply("", refusal="I cannot.")),
        # parts
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"]}, Reply("abc")),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "30"}]},
                      {"type": "text", "text": "70"}, {"type": "refusal", "refusal": "no"}]},
         Reply("70", "30", refusal="no")),
        ({"content": [{"type": "text", "text": None}, {"type": "tool_use", "id": "1", "name": "add", "input": {}}]},
         Reply("", calls=('{"name": "add", "input": {}}',))),
        ({"content": []}, Reply("")),
    ],
)  # fmt: skip
def test_what_servers_tell_apart_is_not_lost(tmp_path, fields, reply):
    with server(lambda *_: message(**fields)) as (url, _):
        assert ask(url, tmp_path) == (reply, 1)
        assert ask(url, tmp_path) == (reply, 0)


def test_a_turn_is_what_a_session_reads():
    def called(reply):
        content, calls = parse_calls(reply.turn)
        return content, [(call.name, call.arguments, call.error is None) for call in calls]

    add = ("add", {"key": "a", "value": "12.50"}, True)
    for calls, ended, found in (
        ((CALL,), "tool_calls", [add]),
        ((CALL, TEXT), "tool_calls", [add, add]),
        ((CALL, '{"name": "add", "arguments": {"key": "a'), "stop", [add, ("", {}, False)]),
        (("5",), "stop", [("", {}, False)]),
    ):
        assert called(Reply("Noted.", "thought of", calls, ended=ended)) == ("Noted.", found)
    cut = Reply("", calls=(CALL, '{"name": "add", "arguments": {"key": "a", "value": 1'), ended="length")
    assert cut.cut and cut.turn.endswith(f"{CALL}\n</tool_call>\n<tool_call>\n{cut.calls[1]}")
    assert [Reply("", ended=ended).cut for ended in ("MAX_TOKENS", "content_filter", "stop", "None")] == [1, 1, 0, 0]
    assert Reply("70", "30 + 40").turn == "70"


GARBAGE = [
    (200, b"<html>502</html>"),
    (200, b'{"choices": [{"mess'),
    (200, b""),
    (200, {"choices": []}),
    (200, {"choices": None}),
    (200, {"choices": [{"message": None}]}),
    (200, {"error": {"message": "overloaded"}}),
    (200, b'data: {"choices": [{"delta": {"content": "fi"}}]}'),
    (200, b"\x1f\x8b\x08", ("Content-Encoding", "gzip")),
    (200, b'{"choices": [{"message', ("Content-Length", "1000")),
    (204, b""),
    message(content=5),
    message(content=[{"type": "image_url"}]),
    (0, b""),
    (408, b"", SOON),
    (409, b""),
    (425, b""),
    (429, b"slow down", SOON),
    (500, b"oops", ("Retry-After", "soon")),
    (502, b"<html>", ("Retry-After", "-1")),
    (503, b"", ("Retry-After", "nan")),
    (503, b"", ("Retry-After", "1e9")),
    (504, b"", ("retry-after-ms", "10")),
    (529, b"", ("Retry-After", format_datetime(datetime.now(UTC) - timedelta(days=1)))),
]


def test_what_passes_is_waited_out(tmp_path, capsys):
    with server(lambda _, number, __: [*GARBAGE, completion("fine")][number - 1]) as (url, bodies):
        assert ask(url, tmp_path, pause=1e-9) == (FINE, 1)
    assert len(bodies) == len(GARBAGE) + 1
    [line] = capsys.readouterr().err.splitlines()  # one, to a user who waits
    said = f"{url}/chat/completions: sent no chat completion but nothing; it is tried again for up to 600 s"
    assert line.startswith(said)


def test_a_server_that_fails_now_and_then_is_no_reason_to_stop(tmp_path):
    failed = set()

    def play(body, *_):
        text = body["messages"][0]["content"]
        if text not in failed and int(text) % 3 == 0:
            failed.add(text)
            return GARBAGE[int(text) % len(GARBAGE)]
        return completion(text)

    texts = [str(n) for n in range(60)]
    with server(play) as (url, bodies), closing(Server(url, tmp_path, pause=0.002)) as one, ThreadPoolExecutor(4) as ex:
        assert [reply.text for reply in ex.map(one.ask, map(request, texts))] == texts
        assert one.requests == 60 and len(bodies) == 80


def test_a_server_that_starts_again_is_waited_for(tmp_path, capsys):
    with server(lambda *_: completion("")) as (url, _):
        port = int(url.split(":")[2].split("/")[0])
    tried = threading.Event()
    with closing(Server(url, tmp_path, pause=0.01)) as one, ThreadPoolExecutor(1) as pool:
        wait = one._ended.wait
        one._ended.wait = lambda pause: tried.set() or wait(pause)
        answer = pool.submit(one.ask, request("Hello"))
        assert tried.wait(10)
        with server(lambda *_: completion("fine"), port=port):
            assert answer.result() == FINE


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        (("Retry-After", "7"), 7, 7),
        (("Retry-After", "0.25"), 0.25, 0.25),
        (("retry-after-ms", "1500"), 1.5, 1.5),
        (("Retry-After", timedelta(seconds=500)), 400, 500),  # as a date
        (("Retry-After", "0"), 0.5, 1),
        (("Retry-After", "Wed, 99 Foo 2026"), 0.5, 1),
        (("Retry-After", "9" * 400), 0.5, 1),
        (("Other", ""), 0.5, 1),
    ],
)
def test_pauses_are_those_that_the_server_asks_for(tmp_path, header, least, most):
    name, value = header
    if isinstance(value, timedelta):
        value = format_datetime(datetime.now(UTC) + value, usegmt=True)
    answers, waited = [(429, b"", (name, value)), completion("fine")], []
    with (
        server(lambda _, number, __: answers[number - 1]) as (url, _),
        closing(Server(url, tmp_path, pause=1.0)) as one,
    ):
        one._ended.wait = waited.append
        assert one.ask(request("Hello")) == FINE
    assert len(waited) == 1 and least <= waited[0] <= most


def test_pauses_grow_up_to_the_end_of_the_patience(tmp_path, monkeypatch):
    now, waited = [1000.0], []

    def wait(seconds):
        waited.append(seconds)
        now[0] += seconds

    with server(lambda *_: (500, b"")) as (url, bodies), closing(Server(url, tmp_path, patience=200, pause=1)) as one:
        one._ended.wait = wait
        monkeypatch.setattr("uma_lib.server.time.monotonic", lambda: now[0])
        with pytest.raises(RunError, match=rf"HTTP 500, nothing \(attempts: {len(waited) + 1}|attempts: 1\d\)"):
            one.ask(request("Hello"))
    assert sum(waited) == pytest.approx(200) and len(bodies) == len(waited) + 1
    for n, seconds in enumerate(waited[:-1]):
        assert min(30, 2**n) / 2 <= seconds <= min(30, 2**n)


def test_who_waits_sees_a_stop_at_once(tmp_path):
    waiting = threading.Semaphore(0)
    with server(lambda *_: waiting.release() or (429, b"", ("Retry-After", "500"))) as (url, bodies):
        with closing(Server(url, tmp_path)) as one, ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(one.ask, request(text)) for text in "abc"]
            for _ in answers:
                assert waiting.acquire(timeout=10)
            one.stop()
            assert {str(answer.exception(timeout=10)) for answer in answers} == {f"{url}/chat/completions: stopped"}
    assert len(bodies) == 3


HIDDEN = "0aF-sk_hunter2"


@pytest.mark.parametrize("path", [f"/{HIDDEN}/v1", f"/v1/{HIDDEN}", f"/api/key/{HIDDEN}/v1"])
def test_a_key_in_the_path_is_not_shown(tmp_path, path):
    said = f"no {path}/chat/completions: http://other:1{path}?k={HIDDEN}, see file://{HIDDEN}@host/x, {HIDDEN.upper()}"
    plays = [
        (404, f"{said}".encode()),
        (500, json.dumps({"error": said.replace("_", "%5F").replace("h", "\\u0068")}).encode()),
        (200, f"<html>{said.replace('/', '%2F').replace('-', '&#45;')}".encode()),
        (0, b""),
    ]
    for number, play in enumerate(plays):
        with server(lambda *_, play=play: play, path=path) as (url, bodies):
            line, _ = ask(url, tmp_path, patience=0)
        assert len(bodies) == 1
        shown = line.partition(": ")[0]
        assert shown.startswith(url.partition(path)[0]) and "[...]" in shown and shown.endswith("/chat/completions")
        assert "hunter2" not in line.lower(), number
    line, _ = ask(url, tmp_path, patience=0)  # nobody is there
    assert "no connection" in line and "hunter2" not in line
    with server(lambda *_: completion(f"I am at {path}."), path=path) as (url, _):
        ask(url, tmp_path)
    assert "hunter2" not in "".join(file.read_text() for file in tmp_path.rglob("*.json"))
    for wrong in (f"ftp://host{path}", f"host{path}", f"http://host:port{path}", f"http://a b{path}", f"http:{path}"):
        line, _ = ask(wrong, tmp_path)
        assert "write it like http://localhost:8000/v1" in line and "hunter2" not in line


def test_usual_parts_of_a_path_are_shown(tmp_path):
    for path, shown in (
        ("/v1", "/v1"), ("/v1/", "/v1"), ("/api/v1", "/api/v1"), ("/v1beta/openai", "/v1beta/openai"), ("", ""),
        ("/v1/a", "/v1/[...]"), ("/v1secret/v1", "/[...]/v1"), ("/v1%2Fsecret/v1", "/[...]/v1"),
    ):  # fmt: skip
        assert Server(f"https://host:81{path}", tmp_path).url == f"https://host:81{shown}/chat/completions"
    with server(lambda *_: completion("We llm a qwen."), path="/qwen/v1") as (url, _):
        assert ask(url, tmp_path)[0] == Reply("We llm a qwen.")  # a word is no key


def test_proxies_keep_their_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "")
    for proxy in ("foo://me:hunter2@host", "socks9://me:hunter2@host:1", "http://me:hunter2@127.0.0.1:9"):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        line, _ = ask("http://uma-lib.invalid/v1", tmp_path, patience=0)
        assert ("HTTP_PROXY" in line or "no connection" in line) and "hunter2" not in line


def test_a_certificate_is_no_passing_matter(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired") from ssl.SSLError()

    one = Server("https://host/v1", tmp_path)
    monkeypatch.setattr(one._client._client, "send", refuse)
    with closing(one), pytest.raises(RunError, match="certificate has expired; start the server"):
        one.ask(request("Hello"))


@pytest.mark.parametrize(
    ("play", "said", "requests"),
    [
        (lambda *_: (500, b"out of\nmemory", SOON), "HTTP 500, 'out of memory' (attempts: 3); look at the server's", 3),
        (lambda *_: (429, b"", SOON), "HTTP 429, nothing (attempts: 3); lower parallel, or run again later", 3),
        (lambda *_: (429, b"so", ("Retry-After", "9999")), "'so', asks to wait 9999 s (attempts: 1); lower", 1),
        (lambda *_: (0, b""), "it broke off: Server disconnected without sending a response. (attempts: 3); start", 3),
        (lambda *_: (200, b"<html>hello</html>"), "sent no chat completion but '<html>hello</html>' (attempts: 3);", 3),
        (lambda *_: (200, b'{"choices": []}'), "sent no chat completion but '{\"choices\": []}'", 3),
        (lambda *_: (200, b"\xff" * 1000), "sent no chat completion but '\ufffd", 3),
        (lambda *_: (200, b"[" * 100_000), "sent no chat completion but '[[[", 3),
        (lambda *_: (200, {"error": "no model"}), "sent no chat completion but '{\"error\": \"no model\"}'", 3),
        (lambda *_: completion(5), "sent no chat completion but", 3),
        (lambda *_: (404, b""), "HTTP 404, nothing; check base_url (most end in /v1) and model", 1),
        (lambda *_: (400, b"bad seed"), "HTTP 400, 'bad seed'; check the model and the other settings", 1),
        (lambda *a: (401, f"bad {a[2]['Authorization']}".encode()), "'bad Bearer [key]'; put a valid API key", 1),
        (lambda *a: (403, {"error": {"message": a[2]["Authorization"]}}), '"Bearer [key]"}}\'; put a valid API', 1),
        (lambda *_: time.sleep(0.15) or (200, b""), "no answer in 0.1 s (attempts: 3); raise timeout or lower", 3),
    ],
)  # fmt: skip
def test_lasting_failures_say_what_to_change(tmp_path, monkeypatch, play, said, requests):
    monkeypatch.setenv("TOY_KEY", KEY)
    now = time.monotonic

    def later():  # the third failure is the end of the patience
        return now() + (1000.0 if len(bodies) > 2 else 0.0)

    with server(play) as (url, bodies):
        slow = 0.1 if "no answer" in said else 5.0
        monkeypatch.setattr("uma_lib.server.time.monotonic", later)
        line, _ = ask(url, tmp_path, timeout=slow, key_variable="TOY_KEY")
        monkeypatch.undo()
        asked = len(bodies)
    assert line.startswith(f"{url}/chat/completions: ") and said in line and len(line.splitlines()) == 1
    assert line.endswith("run again to go on") and len(line) < 500
    assert KEY not in line and asked == requests and not list(tmp_path.iterdir())


def test_a_server_that_is_not_there(tmp_path):
    with server(lambda *_: completion("")) as (url, _):
        pass
    line, _ = ask(url, tmp_path, patience=0)
    assert line.startswith(f"{url}/chat/completions: no connection") and "refused (attempts: 1); start the ser" in line


def test_a_redirect_takes_the_key_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", KEY)
    with server(lambda *_: completion("caught")) as (other, caught):
        for code in (301, 302, 303, 307, 308):
            with server(lambda *_, code=code: (code, b"", ("Location", f"{other}/chat/completions"))) as (url, bodies):
                line, _ = ask(url, tmp_path, key_variable="TOY_KEY")
                assert f"HTTP {code}, nothing; write the final address as base_url" in line and len(bodies) == 1
    assert not caught


def test_a_request_without_hope_stops_the_others(tmp_path):
    begun = threading.Barrier(3, timeout=10)

    def play(body, *_):
        text = body["messages"][0]["content"]
        if len(text) == 1:
            begun.wait()
        return (401, b"no") if text == "0" else (500, b"oops", ("Retry-After", "500"))

    with server(play) as (url, bodies), closing(Server(url, tmp_path)) as one, ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(one.ask, request(text)) for text in ("0", "1", "2", "later", "last")]
        lines = {str(future.exception(timeout=10)) for future in futures}
        assert len(lines) == 1 and "HTTP 401" in lines.pop()
        assert len(bodies) == 3  # and none was tried again


def test_the_same_request_from_many_threads(tmp_path):
    begun = threading.Barrier(8, timeout=10)
    with (
        server(lambda *_: begun.wait() * 0 or completion("x")) as (url, _),
        closing(Server(url, tmp_path)) as one,
        ThreadPoolExecutor(8) as pool,
    ):
        assert set(pool.map(one.ask, [request("Hello")] * 8)) == {Reply("x")} and one.requests == 8
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_the_key_is_sent_and_nowhere_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", f" {KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-other")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-other")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-other")
    sent = []
    spelled = [
        KEY, json.dumps(KEY)[1:-1], json.dumps(json.dumps(KEY))[3:-3], KEY.replace("/", "%2F").replace('"', "%22"),
        KEY.replace("/", "%252f"), KEY.replace('"', "&quot;"), KEY.replace("/", "&#x2F;"), f"x{KEY}y", KEY.upper(),
    ]  # fmt: skip

    def play(_, number, headers):
        sent.append(headers)
        if number <= len(spelled):
            return completion(f"Bearer {spelled[number - 1]}")
        calls = [{"function": {"name": "add", "arguments": json.dumps({"key": KEY})}}]
        return message(KEY, content=KEY, reasoning_content=KEY, refusal=KEY, tool_calls=calls)

    with server(play) as (url, _):
        for n, words in enumerate(spelled):
            found = ask(url, tmp_path, str(n), key_variable="TOY_KEY")[0]
            assert found.text in ("Bearer [key]", "Bearer x[key]y"), words
        found = ask(url, tmp_path, "last", key_variable="TOY_KEY")[0]
        assert found == Reply("[key]", "[key]", ('{"name": "add", "arguments": {"key": "[key]"}}',), "[key]", "[key]")
    assert {headers["Authorization"] for headers in sent} == {f"Bearer {KEY}"}
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "Bearer [key]" in kept and "secret" not in kept.lower()
    with server(lambda *a: sent.append(a[2]) or completion("x")) as (url, _):
        ask(url, tmp_path, "without a key")
    assert sent[-1]["Authorization"] is None
    assert not [headers for headers in sent if "other" in str(headers)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"base_url": "http://me:hunter2@host/v1"}, "base_url holds credentials"),
        ({"base_url": "me:hunter2@host/v1"}, "base_url holds credentials"),
        ({"base_url": "http://host/v1?key=hunter2"}, "leave out everything from the first"),
        ({"base_url": "localhost:8000"}, "write it like http://localhost:8000/v1"),
        ({"base_url": "http://host:99999/v1"}, "write it like"),
        ({"base_url": "http://a..b/v1"}, "write it like"),
        ({"base_url": "http://999.1.1.1/v1"}, "write it like"),
        ({"base_url": "ftp://host/v1"}, "write it like"),
        ({"base_url": "http:///v1"}, "write it like"),
        ({"timeout": float("nan")}, "timeout is nan; write more than 0 seconds, at most a day"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": 1e10}, "timeout is 1e\\+10"),  # more than a socket can wait
        ({"timeout": 0.0}, "timeout is 0"),
        ({"timeout": -1}, "timeout is -1"),
        ({"patience": float("nan")}, "patience is nan; write seconds, at most a year"),
        ({"patience": float("inf")}, "patience is inf"),
        ({"patience": -0.1}, "patience is -0.1"),
        ({"pause": 0.0}, "pause is 0"),
        ({"pause": float("nan")}, "pause is nan"),
        ({"key_variable": "TWO_WORDS"}, "holds no API key but several words"),
        ({"key_variable": "NO_KEY"}, "names an environment variable that is empty"),
        ({"key_variable": "sk-hunter2"}, "names an environment variable that is empty"),
    ],
)
def test_settings_are_checked(tmp_path, monkeypatch, settings, said):
    monkeypatch.setenv("TWO_WORDS", "hunter2\nX")
    monkeypatch.setenv("NO_KEY", " ")
    with pytest.raises(RunError, match=said) as caught:
        Server(**{"base_url": "http://host/v1", "cache": tmp_path} | settings)
    assert "hunter2" not in str(caught.value) and len(str(caught.value).splitlines()) == 1
