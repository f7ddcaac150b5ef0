"""Asking a model server (a local one): answers are kept, a failure is one line, the key stays secret."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.model_server import KEY, completion, server
from uma_lib.runs import RunError
from uma_lib.server import Server

SOON = ("Retry-After", "0.01")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("uma_lib.server.PAUSE", 0.01)


def request(text):
    return {"model": "toy", "messages": [{"role": "user", "content": text}], "temperature": 0.0}


def ask(url, cache, text="Hello", **settings):
    """One answer and the number of requests; the line of the error instead where there is one."""
    with closing(Server(url, cache, **{"timeout": 5.0, **settings})) as one:
        try:
            return one.ask(request(text)), one.requests
        except RunError as error:
            return str(error), one.requests


def test_answers_are_kept(tmp_path):
    with server(lambda body, *_: completion(body["messages"][0]["content"].upper())) as (url, bodies):
        assert ask(url, tmp_path) == (("HELLO", "stop"), 1)
        assert ask(url, tmp_path) == (("HELLO", "stop"), 0)
        assert ask(url, tmp_path, "hi") == (("HI", "stop"), 1)
        assert bodies == [request("Hello"), request("hi")]
        for damaged in ("null", '{"request": {}, "reply": "x", "finish_reason": "stop"}', '{"request": ', "[]"):
            for path in tmp_path.rglob("*.json"):
                path.write_text(damaged)
            assert ask(url, tmp_path) == (("HELLO", "stop"), 1)
    assert ask(url, tmp_path) == (("HELLO", "stop"), 0)  # the server is down
    (tmp_path / "file").write_text("")
    with server(lambda *_: completion("x")) as (url, _):
        assert "file" in ask(url, tmp_path / "file")[0]


def test_texts_that_are_none_or_broken(tmp_path):
    answers = [completion(None, "length"), completion("a\ud83d"), completion("", None)]
    with server(lambda _, number, __: answers[number - 1]) as (url, _):
        found = [ask(url, tmp_path, str(n))[0] for n in range(3)]
    assert found == [("", "length"), ("a\ufffd\ufffd\ufffd", "stop"), ("", "None")]


ADD = {"name": "add", "arguments": '{"key": "a", "value": "12"}'}
HERMES = '<tool_call>\n{"name": "add", "arguments": {"key": "a", "value": "12"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None, "tool_calls": [{"id": "1", "type": "function", "function": ADD}]}, HERMES),
        ({"tool_calls": [{"function": ADD}, {"function": ADD}]}, f"{HERMES}\n{HERMES}"),
        ({"content": "Noted.", "tool_calls": [{"function": ADD}]}, f"Noted.\n{HERMES}"),
        ({"tool_calls": [{"function": ADD | {"arguments": {"key": "a", "value": "12"}}}]}, HERMES),
        ({"content": "", "function_call": ADD}, HERMES),
        ({"content": "x", "tool_calls": None, "reasoning_content": "<b>hm"}, "x"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": "", "tool_calls": [{"function": {"name": "list", "arguments": ""}}]},
         '<tool_call>\n{"name": "list", "arguments": {}}\n</tool_call>'),
        ({"content": "", "tool_calls": [{"function": ADD | {"arguments": '{"key": "a'}}]},
         '<tool_call>\n{"name": "add", "arguments": {"key": "a}\n</tool_call>'),
    ],
)  # fmt: skip
def test_calls_that_the_server_took_out_of_the_text_come_back(tmp_path, message, text):
    reply = 200, {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "tool_calls"}]}
    with server(lambda *_: reply) as (url, _):
        assert ask(url, tmp_path)[0] == (text, "tool_calls")


def test_an_answer_of_garbage_is_asked_for_again(tmp_path):
    garbage = [(200, b"<html>502</html>"), (200, b'{"choices": [{"mess'), (200, b""), (200, {"choices": []})]
    with server(lambda _, number, __: [*garbage, completion("fine")][number - 1]) as (url, bodies):
        assert ask(url, tmp_path, attempts=5) == (("fine", "stop"), 1)
    assert len(bodies) == 5


@pytest.mark.parametrize("path", ["hunter2/v1", "v1/hunter2", "api/key/hunter2/v1/"])
def test_a_key_in_the_path_is_not_shown(tmp_path, path):
    with server(lambda *_: completion("x")) as (url, _):
        pass
    line, _ = ask(url.replace("/v1", f"/{path}"), tmp_path, attempts=1)
    assert "no connection" in line and "hunter2" not in line and "[...]" in line
    with pytest.raises(RunError) as caught:
        Server(f"ftp://host/{path}", tmp_path)
    assert "hunter2" not in str(caught.value)


def test_passing_failures_are_tried_again(tmp_path):
    failures = [(0, b""), (429, b"slow down", ("Retry-After", "1")), (500, b"oops", SOON), (408, b"", SOON)]
    times = []

    def play(_, number, __):
        times.append(time.monotonic())
        return failures[number - 1] if number <= len(failures) else completion("fine")

    with server(play) as (url, _):
        assert ask(url, tmp_path, attempts=5) == (("fine", "stop"), 1)
    assert len(times) == 5 and 1.0 <= times[2] - times[1] < 2.0  # as long as the server has asked for


@pytest.mark.parametrize(
    ("play", "said", "requests"),
    [
        (lambda *_: (500, b"out of\nmemory", SOON), "HTTP 500, 'out of memory'; look at the server's log", 2),
        (lambda *_: (429, b"", SOON), "HTTP 429, nothing; lower parallel, or run again later", 2),
        (lambda *_: (429, b"tomorrow", ("Retry-After", "9999")), "'tomorrow'; lower parallel, or run again later", 1),
        (lambda *_: (0, b""), "it broke off: Server disconnected without sending a response. (attempts: 2); start", 2),
        (lambda *_: (200, b"<html>hello</html>"), "sent no chat completion but '<html>hello</html>' (attempts: 2);", 2),
        (lambda *_: (200, b'{"choices": []}'), "sent no chat completion but '{\"choices\": []}'", 2),
        (lambda *_: (200, b"\xff" * 1000), "sent no chat completion but '\ufffd", 2),
        (lambda *_: (200, b"[" * 100_000), "sent no chat completion but '[[[", 2),
        (lambda *_: (200, {"error": "no model"}), "sent no chat completion but '{\"error\": \"no model\"}'", 2),
        (lambda *_: completion(5), "sent no chat completion but", 2),
        (lambda *_: (404, b""), "HTTP 404, nothing; check base_url (most end in /v1) and model", 1),
        (lambda *_: (400, b"bad seed"), "HTTP 400, 'bad seed'; check the model and the other settings", 1),
        (lambda *a: (401, f"bad {a[2]['Authorization']}".encode()), "'bad Bearer [key]'; put a valid API key", 1),
        (lambda *a: (403, {"error": {"message": a[2]["Authorization"]}}), '"Bearer [key]"}}\'; put a valid API', 1),
        (lambda *_: time.sleep(0.5) or (200, b""), "no answer in 0.2 s (attempts: 2); raise timeout or lower", 2),
    ],
)  # fmt: skip
def test_lasting_failures_say_what_to_change(tmp_path, monkeypatch, play, said, requests):
    monkeypatch.setenv("TOY_KEY", KEY)
    with server(play) as (url, bodies):
        slow = 0.2 if "no answer" in said else 5.0
        line, _ = ask(url, tmp_path, timeout=slow, attempts=2, key_variable="TOY_KEY")
        asked = len(bodies)
    assert line.startswith(f"{url}/chat/completions: ") and said in line and len(line.splitlines()) == 1
    assert line.endswith("run again to go on") and len(line) < 500
    assert KEY not in line and asked == requests and not list(tmp_path.iterdir())


def test_a_server_that_is_not_there(tmp_path):
    with server(lambda *_: completion("")) as (url, _):
        pass
    line, _ = ask(url, tmp_path, attempts=2)
    assert line.startswith(f"{url}/chat/completions: no connection") and "refused (attempts: 2); start the ser" in line


def test_a_redirect_takes_the_key_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", KEY)
    with server(lambda *_: completion("caught")) as (other, caught):
        for code in (301, 302, 303, 307, 308):
            with server(lambda *_, code=code: (code, b"", ("Location", f"{other}/chat/completions"))) as (url, bodies):
                line, _ = ask(url, tmp_path, key_variable="TOY_KEY")
                assert f"HTTP {code}, nothing; write the final address as base_url" in line and len(bodies) == 1
    assert not caught


def test_a_failed_request_stops_the_others(tmp_path):
    begun = threading.Barrier(3, timeout=10)

    def play(body, *_):
        text = body["messages"][0]["content"]
        if len(text) == 1:
            begun.wait()
        return (401, b"no") if text == "0" else time.sleep(0.2) or (500, b"oops", ("Retry-After", "0.2"))

    with server(play) as (url, bodies), closing(Server(url, tmp_path)) as one, ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(one.ask, request(text)) for text in ("0", "1", "2", "later", "last")]
        lines = {str(future.exception()) for future in futures}
        assert len(lines) == 1 and "HTTP 401" in lines.pop()
        assert len(bodies) == 3  # and none was tried again


def test_the_same_request_from_many_threads(tmp_path):
    begun = threading.Barrier(8, timeout=10)
    with (
        server(lambda *_: begun.wait() * 0 or completion("x")) as (url, _),
        closing(Server(url, tmp_path)) as one,
        ThreadPoolExecutor(8) as pool,
    ):
        assert set(pool.map(one.ask, [request("Hello")] * 8)) == {("x", "stop")} and one.requests == 8
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_the_key_is_sent_and_nowhere_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", f" {KEY}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-other")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-other")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-other")
    sent = []

    def play(_, number, headers):
        sent.append(headers)
        said = headers["Authorization"]
        return completion([said, json.dumps(said), str(said).replace("/", "%2F").replace('"', "%22")][number - 1])

    with server(play) as (url, _):
        found = [ask(url, tmp_path, text, key_variable="TOY_KEY")[0][0] for text in "abc"]
        assert found == ["Bearer [key]", '"Bearer [key]"', "Bearer [key]"]
    assert [headers["Authorization"] for headers in sent] == [f"Bearer {KEY}"] * 3
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "Bearer [key]" in kept and "secret" not in kept
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
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"timeout": 0.0}, "timeout is 0 and attempts is 5; write more than 0, and at least 1"),
        ({"attempts": 0}, "attempts is 0"),
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
